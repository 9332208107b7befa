//! Secrets at rest: AES-256-GCM under a key-encryption key that is kept elsewhere, each bound to what it is for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64ct::{Base64, Encoding as _};
use legate_mtls::pki::{refuse_open_key, write_private};
use zeroize::Zeroizing;

mod error;

pub use error::KekError;
use error::is_missing;

/// How a wrapped secret begins.
const MARK: &str = "legate-wrapped-1";
/// The most versions that are kept at once.
const MOST: usize = 4;
/// AES-GCM (NIST SP 800-38D section 8.2): a nonce of 96 random bits.
const NONCE: usize = 12;

/// The key-encryption key: every version of it, newest first. Debug shows numbers alone.
pub struct Kek {
    versions: Vec<(u32, RandomizedNonceKey)>,
    /// The file that it was read from.
    from: Option<PathBuf>,
}

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kek({:?}, hidden)", self.versions.iter().map(|(number, _)| number).collect::<Vec<_>>())
    }
}

/// Where the key-encryption key is: a path, or, without a slash, a credential that systemd hands over.
///
/// # Errors
/// When it is to be handed over and nobody does.
pub fn kek_path(configured: &Path) -> Result<PathBuf, KekError> {
    if configured.components().count() > 1 || configured.is_absolute() {
        return Ok(configured.to_owned());
    }
    let handed = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        let why = "a name without a slash is that of a systemd credential, and there is no CREDENTIALS_DIRECTORY; give a path, \
                   or LoadCredential= in the unit";
        KekError::file(configured, why)
    })?;
    Ok(Path::new(&handed).join(configured))
}

impl Kek {
    /// Reads a file of lines `VERSION 64-HEX-DIGITS`.
    ///
    /// # Errors
    /// When it is missing, others can read it, or a line is something else.
    pub fn open(path: &Path) -> Result<Self, KekError> {
        if is_missing(path)? {
            let why = "there is no key-encryption key; nothing is started without the one that wraps the keys at rest. Make a \
                       first one by legate key make-kek, or bring back the one that is lost";
            return Err(KekError::file(path, why));
        }
        refuse_open(path)?;
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| KekError::file(path, e))?);
        let read = Self::parse(&text).map(|kek| Self { from: Some(path.to_owned()), ..kek });
        read.ok_or_else(|| {
            let why =
                "each line is a version number, a space and 64 hexadecimal digits; 1 to 4 lines of different versions";
            KekError::file(path, why)
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut versions = Vec::new();
        for line in text.lines() {
            let (number, secret) = version(line)?;
            versions.push((number, RandomizedNonceKey::new(&AES_256_GCM, &*secret).ok()?));
        }
        versions.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let all = versions.len();
        versions.dedup_by_key(|(number, _)| *number);
        (versions.len() == all && (1..=MOST).contains(&all)).then_some(Self { versions, from: None })
    }

    /// Makes a first version where there is no file, or a newer one beside what there is; its number.
    ///
    /// # Errors
    /// When there are too many already, or the file cannot be written.
    pub fn add(path: &Path) -> Result<u32, KekError> {
        let old = if is_missing(path)? {
            Zeroizing::new(String::new())
        } else {
            Self::open(path)?;
            Zeroizing::new(std::fs::read_to_string(path).map_err(|e| KekError::file(path, e))?)
        };
        let next = old.lines().filter_map(version).map(|(number, _)| number).max().map_or(1, |n| n.saturating_add(1));
        if old.lines().count() >= MOST {
            return Err(KekError::file(path, "it holds 4 versions, which is the most; drop old ones first"));
        }
        let mut secret = Zeroizing::new([0u8; 32]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| KekError::NoRandomness)?;
        let digits: Zeroizing<String> = Zeroizing::new(secret.iter().map(|b| format!("{b:02x}")).collect());
        let text = Zeroizing::new(format!("{next} {}\n{}", &*digits, &*old));
        write_private(path, &text).map_err(|e| KekError::file(path, e))?;
        Ok(next)
    }

    /// Leaves only the newest version in the file.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn drop_old(path: &Path) -> Result<(), KekError> {
        let newest = Self::open(path)?.newest();
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| KekError::file(path, e))?);
        let line = text.lines().find(|line| version(line).is_some_and(|(number, _)| number == newest));
        let line = Zeroizing::new(format!("{}\n", line.unwrap_or_default()));
        write_private(path, &line).map_err(|e| KekError::file(path, e))
    }

    /// The number of the newest version.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.versions[0].0
    }

    /// The file that it was read from.
    #[must_use]
    pub fn from(&self) -> Option<&Path> {
        self.from.as_deref()
    }

    /// A secret, wrapped under the newest version for what `label` says and nothing else.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn wrap(&self, label: &str, secret: &[u8]) -> Result<String, KekError> {
        let (number, key) = &self.versions[0];
        let mut bytes = Zeroizing::new(secret.to_vec());
        let nonce = key
            .seal_in_place_append_tag(Aad::from(bound(*number, label)), &mut *bytes)
            .map_err(|_| KekError::NoRandomness)?;
        let whole = [&nonce.as_ref()[..], &bytes].concat();
        Ok(format!("{MARK} {number} {}\n", Base64::encode_string(&whole)))
    }

    /// Whether a text is a wrapped secret.
    #[must_use]
    pub fn is_wrapped(text: &[u8]) -> bool {
        text.starts_with(MARK.as_bytes())
    }

    /// The version under which a text is wrapped.
    #[must_use]
    pub fn version_of(text: &str) -> Option<u32> {
        text.trim_end().strip_prefix(MARK)?.trim_start().split_once(' ')?.0.parse().ok()
    }

    /// The secret in a wrapped text.
    ///
    /// # Errors
    /// A reason when the text is broken, wrapped under a version that is not here, or for something else.
    pub fn unwrap(&self, label: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let broken = "it is no wrapped secret, or it was changed";
        let number = Self::version_of(text).ok_or(broken)?;
        let (_, key) = self.versions.iter().find(|(known, _)| *known == number).ok_or(
            "it is wrapped under a version of the key-encryption key that keys.kek does not hold; bring that version back",
        )?;
        let code = text.trim_end().rsplit(' ').next().unwrap_or_default();
        let mut bytes = Zeroizing::new(Base64::decode_vec(code).map_err(|_| broken)?);
        if bytes.len() < NONCE {
            return Err(broken);
        }
        let nonce = Nonce::try_assume_unique_for_key(&bytes[..NONCE]).map_err(|_| broken)?;
        let opened = key.open_in_place(nonce, Aad::from(bound(number, label)), &mut bytes[NONCE..]).map_err(
            |_| "it was wrapped for another key or purpose, by another key-encryption key, or it was changed",
        )?;
        Ok(Zeroizing::new(opened.to_vec()))
    }
}

