//! Step-up: an agent asks, one person decides, and it ends by decision, by time, or with the agent.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_ids::{AgentId, ApprovalId, Principal, SpiffeId};
use legate_mtls::Peer;
use legate_rpc::Fault;
use legate_view::CERTIFICATE_BACKDATE;
use legate_wire::registry::revoke_issued_request::Level;
use legate_wire::registry::{
    Agent, Approval, ApprovalChannel, ApprovalState, GrantApprovalResponse, Kind, ListApprovalsRequest, NamespaceSpec,
    ObjectName, OperatorRole, RequestApprovalRequest, ResourceSelector,
};

mod several;

use super::faults::{BOTH, survives};
use super::operators::given;
use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::flow::decide_approval::{self, Verdict, Which};
use crate::flow::request_approval::{self, Asker};
use crate::flow::transition::Step;
use crate::flow::{Calling, approvals, revoke, sweep};
use crate::schema::Migrator;

const AGENT: &str = "spiffe://example.org/the-agent";
const HOLDS: &str = "@approval(\"payments\") forbid(principal, action == Action::\"invoice:pay\", resource);";

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn wish() -> RequestApprovalRequest {
    let mut one = permission("invoice:pay");
    one.resource = Some(ResourceSelector { r#type: "Invoice".into(), id: "apollo/7".into(), ..Default::default() });
    RequestApprovalRequest {
        permissions: vec![one],
        purpose: "pays what is due".into(),
        reason: "the last day".into(),
        ..RequestApprovalRequest::default()
    }
}

fn changed(change: impl FnOnce(&mut RequestApprovalRequest)) -> RequestApprovalRequest {
    let mut ask = wish();
    change(&mut ask);
    ask
}

/// A request that is no other's.
fn numbered(n: usize) -> RequestApprovalRequest {
    changed(|ask| ask.binding_message = format!("run {n}"))
}

fn id(approval: &Approval) -> ApprovalId {
    ApprovalId::parse(&approval.metadata.as_ref().unwrap().id).unwrap()
}

fn state(approval: &Approval) -> ApprovalState {
    approval.status.as_ref().unwrap().state()
}

impl Scene {
    async fn asker(&self, name: &str) -> Asker {
        let id = SpiffeId::parse(&self.agent(name).await.status.unwrap().spiffe_id).unwrap();
        let mut peer = Peer::anonymous("127.0.0.1:1".parse().unwrap());
        peer.principal = Some(Principal::of(&id).unwrap());
        peer.spiffe_id = Some(id);
        peer.not_before = self.clock.now().minus(CERTIFICATE_BACKDATE);
        Asker::Calling(Calling::read(Arc::new(peer)).unwrap())
    }

    async fn ask_for(&self, who: &str, ask: RequestApprovalRequest) -> Result<Approval, Fault> {
        let call = self.call(AGENT, &ask.reason, &ask, &ask.request_id);
        let answer = request_approval::ask(&self.desk, call, self.asker(who).await, ask).await?;
        Ok(answer.approval.unwrap())
    }

    async fn own(&self, who: &str, id: &ApprovalId) -> Result<Approval, Fault> {
        let found = request_approval::get(&self.desk, self.asker(who).await, id.clone()).await?;
        Ok(found.approval.unwrap())
    }

    async fn decide(&self, actor: &str, id: &ApprovalId, etag: &str, verdict: Verdict) -> Result<Approval, Fault> {
        let call = self.call(actor, "looked at it", &(), "");
        let answer = |approval, revision| GrantApprovalResponse { approval: Some(approval), revision };
        let which = Which { id: id.clone(), etag: etag.into() };
        Ok(decide_approval::decide(&self.desk, call, which, verdict, answer).await?.approval.unwrap())
    }

    async fn approve(&self, actor: &str, id: &ApprovalId) -> Result<Approval, Fault> {
        self.decide(actor, id, "", Verdict::Approve(None)).await
    }

    async fn approvals_listed(&self, actor: &str, ask: ListApprovalsRequest) -> Result<Vec<String>, Fault> {
        let found = approvals::list(&self.desk, &by(actor, ""), ask).await?;
        Ok(found.approvals.into_iter().map(|one| one.metadata.unwrap().id).collect())
    }

    /// Everything of the payments, with another agent, a policy that holds payments back, and editors and approvers.
    async fn approving(&self) {
        let mut all = payments();
        all.push(agent("helper", "worker"));
        all.push(policy("four-eyes", HOLDS));
        all.push(namespace("sales"));
        all.push(given("admins", "", &["ada", "grace"], OperatorRole::Admin));
        all.push(given("approvers", "payments", &["paula"], OperatorRole::Approver));
        all.push(given("editors", "payments", &["eve"], OperatorRole::Editor));
        all.push(given("elsewhere", "sales", &["sam"], OperatorRole::Approver));
        self.apply(all).await.unwrap();
    }
}

fn operator(name: &str) -> String {
    format!("spiffe://example.org/legate/operator/{name}")
}

#[tokio::test]
async fn an_agent_asks_somebody_approves_and_its_time_ends() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let asked = scene.ask_for("invoice-bot", changed(|ask| ask.duration = seconds(600))).await.unwrap();
        let spec = asked.spec.clone().unwrap();
        assert_eq!(
            (state(&asked), spec.agent.as_str(), spec.channel()),
            (ApprovalState::Pending, "invoice-bot", ApprovalChannel::Grpc)
        );
        assert_eq!(spec.expire_time.unwrap().seconds, NOW + 900);
        let held: Vec<_> =
            spec.policies.iter().map(|one| (one.name.as_str(), one.version, one.texts.clone())).collect();
        assert_eq!(held, [("four-eyes", 1, vec!["payments".to_owned()])]);
        let id = id(&asked);
        assert_eq!(asked.metadata.as_ref().unwrap().name, id.as_str().replace('_', "-"));
        scene.clock.advance(Duration::from_secs(60));
        let approved = scene.approve(&operator("paula"), &id).await.unwrap();
        let status = approved.status.clone().unwrap();
        assert_eq!((status.not_before.unwrap().seconds, status.not_after.unwrap().seconds), (NOW + 60, NOW + 660));
        assert_eq!((status.decided_by, status.decide_reason.as_str()), (operator("paula"), "looked at it"));
        assert_eq!(scene.own("invoice-bot", &id).await.unwrap(), approved);
        // By the clock at once, for good with the sweep.
        scene.clock.advance(Duration::from_secs(600));
        assert_eq!(state(&scene.own("invoice-bot", &id).await.unwrap()), ApprovalState::Ended);
        assert_eq!(
            reason(&scene.decide(&operator("paula"), &id, "", Verdict::Revoke).await.unwrap_err()),
            "APPROVAL_DECIDED"
        );
        assert_eq!(sweep::sweep(&scene.desk).await.unwrap(), 1);
        let ended = scene.own("invoice-bot", &id).await.unwrap();
        assert_eq!(
            (state(&ended), ended.status.unwrap().end_reason.as_str()),
            (ApprovalState::Ended, "its time is over")
        );
        let kinds: Vec<_> = scene.kinds().await.into_iter().filter(|kind| kind.starts_with("approval.")).collect();
        assert_eq!(kinds, ["approval.requested", "approval.approved", "approval.ended"]);
        let events = scene.events().await;
        let event = events.iter().find(|event| event.r#type == "approval.approved").unwrap();
        let said = |name: &str| event.details.get(name).map(String::as_str).unwrap_or_default();
        assert_eq!(said("asked"), "invoice:pay on Invoice:apollo/7");
        assert_eq!((said("policies"), said("approver")), ("four-eyes@1", operator("paula").as_str()));
        assert_eq!(event.agent_id, scene.agent("invoice-bot").await.metadata.unwrap().id);
    })
    .await;
}

