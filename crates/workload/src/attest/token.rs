//! The tokens that the platform gave a process: where they are, how they are read, and nothing of them is ever told.
//!
//! A token is tied to a process in one of two ways. A file of the helper's own speaks for the processes that have certain selectors: those of
//! the pod whose sidecar the helper is, or one user's. Or the file is where the process has it, in its own mount namespace: whoever can read
//! a token is the one whom it was given to, so it is read as far as the process itself could read it.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use legate_token::{ClaimedFacts, ForeignToken, MAX_FOREIGN_TOKEN};
use legate_wire::registry::AttestationSelector;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};
use zeroize::Zeroizing;

use super::lacks_only_the_hash;
use super::process::Seen;
use crate::turns::Turns;

/// A file that a process has in its own mount namespace may be on a file system that never answers.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many reads of one user's files are under way at most; whoever's files do not answer keeps nobody else from being attested.
const OF_ONE_USER: usize = 4;
/// And so many of all users'.
const AT_ONCE: usize = 128;
/// What is asked of the token's file, beside a token: the line end that people's editors leave.
const LARGEST: usize = MAX_FOREIGN_TOKEN + 2;

/// Where tokens of some processes are.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenSource {
    /// Where.
    pub place: TokenPlace,
    /// Of which processes: those that have all of these; none: of each that asks.
    pub of: Vec<AttestationSelector>,
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In a file of the helper's.
    Here(PathBuf),
    /// In a directory of the process's own mount namespace, absolute and without symbolic links, and beneath it a file. Links beneath it, as
    /// Kubernetes makes them, are followed as long as they stay there.
    InProcess {
        /// The directory.
        directory: PathBuf,
        /// The file, relative to it.
        file: PathBuf,
    },
}

/// A token of a process.
#[derive(Clone)]
pub(crate) struct ProcessToken {
    pub(crate) text: Arc<Zeroizing<String>>,
    /// What it says, which is not to be believed here.
    pub(crate) claims: Arc<ClaimedFacts>,
}

impl PartialEq for ProcessToken {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for ProcessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessToken(hidden)")
    }
}

impl ProcessToken {
    fn parse(text: Zeroizing<String>) -> Result<Self, NotRead> {
        let token = text.trim();
        let claims = ForeignToken::parse(token).map_err(|e| NotRead(e.to_string()))?.claimed();
        let text = Arc::new(Zeroizing::new(token.to_owned()));
        Ok(Self { text, claims: Arc::new(claims) })
    }
}

/// Why there is no token; nothing of the token is in it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotRead(String);

impl From<rustix::io::Errno> for NotRead {
    fn from(error: rustix::io::Errno) -> Self {
        Self(std::io::Error::from(error).to_string())
    }
}

/// Reads tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    sources: Vec<TokenSource>,
    /// Reads that are under way, by the user whose files they are.
    turns: Turns<u32>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// As whom a process reads its files.
#[derive(Clone, Debug)]
struct Reader {
    pid: i32,
    uid: u32,
    gids: Vec<u32>,
}

impl Tokens {
    pub(super) fn new(sources: Vec<TokenSource>) -> Self {
        Self { sources, turns: Turns::new(AT_ONCE, OF_ONE_USER) }
    }

    /// Whether some are only for processes of one program, known by its hash, and such a process may be meant.
    pub(super) fn ask_for_hash(&self, selectors: &[AttestationSelector]) -> bool {
        self.sources.iter().any(|source| lacks_only_the_hash(&source.of, |one| selectors.contains(one)))
    }

