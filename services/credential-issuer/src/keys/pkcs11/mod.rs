//! Keys in a hardware module behind PKCS #11 (OASIS PKCS #11 v2.40 and later): made in it, and never out of it.

mod line;
mod object;
mod pin;
mod pool;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use legate_token::{KeyId, PublicKey, SigningFailed};

use self::line::Site;
use self::object::Named;
use self::pin::Pin;
use self::pool::Pool;
use self::trouble::Trouble;
use super::{FileKeys, KeyError, KeyPlace, KeyStore, KeyUse, Signer};
use crate::config::Pkcs11Config;

/// A token of a PKCS #11 module.
#[derive(Debug)]
pub struct Pkcs11Keys {
    pool: Arc<Pool>,
    token: Arc<str>,
}

impl Pkcs11Keys {
    /// Loads the module and logs in to its token. What is remembered of a refused PIN is kept beside `files`.
    ///
    /// # Errors
    /// When the module, the token or the PIN is not as configured, or does not answer: what is wrong and what to do.
    pub async fn open(config: &Pkcs11Config, files: &FileKeys) -> Result<Self, KeyError> {
        let site = Site::new(config.clone(), Pin::read(config, files)?);
        let token: Arc<str> = config.token.as_str().into();
        let pool = Pool::start(site, usize::from(config.sessions), Duration::from_millis(config.timeout_ms))
            .map_err(|e| KeyError::Module { what: "the threads of the module of keys".into(), why: e.to_string() })?;
        pool.begin(|open| object::logged_in(open)).await.map_err(|why| Trouble::of(&token, &why))?;
        Ok(Self { pool: Arc::new(pool), token })
    }

    fn key(&self, public: PublicKey, named: Named) -> Arc<dyn Signer> {
        let (pool, token) = (Arc::clone(&self.pool), Arc::clone(&self.token));
        Arc::new(InModule { pool, token, named, public })
    }
}

#[tonic::async_trait]
impl KeyStore for Pkcs11Keys {
    async fn create(&self, purpose: KeyUse) -> Result<Arc<dyn Signer>, KeyError> {
        let made = self.pool.ask(move |open| object::make(open, purpose)).await;
        let public = made.map_err(|why| Trouble::of(&self.token, &why))?;
        let kid = public.kid();
        tracing::info!(%kid, purpose = purpose.word(), token = &*self.token, "a new key was made in the module");
        Ok(self.key(public, Named::new(purpose, &kid)))
    }

    async fn open(&self, purpose: KeyUse, kid: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        let named = Named::new(purpose, kid);
        let sought = named.clone();
        let found = self.pool.ask(move |open| object::public(open, &sought)).await;
        let Some(public) = found.map_err(|why| Trouble::of(&self.token, &why))? else { return Ok(None) };
        if public.kid() != *kid {
            let why = Trouble::Wrong(format!("{:?} is another key than its name says", named.label));
            return Err(Trouble::of(&self.token, &why));
        }
        Ok(Some(self.key(public, named)))
    }

    async fn destroy(&self, purpose: KeyUse, kid: &KeyId) -> Result<(), KeyError> {
        let named = Named::new(purpose, kid);
        let done = self.pool.ask(move |open| object::destroy(open, &named)).await;
        if done.map_err(|why| Trouble::of(&self.token, &why))? {
            tracing::info!(%kid, purpose = purpose.word(), token = &*self.token, "a key that signs no more was destroyed");
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        self.pool.why_not().map_or(Ok(()), Err)
    }

    async fn probe(&self) {
        // What it came to stands in the pool.
        let _ = self.pool.probe(|open| object::logged_in(open)).await;
    }
}

/// A key in the module.
struct InModule {
    pool: Arc<Pool>,
    token: Arc<str>,
    named: Named,
    public: PublicKey,
}

impl std::fmt::Debug for InModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InModule({:?} in {:?})", self.named.label, self.token)
    }
}

#[tonic::async_trait]
impl Signer for InModule {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningFailed> {
        let (named, public, message) = (self.named.clone(), self.public, message.to_vec());
        let signed = self.pool.ask(move |open| object::sign(open, &named, &public, &message)).await;
        signed.map_err(|why| {
            if why.is_of_one_call() {
                tracing::error!(%why, key = self.named.label, token = &*self.token, "the module did not sign");
            }
            SigningFailed
        })
    }

    fn place(&self) -> KeyPlace {
        KeyPlace::Token(Arc::clone(&self.token))
    }

    async fn is_there(&self) -> bool {
        let named = self.named.clone();
        // Whether it is there is not known while the module does not answer.
        self.pool.ask(move |open| object::private(open, &named)).await.map_or(true, |found| found.is_some())
    }
}
