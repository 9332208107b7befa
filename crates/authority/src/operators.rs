//! Delegated administration as arithmetic: roles of operators, the rights that each gives, where and when somebody has them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use legate_ids::Name;

use crate::{Micros, Window};

/// What an operator was made, in a namespace or everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorRole {
    /// Reads.
    Viewer,
    /// Declares and changes agents and everything about them, issues and revokes credentials.
    Editor,
    /// Approves what others declared, and stops agents.
    Approver,
    /// Does everything, and says who may do what.
    Admin,
    /// Does nothing; in a stated emergency, everything.
    BreakGlass,
}

/// What something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To see what is declared, its history, and what was issued; to ask for decisions.
    Read,
    /// To declare, change and take back; to retire agents.
    Write,
    /// To approve agents.
    Approve,
    /// To switch on: activate, resume, release from quarantine.
    Start,
    /// To stop: suspend, quarantine, revoke credentials.
    Stop,
    /// To let runtimes enrol.
    Issue,
    /// To say who may do what, and to change the namespace itself.
    Administer,
}

impl OperatorRole {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Editor, Self::Approver, Self::Admin, Self::BreakGlass];

    /// The role in a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "VIEWER",
            Self::Editor => "EDITOR",
            Self::Approver => "APPROVER",
            Self::Admin => "ADMIN",
            Self::BreakGlass => "BREAK_GLASS",
        }
    }

    /// The matrix: whether the role gives the right.
    #[must_use]
    pub const fn gives(self, right: Right) -> bool {
        match self {
            Self::Viewer => matches!(right, Right::Read),
            Self::Editor => matches!(right, Right::Read | Right::Write | Right::Start | Right::Stop | Right::Issue),
            Self::Approver => matches!(right, Right::Read | Right::Approve | Right::Start | Right::Stop),
            Self::Admin => true,
            Self::BreakGlass => false,
        }
    }
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::Write, Self::Approve, Self::Start, Self::Stop, Self::Issue, Self::Administer];

    /// The right in a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Approve => "APPROVE",
            Self::Start => "START",
            Self::Stop => "STOP",
            Self::Issue => "ISSUE",
            Self::Administer => "ADMINISTER",
        }
    }
}

/// Where a right is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In no namespace: for what belongs to none, and for what is yet to be one.
    Everywhere,
    /// In this namespace.
    In(&'a str),
}

impl<'a> Place<'a> {
    /// Where an object of this namespace is; empty: in none.
    #[must_use]
    pub fn of(namespace: &'a str) -> Self {
        if namespace.is_empty() { Self::Everywhere } else { Self::In(namespace) }
    }
}

impl core::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Everywhere => f.write_str("everywhere"),
            Self::In(namespace) => write!(f, "in {namespace}"),
        }
    }
}

/// A role that somebody was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appointment {
    /// What.
    pub role: OperatorRole,
    /// Where; `None`: everywhere.
    pub namespace: Option<Name>,
    /// When.
    pub window: Window,
}

impl Appointment {
    /// Whether it makes somebody an administrator of everything, now and without an end.
    #[must_use]
    pub fn is_unending_admin(&self, now: Micros) -> bool {
        self.role == OperatorRole::Admin
            && self.namespace.is_none()
            && self.window.not_after().is_none()
            && self.window.holds_at(now)
    }
}

/// What one operator may do at one moment. Nobody may do anything without an appointment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Vec<(OperatorRole, Option<Name>)>);

/// Which namespaces somebody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All, and what belongs to none.
    Everywhere,
    /// These.
    In(BTreeSet<Name>),
}

impl Rights {
    /// The rights that these appointments give at `now`.
    pub fn at<'a>(appointments: impl IntoIterator<Item = &'a Appointment>, now: Micros) -> Self {
        let held = appointments.into_iter().filter(|one| one.window.holds_at(now));
        Self(held.map(|one| (one.role, one.namespace.clone())).collect())
    }

    /// The same in a stated emergency, where somebody may state one: who may break the glass is an administrator there.
    /// `None` where nobody gave him that.
    #[must_use]
    pub fn in_emergency(mut self) -> Option<Self> {
        let mut broken = false;
        for (role, _) in &mut self.0 {
            if *role == OperatorRole::BreakGlass {
                *role = OperatorRole::Admin;
                broken = true;
            }
        }
        broken.then_some(self)
    }

    /// Whether they suffice.
    #[must_use]
    pub fn may(&self, right: Right, place: Place<'_>) -> bool {
        self.0.iter().any(|(role, namespace)| {
            let covers = match (namespace, place) {
                (None, _) => true,
                (Some(own), Place::In(name)) => own.as_str() == name,
                (Some(_), Place::Everywhere) => false,
            };
            covers && role.gives(right)
        })
    }

    /// The namespaces in which they suffice.
    #[must_use]
    pub fn reach(&self, right: Right) -> Reach {
        let mut names = BTreeSet::new();
        for (role, namespace) in &self.0 {
            match namespace {
                _ if !role.gives(right) => {}
                None => return Reach::Everywhere,
                Some(name) => {
                    names.insert(name.clone());
                }
            }
        }
        Reach::In(names)
    }
}

