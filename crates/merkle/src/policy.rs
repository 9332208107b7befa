//! Policies (C2SP tlog-policy): which logs and witnesses are known, and which of these have to have cosigned a checkpoint.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::{CosignerKey, KeyError, Note, NoteError, VerifierKey};

/// The longest policy that is read.
pub const MAX_POLICY: usize = 64 << 10;
/// The most logs, witnesses, and groups, each. The standard asks for 32.
const MOST: usize = 64;

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is over 64 KiB.
    #[error("the policy is over 64 KiB")]
    TooLong,
    /// A line is wrong.
    #[error("line {line} of the policy: {what}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// There is no quorum.
    #[error("the policy has no line `quorum NAME`, and has to have one")]
    NoQuorum,
}

/// Why a checkpoint does not satisfy a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCosigned {
    /// A line names a known witness and is not by it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Too few, or not the right ones.
    #[error("the policy's quorum {quorum} is not there: {}", Said(.by))]
    Quorum {
        /// The name of the quorum.
        quorum: String,
        /// The witnesses that cosigned.
        by: Vec<String>,
    },
}

/// Who cosigned, in words.
struct Said<'a>(&'a [String]);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("no witness that the policy names cosigned it"),
            by => write!(f, "of the witnesses that the policy names only {} cosigned it", by.join(", ")),
        }
    }
}

/// A witness that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its key; the key's name is what its signature lines begin with.
    pub key: CosignerKey,
    /// Where it is asked, where the policy says.
    pub url: Option<String>,
}

/// Who of a policy's witnesses cosigned a checkpoint, by the names of their keys, and when, in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cosigned {
    /// In the order of the policy.
    pub by: Vec<(String, u64)>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<VerifierKey>,
    witnesses: Vec<Witness>,
    names: Vec<Named>,
    quorum: Option<usize>,
}

/// A witness or a group, by the name that it has in the policy and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    name: Vec<u8>,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// The witness of this number.
    Witness(usize),
    /// So many of these, which all stand before it.
    Group { least: usize, members: Vec<usize> },
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_POLICY {
            return Err(PolicyError::TooLong);
        }
        let mut reader = Reader::default();
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            reader.line(line).map_err(|what| PolicyError::Line { line: at + 1, what })?;
        }
        let quorum = reader.quorum.ok_or(PolicyError::NoQuorum)?;
        Ok(Self { logs: reader.logs, witnesses: reader.witnesses, names: reader.names, quorum })
    }

    /// The logs that it names, if it names any.
    #[must_use]
    pub fn logs(&self) -> &[VerifierKey] {
        &self.logs
    }

    /// The witnesses that it names.
    #[must_use]
    pub fn witnesses(&self) -> &[Witness] {
        &self.witnesses
    }

    /// Whether it asks for no cosignature at all (`quorum none`).
    #[must_use]
    pub fn asks_for_none(&self) -> bool {
        self.quorum.is_none()
    }

    /// Whether these witnesses are enough.
    #[must_use]
    pub fn is_enough(&self, mut has: impl FnMut(&Witness) -> bool) -> bool {
        let mut met: Vec<bool> = Vec::with_capacity(self.names.len());
        // Members stand before their groups, so that one pass is enough.
        for named in &self.names {
            met.push(match &named.what {
                What::Witness(at) => has(&self.witnesses[*at]),
                What::Group { least, members } => members.iter().filter(|member| met[**member]).count() >= *least,
            });
        }
        self.quorum.is_none_or(|at| met[at])
    }

    /// The same for a note that is not read yet.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub fn check_bytes(&self, note: &[u8]) -> Result<Cosigned, NotCosigned> {
        self.check(&Note::parse(note)?)
    }

    /// Checks that a note has the quorum; who cosigned it.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub fn check(&self, note: &Note) -> Result<Cosigned, NotCosigned> {
        let mut by = Vec::new();
        for witness in &self.witnesses {
            by.extend(witness.key.cosigned(note)?.map(|time| (witness.key.name().to_string(), time)));
        }
        let has = |witness: &Witness| by.iter().any(|(name, _)| name == witness.key.name());
        if self.is_enough(has) {
            return Ok(Cosigned { by });
        }
        let quorum = self.quorum.map(|at| String::from_utf8_lossy(&self.names[at].name).into_owned());
        Err(NotCosigned::Quorum {
            quorum: quorum.unwrap_or_default(),
            by: by.into_iter().map(|(name, _)| name).collect(),
        })
    }
}

