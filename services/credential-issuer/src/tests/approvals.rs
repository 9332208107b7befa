//! CIBA: a client asks, polls no faster than it may, and gets its token once, or learns that there will be none.

use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_db::testing::on_each;
use legate_ids::Action;
use legate_rpc::Fault;
use legate_token::Confirmation;
use legate_wire::policy::AuthorizeIssuanceResponse;
use legate_wire::registry::{ApprovalState, ApprovalStatus, TokenBinding};
use tonic::Status;

use super::clients::ALL;
use super::registry::{AUDIENCE, agent_id};
use super::scene::{START, Scene, reason, wish, yes};
use crate::domain::token::Wish;
use crate::flow::backchannel::{Asked, Request, ask, redeem};
use crate::flow::forget;
use crate::flow::issue_token::{Asking, IssuedToken};
use crate::schema::Migrator;

fn pay() -> Wish {
    Wish { actions: [Action::parse("invoice:pay").unwrap()].into_iter().collect(), ..wish() }
}

/// Two clients with secrets.
struct Clients {
    scene: Scene,
    secrets: [String; 2],
}

impl Clients {
    async fn on(fixture: &legate_db::testing::Fixture) -> Self {
        let scene = Scene::on(fixture).await;
        scene.methods(ALL, TokenBinding::Optional).await;
        super::clients::key_is_known(&scene).await;
        scene.approvers.ends.store(START + 900, Ordering::SeqCst);
        scene.approvers.status.lock().unwrap().state = ApprovalState::Pending.into();
        let secrets = [scene.secret(1, false).await.unwrap().0, scene.secret(2, false).await.unwrap().0];
        Self { scene, secrets }
    }

    async fn asking(&self, n: u8) -> Asking {
        let client = self.scene.show_secret(n, &self.secrets[usize::from(n) - 1]).await.unwrap();
        Asking::of(client, Confirmation::Bearer)
    }

    async fn ask(&self, wish: Wish) -> Result<Asked, Fault> {
        let request = Request { wish, binding_message: "run 7".into(), patience: Some(Duration::from_secs(900)) };
        ask(&self.scene.desk, &self.scene.stranger(), &self.asking(1).await.holder, request).await
    }

    async fn poll(&self, n: u8, request: &str) -> Result<IssuedToken, Fault> {
        redeem(&self.scene.desk, &self.scene.stranger(), self.asking(n).await, request).await
    }

    fn is(&self, state: ApprovalState) {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let (not_before, not_after) = (at(START), at(START + 60));
        *self.scene.approvers.status.lock().unwrap() =
            ApprovalStatus { state: state.into(), not_before, not_after, ..ApprovalStatus::default() };
    }
}

