//! What can be asked about: every field, what its values are, and where it may be used.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::EventField;

/// A field of an agent; of any declared object where [`Scope::Objects`] allows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is the field of the same name in agent.proto or metadata.proto")]
pub enum Field {
    Name,
    DisplayName,
    AgentClass,
    Environment,
    RiskTier,
    State,
    Owners,
    Sponsors,
    Manager,
    Parent,
    Framework,
    Model,
    Version,
    Protocols,
    DataClassifications,
    Regions,
    Origin,
    SanctionedStatus,
    ExternalId,
    CreateTime,
    UpdateTime,
    ExpireTime,
    LastUsedTime,
    OrphanedTime,
    LifecycleDueTime,
    /// The label of this key.
    Label(String),
    /// A field of an audit event.
    Event(EventField),
}

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One text.
    Text,
    /// Any number of texts.
    List,
    /// One word out of these, each with its number in the protobufs; a greater number is more only where `ordered`.
    Choice {
        /// The words and their numbers.
        words: &'static [(&'static str, i32)],
        /// Whether `<` and the like mean something.
        ordered: bool,
    },
    /// A moment.
    Time,
}

/// Where a filter is used, and so which fields it may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Lists of agents: every field.
    Agents,
    /// Selectors of groups: what an operator declares of an agent, but for its name and times.
    Selector,
    /// Lists of objects of any kind: what every object carries.
    Objects,
    /// Questions over the audit log: the fields of events, and no others.
    Events,
}

const ENVIRONMENTS: &[(&str, i32)] = &[("dev", 1), ("test", 2), ("prod", 3)];
const RISKS: &[(&str, i32)] = &[("low", 1), ("medium", 2), ("high", 3), ("critical", 4)];
const STATES: &[(&str, i32)] = &[
    ("pending_approval", 1),
    ("staged", 2),
    ("active", 3),
    ("suspended", 4),
    ("quarantined", 5),
    ("expired", 6),
    ("retired", 7),
];
const ORIGINS: &[(&str, i32)] = &[("registered", 1), ("discovered", 2), ("imported", 3), ("spawned", 4)];
const SANCTIONS: &[(&str, i32)] = &[("sanctioned", 1), ("unsanctioned", 2)];

/// Every field but the labels, by name.
const NAMED: &[(&str, Field)] = &[
    ("name", Field::Name),
    ("display_name", Field::DisplayName),
    ("agent_class", Field::AgentClass),
    ("environment", Field::Environment),
    ("risk_tier", Field::RiskTier),
    ("state", Field::State),
    ("owners", Field::Owners),
    ("sponsors", Field::Sponsors),
    ("manager", Field::Manager),
    ("parent", Field::Parent),
    ("framework", Field::Framework),
    ("model", Field::Model),
    ("version", Field::Version),
    ("protocols", Field::Protocols),
    ("data_classifications", Field::DataClassifications),
    ("regions", Field::Regions),
    ("origin", Field::Origin),
    ("sanctioned_status", Field::SanctionedStatus),
    ("external_id", Field::ExternalId),
    ("create_time", Field::CreateTime),
    ("update_time", Field::UpdateTime),
    ("expire_time", Field::ExpireTime),
    ("last_used_time", Field::LastUsedTime),
    ("orphaned_time", Field::OrphanedTime),
    ("lifecycle_due_time", Field::LifecycleDueTime),
];

impl Field {
    /// The field of this name where a filter is used at `scope`; labels have none.
    pub(crate) fn named(name: &str, scope: Scope) -> Option<Self> {
        if scope == Scope::Events {
            return EventField::named(name).map(Self::Event);
        }
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, field)| field.clone())
    }

    /// Whether this text of the field counts as one: a label can be there with nothing to say.
    pub(crate) fn is_set(&self, text: &str) -> bool {
        !text.is_empty() || matches!(self, Self::Label(_))
    }

    /// What its values are.
    #[must_use]
    pub fn form(&self) -> Form {
        let choice = |words, ordered| Form::Choice { words, ordered };
        match self {
            Self::Owners | Self::Sponsors | Self::Protocols | Self::DataClassifications | Self::Regions => Form::List,
            Self::Environment => choice(ENVIRONMENTS, false),
            Self::RiskTier => choice(RISKS, true),
            Self::State => choice(STATES, false),
            Self::Origin => choice(ORIGINS, false),
            Self::SanctionedStatus => choice(SANCTIONS, false),
            Self::CreateTime
            | Self::UpdateTime
            | Self::ExpireTime
            | Self::LastUsedTime
            | Self::OrphanedTime
            | Self::LifecycleDueTime => Form::Time,
            Self::Name
            | Self::DisplayName
            | Self::AgentClass
            | Self::Manager
            | Self::Parent
            | Self::Framework
            | Self::Model
            | Self::Version
            | Self::ExternalId
            | Self::Label(_) => Form::Text,
            Self::Event(field) => field.form(),
        }
    }
}

/// As a filter names it: `agent_class`, `labels.team`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(key) => write!(f, "labels.{key}"),
            Self::Event(field) => f.write_str(field.name()),
            named => f.write_str(NAMED.iter().find(|(_, field)| field == named).map_or("", |(name, _)| name)),
        }
    }
}

impl Scope {
    /// Whether a filter may name the field here.
    #[must_use]
    pub fn allows(self, field: &Field) -> bool {
        use Field::{
            CreateTime, ExpireTime, Label, LastUsedTime, LifecycleDueTime, Name, Origin, OrphanedTime,
            SanctionedStatus, State, UpdateTime,
        };
        match self {
            Self::Events => matches!(field, Field::Event(_)),
            _ if matches!(field, Field::Event(_)) => false,
            Self::Agents => true,
            Self::Selector => {
                let kept =
                    matches!(field, Name | State | Origin | SanctionedStatus | CreateTime | UpdateTime | LastUsedTime);
                !kept && !matches!(field, ExpireTime | OrphanedTime | LifecycleDueTime)
            }
            Self::Objects => matches!(field, Name | Label(_) | CreateTime | UpdateTime),
        }
    }

    /// A comparison that can be made here.
    pub(crate) const fn example(self) -> &'static str {
        match self {
            Self::Events => "outcome = denied",
            _ => "environment = prod",
        }
    }

    /// What a filter may name here, for people.
    pub(crate) fn fields(self) -> String {
        if self == Self::Events {
            return EventField::NAMED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        }
        let named = NAMED.iter().filter(|(_, field)| self.allows(field)).map(|(name, _)| *name);
        named.chain(["labels.KEY"]).collect::<Vec<_>>().join(", ")
    }
}
