//! `legate schema`, `legate completions`, `legate man`: what is generated from the program itself.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::{Exit, Failure, manifest};

fn write(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(Exit::Done)
}

pub(super) fn schema() -> Result<Exit, Failure> {
    write(format!("{:#}\n", manifest::schema()).as_bytes())
}

pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "legate", &mut text);
    write(&text)
}

pub(super) fn man(out: Option<&Path>) -> Result<Exit, Failure> {
    let Some(dir) = out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return write(&page);
    };
    std::fs::create_dir_all(dir).map_err(|e| Failure::file(dir, e))?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(|e| Failure::file(dir, e))?;
    Ok(Exit::Done)
}
