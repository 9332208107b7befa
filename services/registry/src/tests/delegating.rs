//! Agents that let others act for them: for no more than they have or were given to pass on, and taken back whole.

use std::sync::Arc;

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_ids::{Principal, SpiffeId};
use legate_mtls::Peer;
use legate_rpc::Fault;
use legate_view::CERTIFICATE_BACKDATE;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Declaration, DelegationGrant, DelegationGrantSpec, EndDelegationRequest, EndDelegationResponse,
    GrantDelegationRequest, GrantDelegationResponse, ListOwnDelegationsResponse,
};

use super::scene::*;
use crate::flow::{Calling, delegate};
use crate::schema::Migrator;

fn wish(name: &str) -> GrantDelegationRequest {
    GrantDelegationRequest {
        name: name.into(),
        delegate: "helper".into(),
        permissions: vec![permission("invoice:read")],
        purpose: "counts invoices".into(),
        ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        reason: "a part of the work".into(),
        ..GrantDelegationRequest::default()
    }
}

fn changed(change: impl FnOnce(&mut GrantDelegationRequest)) -> GrantDelegationRequest {
    let mut ask = wish("more");
    change(&mut ask);
    ask
}

fn spec(grant: &DelegationGrant) -> DelegationGrantSpec {
    grant.spec.clone().unwrap()
}

impl Scene {
    async fn calling(&self, name: &str) -> Calling {
        let id = SpiffeId::parse(&self.agent(name).await.status.unwrap().spiffe_id).unwrap();
        let mut peer = Peer::anonymous("127.0.0.1:1".parse().unwrap());
        peer.principal = Some(Principal::of(&id).unwrap());
        peer.spiffe_id = Some(id);
        peer.not_before = self.clock.now().minus(CERTIFICATE_BACKDATE);
        Calling::read(Arc::new(peer)).unwrap()
    }

    async fn delegate(&self, who: &str, ask: GrantDelegationRequest) -> Result<GrantDelegationResponse, Fault> {
        let call = self.call("spiffe://example.org/the-agent", &ask.reason, &ask, &ask.request_id);
        delegate::grant(&self.desk, call, self.calling(who).await, ask).await
    }

    async fn end_delegation(&self, who: &str, name: &str) -> Result<EndDelegationResponse, Fault> {
        let ask = EndDelegationRequest { name: name.into(), ..EndDelegationRequest::default() };
        let call = self.call("spiffe://example.org/the-agent", "over", &ask, "");
        delegate::end(&self.desk, call, self.calling(who).await, ask).await
    }

    async fn delegations(&self, who: &str) -> (Vec<String>, Vec<String>) {
        let ListOwnDelegationsResponse { given, received, .. } =
            delegate::list(&self.desk, self.calling(who).await).await.unwrap();
        let names = |all: Vec<DelegationGrant>| all.into_iter().map(|one| one.metadata.unwrap().name).collect();
        (names(given), names(received))
    }

    /// Everything of the payments, with two more agents; what `invoice-bot` may is what its class and bindings say.
    async fn delegating(&self) {
        let mut all = payments();
        all.extend(["helper", "another"].map(|name| agent(name, "worker")));
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let of_ada = DelegationGrantSpec {
            delegator: "user:ada@example.com".into(),
            delegate: "invoice-bot".into(),
            permissions: vec![permission("ledger:*")],
            purpose: "closes the month".into(),
            not_after: at(NOW + 3_600),
            may_redelegate: true,
            max_depth: 2,
            ..DelegationGrantSpec::default()
        };
        all.push(Declaration {
            object: Some(Object::DelegationGrant(DelegationGrant { metadata: metadata("of-ada"), spec: Some(of_ada) })),
        });
        self.apply(all).await.unwrap();
    }
}

#[tokio::test]
async fn an_agent_delegates_a_part_of_what_it_has() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.delegating().await;
        let made = scene.delegate("invoice-bot", wish("reads")).await.unwrap();
        let grant = made.grant.unwrap();
        assert_eq!((spec(&grant).delegator.as_str(), spec(&grant).delegate.as_str()), ("agent:invoice-bot", "helper"));
        assert_eq!(spec(&grant).not_after.unwrap().seconds, NOW + 600);
        assert_eq!((spec(&grant).may_redelegate, spec(&grant).max_depth), (false, 0));
        assert_eq!(grant.metadata.unwrap().created_by, "spiffe://example.org/the-agent");
        let events = scene.events().await;
        assert_eq!(events.last().unwrap().r#type, "delegation_grant.delegated");
        assert_eq!(scene.delegations("invoice-bot").await, (vec!["reads".into()], vec!["of-ada".into()]));
        assert_eq!(scene.delegations("helper").await, (vec![], vec!["reads".into()]));
        assert_eq!(scene.delegations("another").await, (vec![], vec![]));
    })
    .await;
}

