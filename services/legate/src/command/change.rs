//! What a plan and an apply have in common: what is wanted, what is no longer wanted, and what both would do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::preview_service_client::PreviewServiceClient;
use legate_wire::policy::{PreviewChangeRequest, PreviewChangeResponse, SimulateRequest, SimulateResponse, TestResult};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    ChangeAction, Declaration, DeclarationChange, Kind, ListDeclarationsRequest, ObjectName, PlanDeclarationsResponse,
};

use super::Desk;
use super::agent::PAGE;
use super::{declare, prune};
use crate::cli::Wanted;
use crate::error::{MANIFEST_INVALID, POLICY_TEST_FAILED, REGISTRY_BUSY, USAGE};
use crate::manifest::{self, Document};
use crate::place::{Line, Service};
use crate::{Failure, proto};

/// A preview compares many agents; policy-decision gives it so long at most.
const PATIENCE: Duration = Duration::from_secs(55);
/// Flips that are kept.
const FLIPS: usize = 1_000;
/// Objects of one change that decisions are tried on, recorded ones and those that are made (SimulateRequest, ShadowChangeRequest).
const TRIED: usize = 1_000;
/// The largest page of a list.
const LARGEST_PAGE: usize = 32 << 20;
/// How often a list and a plan may miss each other.
const TRIES: usize = 5;

/// What is wanted, and what the registry would do.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) declarations: Vec<Declaration>,
    pub(super) removals: Vec<ObjectName>,
    pub(super) planned: PlanDeclarationsResponse,
}

/// Reads manifests.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    manifest::load(files).map_err(|e| Failure::local(&MANIFEST_INVALID, e.to_string()))
}

/// What the flags say, planned; refused where what it speaks of was written after `base`, unless that is 0.
pub(super) async fn planned(desk: &Desk, wanted: &Wanted, base: u64) -> Result<Change, Failure> {
    let documents = read(&wanted.files)?;
    let registry = desk.line(Service::Registry)?;
    let labels = wanted.selector.as_deref().map(selector).transpose()?;
    for _ in 0..TRIES {
        let gone = match &labels {
            Some(labels) if wanted.prune => prune::unwanted(&registry, &documents, labels, wanted).await?,
            _ => Vec::new(),
        };
        let declarations: Vec<Declaration> = documents.iter().map(|d| d.declaration.clone()).collect();
        let removals: Vec<ObjectName> = gone.iter().map(|one| one.name.clone()).collect();
        let said = declare::plan(&registry, declarations.clone(), removals.clone(), base).await?;
        // What goes was chosen by what it was when it was listed: that has to be what it is in the plan.
        let written = said.written.iter().skip(declarations.len());
        if gone.iter().map(|one| one.written).eq(written.copied()) {
            return Ok(Change { declarations, removals, planned: said.planned() });
        }
    }
    Err(Failure::local(
        &REGISTRY_BUSY,
        "what is no longer wanted was written again and again between a list and its plan",
    ))
}

/// Asks the registry what it would do.
pub(super) async fn plan(
    registry: &Line,
    declarations: Vec<Declaration>,
    removals: Vec<ObjectName>,
) -> Result<PlanDeclarationsResponse, Failure> {
    Ok(declare::plan(registry, declarations, removals, 0).await?.planned())
}

/// Reads `team=pay,stage=prod`.
pub(super) fn selector(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',') {
        let found = pair.split_once('=').filter(|(name, value)| !name.trim().is_empty() && !value.trim().is_empty());
        let Some((name, value)) = found else {
            return Err(Failure::local(
                &USAGE,
                format!("--selector {text:?} is not KEY=VALUE,..., such as team=payments"),
            ));
        };
        if labels.insert(name.trim().to_owned(), value.trim().to_owned()).is_some() {
            return Err(Failure::local(&USAGE, format!("--selector names {name:?} twice")));
        }
    }
    Ok(labels)
}

/// Whether an object carries all of the labels.
pub(super) fn carries(declaration: &Declaration, labels: &BTreeMap<String, String>) -> bool {
    let metadata = declaration.metadata();
    labels.iter().all(|(name, value)| metadata.is_some_and(|m| m.labels.get(name) == Some(value)))
}

/// Whether it is an agent that an agent made, and that no manifest declares.
pub(super) fn was_made(declaration: &Declaration) -> bool {
    match &declaration.object {
        Some(Object::Agent(agent)) => agent.status.as_ref().is_some_and(|status| !status.ancestors.is_empty()),
        _ => false,
    }
}

