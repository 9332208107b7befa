//! `legate policy`: what is declared, its tests, two texts compared, what is proved of them, and the way back.

mod analyze;
mod diff;
mod rewrite;
mod rollback;
mod schema;
mod shadow;
mod tests;
mod validate;
mod version;
mod written;

use legate_wire::registry::Kind;

use super::{Desk, declared};
use crate::cli::PolicyVerb;
use crate::{Exit, Failure};

pub(super) async fn run(desk: Desk, verb: PolicyVerb) -> Result<Exit, Failure> {
    match verb {
        PolicyVerb::Declared(verb) => declared::run(desk, Kind::Policy, verb).await,
        PolicyVerb::Test(args) => tests::run(desk, args).await,
        PolicyVerb::Diff(args) => diff::run(desk, args).await,
        PolicyVerb::Rollback(args) => Box::pin(rollback::run(desk, args)).await,
        PolicyVerb::Schema(args) => schema::run(desk, args).await,
        PolicyVerb::Validate(args) => validate::run(desk, args).await,
        PolicyVerb::Analyze(args) => Box::pin(analyze::run(desk, args)).await,
        PolicyVerb::Shadow { name } => shadow::run(desk, &name).await,
        PolicyVerb::Promote(args) => Box::pin(rollback::promote(desk, args)).await,
    }
}
