//! The one form of a pack: a tar archive (POSIX ustar) in which nothing is left to choose, so that every byte of it counts.

use std::io::{self, Read, Write};

/// Everything in an archive lies on multiples of it.
const BLOCK: usize = 512;

/// A file in an archive is smaller; its size is eleven octal digits.
const TOO_LARGE: u64 = 1 << 33;

/// The header of a file; there is no other for this name and size.
fn header(name: &str, size: u64) -> io::Result<[u8; BLOCK]> {
    let is_name = name.len() < 100 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if name.is_empty() || !is_name || size >= TOO_LARGE {
        return Err(io::Error::other(format!("{name:?} of {size} bytes has no place in a pack")));
    }
    let mut out = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644");
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000");
    put(337, b"0000000");
    let sum: u32 = out.iter().copied().map(u32::from).sum();
    out[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(out)
}

fn padding(size: u64) -> usize {
    (BLOCK - usize::try_from(size % BLOCK as u64).unwrap_or(0)) % BLOCK
}

/// Writes a file of exactly `size` bytes.
pub(crate) fn put(to: &mut impl Write, name: &str, size: u64, from: &mut impl Read) -> io::Result<()> {
    to.write_all(&header(name, size)?)?;
    if io::copy(&mut from.take(size), to)? != size {
        return Err(io::Error::other(format!("{name} is shorter than it was")));
    }
    to.write_all(&[0; BLOCK][..padding(size)])
}

/// Ends an archive.
pub(crate) fn end(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK])
}

/// Whether a file begins as one.
pub(crate) fn is_one(first: &[u8]) -> bool {
    first.len() >= BLOCK && first[257..263] == *b"ustar\0"
}

/// Why an archive is refused, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub(crate) struct BadArchive {
    pub(crate) at: u64,
    pub(crate) what: String,
}

fn bad(at: u64, what: impl Into<String>) -> BadArchive {
    BadArchive { at, what: what.into() }
}

/// Reads an archive from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    from: R,
    at: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    fn block(&mut self, into: &mut [u8]) -> Result<(), BadArchive> {
        let at = self.at;
        self.from.read_exact(into).map_err(|e| bad(at, format!("the pack breaks off or cannot be read: {e}")))?;
        self.at += into.len() as u64;
        Ok(())
    }

    fn zeros(&mut self, count: usize, why: &str) -> Result<(), BadArchive> {
        let at = self.at;
        let mut bytes = vec![0; count];
        self.block(&mut bytes)?;
        match bytes.iter().position(|b| *b != 0) {
            None => Ok(()),
            Some(found) => Err(bad(at + found as u64, why)),
        }
    }

    /// The name and size of the next file, whose bytes are then read by `body`; `None`: that was the last.
    pub(crate) fn next(&mut self) -> Result<Option<(String, u64)>, BadArchive> {
        let at = self.at;
        let mut found = [0; BLOCK];
        self.block(&mut found)?;
        if found == [0; BLOCK] {
            self.zeros(BLOCK, "the end of a pack is zeros")?;
            let mut more = [0; 1];
            return match self.from.read(&mut more) {
                Ok(0) => Ok(None),
                _ => Err(bad(self.at, "something follows the end of the pack")),
            };
        }
        let name: Vec<u8> = found[..100].iter().copied().take_while(|b| *b != 0).collect();
        let name = String::from_utf8_lossy(&name).into_owned();
        let size = std::str::from_utf8(&found[124..135]).ok().and_then(|digits| u64::from_str_radix(digits, 8).ok());
        let wanted = header(&name, size.unwrap_or(TOO_LARGE)).map_err(|e| bad(at, e.to_string()))?;
        match found.iter().zip(wanted).position(|(a, b)| *a != b) {
            None => Ok(Some((name, size.unwrap_or_default()))),
            Some(differs) => {
                Err(bad(at + differs as u64, format!("the header of {name} is not the one that it has to be")))
            }
        }
    }

    /// Reads the bytes of the file that `next` named, piece by piece.
    pub(crate) fn body(&mut self, size: u64, mut take: impl FnMut(&[u8])) -> Result<(), BadArchive> {
        let mut rest = size;
        let mut piece = vec![0; 64 << 10];
        while rest > 0 {
            let count = usize::try_from(rest).unwrap_or(usize::MAX).min(piece.len());
            self.block(&mut piece[..count])?;
            take(&piece[..count]);
            rest -= count as u64;
        }
        self.zeros(padding(size), "a file of a pack is filled up with zeros")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, bytes) in files {
            put(&mut out, name, bytes.len() as u64, &mut &bytes[..]).unwrap();
        }
        end(&mut out).unwrap();
        out
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, BadArchive> {
        let (mut archive, mut out) = (Archive::new(bytes), Vec::new());
        while let Some((name, size)) = archive.next()? {
            let mut body = Vec::new();
            archive.body(size, |piece| body.extend(piece))?;
            out.push((name, body));
        }
        Ok(out)
    }

    #[test]
    fn what_is_packed_comes_out_and_every_other_byte_is_refused_where_it_is() {
        let large = vec![b'x'; 700];
        let files: [(&str, &[u8]); 4] = [("a.txt", b"hello"), ("empty", b""), ("b-1", &large), ("c", &large[..512])];
        let good = packed(&files);
        assert!(is_one(&good));
        let out = unpacked(&good).unwrap();
        assert!(out.iter().map(|(n, b)| (n.as_str(), b.as_slice())).eq(files), "{out:?}");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            match unpacked(&bad) {
                // Bytes of the files are the reader's to judge, and letters of a name name another file.
                Ok(other) => assert_ne!(other, out, "byte {at}"),
                Err(refused) => assert!(refused.at.abs_diff(at as u64) <= 700, "byte {at}: {refused}"),
            }
        }
        for end in 0..good.len() {
            assert!(unpacked(&good[..end]).is_err(), "cut at {end}");
        }
        assert!(unpacked(&[&good[..], &[0]].concat()).is_err());
        for name in ["", "../x", "a b", "\u{202e}", &"n".repeat(100)] {
            assert!(put(&mut Vec::new(), name, 0, &mut io::empty()).is_err(), "{name:?}");
        }
        assert!(put(&mut Vec::new(), "short", 5, &mut &b"abc"[..]).is_err());
    }
}
