//! The program `beit`: hands over to the command line.

fn main() -> std::process::ExitCode {
    beit::cli::main()
}