#[tokio::test]
async fn exactly_one_decision_wins() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let paula = operator("paula");
        for first in [Verdict::Approve(None), Verdict::Deny] {
            let asked = scene.ask_for("invoice-bot", wish()).await.unwrap();
            let (id, etag) = (id(&asked), asked.metadata.unwrap().etag);
            let stale = scene.decide(&paula, &id, "0-1", first).await.unwrap_err();
            assert_eq!(reason(&stale), "ETAG_MISMATCH");
            scene.decide(&paula, &id, &etag, first).await.unwrap();
            for second in [Verdict::Approve(None), Verdict::Deny] {
                assert_eq!(reason(&scene.decide(&paula, &id, "", second).await.unwrap_err()), "APPROVAL_DECIDED");
            }
        }
        // All at once.
        let id = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        let decide = |verdict| scene.decide(&paula, &id, "", verdict);
        let (a, b, c) =
            tokio::join!(decide(Verdict::Approve(None)), decide(Verdict::Deny), decide(Verdict::Approve(None)));
        assert_eq!([a, b, c].into_iter().filter(Result::is_ok).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn nobody_decides_who_may_not_and_nobody_for_himself() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let id = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        // Ada declared the agent, whatever her roles are.
        assert_eq!(reason(&scene.approve(OPERATOR, &id).await.unwrap_err()), "SELF_APPROVAL");
        for (who, expected) in [
            ("eve", "OPERATOR_NOT_PERMITTED"),
            // To those who may not see it, it is not there.
            ("sam", "APPROVAL_NOT_FOUND"),
            ("nobody", "APPROVAL_NOT_FOUND"),
        ] {
            for verdict in [Verdict::Approve(None), Verdict::Deny] {
                let fault = scene.decide(&operator(who), &id, "", verdict).await.unwrap_err();
                assert_eq!(reason(&fault), expected, "{who} {verdict:?}");
            }
        }
        let without = scene.call(&operator("paula"), "", &(), "");
        let answer = |approval, revision| GrantApprovalResponse { approval: Some(approval), revision };
        let which = Which { id: id.clone(), etag: String::new() };
        let fault = decide_approval::decide(&scene.desk, without, which, Verdict::Deny, answer).await.unwrap_err();
        assert_eq!(reason(&fault), "INVALID_ARGUMENT", "a decision has a reason");
        // Paula changes the agent; from then on it is her work too.
        scene.apply(vec![given("paula-edits", "payments", &["paula"], OperatorRole::Admin)]).await.unwrap();
        let mut spec = agent_spec("worker");
        spec.purpose = "pays invoices".into();
        scene.apply_as(&operator("paula"), vec![agent_with("invoice-bot", spec)], "", 0).await.unwrap();
        assert_eq!(reason(&scene.approve(&operator("paula"), &id).await.unwrap_err()), "SELF_APPROVAL");
        assert_eq!(state(&scene.approve(OTHER, &id).await.unwrap()), ApprovalState::Approved);
        // An editor cannot approve and can stop.
        let fault = scene.decide(&operator("sam"), &id, "", Verdict::Revoke).await.unwrap_err();
        assert_eq!(reason(&fault), "APPROVAL_NOT_FOUND");
        let revoked = scene.decide(&operator("eve"), &id, "", Verdict::Revoke).await.unwrap();
        assert_eq!(state(&revoked), ApprovalState::Revoked);
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_asked_is_refused() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        type Change = fn(&mut RequestApprovalRequest);
        let refused: [(&str, Change); 17] = [
            ("APPROVAL_NOT_NEEDED", |ask| ask.permissions = vec![permission("invoice:read")]),
            ("APPROVAL_NOT_NEEDED", |ask| ask.permissions.push(permission("invoice:read"))),
            ("INVALID_ARGUMENT", |ask| ask.permissions.clear()),
            ("INVALID_ARGUMENT", |ask| ask.permissions = vec![permission("invoice:*")]),
            ("INVALID_ARGUMENT", |ask| ask.permissions = vec![permission("*")]),
            ("INVALID_ARGUMENT", |ask| ask.permissions = vec![permission("invoice:pay"); 17]),
            ("INVALID_ARGUMENT", |ask| ask.permissions[0].resource = None),
            ("INVALID_ARGUMENT", |ask| ask.audience = "https://nobody.example.com".into()),
            ("INVALID_ARGUMENT", |ask| ask.purpose.clear()),
            ("INVALID_ARGUMENT", |ask| ask.reason.clear()),
            ("INVALID_ARGUMENT", |ask| ask.purpose = "x".repeat(1_025)),
            ("INVALID_ARGUMENT", |ask| ask.binding_message = "x".repeat(201)),
            ("INVALID_ARGUMENT", |ask| ask.binding_message = "\u{1b}[2Jall is well".into()),
            ("INVALID_ARGUMENT", |ask| ask.duration = seconds(59)),
            // The namespace says nothing, so an hour.
            ("INVALID_ARGUMENT", |ask| ask.duration = seconds(3_601)),
            ("INVALID_ARGUMENT", |ask| ask.patience = seconds(29)),
            ("INVALID_ARGUMENT", |ask| ask.patience = seconds(86_401)),
        ];
        for (n, (expected, change)) in refused.into_iter().enumerate() {
            let fault = scene.ask_for("invoice-bot", changed(change)).await.unwrap_err();
            assert_eq!(reason(&fault), expected, "{n}: {fault}");
        }
        // What another agent asked for is not there, nor what nobody did.
        let id = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        let never = ApprovalId::from_parts(1, [1; 10]);
        for (who, which) in [("helper", &id), ("invoice-bot", &never)] {
            assert_eq!(reason(&scene.own(who, which).await.unwrap_err()), "APPROVAL_NOT_FOUND");
            let call = scene.call(AGENT, "over", &(), "");
            let fault = request_approval::cancel(&scene.desk, call, scene.asker(who).await, which.clone()).await;
            assert_eq!(reason(&fault.unwrap_err()), "APPROVAL_NOT_FOUND");
        }
        // It is no declaration.
        let all = ListApprovalsRequest::default();
        assert_eq!(scene.approvals_listed(&operator("paula"), all).await.unwrap(), [id.as_str()]);
        let key = crate::domain::kind::Key::new(Kind::Approval, "payments", &id.as_str().replace('_', "-"));
        let call = scene.call(OPERATOR, "by hand", &(), "");
        let fault = revoke::revoke(&scene.desk, call, key.clone(), String::new()).await.unwrap_err();
        assert_eq!(reason(&fault), "KIND_NOT_APPLICABLE");
        let gone = ObjectName { kind: Kind::Approval.into(), namespace: key.namespace, name: key.name };
        assert_eq!(reason(&scene.exchange("by hand", vec![], vec![gone]).await.unwrap_err()), "KIND_NOT_APPLICABLE");
    })
    .await;
}

