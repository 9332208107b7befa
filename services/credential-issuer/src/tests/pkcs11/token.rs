//! A token of SoftHSM for one test, in a process of its own, since a module is one thing for the whole of a process.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use legate_mtls::pki::write_private;

use crate::config::Pkcs11Config;
use crate::keys::{FileKeys, KeyError, KeyStore, Pkcs11Keys, Stores};

/// Says to a process that it is the one of a test, and where its token is.
const DIR: &str = "LEGATE_TEST_TOKEN_DIR";
const LABEL: &str = "legate";
pub(super) const PIN: &str = "1234";
const LONGEST: Duration = Duration::from_secs(180);

/// Where the distributions put SoftHSM 2, and the module of p11-kit that asks another process.
const SOFTHSM: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];
const REMOTE: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
    "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
    "/usr/lib64/pkcs11/p11-kit-client.so",
];

pub(super) struct Token {
    dir: PathBuf,
    pub(super) module: PathBuf,
}

/// Runs `body` in a process that has a new token to itself: this test binary again, which is told to run the test of that name.
pub(super) fn alone<F: AsyncFnOnce(Token)>(name: &str, body: F) {
    let run = |work| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(work);
    };
    if let Ok(dir) = std::env::var(DIR) {
        run(Box::pin(body(Token { dir: dir.into(), module: there(&SOFTHSM) }))
            as std::pin::Pin<Box<dyn Future<Output = ()>>>);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("softhsm2.conf");
    let tokens = dir.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let text = format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
    std::fs::write(&conf, text).unwrap();
    write_private(&dir.path().join("pin"), PIN).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "5678"])
        .env("SOFTHSM2_CONF", &conf)
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("softhsm2-util is needed: install softhsm2").success());
    let mut process = tokio::process::Command::new(std::env::current_exe().unwrap());
    process
        .args(["--exact", &format!("tests::pkcs11::{name}"), "--nocapture", "--test-threads", "1"])
        .env(DIR, dir.path())
        .env("SOFTHSM2_CONF", &conf)
        .env("P11_KIT_SERVER_ADDRESS", format!("unix:path={}", dir.path().join("remote.sock").display()))
        .kill_on_drop(true);
    run(Box::pin(async move {
        let mut process = process.spawn().unwrap();
        let ended = tokio::time::timeout(LONGEST, process.wait()).await.expect("the test hangs").unwrap();
        assert!(ended.success(), "{ended}");
    }));
}

fn there(paths: &[&str]) -> PathBuf {
    let found = paths.iter().map(Path::new).find(|path| path.exists());
    found
        .unwrap_or_else(|| panic!("none of {paths:?} is there: install softhsm2, p11-kit and p11-kit-modules"))
        .to_owned()
}

impl Token {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn config(&self) -> Pkcs11Config {
        Pkcs11Config {
            module: self.module.clone(),
            token: LABEL.into(),
            pin_file: Some(self.path("pin")),
            sessions: 2,
            timeout_ms: 2_000,
        }
    }

    pub(super) async fn open(&self, files: &FileKeys) -> Result<Pkcs11Keys, KeyError> {
        Pkcs11Keys::open(&self.config(), files).await
    }

    /// Keys in the token, and those in files that are there.
    pub(super) async fn keys(&self, files: FileKeys) -> Arc<dyn KeyStore> {
        let token: Arc<dyn KeyStore> = Arc::new(self.open(&files).await.unwrap());
        Arc::new(Stores::new(token, vec![Arc::new(files)]))
    }

    /// The module, as another part of the process has it.
    pub(super) fn beside(&self) -> Pkcs11 {
        let pkcs11 = Pkcs11::new(&self.module).unwrap();
        let _ = pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        pkcs11
    }

    /// A session of ours, logged in.
    pub(super) fn session(&self) -> Session {
        let pkcs11 = self.beside();
        let mut slots = pkcs11.get_slots_with_token().unwrap();
        slots.retain(|slot| pkcs11.get_token_info(*slot).unwrap().label().trim_end() == LABEL);
        let session = pkcs11.open_rw_session(slots[0]).unwrap();
        // The whole process is logged in where one session is.
        let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
        session
    }

    /// What lies in the token under the id of a key.
    pub(super) fn objects(&self, session: &Session, kid: &str, class: ObjectClass) -> Vec<ObjectHandle> {
        let all = session.find_objects(&[Attribute::Class(class), Attribute::Token(true)]).unwrap();
        let is_named = |handle: &ObjectHandle| {
            let found = session.get_attributes(*handle, &[cryptoki::object::AttributeType::Label]).unwrap();
            matches!(&found[..], [Attribute::Label(label)] if String::from_utf8_lossy(label).ends_with(kid))
        };
        all.into_iter().filter(is_named).collect()
    }

    pub(super) fn has(&self, kid: &str) -> bool {
        !self.objects(&self.session(), kid, ObjectClass::PRIVATE_KEY).is_empty()
    }

    /// The token behind a process of its own, as a network HSM is.
    pub(super) fn remote(&self) -> (Self, Remote) {
        let remote = Remote { dir: self.dir.clone(), module: self.module.clone(), server: None };
        (Self { dir: self.dir.clone(), module: there(&REMOTE) }, remote)
    }
}

/// The process that has the token.
pub(super) struct Remote {
    dir: PathBuf,
    module: PathBuf,
    server: Option<Child>,
}

impl Remote {
    pub(super) fn start(&mut self) {
        let socket = self.dir.join("remote.sock");
        let _ = std::fs::remove_file(&socket);
        let mut server = Command::new("p11-kit")
            .args(["server", "--foreground", "--provider"])
            .arg(&self.module)
            .arg("--name")
            .arg(&socket)
            .arg(format!("pkcs11:token={LABEL}"))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("p11-kit is needed: install p11-kit");
        // It says where it is once it is there.
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("P11_KIT_SERVER_ADDRESS"), "{line}");
        self.server = Some(server);
    }

    /// To it and to those that it forked for its callers.
    pub(super) fn signal(&self, name: &str) {
        let group = format!("-{}", self.server.as_ref().unwrap().id());
        assert!(Command::new("kill").args([&format!("-{name}"), "--", &group]).status().unwrap().success());
    }

    pub(super) fn kill(&mut self) {
        if self.server.is_some() {
            self.signal("KILL");
        }
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.kill();
    }
}
