//! The program for people.

use std::process::ExitCode;

/// The system's allocator took a sixth of all CPU time under a load of decisions (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    legate::main(std::env::args_os())
}
