//! What a caller may do at one revision, and how it is refused what it may not.

use legate_authority::{Place, Reach, Right, Rights};

use crate::{BREAK_GLASS_REFUSED, Fault, OPERATOR_NOT_PERMITTED};

/// What a caller may do at one revision of the registry.
#[derive(Clone, Debug)]
pub struct Mandate {
    actor: String,
    /// `None`: no operator, but a service, for which the access table alone speaks.
    rights: Option<Rights>,
}

impl Mandate {
    /// A service's, or that of the service itself.
    #[must_use]
    pub fn of_service(actor: &str) -> Self {
        Self { actor: actor.to_owned(), rights: None }
    }

    /// An operator's; where he states an emergency, what he may do in one.
    ///
    /// # Errors
    /// `BREAK_GLASS_REFUSED` when he states one and may not.
    pub fn of_operator(actor: &str, rights: Rights, emergency: Option<&str>) -> Result<Self, Fault> {
        let refused = || {
            Fault::refused(&BREAK_GLASS_REFUSED, format!("{actor} states an emergency, and was not given BREAK_GLASS"))
        };
        let rights = match emergency {
            None => rights,
            Some(_) => rights.in_emergency().ok_or_else(refused)?,
        };
        Ok(Self { actor: actor.to_owned(), rights: Some(rights) })
    }

    /// Whether it suffices.
    #[must_use]
    pub fn may(&self, right: Right, place: Place<'_>) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may(right, place))
    }

    /// Refuses what it does not suffice for, and names what is missing.
    ///
    /// # Errors
    /// `OPERATOR_NOT_PERMITTED`.
    pub fn demand(&self, right: Right, place: Place<'_>) -> Result<(), Fault> {
        if self.may(right, place) {
            return Ok(());
        }
        let namespace = match place {
            Place::Everywhere => "",
            Place::In(namespace) => namespace,
        };
        let text = format!("{} needs the right {} {place}", self.actor, right.word());
        Err(Fault::refused(&OPERATOR_NOT_PERMITTED, text).with("right", right.word()).with("namespace", namespace))
    }

    /// Refuses whoever has the right nowhere.
    ///
    /// # Errors
    /// `OPERATOR_NOT_PERMITTED`.
    pub fn demand_somewhere(&self, right: Right) -> Result<(), Fault> {
        match self.rights.as_ref().map(|rights| rights.reach(right)) {
            Some(Reach::In(names)) if names.is_empty() => {
                let text = format!("{} has the right {} nowhere", self.actor, right.word());
                Err(Fault::refused(&OPERATOR_NOT_PERMITTED, text).with("right", right.word()))
            }
            _ => Ok(()),
        }
    }

    /// What it lets the caller see.
    #[must_use]
    pub fn sees(&self) -> Reach {
        self.rights.as_ref().map_or(Reach::Everywhere, |rights| rights.reach(Right::Read))
    }
}

/// Whether a refusal says that an operator's roles do not suffice.
#[must_use]
pub fn is_for_want_of_a_role(fault: &Fault) -> bool {
    [&OPERATOR_NOT_PERMITTED, &BREAK_GLASS_REFUSED].iter().any(|reason| reason.name == fault.reason())
}
