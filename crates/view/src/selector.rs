//! Which agents a group selects: a filter over what operators declare, asked of the agents that the view holds.

use legate_filter::{Field, Filter, Micros, Scope, Subject};

use crate::record::Agent;

/// A group's selector, read once.
#[derive(Clone, Debug)]
pub(crate) struct Selector(Filter);

impl Selector {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Filter::parse(text, Scope::Selector).map(Self).map_err(|e| e.to_string())
    }

    pub(crate) fn selects(&self, agent: &Agent) -> bool {
        self.0.holds(agent)
    }
}

/// What can be selected by. Names, states and times are not shown: a selector never asks for them.
impl Subject for Agent {
    fn any_text(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
        match field {
            Field::AgentClass => test(self.class.as_str()),
            Field::DisplayName => test(&self.display_name),
            Field::ExternalId => test(&self.external_id),
            Field::Manager => test(&self.manager),
            Field::Parent => test(&self.parent),
            Field::Framework => test(&self.framework),
            Field::Model => test(&self.model),
            Field::Version => test(&self.version),
            Field::Owners => self.owners.iter().any(|text| test(text)),
            Field::Sponsors => self.sponsors.iter().any(|text| test(text)),
            Field::Protocols => self.protocols.iter().any(|text| test(text)),
            Field::DataClassifications => self.data_classifications.iter().any(|text| test(text)),
            Field::Regions => self.regions.iter().any(|text| test(text)),
            Field::Label(key) => self.labels.get(key).is_some_and(|text| test(text)),
            _ => false,
        }
    }

    fn word(&self, field: &Field) -> Option<i32> {
        match field {
            Field::Environment => number(&["dev", "test", "prod"], self.environment),
            Field::RiskTier => number(&["low", "medium", "high", "critical"], self.risk_tier),
            _ => None,
        }
    }

    fn moment(&self, _: &Field) -> Option<Micros> {
        None
    }
}

/// The number of a word in the protobufs, where 1 is the first.
fn number(words: &[&str], word: &str) -> Option<i32> {
    (1..).zip(words).find(|(_, known)| **known == word).map(|(number, _)| number)
}
