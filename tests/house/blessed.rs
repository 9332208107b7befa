//! Texts in the repository that are made from the code, and compared with it: `LEGATE_BLESS=1` writes them anew.

use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A text file of the repository.
pub(crate) fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Compares a file with what it has to be, or writes it when asked to.
pub(crate) fn compare(path: &str, wanted: &str) {
    let file: PathBuf = root().join(path);
    if std::env::var_os("LEGATE_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, wanted).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = wanted.lines().zip(found.lines()).position(|(w, f)| w != f);
    let line = differs.unwrap_or_else(|| wanted.lines().count().min(found.lines().count()));
    let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
    assert!(
        wanted == found,
        "{path} does not say what the code says, from line {}:\n  file: {}\n  code: {}\nwrite it anew with LEGATE_BLESS=1",
        line + 1,
        at(&found),
        at(wanted),
    );
}

/// Compares the part of a file between two lines `<!-- NAME -->` with what it has to be, or writes it when asked to.
pub(crate) fn compare_part(path: &str, name: &str, wanted: &str) {
    let mark = format!("<!-- {name} -->\n");
    let text = read(path);
    let parts: Vec<&str> = text.split(mark.as_str()).collect();
    let [before, _, after] = parts.as_slice() else {
        panic!("{path} has to hold the line {} twice", mark.trim());
    };
    compare(path, &format!("{before}{mark}{wanted}{mark}{after}"));
}
