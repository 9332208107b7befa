//! Whom we believe: the CA certificates of services, of workloads and of operators who log in, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use legate_clock::Timestamp;
use legate_ids::{SpiffeId, TrustDomain};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::certificate::{self, Leaf, Root, Side};
use crate::files::Stamp;
use crate::{Peer, TlsError};

/// The most certificates of a chain that somebody else passes on.
const MOST_SHOWN: usize = 4;

/// Whom we believe. Clones share the certificates, so a reload reaches all of them.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    domain: TrustDomain,
    /// Whether workloads are servers under it, and nobody else is anything.
    is_among_workloads: bool,
    roots: ArcSwap<Roots>,
    files: Option<CaFiles>,
    stamp: parking_lot::Mutex<Stamp>,
    /// How often the certificates changed.
    changes: tokio::sync::watch::Sender<u64>,
}

/// The files of CA certificates, in PEM. All but the first may be missing, and appear later.
#[derive(Clone, Debug)]
pub struct CaFiles {
    /// Of services and operators.
    pub services: PathBuf,
    /// Of agents and enforcement points.
    pub workloads: Option<PathBuf>,
    /// Of operators who log in.
    pub operators: Option<PathBuf>,
}

/// The same as texts.
#[derive(Clone, Copy, Debug)]
pub struct CaTexts<'a> {
    /// Of services and operators.
    pub services: &'a str,
    /// Of agents and enforcement points.
    pub workloads: Option<&'a str>,
    /// Of operators who log in.
    pub operators: Option<&'a str>,
}

/// The sets; of a class without a set nobody is believed.
#[derive(Debug)]
struct Roots {
    services: Option<Authorities>,
    workloads: Option<Authorities>,
    operators: Option<Authorities>,
}

/// The certificates of one class, and the library's verifier over them, made once.
#[derive(Debug)]
pub(crate) struct Authorities {
    shown: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Trust {
    /// Reads the services' CA certificates, and the workloads' where there is a file: without one no workload is believed yet.
    /// Operators who logged in are not believed.
    ///
    /// # Errors
    /// As [`Trust::open`].
    pub fn from_files(domain: TrustDomain, services_ca: &Path, workloads_ca: Option<&Path>) -> Result<Self, TlsError> {
        let (services, workloads) = (services_ca.to_owned(), workloads_ca.map(Path::to_owned));
        Self::open(domain, CaFiles { services, workloads, operators: None })
    }

    /// Reads the CA certificates of each class.
    ///
    /// # Errors
    /// When the services' file is missing, or one holds no certificate, one that is not a CA's, or one of another class.
    pub fn open(domain: TrustDomain, files: CaFiles) -> Result<Self, TlsError> {
        let stamp = stamp(&files);
        let roots = load(&files)?;
        Ok(Self(Arc::new(Inner {
            domain,
            is_among_workloads: false,
            roots: ArcSwap::from_pointee(roots),
            files: Some(files),
            stamp: parking_lot::Mutex::new(stamp),
            changes: tokio::sync::watch::Sender::new(0),
        })))
    }

    /// The same from PEM texts, without operators who log in.
    ///
    /// # Errors
    /// As [`Trust::from_texts`].
    pub fn from_pem(domain: TrustDomain, services: &str, workloads: Option<&str>) -> Result<Self, TlsError> {
        Self::from_texts(domain, CaTexts { services, workloads, operators: None })
    }

    /// The same from PEM texts.
    ///
    /// # Errors
    /// When a text holds no certificate, one that is not a CA's, or one of another class.
    pub fn from_texts(domain: TrustDomain, texts: CaTexts<'_>) -> Result<Self, TlsError> {
        let read = |text: &str| Authorities::read(text.as_bytes());
        let roots = Roots {
            services: Some(read(texts.services)?),
            workloads: texts.workloads.map(read).transpose()?,
            operators: texts.operators.map(read).transpose()?,
        };
        Ok(Self(Arc::new(Inner {
            domain,
            is_among_workloads: false,
            roots: ArcSwap::from_pointee(roots.of_distinct_keys()?),
            files: None,
            stamp: parking_lot::Mutex::default(),
            changes: tokio::sync::watch::Sender::new(0),
        })))
    }

    /// Whom workloads of a trust domain believe among one another, as clients and as servers: nobody, until
    /// [`Trust::replace_workloads`] says whom. Services and operators are nobody under it.
    #[must_use]
    pub fn among_workloads(domain: TrustDomain) -> Self {
        Self(Arc::new(Inner {
            domain,
            is_among_workloads: true,
            roots: ArcSwap::from_pointee(Roots { services: None, workloads: None, operators: None }),
            files: None,
            stamp: parking_lot::Mutex::default(),
            changes: tokio::sync::watch::Sender::new(0),
        }))
    }

    /// Takes the CA certificates of workloads, in DER one after the other, as the SPIFFE Workload API gives them; whether they are others
    /// than before. Connections of those that are believed no more are cut by their listener.
    ///
    /// # Errors
    /// When there is none, or one is broken or not a CA's; then the old certificates stay. Of a trust that is not among workloads they
    /// are not replaced so.
    pub fn replace_workloads(&self, authorities: &[u8]) -> Result<bool, TlsError> {
        if !self.0.is_among_workloads {
            return Err(TlsError::Pem("the CA certificates of this trust come from its files".into()));
        }
        let all = certificate::one_after_the_other(authorities)?;
        // One at a time, so that who looks for a difference sees what he then replaces.
        let _turn = self.0.stamp.lock();
        if self.0.roots.load().workloads.as_ref().is_some_and(|known| known.shown == all) {
            return Ok(false);
        }
        let workloads = Some(Authorities::of(all)?);
        self.0.roots.store(Arc::new(Roots { services: None, workloads, operators: None }));
        // After the certificates: whoever sees the number sees them.
        self.0.changes.send_modify(|n| *n += 1);
        Ok(true)
    }

    /// Our trust domain.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.0.domain
    }