impl Cosigned {
    /// Since when the quorum has said it at least: the earliest of the times.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        self.by.iter().map(|(_, time)| *time).min()
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    logs: Vec<VerifierKey>,
    witnesses: Vec<Witness>,
    names: Vec<Named>,
    /// What is a member already; each name counts in one way only.
    taken: Vec<usize>,
    quorum: Option<Option<usize>>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        if let Some(bad) = line.iter().find(|byte| (**byte < 0x20 && **byte != b'\t') || **byte == 0x7f) {
            return Err(alloc::format!("it has the control character 0x{bad:02x}; lines end with a newline alone"));
        }
        let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let Some(first) = words.next().filter(|word| !word.starts_with(b"#")) else { return Ok(()) };
        let words: Vec<&[u8]> = words.collect();
        match (first, words.as_slice()) {
            (b"log", [key]) => self.log(key),
            (b"log", [key, url]) => self.log(key).and_then(|()| text(url).map(drop)),
            (b"witness", [name, key]) => self.witness(name, key, None),
            (b"witness", [name, key, url]) => self.witness(name, key, Some(url)),
            (b"group", [name, least, members @ ..]) => self.group(name, least, members),
            (b"quorum", [name]) => self.set_quorum(name),
            (b"log" | b"witness" | b"group" | b"quorum", _) => Err("it has too few words, or too many".to_string()),
            (other, _) => {
                Err(alloc::format!("{:?} is none of log, witness, group and quorum", String::from_utf8_lossy(other)))
            }
        }
    }

    fn log(&mut self, key: &[u8]) -> Result<(), String> {
        let key = text(key).and_then(|key| VerifierKey::parse(key).map_err(shown))?;
        if self.logs.len() == MOST || self.logs.iter().any(|known| known.public() == key.public()) {
            return Err("the log is there already, or there are over 64".to_string());
        }
        self.logs.push(key);
        Ok(())
    }

    fn witness(&mut self, name: &[u8], key: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        let key = text(key).and_then(|key| CosignerKey::parse(key).map_err(shown))?;
        // C2SP tlog-policy: two keys with the same bytes are one. Two with one name could not be told apart in what is said here.
        let same = |known: &Witness| known.key.public() == key.public() || known.key.name() == key.name();
        if self.witnesses.len() == MOST || self.witnesses.iter().any(same) {
            return Err("the witness is there already, or there are over 64".to_string());
        }
        self.name(name, What::Witness(self.witnesses.len()))?;
        let url = url.map(text).transpose()?.map(ToString::to_string);
        self.witnesses.push(Witness { key, url });
        Ok(())
    }

    fn group(&mut self, name: &[u8], least: &[u8], members: &[&[u8]]) -> Result<(), String> {
        let count = members.len();
        let least = match least {
            b"any" => Some(1),
            b"all" => Some(count),
            digits => text(digits)?.parse().ok().filter(|_| digits.iter().all(u8::is_ascii_digit)),
        };
        let least = least.filter(|least| (1..=count).contains(least));
        let least = least.ok_or("a group is `group NAME any|all|K NAME...`, with K from 1 to the number of names")?;
        let mut found = Vec::new();
        for member in members {
            let at = self.find(member)?;
            if self.taken.contains(&at) {
                return Err(alloc::format!("{:?} is a member already, here or of another group", lossy(member)));
            }
            self.taken.push(at);
            found.push(at);
        }
        if self.names.len() - self.witnesses.len() == MOST {
            return Err("there are over 64 groups".to_string());
        }
        self.name(name, What::Group { least, members: found })
    }

    fn set_quorum(&mut self, name: &[u8]) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("there is a quorum already".to_string());
        }
        self.quorum = Some(if name == b"none" { None } else { Some(self.find(name)?) });
        Ok(())
    }

    fn name(&mut self, name: &[u8], what: What) -> Result<(), String> {
        if name == b"none" || self.names.iter().any(|known| known.name == name) {
            return Err(alloc::format!("the name {:?} is taken", lossy(name)));
        }
        self.names.push(Named { name: name.to_vec(), what });
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Result<usize, String> {
        let at = self.names.iter().position(|known| known.name == name);
        at.ok_or_else(|| alloc::format!("no witness or group {:?} stands before it", lossy(name)))
    }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn shown(e: KeyError) -> String {
    e.to_string()
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    core::str::from_utf8(bytes).map_err(|_| "a key or URL is not UTF-8".to_string())
}
