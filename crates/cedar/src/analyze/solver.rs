//! The solver: a process, started when it is first asked, anew after it failed, and never waited for too long.

use std::time::{Duration, Instant};

use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::solver::{LocalSolver, SolverError};
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env};
use tokio::process::Command;

use super::{NotAnalyzed, Solver};

/// How much longer than the solver itself promises it is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// What the solver says.
#[derive(Clone, Debug)]
pub(super) enum Answer<T> {
    /// It is so.
    Known(T),
    /// It does not know, and why.
    Unknown(String),
}

/// Questions to a solver.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    by: &'a Solver,
    until: Instant,
    compiler: Option<CedarSymCompiler<LocalSolver>>,
}

/// What Cedar says, with its causes.
pub(super) fn told(error: &Error) -> String {
    let mut text = error.to_string();
    if let Error::PolicyNotWellTyped { errs } = error {
        errs.iter().take(4).for_each(|one| text += &format!("; {one}"));
    }
    text
}

impl<'a> Asking<'a> {
    /// Starts the solver once, so that one that is not there is told before anything else.
    pub(super) fn of(by: &'a Solver) -> Result<Self, NotAnalyzed> {
        let mut asking = Self { by, until: Instant::now() + by.all, compiler: None };
        asking.compiler = Some(asking.start()?);
        Ok(asking)
    }

    fn start(&self) -> Result<CedarSymCompiler<LocalSolver>, NotAnalyzed> {
        let mut command = Command::new(&self.by.program);
        let limit = format!("--tlimit-per={}", self.by.each.as_millis());
        command.args(["--lang", "smt", limit.as_str()]).kill_on_drop(true);
        let none = |e: String| NotAnalyzed::NoSolver(self.by.program.clone(), e);
        let solver = LocalSolver::from_command(&mut command).map_err(|e| match e {
            SolverError::Io(e) => none(e.to_string()),
            e => none(e.to_string()),
        })?;
        CedarSymCompiler::new(solver).map_err(|e| NotAnalyzed::Failed(told(&e)))
    }

    /// A request that `these` permit and `those` do not.
    pub(super) async fn beyond(
        &mut self,
        these: &CompiledPolicySet,
        those: &CompiledPolicySet,
    ) -> Result<Answer<Option<Env>>, NotAnalyzed> {
        self.ask(async |compiler| compiler.check_implies_with_counterexample_opt(these, those).await).await
    }

    /// Whether no request is permitted by both.
    pub(super) async fn share_nothing(
        &mut self,
        these: &CompiledPolicySet,
        those: &CompiledPolicySet,
    ) -> Result<Answer<bool>, NotAnalyzed> {
        self.ask(async |compiler| compiler.check_disjoint_opt(these, those).await).await
    }

    /// Whether a policy fails at no request.
    pub(super) async fn never_fails(&mut self, policy: &CompiledPolicy) -> Result<Answer<bool>, NotAnalyzed> {
        self.ask(async |compiler| compiler.check_never_errors_opt(policy).await).await
    }

    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut CedarSymCompiler<LocalSolver>) -> Result<T, Error>,
    ) -> Result<Answer<T>, NotAnalyzed> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Answer::Unknown(format!("the {} s for all questions are over", self.by.all.as_secs())));
        }
        let mut compiler = match self.compiler.take() {
            Some(compiler) => compiler,
            None => self.start()?,
        };
        let patience = left.min(self.by.each + GRACE);
        match tokio::time::timeout(patience, question(&mut compiler)).await {
            Ok(Ok(answer)) => {
                self.compiler = Some(compiler);
                Ok(Answer::Known(answer))
            }
            // What it is in the middle of is not known any more; the next question gets a new one.
            Err(_) => Ok(Answer::Unknown(format!("the solver did not answer within {} s", patience.as_secs()))),
            Ok(Err(Error::SolverUnknown)) => Ok(Answer::Unknown("the solver does not find out".to_owned())),
            Ok(Err(
                e @ (Error::SolverError(_)
                | Error::DecodeModel(_)
                | Error::ConcretizeError(_)
                | Error::ModelInvalid { .. }),
            )) => Ok(Answer::Unknown(format!("the solver's answer cannot be used: {}", told(&e)))),
            Ok(Err(e)) => Err(NotAnalyzed::Failed(told(&e))),
        }
    }
}