#[tokio::test]
async fn a_repetition_is_the_same_request_and_there_are_bounds() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let first = scene.ask_for("invoice-bot", wish()).await.unwrap();
        assert_eq!(scene.ask_for("invoice-bot", wish()).await.unwrap(), first);
        for n in 1..8 {
            assert_ne!(scene.ask_for("invoice-bot", numbered(n)).await.unwrap(), first);
        }
        assert_eq!(reason(&scene.ask_for("invoice-bot", numbered(8)).await.unwrap_err()), "TOO_MANY_APPROVALS");
        scene.ask_for("helper", wish()).await.unwrap();
        let call = scene.call(AGENT, "over", &(), "");
        let asker = scene.asker("invoice-bot").await;
        let cancelled = request_approval::cancel(&scene.desk, call, asker.clone(), id(&first)).await.unwrap();
        assert_eq!(state(&cancelled.approval.unwrap()), ApprovalState::Cancelled);
        // Over and over: each leaves a row, so there are not more than so many in a minute.
        let mut made = 8;
        loop {
            match scene.ask_for("invoice-bot", numbered(made)).await {
                Ok(one) => {
                    made += 1;
                    let call = scene.call(AGENT, "over", &(), "");
                    request_approval::cancel(&scene.desk, call, asker.clone(), id(&one)).await.unwrap();
                }
                Err(fault) => break assert_eq!(reason(&fault), "TOO_MANY_APPROVALS"),
            }
        }
        assert_eq!(made, 32);
        scene.clock.advance(Duration::from_secs(60));
        scene.ask_for("invoice-bot", numbered(made)).await.unwrap();
        let own = request_approval::list(&scene.desk, asker).await.unwrap().approvals;
        assert_eq!(own.len(), 8);
    })
    .await;
}

