//! The log's signing key: made at the first start, kept in a file that only the collector can read.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};
use legate_merkle::{SeedSigner, Signer as _};
use legate_mtls::pki;
use legate_rpc::Pages;
use zeroize::Zeroizing;

use super::recover::LogError;

/// What the log's secret makes.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) signer: Arc<SeedSigner>,
    /// Authenticates page tokens.
    pub(super) pages: Pages,
}

/// Reads the key of the log called `origin`, or makes it when `may_make`; writes its public half to `log.pub`.
pub(super) fn open(dir: &Path, origin: &str, may_make: bool) -> Result<Keys, LogError> {
    let path = dir.join("log.key");
    let refused = |why: String| LogError::Key { path: path.clone(), why };
    let seed = match std::fs::read_to_string(&path) {
        Ok(text) => {
            pki::refuse_open_key(&path).map_err(|e| refused(e.to_string()))?;
            let text = Zeroizing::new(text);
            unhex(text.trim_end()).ok_or_else(|| refused("it is not 64 hexadecimal digits".to_owned()))?
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && may_make => {
            let mut seed = Zeroizing::new([0; 32]);
            rand::fill(&mut *seed).map_err(|_| refused("the system gives no randomness".to_owned()))?;
            let text: Zeroizing<String> = Zeroizing::new(seed.iter().map(|b| format!("{b:02x}")).collect());
            pki::write_private(&path, &format!("{}\n", *text)).map_err(|e| refused(e.to_string()))?;
            seed
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(refused("it is not there, and the log is signed with it; bring it back (collectors that share a log have the same one)".to_owned()));
        }
        Err(e) => return Err(refused(e.to_string())),
    };
    let signer = SeedSigner::new(origin, &seed).map_err(|e| refused(e.to_string()))?;
    pki::write_public(&dir.join("log.pub"), &format!("{}\n", signer.verifier())).map_err(|e| refused(e.to_string()))?;
    // Each use has a key of its own, derived by its name.
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*seed), b"legate audit page token");
    let page_key = derived.as_ref().try_into().map_err(|_| refused("no page key can be derived".to_owned()))?;
    Ok(Keys { signer: Arc::new(signer), pages: Pages::new(page_key) })
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(seed)
}
