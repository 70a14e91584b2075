//! The lock of a run folder: held by the operating system, so a killed process cannot leave it behind.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Name of the lock file; its text names the holder.
pub(super) const FILE: &str = "run.lock";

#[derive(Debug)]
pub(super) struct RunLock {
    /// Locked as long as it is open.
    _file: File,
}

impl RunLock {
    /// Takes the lock, or says who holds it.
    pub(super) fn acquire(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|e| Error::io("cannot open the lock file", &path, &e))?;
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // where locks forbid reading too, the holder stays unnamed
                let _ = (&file).take(256).read_to_string(&mut holder);
                let holder = holder.lines().next().filter(|line| !line.is_empty());
                return Err(Error::data("the run folder is in use")
                    .at(dir.display().to_string())
                    .got(format!("held by {}", holder.unwrap_or("another process").escape_debug()))
                    .hint("wait for it, stop it, or choose another --out"));
            }
            Err(fs4::TryLockError::Error(e)) => return Err(Error::io("cannot lock", &path, &e)),
        }
        let text = format!("pid {} on host {}\n", std::process::id(), host_name());
        let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(|e| Error::io("cannot write the lock file", &path, &e))?;
        Ok(RunLock { _file: file })
    }
}

/// Name of this computer, for a message only.
fn host_name() -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name =
        from_kernel.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