/// The namespaces that manifests speak of.
pub(super) fn namespaces(documents: &[Document]) -> BTreeSet<String> {
    let of = |d: &Document| match (d.kind, d.namespace.as_str()) {
        ("Namespace", _) => Some(d.name.clone()),
        // A binding of operators for all namespaces speaks of none.
        (_, "") => None,
        (_, namespace) => Some(namespace.to_owned()),
    };
    documents.iter().filter_map(of).collect()
}

/// Every object of a kind, page by page, with the revision of the last page.
pub(super) async fn list(registry: &Line, kind: Kind, namespace: &str) -> Result<(Vec<Declaration>, u64), Failure> {
    let request = ListDeclarationsRequest {
        kind: kind.into(),
        namespace: namespace.to_owned(),
        ..ListDeclarationsRequest::default()
    };
    list_all(registry, request).await
}

/// Everything that a request asks for, page by page, with the revision of the last page.
pub(super) async fn list_all(
    registry: &Line,
    mut request: ListDeclarationsRequest,
) -> Result<(Vec<Declaration>, u64), Failure> {
    request.page_size = PAGE;
    let mut all = Vec::new();
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move {
                DeclarationServiceClient::new(c).max_decoding_message_size(LARGEST_PAGE).list_declarations(r).await
            })
            .await?;
        all.extend(page.declarations);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok((all, page.revision));
        }
    }
}

/// The kind that manifests call so.
pub(super) fn kind(name: &str) -> Result<Kind, Failure> {
    let mut word = String::from("KIND");
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            word.push('_');
        }
        word.push(c.to_ascii_uppercase());
    }
    let known = manifest::kinds().contains(&name);
    Kind::from_str_name(&word).filter(|_| known).ok_or_else(|| {
        let all = manifest::kinds().join(", ");
        Failure::local(&USAGE, format!("there is no kind {name:?}; there are: {all}"))
    })
}

impl Change {
    /// Only what changes: the rest is in force already.
    pub(super) fn moving(&self) -> (Vec<Declaration>, Vec<ObjectName>) {
        let differs =
            |change: Option<&DeclarationChange>| change.is_none_or(|change| change.action() != ChangeAction::Unchanged);
        let changes = &self.planned.changes;
        let wanted = self.declarations.iter().enumerate().filter(|(n, _)| differs(changes.get(*n)));
        let first = self.declarations.len();
        let gone = self.removals.iter().enumerate().filter(|(n, _)| differs(changes.get(first + n)));
        (wanted.map(|(_, one)| one.clone()).collect(), gone.map(|(_, one)| one.clone()).collect())
    }

    /// The same, where it is no more than decisions are tried on.
    pub(super) fn few(&self, flag: &str) -> Result<(Vec<Declaration>, Vec<ObjectName>), Failure> {
        let (declarations, removals) = self.moving();
        let count = declarations.len() + removals.len();
        if count > TRIED {
            let what = format!("{flag} takes {TRIED} objects that change, and these are {count}");
            return Err(Failure::local(&USAGE, what));
        }
        Ok((declarations, removals))
    }

    /// What was done, with what was so already; `said` is told of what changes.
    pub(super) fn done(&self, said: Vec<DeclarationChange>) -> Vec<DeclarationChange> {
        let mut said = said.into_iter();
        let done = |planned: &DeclarationChange| match planned.action() {
            ChangeAction::Unchanged => planned.clone(),
            // Which fields differ is told in the plan.
            _ => said
                .next()
                .map_or_else(|| planned.clone(), |one| DeclarationChange { fields: planned.fields.clone(), ..one }),
        };
        self.planned.changes.iter().map(done).collect()
    }

    /// Asks policy-decision what it would do to what agents may do, and runs the tests.
    pub(super) async fn preview(&self, desk: &Desk, more: BTreeSet<String>) -> Result<PreviewChangeResponse, Failure> {
        let (declarations, removals) = self.moving();
        let request = PreviewChangeRequest {
            declarations,
            removals,
            at_least_revision: self.planned.revision,
            namespaces: more.into_iter().collect(),
            ..PreviewChangeRequest::default()
        };
        preview(desk, request).await
    }
}

