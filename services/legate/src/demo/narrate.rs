//! Tells the journey on the terminal: what was asked, what came back, how long it took, and whether it held.

use std::io::Write;
use std::time::{Duration, Instant};

/// A line is so wide at most; longer answers go on below.
const WIDTH: usize = 100;
/// Answers begin here, below what was asked.
const INDENT: usize = 7;

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
        self.heading(&format!("{}. {title}", self.chapter));
    }

    /// A title without a number.
    pub(super) fn heading(&self, title: &str) {
        self.write("");
        self.write(&self.paint("1", title));
    }

    /// A remark.
    pub(super) fn say(&self, text: &str) {
        for line in wrap(text, WIDTH - INDENT) {
            self.write(&format!("{:INDENT$}{}", "", self.paint("2", &line)));
        }
    }

    /// Reasons below an answer, one a line.
    pub(super) fn reasons(&self, reasons: &[String]) {
        for reason in reasons {
            self.answer("2", reason);
        }
    }

    /// Lines to be read as they are.
    pub(super) fn show(&self, lines: &[String]) {
        for line in lines {
            self.write(&format!("{:INDENT$}{line}", ""));
        }
    }

    /// A step: what was asked, what came back, how long it took.
    pub(super) fn step(&mut self, asked: &str, came_back: &str, took: Duration) {
        self.held += 1;
        let time = format!("{:.1} ms", took.as_secs_f64() * 1_000.0);
        let room = (WIDTH - INDENT).saturating_sub(time.len());
        let ok = self.paint("32", "ok");
        self.write(&format!("   {ok}  {asked:<room$}{}", self.paint("2", &time)));
        self.answer("36", came_back);
    }

    fn answer(&self, colour: &str, text: &str) {
        for line in wrap(text, WIDTH - INDENT) {
            self.write(&format!("{:INDENT$}{}", "", self.paint(colour, &line)));
        }
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
        self.write(&format!("   {}  {asked}", self.paint("31", "FAILED")));
        self.answer("31", came_back);
        self.failed.push(asked.to_owned());
    }

    /// The last lines; whether every step held.
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

/// Breaks a text between words; what services said in it is made harmless. Later lines are set in.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let text = crate::output::escape::visible(text);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Runs a future and says how long it took.
pub(super) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let out = work.await;
    (out, start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_answers_are_broken_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "  three"]);
        assert_eq!(wrap("onelongword", 4), ["onelongword"]);
        assert_eq!(wrap("\u{1b}[2J", 20), ["\\u{1b}[2J"]);
    }

    #[test]
    fn one_step_that_fails_fails_the_story() {
        let mut tell = Narrator { colour: false, chapter: 0, held: 0, failed: Vec::new() };
        tell.check(true, "a", "b", Duration::ZERO);
        assert!(tell.end());
        tell.check(false, "a", "b", Duration::ZERO);
        assert!(!tell.end());
        assert_eq!((tell.held, tell.failed.len()), (1, 1));
    }
}
