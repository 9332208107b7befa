//! From the wire to records: an object that cannot be read grants nothing and hides nothing that would deny.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_authority::{
    Appointment, Ceiling, Hours, MAX_DEPTH, OperatorRole, Permission, ResourceSelector, Week, Window,
};
use legate_clock::Timestamp;
use legate_ids::{ActionPattern, AgentId, CredentialId, Name, ResourceType, SpiffeId, TrustDomain};
use legate_wire::registry as wire;

use crate::agent::{Agent, AgentLabel, AgentState, Names, People};
use crate::approvals::{Approval, Held};
use crate::attestation::{AttestationPolicy, Attested, Node};
use crate::boundaries::Boundary;
use crate::declared::Declared;
use crate::federated::{BundleEndpoint, FederatedTrustDomain};
use crate::groups::Group;
use crate::intern::{self, Interner};
use crate::issuers::{ClaimRule, IssuerKeys, StandsFor, TrustedIssuer};
use crate::operators::Binding;
use crate::record::{
    AgentClass, CredentialMethod, CredentialPolicy, DelegationGrant, EnforcementPoint, KeyUse, Label, Level,
    NamespaceRules, Policy, PolicyMode, PolicyTest, Revocation, Revoked, Role, RoleBinding, SigningKey, Standing,
};
use crate::selector::Selector;
use crate::stop_orders::Named;

/// Why an object cannot be read.
pub(crate) type Why = String;

fn text(e: impl ToString) -> Why {
    e.to_string()
}

