//! The decision by itself, with no server round it and no clock: what a benchmark measures.

pub mod drift;

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, PolicySet};
use legate_clock::Timestamp;
use legate_view::{Agent, Delegation, Delegator, NamespacePolicies, Snapshot};
use legate_wire::policy as wire;
use legate_wire::registry::Declaration;

use crate::convert::{self, Ask, Subject};
use crate::domain::approval;
use crate::domain::authority::{Bench, Way};
use crate::domain::behalf;
use crate::domain::entities::Asked;
use crate::domain::policies::Compiled;

/// What is declared, and the policies of one namespace of it, compiled.
#[derive(Debug)]
pub struct Engine {
    bench: Bench,
    authorizer: Authorizer,
    snapshot: Snapshot,
    policies: Arc<NamespacePolicies>,
    compiled: Compiled,
    whole: PolicySet,
}

/// A question about an agent that is known.
#[derive(Debug)]
pub struct Prepared {
    ask: Ask,
    agent: Arc<Agent>,
    delegation: Option<Delegation>,
}

/// The same in Cedar's words.
#[derive(Debug)]
pub struct Words(Asked);

/// What is decided, and by which Cedar policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The ids of the policies that determined it.
    pub determining: BTreeSet<String>,
}

impl Engine {
    /// Everything that is declared, and the policies of `namespace`.
    ///
    /// # Errors
    /// When something cannot be read, or the namespace has no policies.
    pub fn new<'a>(objects: impl IntoIterator<Item = &'a Declaration>, namespace: &str) -> Result<Self, String> {
        let snapshot = Snapshot::of(objects).map_err(|e| e.to_string())?;
        let policies = snapshot.policies(namespace).cloned().ok_or("the namespace has no policies")?;
        let compiled = Compiled::compile(&policies, None).map_err(|e| e.to_string())?;
        let mut whole = PolicySet::new();
        for (_, rule) in compiled.written() {
            whole.add(rule.clone()).map_err(|e| e.to_string())?;
        }
        Ok(Self { bench: Bench::new(), authorizer: Authorizer::new(), snapshot, policies, compiled, whole })
    }

    /// Reads a question about an agent that is named by its id, and finds the chain by which it acts for another.
    ///
    /// # Errors
    /// When it cannot be read, or the agent or the chain is not known.
    pub fn prepare(&self, request: wire::EvaluateRequest, now: Timestamp) -> Result<Prepared, String> {
        let mut ask = convert::ask(request, "").map_err(|e| e.to_string())?;
        let Subject::Asserted(id) = &ask.subject else { return Err("name the agent by its id".into()) };
        let agent = Arc::clone(self.snapshot.agent(id).ok_or("the agent is not known")?);
        let delegation = match &ask.on_behalf_of {
            None => None,
            Some(said) => {
                let mut chains = self.snapshot.delegation_grants_to(&agent).iter();
                let found = chains.find_map(|grant| {
                    let chain = self.snapshot.delegation_by(grant, now).ok()?;
                    (chain.subject().map(Delegator::as_text).as_deref() == Some(said.subject.as_str())).then_some(chain)
                });
                Some(found.ok_or("no chain leads from the subject to the agent")?)
            }
        };
        if let Some(delegation) = &delegation {
            ask.question = behalf::question(&ask.question, delegation);
        }
        Ok(Prepared { ask, agent, delegation })
    }

    /// Decides as a check does once it knows who is asked about; the word of the answer.
    #[must_use]
    pub fn decide(&self, prepared: &Prepared, now: Timestamp) -> &'static str {
        let Prepared { ask, agent, delegation } = prepared;
        let (snapshot, question) = (&self.snapshot, &ask.question);
        let so_far = self.bench.before_policies(snapshot, agent, question, now);
        if so_far.denied.is_some() {
            return so_far.word();
        }
        let approvals = approval::of(snapshot, agent, question, None, now);
        let policies = Some(&self.compiled);
        let answer = self.bench.with_policies(snapshot, agent, question, policies, &approvals, now, so_far);
        match (delegation, answer.denied) {
            (Some(chain), None) => self.bench.on_behalf(snapshot, chain, question, None, policies, now, answer).word(),
            _ => answer.word(),
        }
    }

    /// The question in Cedar's words.
    ///
    /// # Errors
    /// When Cedar has none for it.
    pub fn words(&self, prepared: &Prepared, now: Timestamp) -> Result<Words, String> {
        let (agent, question) = (&prepared.agent, &prepared.ask.question);
        self.bench.asked(&self.snapshot, agent, question, self.compiled.groups(), now).map(Words)
    }

    /// What the policies say, by those whose scope fits.
    #[must_use]
    pub fn indexed(&self, words: &Words) -> Said {
        let verdict = self.compiled.enforced(&self.authorizer, Way::Indexed, &words.0);
        let determining = if verdict.forbids.is_empty() { &verdict.permits } else { &verdict.forbids };
        Said {
            allowed: verdict.forbids.is_empty() && !verdict.permits.is_empty(),
            determining: determining.iter().map(ToString::to_string).collect(),
        }
    }

    /// The same by Cedar's own authorizer, which is given all of them.
    #[must_use]
    pub fn plain(&self, words: &Words) -> Said {
        let response = self.authorizer.is_authorized(&words.0.request, &self.whole, &words.0.entities);
        Said {
            allowed: response.decision() == Decision::Allow,
            determining: response.diagnostics().reason().map(ToString::to_string).collect(),
        }
    }

    /// The policies of the namespace with the `n`th, in the order of names, written anew as `cedar`; to be compiled.
    #[must_use]
    pub fn with_policy(&self, n: usize, cedar: &str) -> NamespacePolicies {
        let mut policies = NamespacePolicies::clone(&self.policies);
        if let Some(policy) = policies.by_name.values_mut().nth(n) {
            *policy = Arc::new(legate_view::Policy { cedar: cedar.to_owned(), ..(**policy).clone() });
        }
        policies
    }

    /// Compiles the policies of the namespace as they are after a change, as the service does; how many there are.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn compile(&self, policies: &NamespacePolicies, from_what_is_known: bool) -> Result<usize, String> {
        let before = from_what_is_known.then_some(&self.compiled);
        Compiled::compile(policies, before).map(|compiled| compiled.len().0).map_err(|e| e.to_string())
    }
}
