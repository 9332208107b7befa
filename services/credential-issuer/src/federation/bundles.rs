//! Bundles of other trust domains as they stand here: fetched while they are due, the last good one kept when that fails, and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use legate_clock::Timestamp;
use legate_mtls::ForeignConnector;
use legate_view::{BundleEndpoint, FederatedTrustDomain};
use parking_lot::Mutex;

use super::Federation;
use super::bundle::{BadBundle, ForeignBundle};
use super::fetch::{By, Unreached};

/// A bundle that was fetched is used for so long when nothing newer comes.
pub(crate) const STALE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often one is fetched whose domain does not say (SPIFFE Federation section 4.1).
const USUAL: Duration = Duration::from_secs(300);
/// How often it is tried while there is none at all.
const SOON: Duration = Duration::from_secs(10);

/// What stands of each FederatedTrustDomain, by `NAMESPACE/NAME`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bundles(Arc<Mutex<BTreeMap<String, Kept>>>);

/// What stands of one.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// What it was declared as: another declaration begins anew.
    pub(crate) declared: [u8; 32],
    /// The last good one; `None`: there never was one.
    pub(crate) bundle: Option<Arc<ForeignBundle>>,
    /// When it was fetched; `None`: it is declared.
    pub(crate) fetched: Option<Timestamp>,
    /// When it is fetched next, by the monotonic clock; `None`: never.
    due: Option<Duration>,
    /// Why the last fetch gave nothing.
    pub(crate) failing: Option<String>,
}

impl Kept {
    /// As it is declared, with what an earlier process fetched of it.
    pub(crate) fn begin(
        of: &FederatedTrustDomain,
        declared: [u8; 32],
        fetched: Option<(ForeignBundle, Timestamp)>,
        now: Duration,
    ) -> Self {
        let given = of.bundle.as_ref().map(|text| ForeignBundle::parse(text.as_bytes()));
        let failing = match &given {
            Some(Err(why)) => Some(why.to_string()),
            Some(Ok(_)) | None => None,
        };
        let due = of.endpoint.is_some().then_some(now);
        match fetched {
            Some((bundle, at)) => Self { declared, bundle: Some(bundle.into()), fetched: Some(at), due, failing },
            None => {
                let bundle = given.and_then(Result::ok).map(Arc::new);
                Self { declared, bundle, fetched: None, due, failing }
            }
        }
    }

    /// The bundle, where it may still be used.
    fn usable(&self, now: Timestamp) -> Option<&Arc<ForeignBundle>> {
        let bundle = self.bundle.as_ref()?;
        self.fetched.is_none_or(|at| now.since(at) < STALE).then_some(bundle)
    }

    /// It was fetched, and is good.
    pub(crate) fn fetched(&mut self, of: &FederatedTrustDomain, bundle: ForeignBundle, at: Timestamp, now: Duration) {
        let every = of.refresh.or(bundle.refresh).unwrap_or(USUAL);
        (self.bundle, self.fetched, self.failing) = (Some(bundle.into()), Some(at), None);
        self.due = Some(now + every);
    }

    /// It was not. It is tried again at the next time, not at once: who serves it may be overloaded (section 6.2).
    pub(crate) fn failed(&mut self, of: &FederatedTrustDomain, why: String, now: Duration) {
        let hint = self.bundle.as_ref().and_then(|bundle| bundle.refresh);
        let every = if self.bundle.is_none() { SOON } else { of.refresh.or(hint).unwrap_or(USUAL).min(USUAL) };
        self.failing = Some(why);
        self.due = Some(now + every);
    }
}

/// How the bundles stand, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// That are served.
    pub(crate) served: usize,
    /// Of which the last fetch gave nothing, or that are declared and no bundle.
    pub(crate) failing: usize,
    /// Seconds since the oldest of those that are served was fetched.
    pub(crate) oldest: u64,
}

impl Bundles {
    /// The bundle of one that is declared so, where there is a good one.
    pub(crate) fn get(&self, source: &str, now: Timestamp) -> Option<Arc<ForeignBundle>> {
        self.0.lock().get(source)?.usable(now).cloned()
    }

    /// What stands of one, where it is declared as it was.
    pub(crate) fn kept(&self, source: &str, declared: &[u8; 32]) -> Option<Kept> {
        self.0.lock().get(source).filter(|kept| kept.declared == *declared).cloned()
    }

    /// From now on this stands of it.
    pub(crate) fn put(&self, source: String, kept: Kept) {
        self.0.lock().insert(source, kept);
    }

    /// Forgets all but these; the others.
    pub(crate) fn retain(&self, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        let mut all = self.0.lock();
        let gone: Vec<String> = all.keys().filter(|source| !is_there(source)).cloned().collect();
        for source in &gone {
            all.remove(source);
        }
        gone
    }

    /// Counts them.
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        let all = self.0.lock();
        let served = all.values().filter(|kept| kept.usable(now).is_some());
        let ages = served.clone().filter_map(|kept| kept.fetched).map(|at| now.since(at).as_secs());
        Standing {
            oldest: ages.max().unwrap_or(0),
            served: served.count(),
            failing: all.values().filter(|kept| kept.failing.is_some()).count(),
        }
    }
}

