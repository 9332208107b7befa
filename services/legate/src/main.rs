//! The program for people.

use std::process::ExitCode;

/// The system's allocator took a sixth of the time of a decision (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    legate::main(std::env::args_os())
}
