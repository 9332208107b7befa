//! The files of the repository, and what in them is code.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::blessed::root;

/// One text file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// Whether it is compiled for tests only.
    is_test: bool,
    /// Rust only: the same lines, with comments and the contents of literals blanked.
    pub(crate) code: String,
}

impl Source {
    /// The code without its tests: nothing for a file of tests, else all that comes before the test module, which is last.
    pub(crate) fn production(&self) -> &str {
        if self.is_test {
            return "";
        }
        let end = self.code.find("#[cfg(test)]\nmod ").filter(|at| {
            let module = &self.code[*at..];
            module.lines().nth(1).is_some_and(|line| line.ends_with('{'))
        });
        &self.code[..end.unwrap_or(self.code.len())]
    }

    /// The number of the line that holds the byte `at`.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Where a word, or several joined by `::`, stands in code, not as a part of a longer one.
    pub(crate) fn uses<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        code.match_indices(word).map(|(at, _)| at).filter(move |at| {
            let before = code[..*at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            !(before.is_some_and(part) || word.ends_with(part) && after.is_some_and(part))
        })
    }
}

/// Every file that is ours and text.
pub(crate) fn all() -> &'static [Source] {
    static ALL: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let mut paths = Vec::new();
        collect(root(), &mut paths);
        paths.sort();
        let mut sources: Vec<Source> = paths.iter().filter_map(|path| source(path)).collect();
        let for_tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
        for source in &mut sources {
            let of_module = |module: &String| {
                source.path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            };
            let is_folder = |part: &str| matches!(part, "tests" | "testing.rs");
            source.is_test = source.path.split('/').any(is_folder) || for_tests.iter().any(of_module);
        }
        sources
    });
    &ALL
}

/// Every Rust file.
pub(crate) fn rust() -> impl Iterator<Item = &'static Source> {
    all().iter().filter(|s| s.path.ends_with(".rs"))
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if matches!(&*name, "target" | ".git" | "Cargo.lock" | "LICENSE") {
            continue;
        }
        if path.is_dir() { collect(&path, into) } else { into.push(path.clone()) }
    }
}

/// The modules, as paths without `.rs`, that a file declares for tests only.
fn test_modules(file: &Source) -> Vec<String> {
    let own = file.path.trim_end_matches(".rs");
    let (folder, stem) = own.rsplit_once('/').unwrap_or(("", own));
    let inside = if matches!(stem, "lib" | "main" | "mod") { folder } else { own };
    let declared = file.code.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let line = rest.lines().next()?.strip_suffix(';')?;
        line.rsplit_once("mod ").map(|(_, name)| format!("{inside}/{name}"))
    });
    declared.collect()
}

fn source(path: &Path) -> Option<Source> {
    let text = String::from_utf8(std::fs::read(path).unwrap()).ok()?;
    let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let code = if path.ends_with(".rs") { blank(&text) } else { String::new() };
    Some(Source { path, text, is_test: false, code })
}

/// Blanks what is no code: comments, and all between the quotes of literals. Bytes and lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (keep, end) = if rest.starts_with(b"//") {
            (0, line_end(rest))
        } else if rest.starts_with(b"/*") {
            (0, comment_end(rest))
        } else if let Some(hashes) = raw_string(bytes, at) {
            (0, raw_end(rest, hashes))
        } else if rest[0] == b'"' {
            (1, quote_end(rest, b'"'))
        } else if rest[0] == b'\'' && is_char(rest) {
            (1, quote_end(rest, b'\''))
        } else {
            at += 1;
            continue;
        };
        let end = at + end;
        for byte in &mut out[at + keep..end - keep] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).unwrap()
}

fn line_end(rest: &[u8]) -> usize {
    rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
}

fn comment_end(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// How many `#` a raw string that begins here has.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if bytes[at] != b'r' || at > 0 && part(bytes[at - 1]) && bytes[at - 1] != b'b' {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_end(rest: &[u8], hashes: usize) -> usize {
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = 2 + hashes;
    rest[body..].windows(close.len()).position(|w| w == close).map_or(rest.len(), |end| body + end + close.len())
}

fn quote_end(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Whether a quote begins a character, and not a lifetime.
fn is_char(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(first) => {
            let wide = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            rest.get(1 + wide) == Some(&b'\'')
        }
        None => false,
    }
}

#[test]
fn code_is_told_from_comments_and_literals() {
    let text = "let a = \"x // y\"; // b\nlet r = r#\"q\"#; /* /* n */ */ c('\\'', 'é', '\"'); fn f<'a>() {}\n";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    let squeezed: String = code.split_whitespace().collect();
    assert_eq!(squeezed, "leta=\"\";letr=;c('','','');fnf<'a>(){}");
    assert_eq!(Source::uses("a::Status::new(x) NotStatus::new(", "Status::new").count(), 1);
}
