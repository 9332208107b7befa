//! Spells the `:authority` of requests so that our HTTP/2 library takes it.
//!
//! gRPC's C core (Python, C++, Ruby, PHP) names the path of a unix socket as the authority, percent-encoded: `run%2Flegate%2Fworkload.sock`.
//! RFC 3986 section 3.2.2 allows that; the crate `http` does not, and every call of such a client would end with a protocol error.
//! Nothing here goes by the authority, so each `%` in it becomes a `-`: of the same length, so that HTTP/2 and HPACK are none the wiser.

/// HTTP/2 begins with so many bytes (RFC 9113 section 3.4).
pub(super) const PREFACE: usize = 24;
/// A frame begins with so many (section 4.1).
const HEAD: usize = 9;
/// The type of a frame with headers (section 6.2), and its flags.
const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// A longer frame is refused by the library (section 4.2).
const LONGEST: usize = 16_384;
/// The header.
const AUTHORITY: &[u8] = b":authority";

/// What comes next.
#[derive(Debug)]
enum Next {
    /// So many bytes as they are: the preface, or what is no header.
    Pass(usize),
    /// The head of a frame, as far as it came.
    Head(Vec<u8>),
    /// A frame with headers, as far as it came, and how long it is with its head.
    Hold(Vec<u8>, usize),
}

/// Goes over everything that a client sends.
#[derive(Debug)]
pub(super) struct Speller {
    next: Next,
}

impl Speller {
    pub(super) fn new() -> Self {
        Self { next: Next::Pass(PREFACE) }
    }

    /// Takes what came, and adds to `out` what can go on.
    pub(super) fn feed(&mut self, mut came: &[u8], out: &mut Vec<u8>) {
        while !came.is_empty() {
            match &mut self.next {
                Next::Pass(left) => {
                    let (now, later) = came.split_at(came.len().min(*left));
                    out.extend_from_slice(now);
                    *left -= now.len();
                    came = later;
                    if *left == 0 {
                        self.next = Next::Head(Vec::with_capacity(HEAD));
                    }
                }
                Next::Head(head) => {
                    let (now, later) = came.split_at(came.len().min(HEAD - head.len()));
                    head.extend_from_slice(now);
                    came = later;
                    if let [a, b, c, of, ..] = *head.as_slice()
                        && head.len() == HEAD
                    {
                        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                        let head = std::mem::take(head);
                        self.next = if of == HEADERS && (1..=LONGEST).contains(&length) {
                            Next::Hold(head, HEAD + length)
                        } else {
                            out.extend_from_slice(&head);
                            match length {
                                0 => Next::Head(Vec::with_capacity(HEAD)),
                                length => Next::Pass(length),
                            }
                        };
                    }
                }
                Next::Hold(frame, whole) => {
                    let (now, later) = came.split_at(came.len().min(*whole - frame.len()));
                    frame.extend_from_slice(now);
                    came = later;
                    if frame.len() == *whole {
                        spell(frame);
                        out.extend_from_slice(frame);
                        self.next = Next::Head(Vec::with_capacity(HEAD));
                    }
                }
            }
        }
    }
}

/// Mends one frame. Whatever is not understood stays as it is: the library says what is wrong with it.
fn spell(frame: &mut [u8]) {
    let (head, payload) = frame.split_at_mut(HEAD);
    let flags = head[4];
    let front = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let padding = if flags & PADDED != 0 { usize::from(payload.first().copied().unwrap_or(0)) } else { 0 };
    let Some(end) = payload.len().checked_sub(padding).filter(|end| *end >= front) else { return };
    let block = &mut payload[front..end];
    let mut at = 0;
    while at < block.len() {
        match field(block, &mut at) {
            Some(Some(value)) => block[value].iter_mut().filter(|b| **b == b'%').for_each(|b| *b = b'-'),
            Some(None) => {}
            None => return,
        }
    }
}