#[tokio::test]
async fn a_request_waits_so_long_and_no_longer() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let id = id(&scene.ask_for("invoice-bot", changed(|ask| ask.patience = seconds(30))).await.unwrap());
        scene.clock.advance(Duration::from_secs(30));
        // Before the sweep comes by.
        assert_eq!(reason(&scene.approve(&operator("paula"), &id).await.unwrap_err()), "APPROVAL_DECIDED");
        assert_eq!(state(&scene.own("invoice-bot", &id).await.unwrap()), ApprovalState::Expired);
        assert_eq!(
            scene.approvals_listed(OPERATOR, ListApprovalsRequest::default()).await.unwrap(),
            Vec::<String>::new()
        );
        sweep::sweep(&scene.desk).await.unwrap();
        assert_eq!(scene.kinds().await.last().unwrap(), "approval.expired");
        let all = ListApprovalsRequest { states: vec![ApprovalState::Expired.into()], ..Default::default() };
        assert_eq!(scene.approvals_listed(OPERATOR, all).await.unwrap(), [id.as_str()]);
        // Asked again it is another.
        assert_ne!(self::id(&scene.ask_for("invoice-bot", wish()).await.unwrap()), id);
    })
    .await;
}

#[tokio::test]
async fn what_changed_since_is_not_approved() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let paula = operator("paula");
        let outdated = async |id: &ApprovalId, what: &str| {
            assert_eq!(reason(&scene.approve(&paula, id).await.unwrap_err()), "APPROVAL_OUTDATED", "{what}");
            scene.decide(&paula, id, "", Verdict::Deny).await.unwrap();
        };
        let asked = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        scene.apply(vec![policy("four-eyes", &format!("{HOLDS} // changed"))]).await.unwrap();
        outdated(&asked, "the policy was changed").await;
        let asked = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        scene.suspend("invoice-bot").await;
        outdated(&asked, "the agent is suspended").await;
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        scene.clock.advance(Duration::from_secs(6));
        let again = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        scene.suspend("invoice-bot").await;
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        scene.clock.advance(Duration::from_secs(6));
        outdated(&again, "the agent was suspended meanwhile").await;
        let cut = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        let level = Level::WholeNamespace(true);
        super::revoke_issued::ordered(&scene, "payments", level).await.unwrap();
        scene.clock.advance(Duration::from_secs(6));
        let anew = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        outdated(&cut, "everything that it had was taken back meanwhile").await;
        scene.approve(&paula, &anew).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_nobody_can_approve_any_more_is_asked_for_anew() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let paula = operator("paula");
        let asked = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        scene.apply(vec![policy("four-eyes", &format!("{HOLDS} // changed"))]).await.unwrap();
        let of_policy = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        assert_ne!(of_policy, asked, "nobody can approve it");
        assert_eq!(id(&scene.ask_for("invoice-bot", wish()).await.unwrap()), of_policy, "this one is good");
        // One more that holds it back: what was asked for before does not lift it.
        scene.apply(vec![policy("six-eyes", HOLDS)]).await.unwrap();
        let of_both = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        assert_ne!(of_both, of_policy);
        scene.suspend("invoice-bot").await;
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        scene.clock.advance(Duration::from_secs(6));
        let of_life = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        assert_ne!(of_life, of_both, "the agent was suspended meanwhile");
        assert_eq!(state(&scene.approve(&paula, &of_life).await.unwrap()), ApprovalState::Approved);
    })
    .await;
}

