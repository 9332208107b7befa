//! Every attribute of an agent: where it stands, what its values are, and which field of ours it is.

use legate_filter::Field;
use legate_wire::registry::AgentSpec;

/// The schema of the draft.
pub(super) const CORE: &str = "urn:ietf:params:scim:schemas:core:2.0:Agent";
/// Ours, for what the draft has no attribute for.
pub(super) const OURS: &str = "urn:legate:scim:schemas:extension:1.0:Agent";

/// Which schema an attribute is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Of every resource (RFC 7643 section 3.1); no schema lists it.
    Every,
    Core,
    Ours,
}

/// What the values of an attribute are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Texts,
    /// People and groups, each in a `value`.
    People,
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    Moment,
    Number,
    /// Parts of its own, all of which the registry sets.
    Parts,
}

/// Who sets an attribute, and when (RFC 7643 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutability {
    ReadWrite,
    ReadOnly,
    Immutable,
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub(super) name: &'static str,
    pub(super) home: Home,
    pub(super) shape: Shape,
    pub(super) mutability: Mutability,
    pub(super) required: bool,
    /// The path of its field in an update mask; empty: it is no field of the spec.
    pub(super) mask: &'static str,
    /// What a filter asks it as.
    pub(super) field: Option<&'static Field>,
    pub(super) says: &'static str,
}

const ENVIRONMENTS: &[&str] = &["dev", "test", "prod"];
const RISKS: &[&str] = &["low", "medium", "high", "critical"];
const STATES: &[&str] = &["pending_approval", "staged", "active", "suspended", "quarantined", "expired"];

const fn of(
    name: &'static str,
    home: Home,
    shape: Shape,
    mutability: Mutability,
    field: Option<&'static Field>,
    says: &'static str,
) -> Attribute {
    Attribute { name, home, shape, mutability, required: false, mask: "", field, says }
}

impl Attribute {
    const fn as_field(self, mask: &'static str) -> Self {
        Self { mask, ..self }
    }

    const fn needed(self) -> Self {
        Self { required: true, ..self }
    }

    /// Whether it has any number of values.
    pub(super) fn is_many(&self) -> bool {
        matches!(self.shape, Shape::Texts | Shape::People)
    }
}

use Home::{Core, Every, Ours};
use Mutability::{Immutable, ReadOnly, ReadWrite};
use Shape::{Flag, Moment, Number, Parts, People, Text, Texts, Word};

/// All of them.
pub(super) static ALL: &[Attribute] = &[
    of("schemas", Every, Texts, ReadOnly, None, "The schemas of the resource."),
    of("id", Every, Text, ReadOnly, None, "The agent's id, never used again."),
    of("meta", Every, Parts, ReadOnly, None, "When it was written, and its version."),
    of("meta.created", Every, Moment, ReadOnly, Some(&Field::CreateTime), "When it was declared."),
    of("meta.lastModified", Every, Moment, ReadOnly, Some(&Field::UpdateTime), "When it was last written."),
    of("externalId", Every, Text, ReadWrite, Some(&Field::ExternalId), "Its name in the client's system.")
        .as_field("spec.external_id"),
    of("agentUserName", Core, Text, Immutable, Some(&Field::Name), "The agent's name in its namespace.").needed(),
    of("displayName", Core, Text, ReadWrite, Some(&Field::DisplayName), "A name for people.")
        .as_field("spec.display_name"),
    of(
        "active",
        Core,
        Flag,
        ReadWrite,
        Some(&Field::State),
        "Whether the agent can obtain or use anything; false suspends it, true resumes it.",
    ),
    of("owners", Core, People, ReadWrite, Some(&Field::Owners), "Who answers for it technically.")
        .as_field("spec.owners")
        .needed(),
    of("sponsors", Ours, People, ReadWrite, Some(&Field::Sponsors), "Who is accountable for it.")
        .as_field("spec.sponsors")
        .needed(),
    of(
        "agentClass",
        Ours,
        Text,
        ReadWrite,
        Some(&Field::AgentClass),
        "The agent class in the same namespace, by name.",
    )
    .as_field("spec.agent_class")
    .needed(),
    of("purpose", Ours, Text, ReadWrite, None, "What the agent is for, in a sentence for people.")
        .as_field("spec.purpose")
        .needed(),
    of("environment", Ours, Word(ENVIRONMENTS), ReadWrite, Some(&Field::Environment), "Where it runs.")
        .as_field("spec.environment")
        .needed(),
    of("manager", Ours, Text, ReadWrite, Some(&Field::Manager), "Whom a sponsor's duty passes to.")
        .as_field("spec.manager"),
    of("framework", Ours, Text, ReadWrite, Some(&Field::Framework), "The framework that runs it.")
        .as_field("spec.framework"),
    of("model", Ours, Text, ReadWrite, Some(&Field::Model), "The model that it uses.").as_field("spec.model"),
    of("version", Ours, Text, ReadWrite, Some(&Field::Version), "Its own version.").as_field("spec.version"),
    of("protocols", Ours, Texts, ReadWrite, Some(&Field::Protocols), "Protocols that it speaks.")
        .as_field("spec.protocols"),
    of(
        "dataClassifications",
        Ours,
        Texts,
        ReadWrite,
        Some(&Field::DataClassifications),
        "Classes of data it may meet.",
    )
    .as_field("spec.data_classifications"),
    of("regions", Ours, Texts, ReadWrite, Some(&Field::Regions), "Regions in which it runs.").as_field("spec.regions"),
    of("riskTier", Ours, Word(RISKS), ReadWrite, Some(&Field::RiskTier), "How much harm it could do.")
        .as_field("spec.risk_tier"),
    of("expireTime", Ours, Moment, ReadWrite, Some(&Field::ExpireTime), "When it ends by itself.")
        .as_field("spec.expire_time"),
    of("namespace", Ours, Text, ReadOnly, None, "The namespace that the agent belongs to."),
    of("spiffeId", Ours, Text, ReadOnly, None, "The agent's SPIFFE ID."),
    of("state", Ours, Word(STATES), ReadOnly, Some(&Field::State), "Where it stands in its life."),
    of("stateReason", Ours, Text, ReadOnly, None, "The reason given for the last change of state."),
    of("lifecycleVersion", Ours, Number, ReadOnly, None, "Counts the changes of its state."),
];