/// Steps over one field (RFC 7541 section 6); where the value of an authority is, if it is one that is not compressed.
fn field(block: &[u8], at: &mut usize) -> Option<Option<std::ops::Range<usize>>> {
    let first = *block.get(*at)?;
    let bits = match first {
        0x80.. => 7,
        0x40.. => 6,
        0x20.. => 5,
        _ => 4,
    };
    let index = integer(block, at, bits)?;
    // A field of a table, or the table's size.
    if first >= 0x80 || (0x20..0x40).contains(&first) {
        return Some(None);
    }
    // Appendix A: 1 is `:authority`. 0: the name follows.
    let is_authority = match index {
        0 => text(block, at)?.is_some_and(|name| &block[name] == AUTHORITY),
        index => index == 1,
    };
    Some(text(block, at)?.filter(|_| is_authority))
}

/// Section 5.1.
fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let most = (1usize << bits) - 1;
    let mut value = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if value < most {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let byte = *block.get(*at)?;
        *at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Section 5.2: where a text is; `Some(None)` for one that is compressed.
fn text(block: &[u8], at: &mut usize) -> Option<Option<std::ops::Range<usize>>> {
    let is_compressed = block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let range = *at..at.checked_add(length)?;
    block.get(range.clone())?;
    *at = range.end;
    Some((!is_compressed).then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Python's grpc 1.85 begins; the frame of its headers is of 0x95 bytes.
    fn said(authority: &str) -> Vec<u8> {
        let mut block = b"@\x05:path /SpiffeWorkloadAPI/FetchX509SVID@\n:authority".to_vec();
        block.push(u8::try_from(authority.len()).unwrap_or(0));
        block.extend_from_slice(authority.as_bytes());
        block.extend_from_slice(b"\x83\x86@\x02te\x08trailers\x00\x03a%b\x04true\x3f\xe1\x1f");
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        all.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap_or(0), HEADERS, 4, 0, 0, 0, 1]);
        all.extend_from_slice(&block);
        // What is no header stays as it is.
        all.extend_from_slice(b"\0\0\x0c\0\x01\0\0\0\x01:authority%%");
        all
    }

    fn spelt(came: &[u8], at_once: usize) -> Vec<u8> {
        let (mut speller, mut out) = (Speller::new(), Vec::new());
        came.chunks(at_once).for_each(|part| speller.feed(part, &mut out));
        out
    }

    #[test]
    fn an_authority_of_the_c_core_is_taken_by_our_library() {
        for at_once in [1, 7, 24, 33, 4_096] {
            assert_eq!(spelt(&said("tmp%2Fnode%2Fcap.sock"), at_once), said("tmp-2Fnode-2Fcap.sock"), "{at_once}");
        }
        // By its number in the table, and behind padding and a priority.
        let framed = |value: &str| {
            let mut all = vec![0; PREFACE];
            all.extend_from_slice(&[0, 0, 17, HEADERS, 4 | PADDED | PRIORITY, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9]);
            all.extend_from_slice(b"\x82\x01\x05");
            all.extend_from_slice(value.as_bytes());
            all.extend_from_slice(b"\x84%%");
            all
        };
        assert_eq!(spelt(&framed("a%2Fb"), 5), framed("a-2Fb"));
    }

    proptest! {
        /// Whatever comes: nothing is lost, added or put elsewhere, and nothing but a `%` changes.
        #[test]
        fn nothing_else_changes(mut came in proptest::collection::vec(any::<u8>(), 0..400), at_once in 1usize..64, length in 0u8..120) {
            // Often enough a frame with headers.
            if let Some(head) = came.get_mut(PREFACE..PREFACE + 5) {
                head.copy_from_slice(&[0, 0, length, HEADERS, head[4]]);
            }
            let out = spelt(&came, at_once);
            prop_assert!(out.len() <= came.len());
            for (was, is) in came.iter().zip(&out) {
                prop_assert!(was == is || *was == b'%' && *is == b'-');
            }
            // All of it comes once its frames are whole.
            prop_assert_eq!(spelt(&came, came.len().max(1)), out);
        }
    }
}
