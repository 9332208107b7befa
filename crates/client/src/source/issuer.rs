//! An identity that credential-issuer gave over gRPC, renewed at half of its life.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock, Timestamp};
use legate_mtls::Identity;
use legate_rpc::Code;

use super::slot::{Slot, named};
use crate::{ClientError, Runtime};

/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// No wait is longer, so that a clock that was set, and a machine that slept, are noticed.
const LOOK: Duration = Duration::from_secs(2);
/// How often the CA certificates of workloads are asked for: what the SPIFFE bundle says of itself.
const REFRESH: Duration = Duration::from_secs(300);

/// When it is renewed: at half of the life that is left, and a little before.
fn half(identity: &Identity, clock: &dyn Clock) -> Timestamp {
    let now = clock.now();
    let left = identity.not_after().map_or(Duration::ZERO, |end| end.since(now));
    // Replicas that were started together do not renew together.
    now.plus(left.mul_f64(0.5 - rand::random_range(0.0..0.05)))
}

/// Renews it, and follows the CA certificates, until credential-issuer refuses it for good, or it has ended. When it is renewed first is
/// known before anything of this has run.
pub(super) fn follow(runtime: Runtime, slot: Arc<Slot>, clock: Arc<dyn Clock>) -> impl Future<Output = ()> + Send {
    let first = half(&slot.identity, &*clock);
    follow_from(first, runtime, slot, clock)
}

async fn follow_from(first: Timestamp, runtime: Runtime, slot: Arc<Slot>, clock: Arc<dyn Clock>) {
    let identity = &slot.identity;
    let (mut renew_at, mut refresh_at, mut wait) = (first, clock.now().plus(REFRESH), WAITS.0);
    loop {
        let now = clock.now();
        if identity.not_after().is_none_or(|end| end <= now) {
            tracing::error!("the certificate has ended without being renewed; it has to be enrolled again");
            return slot.forget();
        }
        let mut done = Ok(());
        if now >= renew_at {
            done = runtime.renew().await.map(|_| {
                slot.held();
                renew_at = half(identity, &*clock);
            });
        }
        if done.is_ok() && now >= refresh_at {
            done = believe(&runtime, &slot).await;
            refresh_at = clock.now().plus(REFRESH);
        }
        match done {
            Ok(()) => {
                wait = WAITS.0;
                let left = renew_at.since(now).min(refresh_at.since(now));
                tokio::time::sleep(left.min(LOOK)).await;
            }
            Err(error) if is_final(&error) => {
                tracing::error!(%error, "credential-issuer renews it no more");
                return slot.forget();
            }
            Err(error) => {
                tracing::warn!(%error, "the certificate was not renewed; tried again");
                tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
                wait = (wait * 2).min(WAITS.1);
            }
        }
    }
}

/// Whether it is refused for what we are, and so would be again: a certificate that was cut off never works again.
fn is_final(error: &ClientError) -> bool {
    let ClientError::Refused(told) = error else { return false };
    matches!(told.code, Code::PermissionDenied | Code::Unauthenticated) && !told.reason.is_empty()
}

/// Asks for the CA certificates of workloads, and believes them.
pub(super) async fn believe(runtime: &Runtime, slot: &Slot) -> Result<(), ClientError> {
    let roots = runtime.workload_roots().await?;
    slot.believe(&named(&slot.identity)?, &roots.concat())
}