fn moment(at: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Why> {
    at.map(|at| Timestamp::try_from(at).map_err(text)).transpose()
}

fn span(of: Option<prost_types::Duration>) -> Result<Option<Duration>, Why> {
    of.map(|of| Duration::try_from(of).map_err(text)).transpose()
}

pub(crate) fn label(metadata: Option<&wire::Metadata>) -> Result<Label, Why> {
    let metadata = metadata.ok_or("metadata is missing")?;
    Ok(Label {
        namespace: Name::parse(&metadata.namespace).map_err(text)?,
        name: Name::parse(&metadata.name).map_err(text)?,
        id: metadata.id.as_str().into(),
        version: metadata.version,
        revision: metadata.revision,
        created: moment(metadata.create_time)?.unwrap_or_default(),
        updated: moment(metadata.update_time)?.unwrap_or_default(),
    })
}

fn selector(from: &wire::ResourceSelector) -> Result<ResourceSelector, Why> {
    let id = if from.id.is_empty() { "*" } else { &from.id };
    let attributes = from.attributes.iter();
    ResourceSelector::parse(&from.r#type, id, attributes).map_err(text)
}

fn permission(from: &wire::Permission) -> Result<Permission, Why> {
    let resource = from.resource.as_ref().ok_or("a permission has no resource")?;
    Permission::parse(&from.action, selector(resource)?).map_err(text)
}

fn permissions(from: &[wire::Permission]) -> Result<Vec<Permission>, Why> {
    from.iter().map(permission).collect()
}

/// An agent; what others have too is held once.
pub(crate) fn agent(from: &wire::Agent, shared: &Interner) -> Result<Agent, Why> {
    declared(&Declared::of(from)?, shared)
}

/// The same of what was declared.
pub(crate) fn declared(from: &Declared<'_>, shared: &Interner) -> Result<Agent, Why> {
    Ok(Agent {
        label: AgentLabel {
            namespace: shared.name(from.namespace).map_err(text)?,
            name: Name::parse(from.name).map_err(text)?,
            version: from.metadata_version,
            created: moment(from.created)?.unwrap_or_default(),
        },
        id: AgentId::parse(from.id).map_err(text)?,
        class: shared.name(from.class).map_err(text)?,
        state: match wire::AgentState::try_from(from.state).unwrap_or_default() {
            wire::AgentState::PendingApproval => AgentState::PendingApproval,
            wire::AgentState::Staged => AgentState::Staged,
            wire::AgentState::Active => AgentState::Active,
            wire::AgentState::Suspended => AgentState::Suspended,
            wire::AgentState::Quarantined => AgentState::Quarantined,
            wire::AgentState::Expired => AgentState::Expired,
            wire::AgentState::Retired => AgentState::Retired,
            wire::AgentState::Unspecified => AgentState::Unknown,
        },
        lifecycle_version: from.lifecycle_version,
        cutoff: moment(from.cutoff)?,
        expires: moment(from.expires)?,
        people: People {
            owners: shared.list(&from.owners),
            sponsors: shared.list(&from.sponsors),
            manager: shared.text(from.manager),
        },
        nature: shared.nature(&from.nature),
        labels: shared.labels(&from.labels),
        names: names_of(from),
        ceiling: match from.ceiling.is_empty() {
            true => None,
            false => Some(Box::new(Ceiling::new(permissions(&from.ceiling)?))),
        },
        ancestors: from.ancestors.iter().map(|id| AgentId::parse(id).map_err(text)).collect::<Result<_, _>>()?,
    })
}

fn names_of(from: &Declared<'_>) -> Option<Box<Names>> {
    let Declared { display_name, external_id, parent, .. } = *from;
    let some = [display_name, external_id, parent].iter().any(|name| !name.is_empty());
    let names = || Names { display_name: display_name.into(), external_id: external_id.into(), parent: parent.into() };
    some.then(|| names().into())
}

pub(crate) fn class(from: &wire::AgentClass) -> Result<AgentClass, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    Ok(AgentClass {
        label: label(from.metadata.as_ref())?,
        permissions: permissions(&spec.permissions)?,
        ceiling: Ceiling::new(permissions(&spec.ceiling)?),
        requires_approval: spec.requires_approval,
        max_token_ttl: span(spec.max_token_ttl)?,
        max_certificate_ttl: span(spec.max_certificate_ttl)?,
        credential_policy: match spec.credential_policy.as_str() {
            "" => None,
            name => Some(Name::parse(name).map_err(text)?),
        },
        boundaries: names(&spec.boundaries)?,
    })
}

pub(crate) fn credential_policy(from: &wire::CredentialPolicy) -> Result<CredentialPolicy, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let method = |method| match method {
        wire::CredentialMethod::EnrolmentToken => Ok(CredentialMethod::EnrolmentToken),
        wire::CredentialMethod::PrivateKeyJwt => Ok(CredentialMethod::PrivateKeyJwt),
        wire::CredentialMethod::TlsClientAuth => Ok(CredentialMethod::TlsClientAuth),
        wire::CredentialMethod::ClientSecret => Ok(CredentialMethod::ClientSecret),
        wire::CredentialMethod::TrustedIssuer => Ok(CredentialMethod::TrustedIssuer),
        wire::CredentialMethod::Attestation => Ok(CredentialMethod::Attestation),
        wire::CredentialMethod::Unspecified => Err("a method is not known here"),
    };
    let mut methods = known(&spec.methods)?.into_iter().map(method).collect::<Result<BTreeSet<_>, _>>()?;
    if methods.is_empty() {
        methods.insert(CredentialMethod::EnrolmentToken);
    }
    Ok(CredentialPolicy {
        label: label(from.metadata.as_ref())?,
        methods,
        max_token_ttl: span(spec.max_token_ttl)?,
        max_certificate_ttl: span(spec.max_certificate_ttl)?,
        may_bear: spec.token_binding() == wire::TokenBinding::Optional,
        max_secret_ttl: span(spec.max_secret_ttl)?,
        rotation_overlap: span(spec.rotation_overlap)?,
        rotate_before: span(spec.rotate_before)?,
        max_instances: (spec.max_instances > 0).then_some(spec.max_instances),
    })
}

/// Where nothing is declared of it.
const USUAL_USED_TOKENS: u32 = 1_000_000;