#[tokio::test]
async fn a_retired_agent_leaves_no_approval_behind() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let pending = id(&scene.ask_for("invoice-bot", wish()).await.unwrap());
        let given = id(&scene.ask_for("invoice-bot", numbered(1)).await.unwrap());
        scene.approve(&operator("paula"), &given).await.unwrap();
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap();
        for id in [&pending, &given] {
            let found = approvals::get(&scene.desk, &by(OPERATOR, ""), id.clone()).await.unwrap().approval.unwrap();
            assert_eq!(state(&found), ApprovalState::Revoked);
        }
        // Another of that name has nothing of it.
        scene.apply(vec![agent("invoice-bot", "worker")]).await.unwrap();
        assert_eq!(reason(&scene.own("invoice-bot", &given).await.unwrap_err()), "APPROVAL_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_relayed_request_is_judged_like_the_agents_own() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let Agent { metadata, status, .. } = scene.agent("invoice-bot").await;
        let asker = Asker::Relayed(AgentId::parse(&metadata.unwrap().id).unwrap());
        let relay = async |asker: Asker| {
            let call = scene.call("spiffe://example.org/legate/credential-issuer", "by CIBA", &wish(), "");
            request_approval::ask(&scene.desk, call, asker, wish()).await
        };
        let asked = relay(asker.clone()).await.unwrap().approval.unwrap();
        let spec = asked.spec.clone().unwrap();
        assert_eq!((spec.channel(), spec.requester), (ApprovalChannel::Ciba, status.unwrap().spiffe_id));
        let found = request_approval::get(&scene.desk, asker.clone(), id(&asked)).await.unwrap();
        assert_eq!(found.approval.unwrap(), asked);
        scene.suspend("invoice-bot").await;
        assert_eq!(reason(&relay(asker).await.unwrap_err()), "CALLER_NOT_ACTIVE");
        let unknown = Asker::Relayed(AgentId::from_parts(1, [1; 10]));
        assert_eq!(reason(&relay(unknown).await.unwrap_err()), "CALLER_UNKNOWN");
    })
    .await;
}

