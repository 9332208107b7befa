//! The public crate `spiffe` as a process that asks who it is, by `SPIFFE_ENDPOINT_SOCKET`.
//!
//! Every check ends the run where it fails. Each line on standard input is one of: `rotated` (waits for another SVID of the same name), `withdrawn` (waits until there is none), `again` (waits until
//! there is one). Each is answered by a line that begins with the word.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use spiffe::workload_api::error::WorkloadApiError;
use spiffe::{BundleSource as _, JwtSource, WorkloadApiClient, X509Source, X509Svid};

const AUDIENCE: &str = "https://tools.example.com";
const OTHER: &str = "https://other.example.com";
const LONG: Duration = Duration::from_secs(40);

type Failed = Box<dyn Error + Send + Sync>;

fn say(line: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn leaf(svid: &X509Svid) -> Vec<u8> {
    svid.cert_chain()[0].as_ref().to_vec()
}

/// Waits until the source says something of which that is so.
async fn until(source: &X509Source, is_so: impl Fn(Option<&X509Svid>) -> bool) -> Result<String, Failed> {
    let mut updates = source.updated();
    let look = async {
        loop {
            let held = source.svid().ok();
            if is_so(held.as_deref()) {
                return Ok::<_, Failed>(held.map_or_else(|| "nobody".into(), |svid| svid.spiffe_id().to_string()));
            }
            // A withdrawal may come without an update.
            let _late = tokio::time::timeout(Duration::from_millis(100), updates.changed()).await;
        }
    };
    tokio::time::timeout(LONG, look).await.map_err(|_| "it did not come to that within 40 s")?
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let source = tokio::time::timeout(LONG, X509Source::new()).await??;
    let svid = source.svid()?;
    let id = svid.spiffe_id().clone();
    assert!(id.path().starts_with("/ns/fleet/agent/agt_") && id.path().contains("/instance/inst_"), "{id}");
    assert_eq!((svid.cert_chain().len(), svid.hint()), (1, Some("fleet/library")));
    let bundle = source.bundle_for_trust_domain(id.trust_domain())?.ok_or("no bundle of the own trust domain")?;
    assert!(!bundle.authorities().is_empty());
    assert_eq!(source.x509_context()?.bundle_set().len(), 1);

    // By the client itself: the same bytes as by the source, since it is the same process.
    let client = WorkloadApiClient::connect_env().await?;
    let context = client.fetch_x509_context().await?;
    let again = context.default_svid().ok_or("no default SVID")?;
    assert_eq!((again.spiffe_id(), leaf(again)), (&id, leaf(&svid)));
    assert!(client.fetch_jwt_bundles().await?.bundle_for_trust_domain(id.trust_domain())?.is_some());

    let tokens = JwtSource::new().await?;
    let token = tokens.fetch_jwt_svid([AUDIENCE]).await?;
    assert_eq!((token.spiffe_id(), token.audience()), (&id, &[AUDIENCE.to_owned()][..]));
    assert_eq!(
        tokens.fetch_jwt_svid([AUDIENCE]).await?.token(),
        token.token(),
        "another token before half of its life"
    );
    assert_eq!(client.validate_jwt_token(AUDIENCE, token.token()).await?.spiffe_id(), &id);
    client.validate_jwt_token(OTHER, token.token()).await.expect_err("a token for another audience");
    let stranger = spiffe::SpiffeId::new("spiffe://dev.legate/ns/fleet/agent/somebody")?;
    let refused = client.fetch_jwt_svid([AUDIENCE], Some(&stranger)).await.expect_err("somebody else's name");
    assert!(
        matches!(refused, WorkloadApiError::PermissionDenied(_) | WorkloadApiError::NoIdentityIssued),
        "{refused:?}"
    );
    say(&format!("holds {id}"))?;

    let mut held = leaf(&svid);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let who = match line.as_str() {
            "rotated" => {
                until(&source, |now| now.is_some_and(|now| *now.spiffe_id() == id && leaf(now) != held)).await?
            }
            "withdrawn" => until(&source, |now| now.is_none()).await?,
            "again" => until(&source, |now| now.is_some_and(|now| leaf(now) != held)).await?,
            other => return Err(format!("{other:?} is no word of this").into()),
        };
        if let Ok(now) = source.svid() {
            held = leaf(&now);
        }
        say(&format!("{line} {who}"))?;
    }
    Ok(())
}
