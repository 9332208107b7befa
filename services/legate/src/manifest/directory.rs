//! Directories of manifests: every file that looks like one, in the order of names.

use std::path::{Path, PathBuf};

use super::ManifestError;

/// Directories within directories.
const DEEPEST: usize = 16;
/// Files of all directories: one for each document that is read.
const MOST_FILES: usize = 250_000;

/// The files that paths stand for. What begins with a dot is left out, and links to directories are not followed.
pub(super) fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ManifestError> {
    let mut out = Vec::new();
    for path in paths {
        if path == Path::new("-") || !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let before = out.len();
        walk(path, 0, &mut out)?;
        if out.len() == before {
            return Err(bad(path, "no *.yaml, *.yml or *.json in it"));
        }
    }
    Ok(out)
}

fn walk(dir: &Path, depth: usize, out: &mut Vec<PathBuf>) -> Result<(), ManifestError> {
    if depth > DEEPEST {
        return Err(bad(dir, "directories are nested too deep"));
    }
    let unread = |e: std::io::Error| bad(dir, e.to_string());
    let entries: Result<Vec<_>, _> = std::fs::read_dir(dir).map_err(unread)?.collect();
    let mut entries = entries.map_err(unread)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type().map_err(unread)?;
        let is_manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if kind.is_dir() {
            walk(&path, depth + 1, out)?;
        } else if is_manifest && path.is_file() {
            out.push(path);
            if out.len() > MOST_FILES {
                return Err(bad(dir, format!("over {MOST_FILES} files")));
            }
        }
    }
    Ok(())
}

fn bad(path: &Path, why: impl Into<String>) -> ManifestError {
    ManifestError { path: path.to_owned(), at: None, why: why.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn files_come_in_the_order_of_names_and_hidden_ones_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
        };
        for name in ["b.yaml", "a/z.yml", "a/b/c.json", "README.md", ".git/x.yaml", ".hidden.yaml", "c.yaml.bak"] {
            put(name);
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        let found = expand(&[dir.path().to_owned(), "-".into(), "other.yaml".into()]).unwrap();
        let names: Vec<String> =
            found.iter().map(|p| p.strip_prefix(dir.path()).unwrap_or(p).to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["a/b/c.json", "a/z.yml", "b.yaml", "-", "other.yaml"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(expand(&[empty.path().to_owned()]).unwrap_err().why.contains("*.yaml"));
    }
}