#[tokio::test]
async fn an_approver_gives_less_and_never_more_than_is_allowed_now() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let longest = |seconds| {
            let mut wanted = namespace("payments");
            let Some(legate_wire::registry::declaration::Object::Namespace(one)) = &mut wanted.object else {
                unreachable!()
            };
            one.spec =
                Some(NamespaceSpec { max_approval_duration: self::seconds(seconds), ..NamespaceSpec::default() });
            wanted
        };
        scene.apply(vec![longest(7_200)]).await.unwrap();
        let window = |approval: Approval| {
            let status = approval.status.unwrap();
            status.not_after.unwrap().seconds - status.not_before.unwrap().seconds
        };
        let paula = operator("paula");
        let one = id(&scene.ask_for("invoice-bot", numbered(1)).await.unwrap());
        let less = Verdict::Approve(Some(Duration::from_secs(90)));
        assert_eq!(window(scene.decide(&paula, &one, "", less).await.unwrap()), 90);
        let two = id(&scene.ask_for("invoice-bot", numbered(2)).await.unwrap());
        let more = Verdict::Approve(Some(Duration::from_secs(80_000)));
        assert_eq!(window(scene.decide(&paula, &two, "", more).await.unwrap()), 7_200);
        let three = id(&scene.ask_for("invoice-bot", numbered(3)).await.unwrap());
        scene.apply(vec![longest(300)]).await.unwrap();
        assert_eq!(window(scene.approve(&paula, &three).await.unwrap()), 300);
        for bad in [seconds(59), seconds(86_401), seconds(-1)] {
            assert_eq!(reason(&decide_approval::narrowed(bad).unwrap_err()), "INVALID_ARGUMENT");
        }
    })
    .await;
}

