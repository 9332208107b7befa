//! A thread's way to the token: the module that all share, a session of its own, and how both begin again after a fall.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use parking_lot::{Mutex, RwLock};

use super::pin::Pin;
use super::trouble::Trouble;
use crate::config::Pkcs11Config;

/// So often a call is tried: as it is, in a new session, and in a module that began again.
const TRIES: usize = 3;
/// A module can begin again only while nobody is in it; for so long that is waited for.
const ALONE: Duration = Duration::from_secs(1);

/// What all threads share.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) config: Pkcs11Config,
    pin: Pin,
    /// Held to read by whoever is in the module.
    module: RwLock<Option<Module>>,
    /// Why nobody logs in any more. Held while somebody does, so that a wrong PIN is tried once.
    refused: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Module {
    pkcs11: Pkcs11,
    /// How often it began: sessions and handles are of one life of it.
    life: u64,
}

/// A session, logged in.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) session: Session,
    life: u64,
    /// Of private keys, by their labels.
    pub(super) handles: HashMap<String, ObjectHandle>,
}

/// One thread's session.
#[derive(Debug)]
pub(super) struct Line {
    site: Arc<Site>,
    open: Option<Open>,
}

impl Line {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site, open: None }
    }

    /// Does `work` in a session; after a fall in a new one, and then in a module that began again.
    pub(super) fn run<T>(&mut self, work: &dyn Fn(&mut Open) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut fall = String::new();
        for tried in 0..TRIES {
            if tried + 1 == TRIES {
                self.site.begin_again()?;
            }
            match self.once(work) {
                Err(Trouble::Line(why)) => {
                    self.hang_up();
                    fall = why;
                }
                done => return done,
            }
        }
        Err(Trouble::Line(fall))
    }

    fn once<T>(&mut self, work: &dyn Fn(&mut Open) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let shared = loop {
            let shared = self.site.module.read();
            if shared.is_some() {
                break shared;
            }
            drop(shared);
            self.site.begin()?;
        };
        let Some(module) = &*shared else { return Err(Trouble::Line("the module is gone".into())) };
        // Of another life of the module: its number may be that of somebody else's session by now.
        if self.open.as_ref().is_some_and(|open| open.life != module.life) {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(self.site.open(module)?),
        };
        work(open)
    }

    /// Gives the session up.
    pub(super) fn hang_up(&mut self) {
        let shared = self.site.module.read();
        if let (Some(open), Some(module)) = (self.open.take(), &*shared)
            && open.life == module.life
        {
            // It may be gone already.
            let _ = open.session.close();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl Site {
    pub(super) fn new(config: Pkcs11Config, pin: Pin) -> Self {
        Self { config, pin, module: RwLock::default(), refused: Mutex::default() }
    }

    /// Loads the module.
    fn begin(&self) -> Result<(), Trouble> {
        let mut module = self.module.write();
        if module.is_some() {
            return Ok(());
        }
        let path = &self.config.module;
        let pkcs11 = Pkcs11::new(path).map_err(|e| {
            let what = "install the maker's PKCS #11 library, or correct keys.pkcs11.module";
            Trouble::Refused(format!("the module {} cannot be loaded ({e}); {what}", path.display()))
        })?;
        initialize(&pkcs11)?;
        *module = Some(Module { pkcs11, life: 1 });
        Ok(())
    }

    /// Ends the module and begins it again, unless somebody else just did.
    fn begin_again(&self) -> Result<(), Trouble> {
        let Some(seen) = self.module.read().as_ref().map(|module| module.life) else { return Ok(()) };
        let Some(mut module) = self.module.try_write_for(ALONE) else {
            return Err(Trouble::Line("the module does not come back from other calls".into()));
        };
        let Some(module) = module.as_mut().filter(|module| module.life == seen) else { return Ok(()) };
        module.life += 1;
        // Where it knows of nothing that could be ended, that is well.
        let _ = module.pkcs11.clone().finalize();
        initialize(&module.pkcs11)
    }

    fn open(&self, module: &Module) -> Result<Open, Trouble> {
        let slot = self.slot(&module.pkcs11)?;
        // Closed by hand alone: its number must not be closed in another life of the module.
        let session = module.pkcs11.open_rw_session_no_drop(slot)?;
        match self.log_in(&module.pkcs11, slot, &session) {
            Ok(()) => Ok(Open { session, life: module.life, handles: HashMap::new() }),
            Err(why) => {
                let _ = session.close();
                Err(why)
            }
        }
    }

    fn slot(&self, pkcs11: &Pkcs11) -> Result<Slot, Trouble> {
        let wanted = &self.config.token;
        let mut found = Vec::new();
        let mut there = Vec::new();
        for slot in pkcs11.get_slots_with_token()? {
            let Ok(info) = pkcs11.get_token_info(slot) else { continue };
            if !info.token_initialized() {
                continue;
            }
            let label = info.label().trim_end().to_owned();
            if label == *wanted {
                found.push(slot);
            }
            there.push(format!("{label:?}"));
        }
        match found[..] {
            [slot] => Ok(slot),
            // Some modules see a token that came back only when they begin again.
            [] => Err(Trouble::Line(format!(
                "the module has no token that is called {wanted:?} (there are: {}); make it by the maker's program, or correct \
                 keys.pkcs11.token",
                there.join(", ")
            ))),
            _ => Err(Trouble::Refused(format!(
                "the module has several tokens that are called {wanted:?}; give each its own label"
            ))),
        }
    }

    /// Logs in where that was not done yet. A PIN that was refused is never shown again.
    fn log_in(&self, pkcs11: &Pkcs11, slot: Slot, session: &Session) -> Result<(), Trouble> {
        let mut refused = self.refused.lock();
        if let Some(why) = &*refused {
            return Err(Trouble::Refused(why.clone()));
        }
        if session.get_session_info()?.session_state() == SessionState::RwUser {
            return Ok(());
        }
        let mut refuse = |why: String| {
            *refused = Some(why.clone());
            Err(Trouble::Refused(why))
        };
        let info = pkcs11.get_token_info(slot)?;
        for kind in [MechanismType::ECC_KEY_PAIR_GEN, MechanismType::ECDSA] {
            if !pkcs11.get_mechanism_list(slot)?.contains(&kind) {
                return refuse(format!("it does not do {kind}, which keys on P-256 need"));
            }
        }
        if !info.user_pin_initialized() {
            return refuse("no PIN of a user is set in it; set one by the maker's program".into());
        }
        if info.user_pin_locked() {
            return refuse("its PIN is locked; the security officer of the token has to unlock it".into());
        }
        if info.user_pin_final_try() {
            let why = "one wrong PIN more would lock it; log in once by the maker's program, which gives it its tries back, and start again";
            return refuse(why.into());
        }
        if self.pin.was_refused().map_err(|e| Trouble::Refused(e.to_string()))? {
            return refuse(format!(
                "it refused this PIN before, and it is not tried again; correct the PIN, or, where the token takes it now, remove {}",
                self.pin.memory().display()
            ));
        }
        match session.login(UserType::User, Some(&self.pin.secret())) {
            Ok(()) => {
                self.pin.is_taken();
                Ok(())
            }
            Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(
                code @ (RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinExpired
                | RvError::PinLocked
                | RvError::UserPinNotInitialized
                | RvError::UserTypeInvalid),
                _,
            )) => {
                if let Err(error) = self.pin.is_refused() {
                    tracing::error!(%error, "that the PIN was refused cannot be remembered; the next start tries it again");
                }
                refuse(format!(
                    "it refuses the PIN ({code:?}), which is not tried again, since tokens lock after a few tries; correct \
                     keys.pkcs11.pin_file or LEGATE_PKCS11_PIN and start again"
                ))
            }
            Err(other) => Err(other.into()),
        }
    }
}

fn initialize(pkcs11: &Pkcs11) -> Result<(), Trouble> {
    match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(other) => Err(Trouble::Line(format!("the module cannot be initialized ({other})"))),
    }
}