#[tokio::test]
async fn a_client_waits_polls_and_gets_its_token_once() {
    on_each::<Migrator>(async |fixture| {
        let clients = Clients::on(&fixture).await;
        let scene = &clients.scene;
        let asked = clients.ask(pay()).await.unwrap();
        assert_eq!((asked.expires_in, asked.interval, asked.auth_req_id.len()), (900, 5, 64));
        let told = scene.approvers.asked.lock().unwrap()[0].clone();
        let wanted = told.ask.unwrap();
        assert_eq!(told.agent_id, agent_id(1).as_str());
        assert_eq!((wanted.audience.as_str(), wanted.binding_message.as_str()), (AUDIENCE, "run 7"));
        assert_eq!((wanted.permissions[0].action.as_str(), wanted.patience.unwrap().seconds), ("invoice:pay", 900));

        let id = asked.auth_req_id.as_str();
        assert_eq!(reason(clients.poll(1, id).await), "AUTHORIZATION_PENDING");
        // Too early; from now on it waits longer, and the registry is not asked meanwhile.
        scene.pass(Duration::from_secs(4)).await;
        assert_eq!(reason(clients.poll(1, id).await), "SLOW_DOWN");
        scene.pass(Duration::from_secs(9)).await;
        assert_eq!(reason(clients.poll(1, id).await), "SLOW_DOWN");
        assert_eq!(scene.approvers.looked.load(Ordering::SeqCst), 1);
        scene.pass(Duration::from_secs(15)).await;
        assert_eq!(reason(clients.poll(1, id).await), "AUTHORIZATION_PENDING");
        // Nobody else's, and nobody's.
        for (who, request) in [(2, id), (1, "x"), (1, "")] {
            assert_eq!(reason(clients.poll(who, request).await), "AUTH_REQ_UNKNOWN");
        }
        clients.is(ApprovalState::Approved);
        *scene.says.0.lock().unwrap() = Box::new(|ask| {
            assert!(ask.at_least_revision >= 900, "decided with what was approved");
            Ok(yes(ask))
        });
        scene.pass(Duration::from_secs(15)).await;
        let issued = clients.poll(1, id).await.unwrap();
        assert_eq!(issued.scope.to_string(), "invoice:pay");
        assert_eq!(issued.expires.secs(), START + 60, "it ends with what was approved");
        scene.pass(Duration::from_secs(15)).await;
        assert_eq!(reason(clients.poll(1, id).await), "AUTH_REQ_UNKNOWN");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_approved_gives_no_token_and_says_why() {
    on_each::<Migrator>(async |fixture| {
        let clients = Clients::on(&fixture).await;
        for (state, expected) in [
            (ApprovalState::Denied, "APPROVAL_DENIED"),
            (ApprovalState::Cancelled, "APPROVAL_DENIED"),
            (ApprovalState::Revoked, "APPROVAL_DENIED"),
            (ApprovalState::Expired, "APPROVAL_EXPIRED"),
            (ApprovalState::Ended, "APPROVAL_EXPIRED"),
        ] {
            let asked = clients.ask(pay()).await.unwrap();
            clients.is(state);
            assert_eq!(reason(clients.poll(1, &asked.auth_req_id).await), expected);
        }
        let elsewhere = Wish { audience: "https://elsewhere.example".into(), ..pay() };
        assert_eq!(reason(clients.ask(elsewhere).await), "INVALID_TARGET");
        let refused = |status: Status| *clients.scene.approvers.refuses.lock().unwrap() = Some(status);
        refused(Status::unavailable("gone"));
        assert_eq!(reason(clients.ask(pay()).await), "REGISTRY_UNAVAILABLE");
        refused(Status::failed_precondition("no"));
        assert_eq!(reason(clients.ask(pay()).await), "APPROVAL_REFUSED");
    })
    .await;
}

#[tokio::test]
async fn what_could_not_be_issued_can_be_asked_for_again_and_what_is_over_is_forgotten() {
    on_each::<Migrator>(async |fixture| {
        let clients = Clients::on(&fixture).await;
        let scene = &clients.scene;
        let asked = clients.ask(pay()).await.unwrap();
        clients.is(ApprovalState::Approved);
        *scene.says.0.lock().unwrap() = Box::new(|_| Err(Status::unavailable("gone")));
        assert_eq!(reason(clients.poll(1, &asked.auth_req_id).await), "ISSUANCE_UNDECIDED");
        // What it rests on may have been taken back just now: then it is refused for good.
        *scene.says.0.lock().unwrap() = Box::new(|_| {
            let reason_code = "APPROVAL_REQUIRED".into();
            Ok(AuthorizeIssuanceResponse { reason_code, ..AuthorizeIssuanceResponse::default() })
        });
        scene.pass(Duration::from_secs(5)).await;
        assert_eq!(reason(clients.poll(1, &asked.auth_req_id).await), "APPROVAL_REQUIRED");
        scene.pass(Duration::from_secs(5)).await;
        assert_eq!(reason(clients.poll(1, &asked.auth_req_id).await), "AUTH_REQ_UNKNOWN");

        let asked = clients.ask(pay()).await.unwrap();
        forget::forget(&scene.desk).await.unwrap();
        assert_eq!(reason(clients.poll(1, &asked.auth_req_id).await), "APPROVAL_REQUIRED");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_repeated_leaves_so_many_rows_and_no_more() {
    on_each::<Migrator>(async |fixture| {
        let clients = Clients::on(&fixture).await;
        let mut last = String::new();
        for _ in 0..32 {
            last = clients.ask(pay()).await.unwrap().auth_req_id;
        }
        assert_eq!(reason(clients.ask(pay()).await), "TOO_MANY_APPROVALS");
        assert_eq!(reason(clients.poll(1, &last).await), "AUTHORIZATION_PENDING");
        // Another request is another matter.
        clients.scene.approvers.ends.store(START + 901, Ordering::SeqCst);
        clients.ask(pay()).await.unwrap();
    })
    .await;
}
