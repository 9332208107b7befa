//! `legate policy rollback` and `promote`: an earlier version comes back as a new one, or one that was on trial decides.

use legate_wire::registry::{PolicyMode, PolicySpec};

use super::super::{Desk, named};
use super::rewrite::{meta, rewrite};
use super::version::{as_version, at};
use crate::cli::{Promote, Rollback};
use crate::place::Service;
use crate::{Exit, Failure};

pub(super) async fn run(desk: Desk, args: Rollback) -> Result<Exit, Failure> {
    let (namespace, name) = named(&args.name)?;
    let registry = desk.line(Service::Registry)?;
    let now = at(&registry, &namespace, &name, None).await?;
    let then = match (args.to, args.to_revision) {
        (Some(version), _) => as_version(&registry, &namespace, &name, version).await?,
        (None, revision) => at(&registry, &namespace, &name, Some(revision.unwrap_or_default())).await?,
    };
    let version = meta(&then).version;
    let label = format!("{namespace}/{name}@{version}");
    let said = format!("what version {version} said");
    Box::pin(rewrite(&desk, &registry, &now, (then.spec, &label), &said, args.how)).await
}

pub(super) async fn promote(desk: Desk, args: Promote) -> Result<Exit, Failure> {
    let (namespace, name) = named(&args.name)?;
    let registry = desk.line(Service::Registry)?;
    let now = at(&registry, &namespace, &name, None).await?;
    let spec = PolicySpec { mode: PolicyMode::Enforce.into(), ..now.spec.clone().unwrap_or_default() };
    let label = format!("{namespace}/{name} promoted");
    Box::pin(rewrite(&desk, &registry, &now, (Some(spec), &label), "what decides (ENFORCE)", args.how)).await
}