impl Change {
    /// Asks policy-decision which recorded decisions of so long would flip, page by page.
    pub(super) async fn simulate(&self, desk: &Desk, window: Duration) -> Result<SimulateResponse, Failure> {
        let (declarations, removals) = self.few("--simulate")?;
        let seconds = i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
        let mut request = SimulateRequest {
            declarations,
            removals,
            window: Some(prost_types::Duration { seconds, nanos: 0 }),
            at_least_revision: self.planned.revision,
            ..SimulateRequest::default()
        };
        let policy = desk.line(Service::Policy)?;
        let mut whole = SimulateResponse::default();
        loop {
            let page = policy
                .ask(request.clone(), |c, r| async move {
                    let mut request = tonic::Request::new(r);
                    request.set_timeout(PATIENCE);
                    DecisionServiceClient::new(c).max_decoding_message_size(16 << 20).simulate(request).await
                })
                .await?;
            request.page_token.clone_from(&page.next_page_token);
            add(&mut whole, page);
            if request.page_token.is_empty() {
                whole.flips.sort_by_key(|flip| (flip.is_unsure, std::cmp::Reverse(flip.count)));
                return Ok(whole);
            }
        }
    }
}

/// Adds a page to what is known; equal flips are one.
fn add(whole: &mut SimulateResponse, page: SimulateResponse) {
    whole.decisions += page.decisions;
    whole.allowed += page.allowed;
    whole.to_deny += page.to_deny;
    whole.to_allow += page.to_allow;
    whole.unsure += page.unsure;
    whole.not_judged += page.not_judged;
    whole.left_out = whole.left_out.saturating_add(page.left_out);
    (whole.revision, whole.from_time, whole.to_time) = (page.revision, page.from_time, page.to_time);
    whole.unfit = page.unfit;
    for flip in page.flips {
        let same = |one: &legate_wire::policy::Flip| {
            (&one.agent_id, &one.action, &one.resource_type, &one.resource_id)
                == (&flip.agent_id, &flip.action, &flip.resource_type, &flip.resource_id)
                && (&one.subject, one.was_allowed, one.is_unsure) == (&flip.subject, flip.was_allowed, flip.is_unsure)
        };
        match whole.flips.iter().position(same) {
            Some(at) => whole.flips[at].count += flip.count,
            None if whole.flips.len() < FLIPS => whole.flips.push(flip),
            None => whole.left_out = whole.left_out.saturating_add(1),
        }
    }
}

/// Asks policy-decision.
pub(super) async fn preview(desk: &Desk, request: PreviewChangeRequest) -> Result<PreviewChangeResponse, Failure> {
    let policy = desk.line(Service::Policy)?;
    policy
        .ask(request, |c, r| async move {
            let mut request = tonic::Request::new(r);
            request.set_timeout(PATIENCE);
            PreviewServiceClient::new(c).max_decoding_message_size(16 << 20).preview_change(request).await
        })
        .await
}

/// Refuses where a policy test fails.
pub(super) fn passed(tests: &[TestResult]) -> Result<(), Failure> {
    let failed: Vec<String> =
        tests.iter().filter(|t| !t.passed).map(|t| format!("{} case {}", t.test, t.case)).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let named = failed.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    let more = if failed.len() > 10 { format!(" and {} more", failed.len() - 10) } else { String::new() };
    let what = format!("{} of {} questions of policy tests fail: {named}{more}", failed.len(), tests.len());
    Err(Failure::local(&POLICY_TEST_FAILED, what))
}

/// A message's protobuf JSON as a value.
pub(super) fn value<M: prost::Message + prost::Name>(of: &M) -> Result<serde_json::Value, Failure> {
    let text = proto::json(&proto::dynamic(of), false).map_err(std::io::Error::other)?;
    Ok(serde_json::from_str(&text).map_err(std::io::Error::other)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_selector_is_pairs_and_nothing_else() {
        let labels = selector("team=pay, stage=prod").unwrap();
        assert_eq!(
            labels.into_iter().collect::<Vec<_>>(),
            [("stage".to_owned(), "prod".to_owned()), ("team".to_owned(), "pay".to_owned())]
        );
        for bad in ["", "team", "team=", "=pay", "a=b,", "a=b,a=c"] {
            assert_eq!(selector(bad).unwrap_err().reason, "USAGE", "{bad}");
        }
    }

    #[test]
    fn every_kind_of_manifest_is_a_kind_of_the_registry() {
        for name in manifest::kinds() {
            assert!(kind(name).is_ok(), "{name}");
        }
        for bad in ["agent", "SigningKey", "Nothing", ""] {
            assert_eq!(kind(bad).unwrap_err().reason, "USAGE", "{bad}");
        }
    }
}