/// The rest of a path after the URN of a schema and a colon.
fn after<'p>(path: &'p str, urn: &str) -> Option<&'p str> {
    let (head, rest) = path.split_at_checked(urn.len())?;
    rest.strip_prefix(':').filter(|_| head.eq_ignore_ascii_case(urn))
}

/// The attribute that a path names: `displayName`, `owners.value`, or one of ours behind the URN of its schema.
pub(super) fn find(path: &str) -> Option<&'static Attribute> {
    if let Some(name) = after(path, OURS) {
        return named(name, |home| home == Ours);
    }
    let name = after(path, CORE).unwrap_or(path);
    named(name, |home| home != Ours)
}

/// One of ours, within the object of its schema.
pub(super) fn ours(name: &str) -> Option<&'static Attribute> {
    named(name, |home| home == Ours)
}

fn named(name: &str, of: fn(Home) -> bool) -> Option<&'static Attribute> {
    let known = |name: &str| ALL.iter().find(|a| of(a.home) && a.name.eq_ignore_ascii_case(name));
    known(name).or_else(|| {
        let (name, part) = name.rsplit_once('.')?;
        known(name).filter(|a| a.shape == People && part.eq_ignore_ascii_case("value"))
    })
}

/// What our fields are called, in SCIM's names: a refusal is about what was sent.
pub(super) fn in_scim(text: &str) -> String {
    let text = text.replace("declarations[0].", "").replace("declaration.", "");
    let text = text.replace("metadata.name", "agentUserName");
    ALL.iter().filter(|a| !a.mask.is_empty()).fold(text, |text, a| text.replace(a.mask, a.name))
}

/// The text of an attribute that has one.
pub(super) fn text<'s>(spec: &'s mut AgentSpec, name: &str) -> Option<&'s mut String> {
    Some(match name {
        "externalId" => &mut spec.external_id,
        "displayName" => &mut spec.display_name,
        "agentClass" => &mut spec.agent_class,
        "purpose" => &mut spec.purpose,
        "manager" => &mut spec.manager,
        "framework" => &mut spec.framework,
        "model" => &mut spec.model,
        "version" => &mut spec.version,
        _ => return None,
    })
}

/// The list of an attribute that has one.
pub(super) fn list<'s>(spec: &'s mut AgentSpec, name: &str) -> Option<&'s mut Vec<String>> {
    Some(match name {
        "owners" => &mut spec.owners,
        "sponsors" => &mut spec.sponsors,
        "protocols" => &mut spec.protocols,
        "dataClassifications" => &mut spec.data_classifications,
        "regions" => &mut spec.regions,
        _ => return None,
    })
}

/// The number of an attribute's word, which counts from 1.
pub(super) fn word<'s>(spec: &'s mut AgentSpec, name: &str) -> Option<&'s mut i32> {
    Some(match name {
        "environment" => &mut spec.environment,
        "riskTier" => &mut spec.risk_tier,
        _ => return None,
    })
}
