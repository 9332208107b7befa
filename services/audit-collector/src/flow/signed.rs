//! An emitter's signature over a batch is verified before anything of the batch is written.

use aws_lc_rs::digest::{SHA256, digest};
use legate_batch::{Attested, NotSigned, Statement};
use legate_rpc::Fault;
use legate_wire::audit::BatchSignature;

use super::{Call, Desk};
use crate::error::AUDIT_SIGNATURE_INVALID;

/// The batch as its emitter signed it: by the key of the certificate of this connection, or of one that was renewed since.
pub(super) fn verified(
    desk: &Desk,
    call: &Call,
    statement: Statement,
    with: &BatchSignature,
) -> Result<Attested, Fault> {
    let first = statement.first_seq;
    let checked = check(desk, call, statement, with);
    desk.metrics.signed(checked.is_ok());
    checked.map_err(|bad| {
        Fault::refused(&AUDIT_SIGNATURE_INVALID, format!("the batch from {first} on: {bad}"))
            .field("signature", bad.to_string())
    })
}

fn check(desk: &Desk, call: &Call, statement: Statement, with: &BatchSignature) -> Result<Attested, NotSigned> {
    let attested = Attested::of(statement, with)?;
    attested.verify()?;
    if digest(&SHA256, attested.certificate()).as_ref() == call.certificate {
        return Ok(attested);
    }
    // Its id is the caller's, as was verified: what is left to ask is whether the CA says so.
    let named = desk.trust.vouches_for(attested.chain(), desk.clock.now());
    match named {
        Ok(named) if named.as_str() == call.caller => Ok(attested),
        Ok(named) => Err(NotSigned::Another(named.to_string())),
        Err(e) => Err(NotSigned::Untrusted(e.to_string())),
    }
}