pub(crate) fn trusted_issuer(from: &wire::TrustedIssuer) -> Result<TrustedIssuer, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let rule = |rule: &wire::ClaimRule| -> Result<ClaimRule, Why> {
        use wire::claim_rule::StandsFor as Said;
        let stands_for = match &rule.stands_for {
            Some(Said::Agent(name)) => Some(StandsFor::Agent(Name::parse(name).map_err(text)?)),
            Some(Said::UserClaim(claim)) => Some(StandsFor::User(claim.clone())),
            Some(Said::Node(name)) => Some(StandsFor::Node(Name::parse(name).map_err(text)?)),
            Some(Said::NodeClaim(claim)) => Some(StandsFor::NodeOf(claim.clone())),
            None => None,
        };
        let groups_claim = (!rule.groups_claim.is_empty()).then(|| rule.groups_claim.clone());
        Ok(ClaimRule { claims: rule.claims.clone(), stands_for, groups_claim })
    };
    Ok(TrustedIssuer {
        label: label(from.metadata.as_ref())?,
        issuer: spec.issuer.clone(),
        audiences: spec.audiences.clone(),
        keys: match (spec.jwks.as_str(), spec.jwks_uri.as_str()) {
            (jwks, "") if !jwks.is_empty() => IssuerKeys::Inline(jwks.into()),
            ("", at) if !at.is_empty() => IssuerKeys::At(at.into()),
            _ => return Err("exactly one of jwks and jwks_uri has to be given".into()),
        },
        rules: spec.rules.iter().map(rule).collect::<Result<_, _>>()?,
        grant_audiences: spec.personal_delegation.as_ref().map(|said| said.audiences.clone()).unwrap_or_default(),
        max_used_tokens: match spec.max_used_tokens {
            0 => USUAL_USED_TOKENS,
            declared => declared,
        },
    })
}

pub(crate) fn group(from: &wire::Group) -> Result<Group, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let mut agents = names(&spec.agents)?;
    agents.sort_unstable();
    let selector = match spec.selector.as_str() {
        "" => None,
        selector => Some(Selector::parse(selector)?),
    };
    Ok(Group { label: label(from.metadata.as_ref())?, agents, selector })
}

/// Of a limit that is not understood nothing may be left out: the whole boundary cannot be read then.
pub(crate) fn boundary(from: &wire::Boundary) -> Result<Boundary, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let set = |texts: &[String]| texts.iter().cloned().collect();
    let environment = |environment| match intern::environment(environment) {
        "" => Err("an environment is not known here"),
        word => Ok(word),
    };
    let hours: Vec<_> = spec.hours.iter().map(hours).collect::<Result<_, _>>()?;
    Ok(Boundary {
        label: label(from.metadata.as_ref())?,
        agents: names(&spec.agents)?.into_iter().collect(),
        groups: names(&spec.groups)?.into_iter().collect(),
        classes: names(&spec.agent_classes)?.into_iter().collect(),
        named_only: spec.named_only,
        regions: set(&spec.regions),
        data_classifications: set(&spec.data_classifications),
        purposes: set(&spec.purposes),
        regimes: set(&spec.regimes),
        environments: known(&spec.environments)?.into_iter().map(environment).collect::<Result<_, _>>()?,
        hours: (!hours.is_empty()).then(|| Week::new(hours)),
    })
}

fn hours(from: &wire::Hours) -> Result<Hours, Why> {
    let mut days = [from.days.is_empty(); 7];
    for day in &from.days {
        // Monday is 1.
        let day = usize::try_from(*day).ok().and_then(|day| days.get_mut(day.checked_sub(1)?));
        *day.ok_or("a day is not known here")? = true;
    }
    Hours::new(days, from.from_minute, from.until_minute).map_err(text)
}

/// The words of a list of an enum; prost's own accessor leaves out those that it does not know.
fn known<E: TryFrom<i32>>(from: &[i32]) -> Result<Vec<E>, Why> {
    from.iter().map(|word| E::try_from(*word).map_err(|_| format!("the word {word} is not known here"))).collect()
}

fn names(from: &[String]) -> Result<Vec<Name>, Why> {
    from.iter().map(|name| Name::parse(name).map_err(text)).collect()
}

/// `None` where it was never suspended.
pub(crate) fn standing(from: Option<&wire::StandingStatus>) -> Result<Option<Standing>, Why> {
    let Some(from) = from else { return Ok(None) };
    let standing = Standing { suspended: from.suspended, cutoff: moment(from.authorization_cutoff)? };
    Ok((standing != Standing::default()).then_some(standing))
}

/// Where nothing is declared of it.
const USUAL_DELEGATION_DEPTH: u32 = 4;

/// A rule that is not understood is the strict one.
pub(crate) fn namespace_rules(from: &wire::Namespace) -> NamespaceRules {
    let spec = from.spec.clone().unwrap_or_default();
    NamespaceRules {
        own_grant_only: spec.own_grant_only,
        max_delegation_depth: match spec.max_delegation_depth {
            0 => USUAL_DELEGATION_DEPTH,
            declared => declared.min(MAX_DEPTH),
        },
        people_by_grant: spec.personal_authority() == wire::PersonalAuthority::Granted,
        has_pipelines: !spec.pipelines.is_empty(),
    }
}

