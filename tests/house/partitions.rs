//! Replicas that hear nothing any more and do not know it: what they say, and what they may be asked for all the same.

use std::time::{Duration, Instant};

use legate_rpc::Client;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{EvaluateRequest, EvaluateResponse};
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    ApplyDeclarationsRequest, Declaration, Kind, Metadata, Namespace, NamespaceSpec, RevokeDeclarationRequest,
    declaration,
};

use crate::asking::{ask, at_least, question, word};
use crate::processes::{Parties, Processes};
use crate::raised::apply_example;
use crate::relay::Relay;

/// What takes longer does not come to an end at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A policy-decision that hears the registry, and one that hears it by a line that can be held.
struct Two {
    suite: Processes,
    parties: Parties,
    line: Relay,
    second: Client,
}

impl Two {
    async fn replicas() -> Self {
        let mut suite = Processes::start("warn").await;
        let parties = suite.parties().await;
        let line = Relay::towards(&suite.remote("registry").endpoint).await;
        let beside = suite.spawn_beside_by("policy-decision", &line.endpoint()).await;
        let second = beside.dial(parties.identity.clone()).unwrap();
        Self { suite, parties, line, second }
    }

    fn read(&self) -> EvaluateRequest {
        question(&self.parties.shown, "invoice:read", "apollo/1001")
    }

    /// Asks until it is allowed, at this revision or later.
    async fn allowed_by(&self, who: &Client, revision: u64) {
        let begin = Instant::now();
        loop {
            match word(&ask(who, at_least(self.read(), revision)).await) {
                "ALLOWED" => return,
                other => assert!(begin.elapsed() < PATIENCE, "{other}: {}", self.suite.told("policy-decision")),
            }
        }
    }

    /// Takes away what the agent may read by; the revision.
    async fn remove_access(&self) -> u64 {
        let request = RevokeDeclarationRequest {
            kind: Kind::RoleBinding.into(),
            namespace: "payments".into(),
            name: "invoice-bot-reads-apollo".into(),
            reason: "it must not see what comes next".into(),
            ..RevokeDeclarationRequest::default()
        };
        let mut registry = DeclarationServiceClient::new(self.suite.operator("registry"));
        registry.revoke_declaration(request).await.unwrap().into_inner().revision
    }

    /// Writes what only those may see who have access from now on; the revision that its reader asks at.
    async fn add_data(&self, round: u64) -> u64 {
        let metadata = Some(Metadata { name: "next".into(), ..Metadata::default() });
        let spec = NamespaceSpec {
            display_name: format!("round {round}"),
            owners: vec!["user:ada@example.com".into()],
            ..NamespaceSpec::default()
        };
        let object = declaration::Object::Namespace(Namespace { metadata, spec: Some(spec), status: None });
        let request = ApplyDeclarationsRequest {
            declarations: vec![Declaration { object: Some(object) }],
            reason: "a secret of today".into(),
            ..ApplyDeclarationsRequest::default()
        };
        let mut registry = DeclarationServiceClient::new(self.suite.operator("registry"));
        registry.apply_declarations(request).await.unwrap().into_inner().revision
    }
}

/// Asks with little patience, so that the answer comes while an old view still counts; `None`: there was no time for one.
async fn soon(who: &Client, question: EvaluateRequest) -> Option<EvaluateResponse> {
    let mut request = tonic::Request::new(question);
    request.set_timeout(Duration::from_millis(500));
    DecisionServiceClient::new(who.clone()).evaluate(request).await.ok().map(tonic::Response::into_inner)
}

/// The new enemy: access is removed, data are added, and whoever asks at the revision of the data must not be let in by a replica that
/// has not heard of the removal, though its view is young enough to decide.
#[tokio::test(flavor = "multi_thread")]
async fn access_that_was_removed_before_data_were_added_does_not_show_them() {
    let mut two = Two::replicas().await;
    let begin = Instant::now();
    let mut round = 0;
    let mut restored = two.parties.revision;
    loop {
        round += 1;
        two.allowed_by(&two.second, restored).await;
        two.line.hold();
        let removed = two.remove_access().await;
        let added = two.add_data(round).await;
        assert!(added > removed);
        // Whoever hears says so at once; whoever does not lets nobody in.
        let first = ask(&two.parties.backend, at_least(two.read(), added)).await;
        assert_eq!(word(&first), "NOT_PERMITTED");
        assert!(first.revision >= added);
        let second = soon(&two.second, at_least(two.read(), added)).await;
        if let Some(second) = &second {
            assert!(["REVISION_NOT_REACHED", "STALE"].contains(&word(second)), "{second:?}");
        }
        // Without the revision it is let in still: so it was the revision that kept it out, and not that nothing was at stake.
        let old = soon(&two.second, two.read()).await;
        let was_at_stake = second.is_some_and(|said| said.reason_code == "REVISION_NOT_REACHED")
            && old.is_some_and(|said| said.reason_code == "ALLOWED" && said.revision < removed);
        two.line.mend();
        // Once it hears again it says the same as the other.
        let again = Instant::now();
        loop {
            match word(&ask(&two.second, at_least(two.read(), added)).await) {
                "NOT_PERMITTED" => break,
                other => assert!(
                    ["STALE", "REVISION_NOT_REACHED"].contains(&other) && again.elapsed() < PATIENCE,
                    "{other}: {}",
                    two.suite.told("policy-decision")
                ),
            }
        }
        if was_at_stake {
            break;
        }
        assert!(begin.elapsed() < 2 * PATIENCE, "in {round} rounds its view was never young enough to be at stake");
        restored = apply_example(two.suite.operator("registry")).await;
    }
    two.suite.stop();
}

/// A registry that is away without a word: no socket closes, no error comes, and nothing is allowed by a view past the bound.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_silent_is_noticed_by_the_age_of_what_it_said() {
    const BOUND: Duration = Duration::from_secs(5);
    let mut two = Two::replicas().await;
    two.allowed_by(&two.second, two.parties.revision).await;
    let begin = Instant::now();
    loop {
        two.line.hold();
        // Whatever the view holds was told before now.
        let held = Instant::now();
        let mut allowed = 0;
        loop {
            let asked = held.elapsed();
            let answer = ask(&two.second, two.read()).await;
            match word(&answer) {
                "ALLOWED" => {
                    assert!(asked <= BOUND, "allowed to who asked {asked:?} after the last word of the registry");
                    allowed += 1;
                }
                other => {
                    assert_eq!(other, "STALE");
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The other one hears, and what is taken away meanwhile is not given back when the line is mended.
        let removed = two.remove_access().await;
        assert_eq!(word(&ask(&two.parties.backend, at_least(two.read(), removed)).await), "NOT_PERMITTED");
        assert_eq!(word(&ask(&two.second, two.read()).await), "STALE");
        two.line.mend();
        let again = Instant::now();
        loop {
            match word(&ask(&two.second, two.read()).await) {
                "NOT_PERMITTED" => break,
                other => assert!(other == "STALE" && again.elapsed() < PATIENCE, "{other}"),
            }
        }
        let restored = apply_example(two.suite.operator("registry")).await;
        two.allowed_by(&two.second, restored).await;
        // On a slow machine the view may have been old before the line was held: then this round showed nothing.
        if allowed > 0 {
            break;
        }
        assert!(begin.elapsed() < 2 * PATIENCE, "it was never allowed while the line was held");
    }
    two.suite.stop();
}
