//! The program for people: raises the suite, and asks its services.

mod cli;
mod command;
pub mod demo;
pub mod dev;
mod dossier;
mod error;
mod evidence;
mod export;
mod identity;
mod leaked;
pub mod manifest;
pub mod node;
mod output;
mod place;
mod proto;
mod witness;
pub mod yaml;

pub use error::{Exit, Failure, REASONS};

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

/// Does what the command line says, and tells how it went.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return told(&error),
    };
    let exit = match command::run(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            output::complain(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

/// Verifies the log in a directory offline, by the key in a file; how many entries it holds.
///
/// # Errors
/// [`Failure`] says what is wrong, and where.
pub fn verify(dir: &std::path::Path, key: &std::path::Path) -> Result<u64, Failure> {
    command::verify_log(dir, key)
}

/// Help and version are answers; anything else that clap says is a refusal of the command line.
fn told(error: &clap::Error) -> ExitCode {
    let text = error.render();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader who closed the pipe has seen enough.
        let _closed = write!(std::io::stdout().lock(), "{text}");
        return ExitCode::from(Exit::Done.code());
    }
    let _closed = write!(std::io::stderr().lock(), "{text}");
    ExitCode::from(Exit::Usage.code())
}
