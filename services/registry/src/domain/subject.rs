//! Declared objects as a filter sees them.

use legate_clock::Timestamp;
use legate_filter::{Field, Micros, Subject};
use legate_wire::registry as wire;
use wire::declaration::Object;

/// One object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'d> {
    metadata: Option<&'d wire::Metadata>,
    spec: Option<&'d wire::AgentSpec>,
    status: Option<&'d wire::AgentStatus>,
}

impl<'d> Seen<'d> {
    pub(crate) fn of(declaration: &'d wire::Declaration) -> Self {
        let (spec, status) = match &declaration.object {
            Some(Object::Agent(agent)) => (agent.spec.as_ref(), agent.status.as_ref()),
            _ => (None, None),
        };
        Self { metadata: declaration.metadata(), spec, status }
    }

    /// The texts of a field, where it is one of texts.
    pub(crate) fn texts(&self, field: &Field) -> &'d [String] {
        use std::slice::from_ref;
        if let (Field::Label(key), Some(metadata)) = (field, self.metadata) {
            return metadata.labels.get(key).map_or(&[], from_ref);
        }
        if let (Field::Name, Some(metadata)) = (field, self.metadata) {
            return from_ref(&metadata.name);
        }
        let Some(spec) = self.spec else { return &[] };
        match field {
            Field::DisplayName => from_ref(&spec.display_name),
            Field::AgentClass => from_ref(&spec.agent_class),
            Field::Owners => &spec.owners,
            Field::Sponsors => &spec.sponsors,
            Field::Manager => from_ref(&spec.manager),
            Field::Parent => from_ref(&spec.parent),
            Field::Framework => from_ref(&spec.framework),
            Field::Model => from_ref(&spec.model),
            Field::Version => from_ref(&spec.version),
            Field::Protocols => &spec.protocols,
            Field::DataClassifications => &spec.data_classifications,
            Field::Regions => &spec.regions,
            Field::ExternalId => from_ref(&spec.external_id),
            _ => &[],
        }
    }
}

impl Subject for Seen<'_> {
    fn any_text(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.texts(field).iter().any(|text| test(text))
    }

    fn word(&self, field: &Field) -> Option<i32> {
        match field {
            Field::Environment => self.spec.map(|spec| spec.environment),
            Field::RiskTier => self.spec.map(|spec| spec.risk_tier),
            Field::State => self.status.map(|status| status.state),
            Field::Origin => self.status.map(|status| status.origin),
            Field::SanctionedStatus => self.status.map(|status| status.sanctioned_status),
            _ => None,
        }
    }

    fn moment(&self, field: &Field) -> Option<Micros> {
        let at = match field {
            Field::CreateTime => self.metadata.and_then(|metadata| metadata.create_time),
            Field::UpdateTime => self.metadata.and_then(|metadata| metadata.update_time),
            Field::ExpireTime => self.spec.and_then(|spec| spec.expire_time),
            Field::LastUsedTime => self.status.and_then(|status| status.last_used_time),
            Field::OrphanedTime => self.status.and_then(|status| status.orphaned_time),
            Field::LifecycleDueTime => self.status.and_then(|status| status.lifecycle_due_time),
            _ => None,
        };
        at.and_then(|at| Timestamp::try_from(at).ok()).map(Timestamp::micros)
    }
}

/// When an agent last obtained or used anything, as far as its record says.
pub(crate) fn last_used(agent: &wire::Declaration) -> Option<Timestamp> {
    Seen::of(agent).moment(&Field::LastUsedTime).map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::samples;
    use super::*;
    use legate_filter::{Filter, Form, Scope};

    /// The words that a filter uses are those of the protobufs.
    #[test]
    fn words_are_those_of_the_protobufs() {
        let names = |field: &Field, number: i32| match field {
            Field::Environment => wire::Environment::try_from(number).unwrap().as_str_name(),
            Field::RiskTier => wire::RiskTier::try_from(number).unwrap().as_str_name(),
            Field::State => wire::AgentState::try_from(number).unwrap().as_str_name(),
            Field::Origin => wire::Origin::try_from(number).unwrap().as_str_name(),
            _ => wire::SanctionedStatus::try_from(number).unwrap().as_str_name(),
        };
        for field in [Field::Environment, Field::RiskTier, Field::State, Field::Origin, Field::SanctionedStatus] {
            let Form::Choice { words, .. } = field.form() else { panic!("{field} is no choice") };
            for (next, (word, number)) in (1..).zip(words) {
                assert_eq!(*number, next, "{field}");
                assert!(names(&field, next).to_lowercase().ends_with(&format!("_{word}")), "{field} {word}");
                let filter = Filter::parse(&format!("{field} = {}", names(&field, next)), Scope::Agents).unwrap();
                assert_eq!(filter, Filter::parse(&format!("{field} = {word}"), Scope::Agents).unwrap());
            }
        }
        assert!(wire::AgentState::try_from(8).is_err() && wire::Environment::try_from(4).is_err());
        assert!(wire::RiskTier::try_from(5).is_err() && wire::Origin::try_from(5).is_err());
        assert!(wire::SanctionedStatus::try_from(3).is_err());
    }

    #[test]
    fn every_field_of_an_agent_is_seen() {
        let mut agent = samples::agent();
        agent.status = Some(wire::AgentStatus {
            state: wire::AgentState::Active.into(),
            origin: wire::Origin::Imported.into(),
            sanctioned_status: wire::SanctionedStatus::Unsanctioned.into(),
            last_used_time: samples::at(1_700_000_000),
            orphaned_time: samples::at(1_710_000_000),
            lifecycle_due_time: samples::at(1_720_000_000),
            ..Default::default()
        });
        let metadata = agent.metadata.as_mut().unwrap();
        (metadata.create_time, metadata.update_time) = (samples::at(1_600_000_000), samples::at(1_650_000_000));
        let declaration = samples::declared(Object::Agent(agent));
        let seen = Seen::of(&declaration);
        let all = r#"name = invoice-bot AND display_name = "Invoice bot" AND agent_class = clerk AND environment = prod
            AND risk_tier = medium AND state = active AND owners:user:ada@example.com AND sponsors:group:payments
            AND manager = user:joan@example.com AND parent = agt_01h455vb4pex5vsknk084sn02q AND framework = langgraph
            AND model = m-1 AND version = 1.2.3 AND protocols:MCP AND data_classifications:pii AND regions:eu-central-1
            AND labels.team = payments AND origin = imported AND sanctioned_status = unsanctioned AND external_id = CMDB-1
            AND create_time = 2020-09-13T12:26:40Z AND update_time = 2022-04-15T05:20:00Z
            AND expire_time = 2033-05-18T03:33:20Z AND last_used_time = 2023-11-14T22:13:20Z
            AND orphaned_time = 2024-03-09T16:00:00Z AND lifecycle_due_time = 2024-07-03T09:46:40Z"#;
        let filter = Filter::parse(all, Scope::Agents).unwrap();
        assert_eq!(filter.terms().count(), 26);
        for term in filter.terms() {
            let alone = Filter::parse(&term.to_string(), Scope::Agents).unwrap();
            assert!(alone.holds(&seen), "{term}");
            // Of any other object none of it holds but what every object has.
            let role = samples::one_of_each().remove(3);
            let is_labels = matches!(term.field, Field::Label(_));
            assert_eq!(alone.holds(&Seen::of(&role)), is_labels, "{term}");
        }
    }
}
