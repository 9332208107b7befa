//! The npm package `oidc-provider`, asked the same beside ours: a process of its own, over plain HTTP, that keeps nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Failed;
use crate::apart::cpu_of;
use crate::house::AUDIENCE;
use crate::oauth::{OauthClient, new_key};

/// Its configuration.
const SCRIPT: &str = include_str!("oidc_provider.mjs");
/// As long as ours are.
const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

/// A running one, which ends with this, and its clients.
pub(super) struct Beside {
    child: Child,
    _dir: tempfile::TempDir,
    pub(super) secrets: Vec<OauthClient>,
    pub(super) keys: Vec<OauthClient>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Beside {
    /// Starts the package that is installed in `package`, with so many clients of each kind, each over a connection of its own.
    pub(super) async fn raise(package: &Path, clients: u32) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let script = dir.path().join("oidc_provider.mjs");
        std::fs::write(&script, SCRIPT)?;
        let package = package.canonicalize()?;
        let mut command = Command::new("node");
        command.arg(&script).arg(package).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut keys = Vec::new();
        let mut declared = Vec::new();
        for n in 0..clients {
            declared.push(serde_json::json!({ "client_id": format!("secret-{n}"), "client_secret": SECRET }));
            let (key, jwk) = new_key()?;
            let jwk: serde_json::Value = serde_json::from_str(&jwk)?;
            declared.push(serde_json::json!({
                "client_id": format!("key-{n}"),
                "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_signing_alg": "ES256",
                "jwks": { "keys": [jwk] },
            }));
            keys.push(key);
        }
        let told = serde_json::json!({ "clients": declared, "audience": AUDIENCE }).to_string();
        child.stdin.take().ok_or("node has no input")?.write_all(told.as_bytes())?;
        let mut first = String::new();
        BufReader::new(child.stdout.take().ok_or("node has no output")?).read_line(&mut first)?;
        let port = first.trim().parse().map_err(|_| "oidc-provider does not start: run its script by hand")?;

        let mut beside = Self { child, _dir: dir, secrets: Vec::new(), keys: Vec::new() };
        for (n, key) in keys.into_iter().enumerate() {
            beside.secrets.push(OauthClient::plain_with_secret(port, format!("secret-{n}"), SECRET).await?);
            beside.keys.push(OauthClient::plain_with_key(port, format!("key-{n}"), key).await?);
        }
        Ok(beside)
    }

    /// Its CPU time up to now.
    pub(super) fn cpu(&self) -> Result<Duration, Failed> {
        cpu_of(self.child.id())
    }
}
