//! The program for people.

use std::process::ExitCode;

fn main() -> ExitCode {
    legate::main(std::env::args_os())
}
