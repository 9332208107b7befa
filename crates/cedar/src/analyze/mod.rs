//! Two sets of policies, compared over every request that could be made: a solver proves it, or shows a request.
//!
//! Cedar's symbolic compiler makes of both sets, for one action on one type of resource, a formula that holds where they differ. The
//! solver is a program of its own (cvc5). What it does not find out in its time is told as unknown, and is never taken for a yes.

mod example;
mod laws;
mod solver;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use cedar_policy::{Effect, Policy, PolicySet, RequestEnv, Schema};
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet};

use crate::declared::Declared;
use crate::valid::on_a_deep_stack;
use crate::walk::{label_keys, spoken};

pub use example::Example;
use example::Looked;
use solver::{Answer, Asking};

/// What is compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The policies as they were.
    pub from: PolicySet,
    /// The policies as they would be.
    pub to: PolicySet,
    /// What is declared of what callers state.
    pub declared: Declared,
    /// The namespace whose agents ask.
    pub namespace: String,
}

/// Who proves it, and how long that may take.
#[derive(Clone, Debug)]
pub struct Solver {
    /// The program.
    pub program: PathBuf,
    /// The longest for one question.
    pub each: Duration,
    /// The longest for all of them.
    pub all: Duration,
}

/// How what is permitted after stands to what was permitted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equivalent,
    /// All of it, and more.
    More,
    /// A part of it.
    Less,
    /// Some of it and something else.
    MoreAndLess,
    /// Nothing of it, and something else.
    Disjoint,
    /// Not found out.
    Unknown,
}

/// What was found of one action on one type of resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The action.
    pub action: String,
    /// The type.
    pub resource_type: String,
    /// What was found.
    pub relation: Relation,
    /// A request that is permitted after and was not before.
    pub more: Option<Example>,
    /// A request that was permitted before and is not after.
    pub less: Option<Example>,
    /// Why it is not known.
    pub why: String,
}

/// Why nothing was compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnalyzed {
    /// The solver is not there.
    #[error("the solver {0} does not start: {1}")]
    NoSolver(PathBuf, String),
    /// The policies do not fit the schema, or Cedar fails.
    #[error("{0}")]
    Failed(String),
}

/// Compares, one action and type after the other.
///
/// # Errors
/// When the solver does not start, or the policies are not such that a solver can be asked.
pub fn compare(of: &Comparison, by: &Solver) -> Result<Vec<Row>, NotAnalyzed> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| NotAnalyzed::Failed(e.to_string()))?.block_on(all(of, by))
    };
    on_a_deep_stack(work).map_err(NotAnalyzed::Failed)?
}

async fn all(of: &Comparison, by: &Solver) -> Result<Vec<Row>, NotAnalyzed> {
    let failed = |e: &dyn std::fmt::Display| NotAnalyzed::Failed(e.to_string());
    let mut labels = label_keys(&of.from);
    labels.extend(label_keys(&of.to));
    let schema = of.declared.schema(&labels).map_err(|e| failed(&e))?;
    let named: BTreeSet<_> =
        [&of.from, &of.to].into_iter().flat_map(PolicySet::policies).flat_map(Policy::entity_literals).collect();
    let with_laws = |set: &PolicySet| {
        let mut set = set.clone();
        laws::add(&mut set, &of.namespace, &named).map_err(|e| failed(&e))?;
        Ok(set)
    };
    let mut looked = Looked { named: named.iter().map(ToString::to_string).collect(), ..Looked::default() };
    for policy in [&of.from, &of.to].into_iter().flat_map(PolicySet::policies) {
        let spoken = spoken(policy);
        looked.attributes.extend(spoken.given);
        looked.labels.extend(spoken.labels);
    }
    let sides = Sides { from: with_laws(&of.from)?, to: with_laws(&of.to)?, looked };
    let mut asking = Asking::of(by)?;
    let mut environments: Vec<RequestEnv> = schema.request_envs().collect();
    environments.sort_by_key(|env| (env.action().id().unescaped().to_owned(), env.resource().to_string()));
    let mut rows = Vec::with_capacity(environments.len());
    for environment in environments {
        rows.push(sides.one(&schema, &environment, &mut asking).await?);
    }
    Ok(rows)
}

struct Sides {
    from: PolicySet,
    to: PolicySet,
    looked: Looked,
}

impl Sides {
    async fn one(&self, schema: &Schema, env: &RequestEnv, asking: &mut Asking<'_>) -> Result<Row, NotAnalyzed> {
        let mut row = Row {
            action: env.action().id().unescaped().to_owned(),
            resource_type: env.resource().to_string(),
            relation: Relation::Unknown,
            more: None,
            less: None,
            why: String::new(),
        };
        let failed = |e: cedar_policy_symcc::err::Error| NotAnalyzed::Failed(solver::told(&e));
        for policy in [&self.from, &self.to].into_iter().flat_map(PolicySet::policies) {
            // Cedar leaves out what fails; Legate denies where a forbid does.
            if policy.effect() == Effect::Forbid && spoken(policy).can_fail {
                let compiled = CompiledPolicy::compile(policy, env, schema).map_err(failed)?;
                match asking.never_fails(&compiled).await? {
                    Answer::Known(true) => {}
                    Answer::Known(false) => {
                        row.why = format!(
                            "the forbid {} can fail (it computes), which denies here and is nothing to the solver",
                            policy.id()
                        );
                        return Ok(row);
                    }
                    Answer::Unknown(why) => return Ok(Row { why, ..row }),
                }
            }
        }
        let from = CompiledPolicySet::compile(&self.from, env, schema).map_err(failed)?;
        let to = CompiledPolicySet::compile(&self.to, env, schema).map_err(failed)?;
        let (more, less) = match (asking.beyond(&to, &from).await?, asking.beyond(&from, &to).await?) {
            (Answer::Known(more), Answer::Known(less)) => (more, less),
            (Answer::Unknown(why), _) | (_, Answer::Unknown(why)) => return Ok(Row { why, ..row }),
        };
        let shown = |env: &Option<cedar_policy_symcc::Env>, permits: &PolicySet, not: &PolicySet| {
            env.as_ref()
                .map(|env| Example::of(env, &self.looked, permits, not))
                .transpose()
                .map_err(NotAnalyzed::Failed)
        };
        row.more = shown(&more, &self.to, &self.from)?;
        row.less = shown(&less, &self.from, &self.to)?;
        row.relation = match (more.is_some(), less.is_some()) {
            (false, false) => Relation::Equivalent,
            (true, false) => Relation::More,
            (false, true) => Relation::Less,
            (true, true) => match asking.share_nothing(&from, &to).await? {
                Answer::Known(true) => Relation::Disjoint,
                Answer::Known(false) => Relation::MoreAndLess,
                Answer::Unknown(why) => {
                    row.why = format!("whether they have anything in common: {why}");
                    Relation::MoreAndLess
                }
            },
        };
        Ok(row)
    }
}

#[cfg(test)]
mod tests;
