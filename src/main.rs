//! The `secretfs` command.

#[global_allocator]
static ALLOCATOR: secretfs::memory::Wiping = secretfs::memory::Wiping;

fn main() -> std::process::ExitCode {
    secretfs::cli::run()
}