    /// Reads the files again when they have changed; whether they had.
    ///
    /// # Errors
    /// When the new files are broken; then the old certificates stay.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(files) = &self.0.files else {
            return Ok(false);
        };
        let now = stamp(files);
        let mut old = self.0.stamp.lock();
        if *old == now {
            return Ok(false);
        }
        self.0.roots.store(Arc::new(load(files)?));
        *old = now;
        // After the certificates: whoever sees the number sees them.
        self.0.changes.send_modify(|n| *n += 1);
        Ok(true)
    }

    /// Reads the files again whenever they change, looking every `interval`, until the task is aborted.
    pub fn watch(&self, interval: Duration) -> tokio::task::JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                match this.reload() {
                    Ok(false) => {}
                    Ok(true) => tracing::info!("CA certificates reloaded"),
                    Err(error) => tracing::error!(%error, "the new CA certificates cannot be used; the old ones stay"),
                }
            }
        })
    }

    /// Counts the changes of the certificates.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Whom a certificate names that a workload showed to somebody else, in PEM, leaf first: its chain leads to the workloads' CA
    /// now. That the one who showed it has its key is the other's word.
    ///
    /// # Errors
    /// When the text is no chain of certificates, or they are not believed.
    pub fn shown_to_another(&self, pem: &str, now: Timestamp) -> Result<Peer, TlsError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MOST_SHOWN + 1).collect();
        self.shown(&all.map_err(|e| TlsError::Pem(format!("it is not PEM: {e}")))?, now)
    }

    /// The same of certificates in DER, one after the other.
    ///
    /// # Errors
    /// As [`Trust::shown_to_another`].
    pub fn shown_in_der(&self, der: &[u8], now: Timestamp) -> Result<Peer, TlsError> {
        self.shown(&certificate::one_after_the_other(der)?, now)
    }

    fn shown(&self, all: &[CertificateDer<'_>], now: Timestamp) -> Result<Peer, TlsError> {
        let [leaf, intermediates @ ..] = all else {
            return Err(TlsError::Pem("there is no certificate in it".into()));
        };
        if all.len() > MOST_SHOWN {
            return Err(TlsError::Pem(format!("there are more than {MOST_SHOWN} certificates in it")));
        }
        let secs = u64::try_from(now.secs()).unwrap_or(0);
        let read =
            self.verify(leaf, intermediates, UnixTime::since_unix_epoch(Duration::from_secs(secs)), Side::Client)?;
        if !read.principal.is_workload() {
            return Err(TlsError::Pem("it is not a workload's".into()));
        }
        Ok(Peer {
            principal: Some(read.principal),
            spiffe_id: Some(read.spiffe_id),
            not_before: read.not_before,
            not_after: read.not_after,
            x5t_s256: crate::identity::sha256(leaf),
            serial: read.serial,
            ..Peer::anonymous(([0, 0, 0, 0], 0).into())
        })
    }

    /// Whom a chain of certificates in DER names, leaf first, that was kept or passed on: it leads to one of the CAs at that moment. That
    /// somebody has its key is another question.
    ///
    /// # Errors
    /// When it is no such chain.
    pub fn vouches_for(&self, chain: &[Vec<u8>], at: Timestamp) -> Result<SpiffeId, TlsError> {
        let all: Vec<CertificateDer<'_>> = chain.iter().take(MOST_SHOWN).map(|der| der.as_slice().into()).collect();
        let [leaf, intermediates @ ..] = all.as_slice() else {
            return Err(TlsError::Pem("there is no certificate in it".into()));
        };
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.secs()).unwrap_or(0)));
        Ok(self.verify(leaf, intermediates, at, Side::Client)?.spiffe_id)
    }

    /// Verifies a chain, then reads its leaf by the rules of the CA that verified it. Servers are services, so their chains
    /// lead to the services' CA or nowhere; a client's may lead to any.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        side: Side,
    ) -> Result<Leaf, Error> {
        let roots = self.0.roots.load();
        let may_serve = |_: &&Authorities| side == Side::Client || self.0.is_among_workloads;
        let workloads = roots.workloads.as_ref().filter(may_serve);
        let operators = roots.operators.as_ref().filter(|_| side == Side::Client);
        let classes =
            [(Root::Services, roots.services.as_ref()), (Root::Workloads, workloads), (Root::Operators, operators)];
        let mut last = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for (root, authorities) in classes {
            let Some(authorities) = authorities else {
                continue;
            };
            match authorities.verify(leaf, intermediates, now, side) {
                Ok(()) => {
                    return certificate::read(leaf, &self.0.domain, root, side).map_err(|why| {
                        tracing::warn!(%why, "certificate refused");
                        let why = rustls::OtherError(Arc::new(why));
                        Error::InvalidCertificate(CertificateError::Other(why))
                    });
                }
                // A chain that does not lead to this CA may lead to another.
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {}
                Err(other) => last = other,
            }
        }
        Err(last)
    }
}

