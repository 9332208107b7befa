//! The PIN: from a file or the environment, shown to nobody, and never tried again once the token refused it.

use std::path::Path;

use cryptoki::types::AuthPin;
use legate_kek::refuse_open;
use zeroize::Zeroizing;

use crate::config::Pkcs11Config;
use crate::keys::file::REFUSED_PIN_LABEL as LABEL;
use crate::keys::{FileKeys, KeyError, is_missing, kek_path};

/// The variable that holds the PIN where no file does.
const VARIABLE: &str = "LEGATE_PKCS11_PIN";
/// The longest PIN, in bytes.
const LONGEST: usize = 255;

/// The PIN, and what is remembered of one that was refused. Debug shows neither.
pub(super) struct Pin {
    secret: Zeroizing<String>,
    files: FileKeys,
    /// Whose PIN it is: a module and a token.
    whose: String,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin(hidden)")
    }
}

impl Pin {
    /// Reads it where the configuration says that it is.
    pub(super) fn read(config: &Pkcs11Config, files: &FileKeys) -> Result<Self, KeyError> {
        let by_variable = std::env::var(VARIABLE).ok().map(Zeroizing::new);
        let text = match (&config.pin_file, by_variable) {
            (Some(path), None) => from_file(&kek_path(path)?)?,
            (None, Some(text)) => text,
            (None, None) => {
                let why = format!("there is no PIN: give keys.pkcs11.pin_file, a file of mode 0600, or {VARIABLE}");
                return Err(KeyError::Module { what: "keys.pkcs11".into(), why });
            }
            (Some(_), Some(_)) => {
                let why = format!("both keys.pkcs11.pin_file and {VARIABLE} are given; take one away");
                return Err(KeyError::Module { what: "keys.pkcs11".into(), why });
            }
        };
        let pin = text.trim_end_matches(['\r', '\n']);
        if pin.is_empty() || pin.len() > LONGEST {
            let why = format!("is empty, or longer than {LONGEST} bytes");
            return Err(KeyError::Module { what: "the PIN".into(), why });
        }
        let whose = format!("{}\n{}", config.module.display(), config.token);
        Ok(Self { secret: Zeroizing::new(pin.to_owned()), files: files.clone(), whose })
    }

    pub(super) fn secret(&self) -> AuthPin {
        AuthPin::new(self.secret.as_str().into())
    }

    fn remembered(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}\n{}", self.whose, *self.secret))
    }

    /// Whether the token refused this very PIN before, in whichever life of the process: tokens lock after a few tries, and whatever
    /// starts a service again and again would use them up.
    pub(super) fn was_refused(&self) -> Result<bool, KeyError> {
        let path = self.files.refused_pin();
        if is_missing(&path)? {
            return Ok(false);
        }
        let text = self.files.read_secret(&path, LABEL)?;
        Ok(text[..] == *self.remembered().as_bytes())
    }

    /// The token refused it.
    pub(super) fn is_refused(&self) -> Result<(), KeyError> {
        let path = self.files.refused_pin();
        self.files.write(&path, LABEL, self.remembered().as_bytes())
    }

    /// The token takes it.
    pub(super) fn is_taken(&self) {
        // Where it stays it names a PIN that nobody uses any more, or one that is taken once it is removed by hand.
        let _ = std::fs::remove_file(self.files.refused_pin());
    }

    /// Where what was refused is remembered.
    pub(super) fn memory(&self) -> std::path::PathBuf {
        self.files.refused_pin()
    }
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    if is_missing(path)? {
        return Err(KeyError::file(
            path,
            "there is no such file; keys.pkcs11.pin_file names the one that holds the PIN",
        ));
    }
    refuse_open(path)?;
    Ok(Zeroizing::new(std::fs::read_to_string(path).map_err(|e| KeyError::file(path, e))?))
}
