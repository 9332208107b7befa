//! An identity from files that somebody else replaces.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use legate_mtls::{TlsError, pki};

use super::slot::{Slot, named};
use crate::ClientError;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Looks at the files, and takes what is new in them. Never returns.
pub(super) async fn follow(authorities: PathBuf, slot: Arc<Slot>) {
    loop {
        tokio::time::sleep(LOOK).await;
        match slot.identity.reload() {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("certificate reloaded");
                slot.held();
            }
            Err(error) => tracing::error!(%error, "the new certificate cannot be used; the old one stays"),
        }
        if let Err(error) = believe(&authorities, &slot) {
            tracing::error!(%error, "the new CA certificates cannot be used; the old ones stay");
        }
    }
}

/// Believes the CA certificates in the file.
pub(super) fn believe(authorities: &Path, slot: &Slot) -> Result<(), ClientError> {
    let file = |source| TlsError::File { path: authorities.to_owned(), source };
    let pem = std::fs::read_to_string(authorities).map_err(file)?;
    let all: Vec<u8> = pki::certificates(&pem)?.iter().flat_map(|der| der.to_vec()).collect();
    slot.believe(&named(&slot.identity)?, &all)
}