impl Roots {
    /// The root that verified a chain decides the class of its leaf, so no key may stand in two.
    fn of_distinct_keys(self) -> Result<Self, TlsError> {
        let keys = |of: Option<&Authorities>| -> Vec<Vec<u8>> {
            let roots = of.into_iter().flat_map(|of| &of.store.roots);
            roots.map(|root| root.subject_public_key_info.to_vec()).collect()
        };
        let classes = [
            ("services", keys(self.services.as_ref())),
            ("workloads", keys(self.workloads.as_ref())),
            ("operators who log in", keys(self.operators.as_ref())),
        ];
        for (n, (one, ours)) in classes.iter().enumerate() {
            for (other, theirs) in &classes[n + 1..] {
                if theirs.iter().any(|key| ours.contains(key)) {
                    let why = format!(
                        "the same CA stands for {one} and for {other}: whoever may certify one could certify the other; \
                         make a CA for each"
                    );
                    return Err(TlsError::Pem(why));
                }
            }
        }
        Ok(self)
    }
}

impl Authorities {
    pub(crate) fn read(pem: &[u8]) -> Result<Self, TlsError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        Self::of(all.map_err(|e| TlsError::Pem(format!("the CA certificates are not PEM: {e}")))?)
    }

    fn of(all: Vec<CertificateDer<'static>>) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for cert in &all {
            // The library takes any certificate as an anchor, a leaf as well.
            certificate::check_ca(cert)?;
            store.add(cert.clone())?;
        }
        if store.is_empty() {
            return Err(TlsError::Pem("no CA certificate in the file".into()));
        }
        let store = Arc::new(store);
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(store.clone(), crate::provider())
            .build()
            .map_err(|e| TlsError::Pem(format!("the CA certificates cannot be used: {e}")))?;
        Ok(Self { shown: all, store, clients })
    }

    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        side: Side,
    ) -> Result<(), Error> {
        match side {
            Side::Client => self.clients.verify_client_cert(leaf, intermediates, now).map(|_| ()),
            Side::Server => {
                let algorithms = crate::provider().signature_verification_algorithms.all;
                let leaf = rustls::server::ParsedCertificate::try_from(leaf)?;
                rustls::client::verify_server_cert_signed_by_trust_anchor(
                    &leaf,
                    &self.store,
                    intermediates,
                    now,
                    algorithms,
                )
            }
        }
    }
}

fn stamp(files: &CaFiles) -> Stamp {
    Stamp::of(std::iter::once(&files.services).chain(&files.workloads).chain(&files.operators))
}

fn load(files: &CaFiles) -> Result<Roots, TlsError> {
    let read = |path: &PathBuf| -> Result<Authorities, TlsError> {
        let pem = std::fs::read(path).map_err(TlsError::file(path))?;
        Authorities::read(&pem).map_err(|e| TlsError::Pem(format!("{}: {e}", path.display())))
    };
    let later = |path: &Option<PathBuf>| path.as_ref().filter(|path| path.exists()).map(read).transpose();
    let roots = Roots {
        services: Some(read(&files.services)?),
        workloads: later(&files.workloads)?,
        operators: later(&files.operators)?,
    };
    roots.of_distinct_keys()
}
