//! As much CBOR (RFC 8949) as a receipt needs: written in its one deterministic form, read in any definite one.

use alloc::vec::Vec;

/// How deep arrays, maps and tags are followed.
const DEEPEST: u8 = 16;

/// The kinds of items, as their first three bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Major {
    Unsigned = 0,
    Negative = 1,
    Bytes = 2,
    Text = 3,
    Array = 4,
    Map = 5,
    Tag = 6,
    Simple = 7,
}

/// `null`.
pub(crate) const NULL: u64 = 22;

/// Writes the head of an item in its shortest form.
pub(crate) fn head(out: &mut Vec<u8>, major: Major, n: u64) {
    let kind = (major as u8) << 5;
    let bytes = n.to_be_bytes();
    match n {
        0..24 => out.push(kind | bytes[7]),
        24..0x100 => out.extend([kind | 24, bytes[7]]),
        0x100..0x1_0000 => {
            out.push(kind | 25);
            out.extend(&bytes[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(kind | 26);
            out.extend(&bytes[4..]);
        }
        _ => {
            out.push(kind | 27);
            out.extend(bytes);
        }
    }
}

/// Writes an integer.
pub(crate) fn int(out: &mut Vec<u8>, n: i64) {
    match n {
        0.. => head(out, Major::Unsigned, n.unsigned_abs()),
        _ => head(out, Major::Negative, n.unsigned_abs() - 1),
    }
}

/// Writes a byte string.
pub(crate) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, Major::Bytes, bytes.len() as u64);
    out.extend(bytes);
}

/// Writes a text.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    head(out, Major::Text, text.len() as u64);
    out.extend(text.as_bytes());
}

/// Reads items one after the other; `None` is what cannot be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (these, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(these)
    }

    /// The head of the next item. Lengths that are left open are not read.
    pub(crate) fn head(&mut self) -> Option<(Major, u64)> {
        let first = *self.take(1)?.first()?;
        let major = match first >> 5 {
            0 => Major::Unsigned,
            1 => Major::Negative,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            6 => Major::Tag,
            _ => Major::Simple,
        };
        let more = match first & 31 {
            small @ 0..24 => return Some((major, small.into())),
            size @ 24..28 => self.take(1 << (size - 24))?,
            _ => return None,
        };
        Some((major, more.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))))
    }

    fn of(&mut self, wanted: Major) -> Option<u64> {
        let (major, n) = self.head()?;
        (major == wanted).then_some(n)
    }

    pub(crate) fn unsigned(&mut self) -> Option<u64> {
        self.of(Major::Unsigned)
    }

    /// How many items an array has.
    pub(crate) fn array(&mut self) -> Option<u64> {
        self.of(Major::Array)
    }

    /// How many pairs a map has.
    pub(crate) fn map(&mut self) -> Option<u64> {
        self.of(Major::Map)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.of(Major::Bytes)?;
        self.take(usize::try_from(count).ok()?)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let count = self.of(Major::Text)?;
        core::str::from_utf8(self.take(usize::try_from(count).ok()?)?).ok()
    }

    /// An integer, where the next item is one; else the item is passed over.
    pub(crate) fn label(&mut self) -> Option<Option<i64>> {
        let before = *self;
        match self.head()? {
            (Major::Unsigned, n) => Some(i64::try_from(n).ok()),
            (Major::Negative, n) => Some(i64::try_from(n).ok().map(|n| -1 - n)),
            _ => {
                *self = before;
                self.skip(DEEPEST)?;
                Some(None)
            }
        }
    }

    /// Passes over one item, whatever it is.
    pub(crate) fn pass(&mut self) -> Option<()> {
        self.skip(DEEPEST)
    }

    fn skip(&mut self, deep: u8) -> Option<()> {
        let deep = deep.checked_sub(1)?;
        let (major, n) = self.head()?;
        match major {
            Major::Unsigned | Major::Negative | Major::Simple => Some(()),
            Major::Bytes | Major::Text => self.take(usize::try_from(n).ok()?).map(|_| ()),
            Major::Tag => self.skip(deep),
            // Each item takes a byte at least, so a count that is a lie ends soon.
            Major::Array => (0..n).try_for_each(|_| self.skip(deep)),
            Major::Map => (0..n).try_for_each(|_| self.skip(deep).and_then(|()| self.skip(deep))),
        }
    }
}
