//! What rests of many objects in one value: where a snapshot reads a million, a row for each costs more than its bytes.

use bytes::Bytes;
use sea_orm::sea_query::{Expr, SimpleExpr};

/// Before each object: its number, and how many bytes it is; -1: it is too large and is read by itself.
const BEFORE: usize = 12;

/// An object of the value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packed {
    /// Its bytes.
    Here(Bytes),
    /// Its number.
    Elsewhere(i64),
}

/// The value, as PostgreSQL makes it of the rows that are found, in the order of their numbers. What is over 64 KiB stays out: a value is
/// 1 GiB at most, and a page of large objects could be more.
pub(super) fn expression() -> SimpleExpr {
    Expr::cust(
        "STRING_AGG(int8send(number) || CASE WHEN OCTET_LENGTH(body) <= 65536 THEN int4send(OCTET_LENGTH(body)) || body \
         ELSE int4send(-1) END, ''::bytea ORDER BY number)",
    )
}

/// The objects of a value, none of them copied; `None`: it is cut off.
pub(super) fn unpack(all: Vec<u8>) -> Option<Vec<Packed>> {
    let (mut rest, mut found) = (Bytes::from(all), Vec::new());
    while !rest.is_empty() {
        let before = front(&mut rest, BEFORE)?;
        let number = i64::from_be_bytes(before[..8].try_into().ok()?);
        let length = i32::from_be_bytes(before[8..].try_into().ok()?);
        found.push(match usize::try_from(length) {
            Ok(length) => Packed::Here(front(&mut rest, length)?),
            Err(_) => Packed::Elsewhere(number),
        });
    }
    Some(found)
}

/// Takes bytes off the front, where there are as many.
fn front(of: &mut Bytes, count: usize) -> Option<Bytes> {
    (count <= of.len()).then(|| of.split_to(count))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn pack(objects: &[(i64, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (number, body) in objects {
            all.extend(number.to_be_bytes());
            all.extend(body.as_ref().map_or(-1, |body| i32::try_from(body.len()).unwrap()).to_be_bytes());
            all.extend(body.iter().flatten());
        }
        all
    }

    proptest! {
        /// What was packed comes out in its order, and a value that is cut off anywhere is noticed.
        #[test]
        fn what_is_packed_comes_out(
            objects in prop::collection::vec((any::<i64>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..9))), 0..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let all = pack(&objects);
            let wanted: Vec<Packed> = objects.iter().cloned().map(|(number, body)| match body {
                Some(body) => Packed::Here(body.into()),
                None => Packed::Elsewhere(number),
            }).collect();
            let found = unpack(all.clone());
            prop_assert_eq!(found.as_ref(), Some(&wanted));
            if !all.is_empty() {
                let at = cut.index(all.len());
                prop_assert!(unpack(all[..at].to_vec()).is_none_or(|found| found.len() < wanted.len()));
            }
        }
    }
}
