//! Which agents a group selects: a filter over what operators declare, asked of the agents that the view holds.

use legate_filter::{Field, Filter, Micros, Scope, Subject};

use crate::agent::Agent;

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
            Field::DisplayName => test(self.names.as_ref().map_or("", |names| &names.display_name)),
            Field::ExternalId => test(self.names.as_ref().map_or("", |names| &names.external_id)),
            Field::Manager => test(&self.people.manager),
            Field::Parent => test(self.names.as_ref().map_or("", |names| &names.parent)),
            Field::Framework => test(&self.nature.framework),
            Field::Model => test(&self.nature.model),
            Field::Version => test(&self.nature.version),
            Field::Owners => self.people.owners.iter().any(|text| test(text)),
            Field::Sponsors => self.people.sponsors.iter().any(|text| test(text)),
            Field::Protocols => self.nature.protocols.iter().any(|text| test(text)),
            Field::DataClassifications => self.nature.data_classifications.iter().any(|text| test(text)),
            Field::Regions => self.nature.regions.iter().any(|text| test(text)),
            Field::Label(key) => self.labels.get(key).is_some_and(test),
            _ => false,
        }
    }

    fn word(&self, field: &Field) -> Option<i32> {
        match field {
            Field::Environment => number(&["dev", "test", "prod"], self.nature.environment),
            Field::RiskTier => number(&["low", "medium", "high", "critical"], self.nature.risk_tier),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_wire::registry as wire;

    use super::*;

    fn agent(spec: wire::AgentSpec, labels: &[(&str, &str)]) -> Agent {
        let metadata = wire::Metadata {
            namespace: "pay".into(),
            name: "bot".into(),
            id: legate_ids::AgentId::from_parts(1, [1; 10]).to_string(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..wire::Metadata::default()
        };
        let status = Some(wire::AgentStatus::default());
        let agent = wire::Agent { metadata: Some(metadata), spec: Some(spec), status };
        crate::convert::agent(&agent, &crate::intern::Interner::new()).unwrap()
    }

    /// Everything that an operator can declare.
    fn whole() -> Agent {
        let spec = wire::AgentSpec {
            agent_class: "bots".into(),
            environment: wire::Environment::Prod.into(),
            owners: vec!["user:a".into(), "user:b".into()],
            sponsors: vec!["user:c".into()],
            manager: "user:d".into(),
            display_name: "Bot".into(),
            external_id: "x-1".into(),
            parent: "agt_1".into(),
            framework: "f".into(),
            model: "m".into(),
            version: "1.2".into(),
            protocols: vec!["MCP".into()],
            risk_tier: wire::RiskTier::High.into(),
            data_classifications: vec!["pii".into()],
            regions: vec!["eu".into()],
            ..wire::AgentSpec::default()
        };
        agent(spec, &[("team", "pay")])
    }

    /// The list of what can be asked about is the filter's own, as its refusal tells it.
    #[test]
    fn whatever_can_be_selected_by_is_known_of_an_agent() {
        let told = Selector::parse("nonsense = 1").unwrap_err();
        let fields: Vec<_> = told.rsplit(": ").next().unwrap().split(", ").map(str::trim).collect();
        assert!(fields.len() > 10 && fields.contains(&"labels.KEY"), "{told}");
        let bare = agent(wire::AgentSpec { agent_class: "bots".into(), ..wire::AgentSpec::default() }, &[]);
        for field in fields {
            let selector = Selector::parse(&format!("{}:*", field.replace("KEY", "team"))).unwrap();
            assert!(selector.selects(&whole()), "{field}");
            assert_eq!(selector.selects(&bare), field == "agent_class", "{field}");
        }
    }

    #[test]
    fn words_and_lists_are_as_declared() {
        for (selector, holds) in [
            ("environment = prod AND risk_tier >= high", true),
            ("environment = dev", false),
            ("risk_tier = critical", false),
            ("owners:user:b AND sponsors:user:c AND NOT owners:user:c", true),
            ("labels.team = pay* AND version = \"1.2\"", true),
            ("labels.team = sales", false),
        ] {
            assert_eq!(Selector::parse(selector).unwrap().selects(&whole()), holds, "{selector}");
        }
        assert!(Selector::parse("state = active").is_err());
    }
}
