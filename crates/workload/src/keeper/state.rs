//! What a process has, or why it has nothing.

use std::sync::Arc;
use std::time::Duration;

use legate_rpc::{Fault, Told};

use crate::attest::Unseen;
use crate::error::{NODE_REFUSED, WORKLOAD_NOT_ENTITLED, WORKLOAD_NOT_READY, WORKLOAD_UNHEARD};
use crate::issuer::{NotIssued, Svid};
use crate::knowledge::Bundle;

/// What a process has now.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It is being found out.
    Pending,
    /// These.
    Holds(Arc<Held>),
    /// Nothing.
    Without(Arc<Without>),
}

/// Everything that a process has.
#[derive(Debug)]
pub(crate) struct Held {
    /// At least one, in the order of the policies' names.
    pub(crate) svids: Vec<Arc<Svid>>,
    /// What verifies others.
    pub(crate) bundle: Arc<Bundle>,
    /// What verifies those of other trust domains, one for each.
    pub(crate) federated: Vec<Arc<Bundle>>,
}

impl Held {
    /// Whether it is the same to the last byte.
    pub(crate) fn is_same_x509(&self, other: &Self) -> bool {
        self.has_same_bundles(other, |bundle| &bundle.x509) && self.has_same_svids(other)
    }

    /// Whether what verifies others is the same, ours and that of each other trust domain.
    pub(crate) fn has_same_bundles<T: PartialEq>(&self, other: &Self, of: fn(&Bundle) -> &T) -> bool {
        let pairs = self.federated.iter().zip(&other.federated);
        of(&self.bundle) == of(&other.bundle)
            && self.federated.len() == other.federated.len()
            && pairs.into_iter().all(|(a, b)| a.domain == b.domain && of(a) == of(b))
    }

    fn has_same_svids(&self, other: &Self) -> bool {
        self.svids.len() == other.svids.len() && self.svids.iter().zip(&other.svids).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        let pairs = self.federated.iter().zip(&other.federated);
        Arc::ptr_eq(&self.bundle, &other.bundle)
            && self.federated.len() == other.federated.len()
            && pairs.into_iter().all(|(a, b)| Arc::ptr_eq(a, b))
            && self.has_same_svids(other)
    }
}

/// Why a process has nothing.
#[derive(Clone, Debug)]
pub(crate) enum Without {
    /// No policy is about it, or its agent may obtain nothing.
    NotEntitled,
    /// credential-issuer refuses.
    Refused(Box<Told>),
    /// Not yet, or credential-issuer cannot be reached.
    NotReady(String),
    /// For too long nobody has said that it still may.
    Unheard,
    /// The node itself is refused.
    NodeRefused(String),
    /// The process is not what it was.
    Unseen(Unseen),
}

impl Without {
    pub(super) fn of(why: NotIssued) -> Self {
        match why {
            NotIssued::Refused(told) => Self::Refused(told),
            NotIssued::Unreached(why) => Self::NotReady(why),
        }
    }
}

/// When to try again.
const AGAIN: Duration = Duration::from_secs(1);

impl From<Without> for Fault {
    fn from(without: Without) -> Self {
        match without {
            Without::NotEntitled => Self::refused(
                &WORKLOAD_NOT_ENTITLED,
                "no attestation policy is about this process, or its agent is stopped",
            ),
            // Of what credential-issuer says, the word: a process need not learn what the policies of its node are.
            Without::Refused(told) => Self::refused(
                &WORKLOAD_NOT_ENTITLED,
                format!("credential-issuer refuses an SVID for the agent that this process is: {}", told.reason),
            )
            .with("issuer_reason", told.reason.clone()),
            Without::NotReady(why) => Self::unavailable(&WORKLOAD_NOT_READY, why, AGAIN),
            Without::Unheard => {
                let what = "for too long the node helper has not heard whether the agent still may anything";
                Self::unavailable(&WORKLOAD_UNHEARD, what, AGAIN)
            }
            Without::NodeRefused(reason) => {
                Self::refused(&NODE_REFUSED, format!("credential-issuer does not serve this node: {reason}"))
            }
            Without::Unseen(unseen) => unseen.into(),
        }
    }
}

impl State {
    /// What is held.
    ///
    /// # Errors
    /// The refusal when nothing is.
    pub(crate) fn held(self) -> Result<Arc<Held>, Fault> {
        match self {
            Self::Holds(held) => Ok(held),
            Self::Pending => Err(Without::NotReady("the process's SVIDs are being obtained".into()).into()),
            Self::Without(without) => Err(Without::clone(&without).into()),
        }
    }
}