#[tokio::test]
async fn approvals_are_listed_by_pages_and_only_to_those_who_may_see_them() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let mut asked = Vec::new();
        for n in 0..5 {
            scene.clock.advance(Duration::from_millis(5));
            asked.push(id(&scene.ask_for("invoice-bot", numbered(n)).await.unwrap()).to_string());
        }
        asked.reverse();
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let ask = ListApprovalsRequest { page_size: 2, page_token, ..Default::default() };
            let page = approvals::list(&scene.desk, &by(&operator("paula"), ""), ask).await.unwrap();
            seen.extend(page.approvals.into_iter().map(|one| one.metadata.unwrap().id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, asked);
        assert_eq!(
            scene.approvals_listed(&operator("sam"), ListApprovalsRequest::default()).await.unwrap(),
            Vec::<String>::new()
        );
        let of = |agent_id: String| ListApprovalsRequest { agent_id, ..Default::default() };
        let helper = scene.agent("helper").await.metadata.unwrap().id;
        assert_eq!(scene.approvals_listed(OPERATOR, of(helper)).await.unwrap(), Vec::<String>::new());
        for bad in [
            of("helper".into()),
            ListApprovalsRequest { states: vec![99], ..Default::default() },
            ListApprovalsRequest { namespace: "../x".into(), ..Default::default() },
            ListApprovalsRequest { page_size: 1_001, ..Default::default() },
        ] {
            assert_eq!(reason(&scene.approvals_listed(OPERATOR, bad).await.unwrap_err()), "INVALID_ARGUMENT");
        }
        let foreign = ListApprovalsRequest { page_token: "00.00".into(), ..Default::default() };
        assert_eq!(reason(&scene.approvals_listed(OPERATOR, foreign).await.unwrap_err()), "PAGE_TOKEN_INVALID");
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_asks_for_an_approval_in_a_wrong_way_is_not_declared() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        for bad in [
            "@approval(\"x\") permit(principal, action, resource);",
            "@approval forbid(principal, action, resource);",
            "@approval(\" \") forbid(principal, action, resource);",
        ] {
            let fault = scene.apply(vec![policy("wrong", bad)]).await.unwrap_err();
            assert_eq!(reason(&fault), "POLICY_INVALID", "{bad}: {fault}");
        }
    })
    .await;
}

#[tokio::test]
async fn every_step_happens_once_or_not_at_all() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.approving().await;
        let paula = operator("paula");
        for (n, fault) in BOTH.into_iter().enumerate() {
            let ask = |what: usize| RequestApprovalRequest {
                request_id: format!("ask-{n}-{what}"),
                ..numbered(10 * n + what)
            };
            survives(&scene, "request_approval", fault, 1, async || scene.ask_for("invoice-bot", ask(0)).await).await;
            let asked = id(&scene.ask_for("invoice-bot", ask(0)).await.unwrap());
            let denied = id(&scene.ask_for("invoice-bot", ask(1)).await.unwrap());
            let cancelled = id(&scene.ask_for("invoice-bot", ask(2)).await.unwrap());
            for (name, which, verdict) in [
                ("grant_approval", &asked, Verdict::Approve(None)),
                ("revoke_approval", &asked, Verdict::Revoke),
                ("deny_approval", &denied, Verdict::Deny),
            ] {
                survives(&scene, name, fault, 1, async || {
                    let call = scene.call(&paula, "looked at it", &(), &format!("{name}-{n}"));
                    let answer = |approval, revision| GrantApprovalResponse { approval: Some(approval), revision };
                    let which = Which { id: which.clone(), etag: String::new() };
                    decide_approval::decide(&scene.desk, call, which, verdict, answer).await
                })
                .await;
            }
            survives(&scene, "cancel_approval", fault, 1, async || {
                let call = scene.call(AGENT, "over", &(), &format!("cancel-{n}"));
                request_approval::cancel(&scene.desk, call, scene.asker("invoice-bot").await, cancelled.clone()).await
            })
            .await;
        }
    })
    .await;
}