pub(crate) fn delegation_grant(from: &wire::DelegationGrant) -> Result<DelegationGrant, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let micros = |at| Ok::<_, Why>(moment(at)?.map(Timestamp::micros));
    Ok(DelegationGrant {
        label: label(from.metadata.as_ref())?,
        delegator: spec.delegator.clone(),
        delegate: Name::parse(&spec.delegate).map_err(text)?,
        permissions: permissions(&spec.permissions)?,
        audiences: spec.audiences.clone(),
        window: Window::new(micros(spec.not_before)?, micros(spec.not_after)?).map_err(text)?,
        max_depth: if spec.may_redelegate { spec.max_depth } else { 0 },
        parent: match spec.parent.as_str() {
            "" => None,
            name => Some(Name::parse(name).map_err(text)?),
        },
        is_by_person: from.metadata.as_ref().is_some_and(|m| m.created_by.starts_with("user:")),
    })
}

/// An approval; `None`: it is not approved, so it lifts nothing.
pub(crate) fn approval(from: &wire::Approval) -> Result<Option<Approval>, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let status = from.status.as_ref().ok_or("status is missing")?;
    if status.state() != wire::ApprovalState::Approved {
        return Ok(None);
    }
    // One without an end, or without a beginning, is none.
    let micros = |at| Ok::<_, Why>(moment(at)?.ok_or("its window is open")?.micros());
    Ok(Some(Approval {
        label: label(from.metadata.as_ref())?,
        agent: AgentId::parse(&spec.agent_id).map_err(text)?,
        permissions: permissions(&spec.permissions)?,
        audience: (!spec.audience.is_empty()).then(|| spec.audience.clone()),
        window: Window::new(Some(micros(status.not_before)?), Some(micros(status.not_after)?)).map_err(text)?,
        policies: spec
            .policies
            .iter()
            .map(|held| Held { id: held.id.as_str().into(), version: held.version })
            .collect(),
        lifecycle_version: spec.lifecycle_version,
        decided: moment(status.decide_time)?.ok_or("nobody knows when it was decided")?,
        approvers: match status.agreements.as_slice() {
            // Of before anybody counted.
            [] => [status.decided_by.clone()].into(),
            all => all.iter().map(|one| one.approver.clone()).collect(),
        },
        single_use: spec.single_use,
    }))
}

pub(crate) fn policy_test(from: &wire::PolicyTest) -> Result<PolicyTest, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    Ok(PolicyTest { label: label(from.metadata.as_ref())?, cases: spec.cases.clone() })
}

pub(crate) fn role(from: &wire::Role) -> Result<Role, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    Ok(Role { label: label(from.metadata.as_ref())?, permissions: permissions(&spec.permissions)? })
}

pub(crate) fn binding(from: &wire::RoleBinding) -> Result<RoleBinding, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let micros = |at| Ok::<_, Why>(moment(at)?.map(Timestamp::micros));
    let narrowing: Vec<_> = spec.resources.iter().map(selector).collect::<Result<_, _>>()?;
    Ok(RoleBinding {
        label: label(from.metadata.as_ref())?,
        role: Name::parse(&spec.role).map_err(text)?,
        agents: names(&spec.agents)?,
        groups: names(&spec.groups)?,
        except: names(&spec.except_agents)?,
        users: spec.users.clone(),
        narrowing: (!narrowing.is_empty()).then_some(narrowing),
        window: Window::new(micros(spec.not_before)?, micros(spec.not_after)?).map_err(text)?,
    })
}

/// A policy whose text or mode is missing is kept, so that its namespace is known to be undecidable.
pub(crate) fn policy(from: &wire::Policy) -> Result<Policy, Why> {
    let spec = from.spec.clone().unwrap_or_default();
    Ok(Policy {
        label: label(from.metadata.as_ref())?,
        mode: match spec.mode() {
            wire::PolicyMode::Enforce => PolicyMode::Enforce,
            wire::PolicyMode::LogOnly => PolicyMode::LogOnly,
            wire::PolicyMode::Unspecified => PolicyMode::Unknown,
        },
        cedar: spec.cedar,
    })
}