/// What a wrapped secret is bound to: its format, the version that wraps it, and what it is for.
fn bound(number: u32, label: &str) -> Vec<u8> {
    format!("{MARK}\n{number}\n{label}").into_bytes()
}

/// Refuses a secret's file that others can read.
///
/// # Errors
/// When they can.
pub fn refuse_open(path: &Path) -> Result<(), KekError> {
    let handed = std::env::var_os("CREDENTIALS_DIRECTORY");
    refuse_open_unless_handed(path, handed.as_deref().map(Path::new))
}

/// The same. What systemd hands over, in a directory of its own, is closed by an access list, which
/// shows as rights of the group; of everybody else it never is.
fn refuse_open_unless_handed(path: &Path, handed: Option<&Path>) -> Result<(), KekError> {
    // An empty path is the beginning of every path.
    let is_handed_over = handed.is_some_and(|dir| dir.is_absolute() && path.parent() == Some(dir));
    if !is_handed_over {
        return refuse_open_key(path).map_err(|e| KekError::file(path, e));
    }
    let mode = std::fs::metadata(path).map_err(|e| KekError::file(path, e))?.permissions().mode();
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(KekError::file(path, "everybody can read it; close it to others (chmod o= FILE)"))
}

fn version(line: &str) -> Option<(u32, Zeroizing<[u8; 32]>)> {
    let (number, digits) = line.split_once(' ')?;
    let number = number.parse().ok()?;
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = Zeroizing::new([0u8; 32]);
    for (i, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
    }
    Some((number, secret))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn kek(dir: &Path) -> Kek {
        Kek::add(&dir.join("kek")).unwrap();
        Kek::open(&dir.join("kek")).unwrap()
    }

    #[test]
    fn a_secret_opens_for_what_it_was_wrapped_for_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let kek = kek(dir.path());
        let text = kek.wrap("access-tokens A", b"secret").unwrap();
        assert!(Kek::is_wrapped(text.as_bytes()) && !text.contains("secret"));
        assert_eq!(&**kek.unwrap("access-tokens A", &text).unwrap(), b"secret");
        assert_ne!(text, kek.wrap("access-tokens A", b"secret").unwrap(), "a nonce of its own each time");
        for other in ["access-tokens B", "jwt-svids A", "access-tokens A ", ""] {
            kek.unwrap(other, &text).unwrap_err();
        }
        let other = tempfile::tempdir().unwrap();
        self::kek(other.path()).unwrap("access-tokens A", &text).unwrap_err();
        for bad in ["", MARK, "legate-wrapped-1 1 ", "legate-wrapped-1 1 AAAA", "legate-wrapped-1 x AAAA"] {
            kek.unwrap("access-tokens A", bad).unwrap_err();
        }
        assert_eq!(format!("{kek:?}"), "Kek([1], hidden)");
    }

    #[test]
    fn versions_follow_one_another_and_none_is_lost_by_surprise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        assert!(Kek::open(&path).unwrap_err().to_string().contains("make-kek"));
        let first = kek(dir.path()).wrap("x", b"secret").unwrap();
        assert_eq!(Kek::add(&path).unwrap(), 2);
        let both = Kek::open(&path).unwrap();
        assert_eq!(both.newest(), 2);
        assert_eq!(&**both.unwrap("x", &first).unwrap(), b"secret");
        assert_eq!(Kek::version_of(&both.wrap("x", b"s").unwrap()), Some(2));
        // A text that says that another version wrapped it is not believed.
        both.unwrap("x", &first.replacen(" 1 ", " 2 ", 1)).unwrap_err();
        Kek::drop_old(&path).unwrap();
        let why = Kek::open(&path).unwrap().unwrap("x", &first).unwrap_err();
        assert!(why.contains("version"), "{why}");
        for bad in
            ["", "1", "1 ab", "x 00", &format!("1 {0}\n1 {0}", "ab".repeat(32)), &format!("1 {}g", "a".repeat(63))]
        {
            write_private(&path, bad).unwrap();
            assert!(Kek::open(&path).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_systemd_hands_over_may_be_its_groups_and_never_everybodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        Kek::add(&path).unwrap();
        let below = dir.path().join("a");
        let through = below.join("../kek");
        std::fs::create_dir(&below).unwrap();
        for (mode, handed, path, is_good) in [
            (0o600, None, &path, true),
            (0o640, None, &path, false),
            (0o440, Some(dir.path()), &path, true),
            (0o444, Some(dir.path()), &path, false),
            // Set and empty, it names no directory; and nothing else is in it for being written so.
            (0o440, Some(Path::new("")), &path, false),
            (0o440, Some(Path::new("/")), &path, false),
            (0o440, Some(below.as_path()), &through, false),
        ] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(refuse_open_unless_handed(path, handed).is_ok(), is_good, "{mode:o} {handed:?}");
        }
    }

    #[test]
    fn a_name_without_a_slash_is_a_credential_of_systemd() {
        assert_eq!(kek_path(Path::new("/etc/legate/kek")).unwrap(), Path::new("/etc/legate/kek"));
        assert_eq!(kek_path(Path::new("./kek")).unwrap(), Path::new("./kek"));
        if std::env::var_os("CREDENTIALS_DIRECTORY").is_none() {
            assert!(kek_path(Path::new("kek")).unwrap_err().to_string().contains("LoadCredential"));
        }
    }

    proptest! {
        #[test]
        fn every_secret_comes_back_and_no_changed_text_opens(secret: Vec<u8>, at: usize, bit in 0u32..8) {
            let kek = Kek::parse(&format!("7 {}", "5a".repeat(32))).unwrap();
            let text = kek.wrap("label", &secret).unwrap();
            prop_assert_eq!(&**kek.unwrap("label", &text).unwrap(), &secret[..]);
            let code = text.trim_end().rsplit(' ').next().unwrap();
            let mut bytes = Base64::decode_vec(code).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let changed = format!("{MARK} 7 {}", Base64::encode_string(&bytes));
            prop_assert!(kek.unwrap("label", &changed).is_err());
        }
    }
}