impl Reach {
    /// Whether it takes in what is there.
    #[must_use]
    pub fn has(&self, place: Place<'_>) -> bool {
        match (self, place) {
            (Self::Everywhere, _) => true,
            (Self::In(_), Place::Everywhere) => false,
            (Self::In(names), Place::In(name)) => names.iter().any(|own| own.as_str() == name),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use alloc::vec;

    fn given(role: OperatorRole, namespace: &str, window: Window) -> Appointment {
        Appointment { role, namespace: Name::parse(namespace).ok(), window }
    }

    #[test]
    fn nobody_may_do_anything_without_an_appointment() {
        let none = Rights::default();
        for right in Right::ALL {
            assert!(!none.may(right, Place::Everywhere) && !none.may(right, Place::In("payments")));
            assert_eq!(none.reach(right), Reach::In(BTreeSet::new()));
        }
        assert_eq!(none.in_emergency(), None);
    }

    #[test]
    fn a_role_counts_in_its_namespace_and_one_without_counts_everywhere() {
        for role in OperatorRole::ALL {
            for right in Right::ALL {
                let here = Rights::at(&[given(role, "payments", Window::ALWAYS)], 0);
                let everywhere = Rights::at(&[given(role, "", Window::ALWAYS)], 0);
                assert_eq!(here.may(right, Place::In("payments")), role.gives(right));
                assert_eq!(here.reach(right).has(Place::In("payments")), role.gives(right));
                for elsewhere in [Place::Everywhere, Place::In("sales"), Place::In("payment"), Place::In("")] {
                    assert!(!here.may(right, elsewhere) && !here.reach(right).has(elsewhere), "{role:?} {elsewhere}");
                    assert_eq!(everywhere.may(right, elsewhere), role.gives(right));
                    assert_eq!(everywhere.reach(right).has(elsewhere), role.gives(right));
                }
            }
        }
    }

    #[test]
    fn windows_count() {
        let window = Window::new(Some(10), Some(20)).unwrap();
        for (now, holds) in [(9, false), (10, true), (19, true), (20, false)] {
            let rights = Rights::at(&[given(OperatorRole::Admin, "", window)], now);
            assert_eq!(rights.may(Right::Administer, Place::Everywhere), holds, "{now}");
        }
    }

    #[test]
    fn who_may_break_the_glass_may_do_nothing_until_it_is_broken_and_only_there() {
        let mut all = vec![given(OperatorRole::BreakGlass, "payments", Window::ALWAYS)];
        let calm = Rights::at(&all, 0);
        assert!(Right::ALL.iter().all(|right| !calm.may(*right, Place::In("payments"))));
        let broken = calm.in_emergency().unwrap();
        for right in Right::ALL {
            assert!(broken.may(right, Place::In("payments")));
            assert!(!broken.may(right, Place::In("sales")) && !broken.may(right, Place::Everywhere));
        }
        all[0].window = Window::new(Some(10), None).unwrap();
        assert_eq!(Rights::at(&all, 9).in_emergency(), None);
        let viewer = Rights::at(&[given(OperatorRole::Viewer, "", Window::ALWAYS)], 0);
        assert_eq!(viewer.in_emergency(), None, "who was not given it states no emergency");
    }

    #[test]
    fn an_administrator_without_end_is_that_everywhere_and_now() {
        let counts = |role, namespace: &str, from, to| {
            given(role, namespace, Window::new(from, to).unwrap()).is_unending_admin(10)
        };
        assert!(counts(OperatorRole::Admin, "", None, None) && counts(OperatorRole::Admin, "", Some(10), None));
        assert!(!counts(OperatorRole::Admin, "", Some(11), None));
        assert!(!counts(OperatorRole::Admin, "", None, Some(1_000)));
        assert!(!counts(OperatorRole::Admin, "payments", None, None));
        assert!(!counts(OperatorRole::Editor, "", None, None) && !counts(OperatorRole::BreakGlass, "", None, None));
    }
}
