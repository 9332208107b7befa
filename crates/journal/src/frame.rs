//! One record in bytes.

/// Length and checksum.
pub(crate) const HEAD: usize = 8;

fn checksum(index: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&index.to_le_bytes()), payload)
}

/// Appends a record to `out`. The payload is not empty and shorter than 4 GiB.
pub(crate) fn write(out: &mut Vec<u8>, index: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(index, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A whole record.
    Record(&'a [u8]),
    /// Zeros: nothing was written here.
    End,
    /// Neither.
    Broken,
}

/// Reads the record `index` from the beginning of `bytes`.
pub(crate) fn read(bytes: &[u8], index: u64) -> Found<'_> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else {
        return if bytes.iter().all(|b| *b == 0) { Found::End } else { Found::Broken };
    };
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (length, sum) = (number(0), number(4));
    if length == 0 && sum == 0 {
        return Found::End;
    }
    let payload = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    match payload {
        Some(payload) if length > 0 && checksum(index, payload) == sum => Found::Record(payload),
        _ => Found::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back_and_any_flipped_bit_shows(
            index in 0u64..1 << 40,
            payload in proptest::collection::vec(any::<u8>(), 1..64),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut bytes = Vec::new();
            write(&mut bytes, index, &payload);
            prop_assert_eq!(read(&bytes, index), Found::Record(&payload));
            prop_assert_eq!(read(&bytes, index + 1), Found::Broken);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_ne!(read(&bytes, index), Found::Record(&payload));
        }
    }

    #[test]
    fn zeros_are_the_end() {
        assert_eq!(read(&[0; 64], 7), Found::End);
        assert_eq!(read(&[], 7), Found::End);
        assert_eq!(read(&[0, 0, 1], 7), Found::Broken);
    }
}