pub(crate) fn enforcement_point(from: &wire::EnforcementPoint) -> Result<EnforcementPoint, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    Ok(EnforcementPoint {
        label: label(from.metadata.as_ref())?,
        resource_types: spec
            .resource_types
            .iter()
            .map(|t| ResourceType::parse(t).map_err(text))
            .collect::<Result<_, _>>()?,
        audiences: spec.audiences.iter().cloned().collect(),
        may_assert_subject: spec.may_assert_subject,
        may_search: spec.may_search,
        may_explain: spec.may_explain,
        durable_actions: spec
            .durable_actions
            .iter()
            .map(|a| ActionPattern::parse(a).map_err(text))
            .collect::<Result<_, _>>()?,
    })
}

pub(crate) fn node(from: &wire::Node) -> Result<Node, Why> {
    Ok(Node { label: label(from.metadata.as_ref())? })
}

/// Of what has to be attested nothing may be left out: the whole policy cannot be read then.
pub(crate) fn attestation_policy(from: &wire::AttestationPolicy) -> Result<AttestationPolicy, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let label = label(from.metadata.as_ref())?;
    let selector = |one: &wire::AttestationSelector| match wire::AttestationSelectorType::try_from(one.r#type) {
        Ok(wire::AttestationSelectorType::Unspecified) | Err(_) => {
            Err("a type of selector is not known here".to_owned())
        }
        Ok(of) => Ok(Attested { of, value: one.value.as_str().into() }),
    };
    let node = |named: &String| {
        let (namespace, name) = match named.split_once('/') {
            Some((namespace, name)) => (Name::parse(namespace).map_err(text)?, name),
            None => (label.namespace.clone(), named.as_str()),
        };
        Ok::<_, Why>((namespace, Name::parse(name).map_err(text)?))
    };
    Ok(AttestationPolicy {
        agent: Name::parse(&spec.agent).map_err(text)?,
        selectors: spec.selectors.iter().map(selector).collect::<Result<_, _>>()?,
        nodes: spec.nodes.iter().map(node).collect::<Result<_, _>>()?,
        label,
    })
}

pub(crate) fn federated_trust_domain(from: &wire::FederatedTrustDomain) -> Result<FederatedTrustDomain, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let endpoint = |at: &wire::BundleEndpoint| -> Result<BundleEndpoint, Why> {
        let id = (!at.spiffe_id.is_empty()).then(|| SpiffeId::parse(&at.spiffe_id)).transpose().map_err(text)?;
        Ok(BundleEndpoint { url: at.url.as_str().into(), spiffe_id: id })
    };
    Ok(FederatedTrustDomain {
        label: label(from.metadata.as_ref())?,
        trust_domain: TrustDomain::parse(&spec.trust_domain).map_err(text)?,
        bundle: (!spec.bundle.is_empty()).then(|| spec.bundle.as_str().into()),
        endpoint: spec.endpoint.as_ref().map(endpoint).transpose()?,
        refresh: span(spec.refresh)?,
        namespaces: spec.namespaces.iter().map(|of| Name::parse(of).map_err(text)).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn signing_key(from: &wire::SigningKey) -> Result<SigningKey, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    Ok(SigningKey {
        kid: spec.kid.clone(),
        issuer: spec.issuer.clone(),
        jwk: spec.jwk.clone(),
        purpose: match spec.r#use() {
            wire::SigningKeyUse::AccessToken => KeyUse::AccessToken,
            wire::SigningKeyUse::JwtSvid => KeyUse::JwtSvid,
            wire::SigningKeyUse::Unspecified => return Err("use is missing".into()),
        },
        not_before: moment(spec.not_before)?,
        not_after: moment(spec.not_after)?,
    })
}

pub(crate) fn revocation(from: &wire::Revocation) -> Result<Revocation, Why> {
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let x5t_s256 = match spec.x5t_s256.len() {
        0 => None,
        _ => Some(<[u8; 32]>::try_from(spec.x5t_s256.as_slice()).map_err(|_| "x5t_s256 is not 32 bytes")?),
    };
    Ok(Revocation {
        what: match (&spec.cut_off, spec.token_id.as_str()) {
            (Some(cut_off), _) => issued(from.metadata.as_ref(), cut_off)?,
            (None, "") => Revoked::Credential(CredentialId::parse(&spec.credential_id).map_err(text)?),
            (None, token) => Revoked::Token(token.to_owned()),
        },
        spiffe_id: spec.spiffe_id.clone(),
        x5t_s256,
        expires: moment(spec.expire_time)?,
    })
}

