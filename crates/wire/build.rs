//! Compiles every file under proto/ without protoc.

use std::io::Error;
use std::path::{Path, PathBuf};

/// Messages that carry a token, or a person's name that has to stay where it can be erased.
const SECRET: [&str; 28] = [
    ".JWTSVID",
    ".ValidateJWTSVIDRequest",
    ".X509SVID",
    ".envoy.service.auth.v3.AttributeContext.HttpRequest",
    ".envoy.service.auth.v3.AttributeContext.Peer",
    ".envoy.service.auth.v3.HeaderValue",
    ".envoy.service.secret.v3.DataSource",
    ".envoy.service.secret.v3.DiscoveryResponse",
    ".legate.audit.v1.PersonalPart",
    ".legate.credential.v1.CreateClientSecretResponse",
    ".legate.credential.v1.CreateEnrolmentTokenResponse",
    ".legate.credential.v1.CreateGrantRequest",
    ".legate.credential.v1.EnrolRequest",
    ".legate.credential.v1.EnrolWithIdentityTokenRequest",
    ".legate.credential.v1.ExchangeTokenRequest",
    ".legate.credential.v1.ExchangeTokenResponse",
    ".legate.credential.v1.FindLeakedRequest",
    ".legate.credential.v1.IntrospectRequest",
    ".legate.credential.v1.IssueJwtSvidRequest",
    ".legate.credential.v1.IssueJwtSvidResponse",
    ".legate.credential.v1.IssueTokenResponse",
    ".legate.credential.v1.IssueX509SvidRequest",
    ".legate.credential.v1.ListGrantsRequest",
    ".legate.credential.v1.LoginRequest",
    ".legate.credential.v1.RevokeGrantRequest",
    ".legate.policy.v1.Subject",
    ".spiffe.broker.JWTSVID",
    ".spiffe.broker.X509SVID",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();

    let descriptors = protox::compile(&files, [&root]).map_err(|e| Error::other(format!("{e:?}")))?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    let mut config = prost_build::Config::new();
    config
        .enable_type_names()
        // Ordered maps make the bytes of equal messages equal, which etags and idempotency rest on.
        .btree_map(["."])
        .bytes([".legate.audit.v1.AppendEventsRequest"])
        // Its objects stay bytes, which `passed_on.rs` says.
        .extern_path(".legate.registry.v1.SnapshotPart", "crate::passed_on::SnapshotPart")
        // These hold secrets: `redacted.rs` writes their Debug.
        .skip_debug(SECRET);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
