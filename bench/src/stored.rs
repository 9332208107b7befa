//! What is on disk: bytes in files, without the zeros that a journal lays out ahead.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::Failed;

/// Bytes under `dir` in files that `of` picks.
pub(crate) fn bytes(dir: &Path, of: fn(&Path) -> bool) -> Result<u64, Failed> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sum += bytes(&path, of)?;
        } else if of(&path) {
            sum += filled(&path)?;
        }
    }
    Ok(sum)
}

/// The length of a file up to its last byte that is not zero.
fn filled(path: &Path) -> Result<u64, Failed> {
    const STEP: u64 = 1 << 16;
    let mut file = match File::open(path) {
        Ok(file) => file,
        // A segment or tile that was just let go.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e.into()),
    };
    let mut end = file.metadata()?.len();
    let mut buffer = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(STEP);
        buffer.clear();
        file.seek(SeekFrom::Start(begin))?;
        (&mut file).take(end - begin).read_to_end(&mut buffer)?;
        if let Some(at) = buffer.iter().rposition(|byte| *byte != 0) {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
