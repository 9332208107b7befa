//! People's own grants between the wire of this service and that of the registry.

use std::collections::BTreeMap;

use legate_wire::credential as wire;
use legate_wire::registry::{DelegationGrant, ListPersonalGrantsResponse, ProvenPerson};

use crate::domain::foreign::Person;
use crate::domain::token::hex;
use crate::flow::foreign::{Evidence, SignIn};

/// What happens when an agent acts by a grant, as the audit log calls it.
const ACTED: [&str; 3] = ["decision.made", "issuance.decided", "token.exchanged"];

/// A person as its token proved it, for the registry.
pub(crate) fn proven_person(person: Person, evidence: &Evidence, sign_in: SignIn) -> ProvenPerson {
    let (trusted_issuer_id, trusted_issuer_version) = sign_in.trusted;
    ProvenPerson {
        person: person.name,
        groups: person.groups,
        namespace: evidence.namespace.clone(),
        trusted_issuer_id,
        trusted_issuer_version,
        issuer: evidence.issuer.clone(),
        subject: evidence.subject.clone(),
        token_sha256: hex(&evidence.once),
        auth_time: sign_in.at.map(Into::into),
        acr: sign_in.how,
        nonce: sign_in.nonce,
    }
}

fn name(of: &DelegationGrant) -> &str {
    of.metadata.as_ref().map_or("", |m| m.name.as_str())
}

/// Each grant of a person with what was passed on of it, however far.
pub(crate) fn personal_grants(person: String, from: ListPersonalGrantsResponse) -> wire::ListGrantsResponse {
    let parents: BTreeMap<&str, &str> = from
        .passed_on
        .iter()
        .map(|grant| (name(grant), grant.spec.as_ref().map_or("", |spec| spec.parent.as_str())))
        .collect();
    let first = |grant: &DelegationGrant| {
        let mut at = name(grant);
        // The registry lets none go round; whoever does all the same is nobody's.
        for _ in 0..=parents.len() {
            match parents.get(at) {
                Some(parent) => at = parent,
                None => return at.to_owned(),
            }
        }
        String::new()
    };
    let mut passed_on: BTreeMap<String, Vec<DelegationGrant>> = BTreeMap::new();
    for grant in &from.passed_on {
        passed_on.entry(first(grant)).or_default().push(grant.clone());
    }
    let id = |grant: &DelegationGrant| grant.metadata.as_ref().map(|m| m.id.clone()).unwrap_or_default();
    let grants = from.grants.into_iter().map(|grant| {
        let after = passed_on.remove(name(&grant)).unwrap_or_default();
        let audit = wire::AuditPointer {
            namespace: grant.metadata.as_ref().map(|m| m.namespace.clone()).unwrap_or_default(),
            types: ACTED.map(str::to_owned).to_vec(),
            grant_ids: std::iter::once(&grant).chain(&after).map(id).collect(),
        };
        wire::PersonalGrant { grant: Some(grant), passed_on: after, audit: Some(audit) }
    });
    wire::ListGrantsResponse { person, grants: grants.collect(), of_groups: from.of_groups, revision: from.revision }
}

#[cfg(test)]
mod tests {
    use super::*;
    use legate_wire::registry::{DelegationGrantSpec, Metadata};

    fn grant(name: &str, parent: &str) -> DelegationGrant {
        let metadata = Metadata { name: name.into(), id: format!("obj_{name}"), ..Metadata::default() };
        let spec = DelegationGrantSpec { parent: parent.into(), ..DelegationGrantSpec::default() };
        DelegationGrant { metadata: Some(metadata), spec: Some(spec) }
    }

    #[test]
    fn what_was_passed_on_stands_with_the_grant_that_it_is_of() {
        let from = ListPersonalGrantsResponse {
            grants: vec![grant("a", ""), grant("b", "")],
            // One goes round, and one is of nobody who is listed.
            passed_on: vec![grant("c", "a"), grant("d", "c"), grant("e", "f"), grant("f", "e"), grant("g", "z")],
            ..ListPersonalGrantsResponse::default()
        };
        let told = personal_grants("user:ada".into(), from);
        let ids: Vec<_> = told.grants.iter().map(|one| one.audit.clone().map(|a| a.grant_ids)).collect();
        let of = |ids: &[&str]| Some(ids.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(ids, [of(&["obj_a", "obj_c", "obj_d"]), of(&["obj_b"])]);
    }
}
