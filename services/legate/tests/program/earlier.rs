//! A directory of `legate dev` in which something was done some time ago, by a suite that goes by an earlier clock.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use legate::dev::{Directory, Options, Suite};
use legate_clock::{Clock, SystemClock, Timestamp};

use crate::house::{Ended, done, legate};

/// The machine's clock, so long ago.
#[derive(Debug)]
struct Earlier(SystemClock, Duration);

impl Clock for Earlier {
    fn now(&self) -> Timestamp {
        self.0.now().minus(self.1)
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

/// The program with what the suite of this directory wrote into `env`.
fn command(dir: &Path, line: &[&str]) -> Command {
    let mut command = legate();
    let env = std::fs::read_to_string(dir.join("env")).unwrap();
    for (name, value) in env.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')) {
        command.env(name, value.trim_matches('\''));
    }
    command.args(line);
    command
}

/// Does something with the program so many days ago.
pub(crate) fn earlier(dir: &Path, days: u64, work: impl FnOnce(&dyn Fn(&[&str]) -> Ended)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // So that legate dev knows it for its own.
    drop(Directory::claim(dir).unwrap());
    let clock = Arc::new(Earlier(SystemClock::new(), Duration::from_secs(days * 86_400)));
    let options = Options { clock, ..Options::in_dir(dir) };
    let suite = runtime.block_on(Box::pin(Suite::start(&options))).unwrap();
    work(&|line| done(&mut command(dir, line)));
    runtime.block_on(suite.shutdown());
}