    /// The tokens of a process that was seen like this and has these selectors, one of each issuer. One that cannot be read is not there.
    pub(super) async fn of(&self, seen: &Seen, selectors: &[AttestationSelector]) -> Vec<ProcessToken> {
        let mut found: Vec<ProcessToken> = Vec::new();
        for source in self.sources.iter().filter(|source| source.of.iter().all(|one| selectors.contains(one))) {
            let reader = Reader { pid: seen.key.pid, uid: seen.uid, gids: seen.gids.clone() };
            match self.read(&source.place, reader).await.and_then(ProcessToken::parse) {
                // Two of one issuer could say that it is two workloads, which policies take for apart.
                Ok(token) if found.iter().any(|first| first.claims.issuer() == token.claims.issuer()) => {
                    tracing::info!(
                        pid = seen.key.pid,
                        place = ?source.place,
                        "a process has a token of that issuer already, and this one does not count"
                    );
                }
                Ok(token) => found.push(token),
                Err(why) => {
                    tracing::info!(pid = seen.key.pid, place = ?source.place, %why, "a process has no token there");
                }
            }
        }
        found
    }

    async fn read(&self, place: &TokenPlace, reader: Reader) -> Result<Zeroizing<String>, NotRead> {
        let busy = |_| NotRead("too many files of this user are being read".into());
        let turn = tokio::time::timeout(PATIENCE, self.turns.next(reader.uid)).await.map_err(busy)?;
        let place = place.clone();
        // Where it never comes back, its thread stays, and its turn with it.
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match &place {
                TokenPlace::Here(path) => File::open(path).map_err(|e| NotRead(e.to_string())).and_then(whole),
                TokenPlace::InProcess { directory, file } => in_process(&reader, directory, file),
            }
        });
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(e)) => Err(NotRead(e.to_string())),
            Err(_) => Err(NotRead("it could not be read within a second".into())),
        }
    }
}

/// Reads a file as the process has it. Beyond the directory no link leads anywhere; and what the process itself may not read is not read for it,
/// since we may read everything.
fn in_process(reader: &Reader, directory: &Path, file: &Path) -> Result<Zeroizing<String>, NotRead> {
    let pid = reader.pid;
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(format!("/proc/{pid}/root"), path, Mode::empty())?;
    let inside = directory.strip_prefix("/").map_err(|_| NotRead("the directory is not absolute".into()))?;
    let strict = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let directory = openat2(&root, inside, path, Mode::empty(), strict)?;
    let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let found = openat2(&directory, file, read, Mode::empty(), within)?;
    if !may_read(&fstat(&found)?, reader) {
        return Err(NotRead("the process itself may not read it, or it is no file".into()));
    }
    whole(File::from(found))
}

/// Whether a file is one, and its mode lets the process read it (path_resolution(7), as for one without capabilities).
fn may_read(stat: &Stat, reader: &Reader) -> bool {
    let mode = Mode::from_raw_mode(stat.st_mode);
    let needed = if stat.st_uid == reader.uid {
        Mode::RUSR
    } else if reader.gids.contains(&stat.st_gid) {
        Mode::RGRP
    } else {
        Mode::ROTH
    };
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && (reader.uid == 0 || mode.contains(needed))
}