fn issued(metadata: Option<&wire::Metadata>, from: &wire::CutOff) -> Result<Revoked, Why> {
    let namespace = metadata.ok_or("metadata is missing")?.namespace.as_str();
    let name = |name: &str| Name::parse(name).map_err(text);
    let of_namespace = || name(namespace);
    let anywhere = || if namespace.is_empty() { Ok(None) } else { name(namespace).map(Some) };
    let level = match from.level.as_ref().ok_or("the cut-off names nobody")? {
        wire::cut_off::Level::AgentClass(class) => Level::Class(of_namespace()?, name(class)?),
        wire::cut_off::Level::WholeNamespace(_) => Level::Namespace(of_namespace()?),
        wire::cut_off::Level::Owner(owner) => Level::Owner(anywhere()?, owner.clone()),
        wire::cut_off::Level::Subject(person) => Level::Subject(anywhere()?, person.clone()),
    };
    let at = moment(from.authorization_cutoff)?.ok_or("the cut-off has no moment")?;
    Ok(Revoked::Issued(level, at))
}

/// Whom a stop order names, and how they stand by it.
pub(crate) fn stop_order(from: &wire::StopOrder) -> Result<(Named, Option<Standing>), Why> {
    use wire::stop_order_spec::Level;
    let metadata = from.metadata.as_ref().ok_or("metadata is missing")?;
    let name = |name: &str| Name::parse(name).map_err(text);
    let of_namespace = || name(&metadata.namespace);
    let level = from.spec.as_ref().and_then(|spec| spec.level.as_ref()).ok_or("the order names nobody")?;
    let named = match level {
        Level::Everywhere(_) => Named::Everywhere,
        Level::AgentId(id) => Named::Agent(AgentId::parse(id).map_err(text)?),
        Level::AgentClass(class) => Named::Class(of_namespace()?, name(class)?),
        Level::WholeNamespace(_) => Named::Namespace(of_namespace()?),
        Level::Owner(owner) if metadata.namespace.is_empty() => Named::Owner(None, owner.clone()),
        Level::Owner(owner) => Named::Owner(Some(of_namespace()?), owner.clone()),
        Level::Group(stopped) => {
            let (namespace, update_time) = (metadata.namespace.clone(), stopped.update_time);
            let of = wire::Metadata { name: stopped.name.clone(), namespace, update_time, ..wire::Metadata::default() };
            let as_it_was = group(&wire::Group { metadata: Some(of), spec: stopped.spec.clone() })?;
            Named::Group(name(&metadata.name)?, Box::new(as_it_was))
        }
    };
    Ok((named, standing(from.status.as_ref())?))
}

pub(crate) fn operator_binding(from: &wire::OperatorBinding) -> Result<Binding, Why> {
    let metadata = from.metadata.as_ref().ok_or("metadata is missing")?;
    let spec = from.spec.as_ref().ok_or("spec is missing")?;
    let micros = |at| Ok::<_, Why>(moment(at)?.map(Timestamp::micros));
    let appointment = Appointment {
        role: match spec.role() {
            wire::OperatorRole::Viewer => OperatorRole::Viewer,
            wire::OperatorRole::Editor => OperatorRole::Editor,
            wire::OperatorRole::Approver => OperatorRole::Approver,
            wire::OperatorRole::Admin => OperatorRole::Admin,
            wire::OperatorRole::BreakGlass => OperatorRole::BreakGlass,
            wire::OperatorRole::Unspecified => return Err("role is missing".into()),
        },
        namespace: match metadata.namespace.as_str() {
            "" => None,
            name => Some(Name::parse(name).map_err(text)?),
        },
        window: Window::new(micros(spec.not_before)?, micros(spec.not_after)?).map_err(text)?,
    };
    let operators = spec.operators.iter().map(|name| Name::parse(name).map_err(text)).collect::<Result<_, _>>()?;
    Ok(Binding { operators, appointment })
}