impl Kept {
    /// Whether it is to be fetched now.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

/// Why a bundle was not fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotFetched {
    #[error(transparent)]
    Unreached(#[from] Unreached),
    #[error(transparent)]
    Bad(#[from] BadBundle),
}

impl Federation {
    /// Fetches a bundle. An endpoint with a SPIFFE ID is verified by the latest bundle of its domain (SPIFFE Federation section 5.2.2.4).
    pub(crate) async fn bundle(
        &self,
        at: &BundleEndpoint,
        latest: Option<&ForeignBundle>,
    ) -> Result<(ForeignBundle, Bytes), NotFetched> {
        let by = match &at.spiffe_id {
            None => By::Web,
            Some(id) => {
                let authorities = latest.map(|bundle| bundle.x509.as_slice()).unwrap_or_default();
                let connector = ForeignConnector::new(authorities, id.clone(), Arc::clone(&self.0.clock));
                By::Foreign(connector.map_err(|e| Unreached(format!("its bundle verifies nobody: {e}")))?)
            }
        };
        let text = self.text(&at.url, &by).await?;
        let bundle = ForeignBundle::parse(&text)?;
        if let (Some(before), Some(now)) = (latest.and_then(|bundle| bundle.sequence), bundle.sequence)
            && now < before
        {
            // Section 4.1.1 of the bundle's standard: the number only rises. Somebody shows what was true before.
            return Err(BadBundle(format!("its spiffe_sequence went back from {before} to {now}")).into());
        }
        Ok((bundle, text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_ids::{Name, TrustDomain};

    const KEY: &str = r#"{"keys":[{"use":"jwt-svid","kty":"EC","kid":"a"}]}"#;

    fn declared(bundle: Option<&str>, at: Option<&str>) -> FederatedTrustDomain {
        FederatedTrustDomain {
            label: legate_view::Label {
                namespace: Name::parse("pay").unwrap(),
                name: Name::parse("partner").unwrap(),
                id: "x".into(),
                version: 1,
                revision: 1,
                created: Timestamp::default(),
                updated: Timestamp::default(),
            },
            trust_domain: TrustDomain::parse("partner.example").unwrap(),
            bundle: bundle.map(Into::into),
            endpoint: at.map(|url| BundleEndpoint { url: url.into(), spiffe_id: None }),
            refresh: None,
            namespaces: Default::default(),
        }
    }

    #[test]
    fn the_last_good_one_stands_until_it_is_too_old() {
        let (of, now) = (declared(None, Some("https://a/")), Timestamp::from_secs(1_800_000_000));
        let mut kept = Kept::begin(&of, [1; 32], None, Duration::ZERO);
        assert!(kept.is_due(Duration::ZERO) && kept.usable(now).is_none());
        kept.failed(&of, "no answer".into(), Duration::ZERO);
        assert!(!kept.is_due(SOON / 2) && kept.is_due(SOON), "while there is none it is tried soon");
        kept.fetched(&of, ForeignBundle::parse(KEY.as_bytes()).unwrap(), now, Duration::ZERO);
        assert!(kept.failing.is_none() && !kept.is_due(USUAL / 2) && kept.is_due(USUAL));
        kept.failed(&of, "no answer".into(), USUAL);
        assert!(!kept.is_due(USUAL + SOON) && kept.is_due(USUAL * 2), "who serves it is not pressed");
        let bundles = Bundles::default();
        bundles.put("pay/partner".into(), kept);
        let late = now.plus(STALE).minus(Duration::from_secs(1));
        assert!(bundles.get("pay/partner", late).is_some() && bundles.get("pay/partner", now.plus(STALE)).is_none());
        let standing = bundles.standing(now.plus(Duration::from_secs(60)));
        assert_eq!(standing, Standing { served: 1, failing: 1, oldest: 60 });
        assert!(bundles.kept("pay/partner", &[2; 32]).is_none(), "declared otherwise it is another");
        assert_eq!(bundles.retain(|_| false), ["pay/partner"]);
    }

    #[test]
    fn what_is_declared_stands_for_ever_and_until_one_is_fetched() {
        let now = Timestamp::from_secs(1_800_000_000);
        let kept = Kept::begin(&declared(Some(KEY), None), [1; 32], None, Duration::ZERO);
        assert!(kept.usable(now.plus(STALE * 2)).is_some() && !kept.is_due(STALE));
        let bad = Kept::begin(&declared(Some("{}"), None), [1; 32], None, Duration::ZERO);
        assert!(bad.usable(now).is_none() && bad.failing.is_some());
        let other = KEY.replace("\"a\"", "\"b\"");
        let earlier = (ForeignBundle::parse(other.as_bytes()).unwrap(), now);
        let kept = Kept::begin(&declared(Some(KEY), Some("https://a/")), [1; 32], Some(earlier), Duration::ZERO);
        assert!(kept.usable(now).unwrap().jwt.contains("\"b\""));
    }
}