fn whole(file: File) -> Result<Zeroizing<String>, NotRead> {
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    let mut text = Zeroizing::new(String::with_capacity(LARGEST + 1));
    let most = u64::try_from(LARGEST + 1).unwrap_or(u64::MAX);
    match is_file.then(|| file.take(most).read_to_string(&mut text)) {
        Some(Ok(read)) if read <= LARGEST => Ok(text),
        Some(Ok(_)) => Err(NotRead("it is longer than a token".into())),
        Some(Err(e)) => Err(NotRead(e.to_string())),
        None => Err(NotRead("it is no file".into())),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    /// A token with these claims and no good signature.
    fn compact(claims: &str) -> String {
        let part = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        format!("{}.{}.{}", part(r#"{"alg":"ES256"}"#), part(claims), part("x"))
    }

    pub(crate) fn token(claims: &str) -> ProcessToken {
        ProcessToken::parse(Zeroizing::new(compact(claims))).unwrap()
    }

    fn ourselves() -> Reader {
        let own = std::fs::metadata("/proc/self").unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        Reader { pid, uid: own.uid(), gids: vec![own.gid()] }
    }

    /// A volume as the kubelet makes it: `token -> ..data/token`, `..data -> ..1`.
    fn volume() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().canonicalize().unwrap();
        std::fs::create_dir(at.join("..1")).unwrap();
        std::fs::write(at.join("..1/token"), format!("{}\n", compact("{}"))).unwrap();
        symlink("..1", at.join("..data")).unwrap();
        symlink("..data/token", at.join("token")).unwrap();
        (dir, at)
    }

    #[test]
    fn a_projected_token_is_read_where_the_process_has_it() {
        let (_dir, at) = volume();
        let read = in_process(&ourselves(), &at, Path::new("token")).unwrap();
        assert_eq!(ProcessToken::parse(read).unwrap(), token("{}"));
    }

    #[test]
    fn no_link_leads_out_of_the_directory() {
        let (dir, at) = volume();
        let (_other, elsewhere) = volume();
        symlink(elsewhere.join("..1/token"), at.join("out")).unwrap();
        symlink(format!("../{}/token", elsewhere.file_name().unwrap().display()), at.join("up")).unwrap();
        for name in ["out", "up", "../token", "/etc/hostname"] {
            in_process(&ourselves(), &at, Path::new(name)).unwrap_err();
        }
        // Nor does one lead into it: a process may have put it in a directory's place.
        let link = dir.path().join("link");
        symlink(&elsewhere, &link).unwrap();
        in_process(&ourselves(), &link, Path::new("token")).unwrap_err();
        in_process(&ourselves(), Path::new("relative"), Path::new("token")).unwrap_err();
        in_process(&ourselves(), &at, Path::new("..1")).unwrap_err();
    }

    #[test]
    fn what_the_process_may_not_read_is_not_read_for_it() {
        let (_dir, at) = volume();
        let file = at.join("..1/token");
        let own = std::fs::metadata(&file).unwrap();
        let with = |mode: u32, reader: &Reader| {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            may_read(&fstat(File::open(&file).unwrap()).unwrap(), reader)
        };
        let owner = Reader { pid: 1, uid: own.uid(), gids: vec![] };
        let group = Reader { pid: 1, uid: own.uid() + 1, gids: vec![own.gid() + 7, own.gid()] };
        let stranger = Reader { pid: 1, uid: own.uid() + 1, gids: vec![own.gid() + 7] };
        assert!(with(0o600, &owner) && !with(0o600, &group) && !with(0o600, &stranger));
        assert!(with(0o440, &group) && !with(0o440, &stranger));
        assert!(with(0o444, &stranger));
        // Those who are kept out by name are, though others may.
        assert!(!with(0o604, &group));
        if own.uid() != 0 {
            assert!(!with(0o066, &owner));
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "a.b", &"x".repeat(LARGEST + 1)] {
            let file = dir.path().join("token");
            std::fs::write(&file, bad).unwrap();
            whole(File::open(&file).unwrap()).and_then(ProcessToken::parse).unwrap_err();
        }
        whole(File::open(dir.path()).unwrap()).unwrap_err();
        let shown = format!("{:?}", token(r#"{"iss":"canary"}"#));
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[tokio::test]
    async fn of_each_issuer_a_process_has_one_token() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, claims: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, compact(claims)).unwrap();
            TokenSource { place: TokenPlace::Here(path), of: Vec::new() }
        };
        let tokens = Tokens::new(vec![
            of("first", r#"{"iss":"https://c","sub":"a"}"#),
            of("second", r#"{"iss":"https://c","sub":"b"}"#),
            of("other", r#"{"iss":"https://d","sub":"b"}"#),
        ]);
        let pid = i32::try_from(std::process::id()).unwrap();
        let found = tokens.of(&crate::attest::process::see(pid).unwrap(), &[]).await;
        assert_eq!(found, [token(r#"{"iss":"https://c","sub":"a"}"#), token(r#"{"iss":"https://d","sub":"b"}"#)]);
    }

    #[tokio::test]
    async fn a_file_that_never_answers_is_not_awaited() {
        let tokens = Tokens::default();
        // A named pipe whose writer never comes is no file, and nobody waits for it.
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().canonicalize().unwrap();
        let pipe = at.join("token");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let place = TokenPlace::InProcess { directory: at, file: "token".into() };
        tokens.read(&place, ourselves()).await.unwrap_err();
    }
}
