//! The `secretfs` command.

fn main() -> std::process::ExitCode {
    secretfs::cli::run()
}
