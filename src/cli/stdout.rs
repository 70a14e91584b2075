//! Printing results. A reader that closes the pipe (`beit plan | head`) ends the program quietly instead of a panic.

use std::io::Write;

/// Writes to standard output; ends the process when nobody reads any more.
pub fn write(text: std::fmt::Arguments<'_>, newline: bool) {
    let mut out = std::io::stdout().lock();
    let written = out.write_fmt(text).and_then(|()| if newline { out.write_all(b"\n") } else { Ok(()) });
    if written.is_err() {
        // What a shell reports for a program that SIGPIPE ended.
        std::process::exit(141);
    }
}

/// Takes the place of the standard macro in all commands.
macro_rules! print {
    ($($arg:tt)*) => { $crate::cli::stdout::write(format_args!($($arg)*), false) };
}

/// Takes the place of the standard macro in all commands.
macro_rules! println {
    () => { $crate::cli::stdout::write(format_args!(""), true) };
    ($($arg:tt)*) => { $crate::cli::stdout::write(format_args!($($arg)*), true) };
}