#[tokio::test]
async fn an_agent_delegates_nothing_that_it_has_not() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.delegating().await;
        scene.delegate("invoice-bot", wish("reads")).await.unwrap();
        type Change = fn(&mut GrantDelegationRequest);
        let refused: [(&str, Change); 10] = [
            ("DELEGATION_TOO_WIDE", |ask| ask.permissions = vec![permission("invoice:*")]),
            ("DELEGATION_TOO_WIDE", |ask| ask.permissions.push(permission("admin"))),
            // What it may only for another it passes on by naming that grant.
            ("DELEGATION_TOO_WIDE", |ask| ask.permissions = vec![permission("ledger:read")]),
            ("GRANT_EXCEEDS_PARENT", |ask| ask.parent = "of-ada".into()),
            ("GRANT_EXCEEDS_PARENT", |ask| {
                (ask.parent, ask.permissions, ask.max_depth) = ("of-ada".into(), vec![permission("ledger:read")], 2);
            }),
            ("GRANT_EXISTS", |ask| ask.name = "reads".into()),
            ("INVALID_ARGUMENT", |ask| ask.ttl = None),
            ("INVALID_ARGUMENT", |ask| ask.ttl = Some(prost_types::Duration { seconds: 59, nanos: 0 })),
            ("INVALID_ARGUMENT", |ask| ask.delegate = "invoice-bot".into()),
            ("INVALID_ARGUMENT", |ask| ask.permissions.clear()),
        ];
        for (n, (expected, change)) in refused.into_iter().enumerate() {
            let fault = scene.delegate("invoice-bot", changed(change)).await.unwrap_err();
            assert_eq!(reason(&fault), expected, "{n}: {fault}");
        }
        // One that has nothing has nothing to give.
        let ask = changed(|ask| ask.delegate = "another".into());
        assert_eq!(reason(&scene.delegate("helper", ask).await.unwrap_err()), "DELEGATION_TOO_WIDE");
        scene.suspend("invoice-bot").await;
        let fault = scene.delegate("invoice-bot", wish("late")).await.unwrap_err();
        assert_eq!(reason(&fault), "CALLER_NOT_ACTIVE");
    })
    .await;
}

#[tokio::test]
async fn what_was_given_to_pass_on_is_passed_on_and_taken_back_whole() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.delegating().await;
        let pass = |name: &str, to: &str, parent: &str, depth| {
            changed(|ask| {
                (ask.name, ask.delegate, ask.parent) = (name.into(), to.into(), parent.into());
                (ask.permissions, ask.max_depth) = (vec![permission("ledger:read")], depth);
            })
        };
        scene.delegate("invoice-bot", pass("to-helper", "helper", "of-ada", 1)).await.unwrap();
        scene.delegate("helper", pass("to-another", "another", "to-helper", 0)).await.unwrap();
        // Another's grant is nobody's to pass on, and nobody's to end.
        let fault = scene.delegate("another", pass("stolen", "invoice-bot", "to-helper", 0)).await.unwrap_err();
        assert_eq!(reason(&fault), "GRANT_EXCEEDS_PARENT");
        for (who, name) in
            [("another", "to-another"), ("helper", "to-helper"), ("invoice-bot", "of-ada"), ("helper", "x")]
        {
            assert_eq!(reason(&scene.end_delegation(who, name).await.unwrap_err()), "NOT_ITS_GRANT", "{who} {name}");
        }
        let ended = scene.end_delegation("invoice-bot", "to-helper").await.unwrap();
        assert_eq!((ended.passed_on, ended.grant.unwrap().metadata.unwrap().name.as_str()), (1, "to-helper"));
        assert_eq!(scene.delegations("helper").await, (vec![], vec![]));
        assert_eq!(scene.delegations("another").await, (vec![], vec![]));
        assert_eq!(reason(&scene.end_delegation("invoice-bot", "to-helper").await.unwrap_err()), "NOT_ITS_GRANT");
    })
    .await;
}
