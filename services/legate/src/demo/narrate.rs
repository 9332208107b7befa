//! Tells the journey on the terminal: what was asked, what came back, how long it took, and whether it held.

use std::io::Write;
use std::time::{Duration, Instant};

/// Writes the story and counts the steps that did not hold.
#[derive(Debug)]
pub(super) struct Narrator {
    colour: bool,
    chapter: u32,
    held: u32,
    failed: Vec<String>,
}

/// A step did not hold, and those after it cannot be told without it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(pub(super) String);

impl Narrator {
    /// A narrator for this terminal.
    #[must_use]
    pub(super) fn new() -> Self {
        use std::io::IsTerminal;
        Self {
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            chapter: 0,
            held: 0,
            failed: Vec::new(),
        }
    }

    fn write(&self, text: &str) {
        // A closed pipe ends nothing: the exit code still tells how the journey went.
        let mut out = std::io::stdout().lock();
        let _closed = writeln!(out, "{text}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Begins a chapter.
    pub(super) fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        let heading = format!("{}. {title}", self.chapter);
        self.write("");
        self.write(&self.paint("1", &heading));
    }

    /// A title without a number.
    pub(super) fn heading(&self, title: &str) {
        self.write("");
        self.write(&self.paint("1", title));
    }

    /// A remark.
    pub(super) fn say(&self, text: &str) {
        self.write(&format!("   {}", self.paint("2", text)));
    }

    /// Lines to be read as they are.
    pub(super) fn show(&self, lines: &[String]) {
        for line in lines {
            self.write(&format!("     {line}"));
        }
    }

    /// A step: what was asked, what came back, how long it took.
    pub(super) fn step(&mut self, asked: &str, came_back: &str, took: Duration) {
        self.held += 1;
        let ok = self.paint("32", "ok");
        let time = self.paint("2", &format!("{:>8.1} ms", took.as_secs_f64() * 1_000.0));
        self.write(&format!("   {ok}  {time}  {asked}"));
        self.write(&format!("                    {}", self.paint("36", &format!("-> {came_back}"))));
    }

    /// A step that holds only if `held`.
    pub(super) fn check(&mut self, held: bool, asked: &str, came_back: &str, took: Duration) {
        if held {
            self.step(asked, came_back, took);
        } else {
            self.fail(asked, came_back);
        }
    }

    /// A step that did not hold.
    pub(super) fn fail(&mut self, asked: &str, came_back: &str) {
        let mark = self.paint("31", "FAILED");
        self.write(&format!("   {mark}  {asked}"));
        self.write(&format!("           -> {came_back}"));
        self.failed.push(asked.to_owned());
    }

    /// The last lines; whether every step held.
    #[must_use]
    pub(super) fn end(&self) -> bool {
        self.write("");
        if self.failed.is_empty() {
            self.write(&self.paint("32", &format!("Every one of {} steps held.", self.held)));
            return true;
        }
        let total = self.held + u32::try_from(self.failed.len()).unwrap_or(u32::MAX);
        self.write(&self.paint("31", &format!("{} of {total} steps did not hold:", self.failed.len())));
        for step in &self.failed {
            self.write(&format!("  - {step}"));
        }
        false
    }
}

impl Default for Narrator {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs a future and says how long it took.
pub(super) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let out = work.await;
    (out, start.elapsed())
}
