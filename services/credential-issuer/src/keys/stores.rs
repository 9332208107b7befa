//! Several places for keys at once: new ones are made in the first, and those in the others sign on until they are over.

use std::sync::Arc;

use legate_token::KeyId;

use super::{KeyError, KeyStore, KeyUse, Signer};

/// Where keys are made, and where else there are some.
#[derive(Debug)]
pub(crate) struct Stores {
    first: Arc<dyn KeyStore>,
    others: Vec<Arc<dyn KeyStore>>,
}

impl Stores {
    pub(crate) fn new(first: Arc<dyn KeyStore>, others: Vec<Arc<dyn KeyStore>>) -> Self {
        Self { first, others }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn KeyStore>> + Send {
        std::iter::once(&self.first).chain(&self.others)
    }
}

#[tonic::async_trait]
impl KeyStore for Stores {
    async fn create(&self, purpose: KeyUse) -> Result<Arc<dyn Signer>, KeyError> {
        self.first.create(purpose).await
    }

    async fn open(&self, purpose: KeyUse, kid: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        // That one place does not answer is no reason not to look into the next.
        let mut failed = None;
        for store in self.all() {
            match store.open(purpose, kid).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn destroy(&self, purpose: KeyUse, kid: &KeyId) -> Result<(), KeyError> {
        let mut done = Ok(());
        for store in self.all() {
            done = done.and(store.destroy(purpose, kid).await);
        }
        done
    }

    async fn adopt(&self, purpose: KeyUse) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        for store in self.all() {
            if let Some(adopted) = store.adopt(purpose).await? {
                return Ok(Some(adopted));
            }
        }
        Ok(None)
    }

    fn check(&self) -> Result<(), String> {
        self.all().try_for_each(|store| store.check())
    }

    async fn probe(&self) {
        for store in self.all() {
            store.probe().await;
        }
    }
}
