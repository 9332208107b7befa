//! No chain of exchanges gives anything that is not in the intersection: whatever is asked of it, whatever each may and each grant lets
//! through, at the issuer and at the backend.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use legate_client::{Runtime, enrol};
use legate_clock::{Clock as _, SystemClock, Timestamp};
use legate_ids::{AgentId, Name, SpiffeId};
use legate_rpc::{Client, Told};
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::{EnforcementPointRef, ExchangeTokenRequest, IssueTokenRequest, TokenType};
use legate_wire::policy::{EvaluateRequest, Resource};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{AgentRef, GetAgentRequest, GetDeclarationRequest, Kind};
use serde_json::{Value, json};

use super::{apply, claims, shown};
use crate::asking::{ask, at_least, question, word};
use crate::raised::{Raised, id_of};

const ACTIONS: [&str; 3] = ["doc:read", "doc:list", "doc:write"];
const KINDS: [&str; 2] = ["Invoice", "Ledger"];
const FOLDERS: [&str; 2] = ["x", "y"];
/// Where each kind is decided about.
const POINTS: [(&str, &str); 2] = [("invoices", "https://i.law.example"), ("ledgers", "https://l.law.example")];
const AGENTS: usize = 4;
const WORLDS: usize = 8;
const CHAINS: usize = 10;

/// An action on everything of a kind in a folder, by its places.
type Right = (usize, usize, usize);
type Rights = BTreeSet<Right>;

fn every() -> impl Iterator<Item = Right> {
    (0..ACTIONS.len()).flat_map(|a| (0..KINDS.len()).flat_map(move |k| (0..FOLDERS.len()).map(move |f| (a, k, f))))
}

/// The same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Each with a chance of `of` in `out_of`; one at least.
    fn some<T: Clone>(&mut self, all: &[T], of: usize, out_of: usize) -> Vec<T> {
        let found: Vec<T> = all.iter().filter(|_| self.below(out_of) < of).cloned().collect();
        if found.is_empty() { vec![all[self.below(all.len())].clone()] } else { found }
    }

    fn rights(&mut self) -> Rights {
        self.some(&every().collect::<Vec<_>>(), 3, 4).into_iter().collect()
    }
}

/// By which an agent lets the next act for it.
#[derive(Debug)]
struct Given {
    name: String,
    rights: Rights,
    /// Of the points; none: all.
    audiences: Vec<usize>,
    /// In Unix seconds, where that is soon.
    ends: Option<u64>,
    is_over: bool,
    depth: usize,
}

/// What a token was asked to be narrowed to by details.
#[derive(Clone, Debug)]
struct Detail {
    actions: Vec<usize>,
    kinds: Vec<usize>,
    folder: Option<usize>,
}

impl Detail {
    fn of(chance: &mut Chance) -> Self {
        let mut actions = Vec::new();
        if chance.one_in(2) {
            actions = chance.some(&[0, 1, 2], 2, 3);
        }
        let kinds = if chance.one_in(3) { vec![chance.below(2)] } else { Vec::new() };
        let folder = chance.one_in(2).then(|| chance.below(2));
        Self { actions, kinds, folder }
    }

    fn has(&self, (action, kind, folder): Right) -> bool {
        (self.actions.is_empty() || self.actions.contains(&action))
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.folder.is_none_or(|own| own == folder)
    }

    fn text(&self) -> String {
        let mut said = json!({"type": "legate"});
        if !self.actions.is_empty() {
            said["actions"] = self.actions.iter().map(|a| ACTIONS[*a]).collect();
        }
        if !self.kinds.is_empty() {
            said["datatypes"] = self.kinds.iter().map(|k| KINDS[*k]).collect();
        }
        if let Some(folder) = self.folder {
            said["identifier"] = format!("{}/*", FOLDERS[folder]).into();
        }
        Value::Array(vec![said]).to_string()
    }
}

fn texts(rights: &Rights) -> String {
    let text = |(a, k, f): &Right| format!("\"{} on {}:{}/*\"", ACTIONS[*a], KINDS[*k], FOLDERS[*f]);
    rights.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn standing() -> String {
    let mut text = r#"
apiVersion: legate/v1
kind: Namespace
metadata: {name: law}
spec: {displayName: Law, owners: ["user:ada@example.com"]}
---
apiVersion: legate/v1
kind: AgentClass
metadata: {name: link, namespace: law}
spec:
  description: Links of chains.
  ceiling: ["doc:* on Invoice:*", "doc:* on Ledger:*"]
  maxTokenTtl: 600s
---
apiVersion: legate/v1
kind: Policy
metadata: {name: what-was-granted, namespace: law}
spec: {mode: ENFORCE, cedar: "permit (principal, action, resource);"}
"#
    .to_owned();
    for (kind, (name, audience)) in KINDS.iter().zip(POINTS) {
        write!(text, "---\napiVersion: legate/v1\nkind: EnforcementPoint\nmetadata: {{name: {name}, namespace: law}}\nspec: {{resourceTypes: [{kind}], audiences: [\"{audience}\"]}}\n").unwrap();
    }
    for n in 0..AGENTS {
        write!(text, "---\napiVersion: legate/v1\nkind: Agent\nmetadata: {{name: link-{n}, namespace: law}}\nspec: {{agentClass: link, purpose: Stands in chains., environment: PROD, owners: [\"user:ada@example.com\"], sponsors: [\"user:grace@example.com\"]}}\n").unwrap();
    }
    text
}

/// What each agent may by itself, and what each lets the next do for it, as manifests.
fn world(own: &[Rights], given: &[Vec<Given>]) -> String {
    let mut text = String::new();
    for (n, rights) in own.iter().enumerate() {
        write!(text, "---\napiVersion: legate/v1\nkind: Role\nmetadata: {{name: role-{n}, namespace: law}}\nspec: {{permissions: [{}]}}\n", texts(rights)).unwrap();
        write!(text, "---\napiVersion: legate/v1\nkind: RoleBinding\nmetadata: {{name: role-{n}, namespace: law}}\nspec: {{role: role-{n}, agents: [link-{n}]}}\n").unwrap();
    }
    for (n, grants) in given.iter().enumerate() {
        for grant in grants {
            let Given { name, rights, audiences, ends, is_over, depth } = grant;
            let ends = ends.map_or_else(
                || "2036-01-01T00:00:00Z".to_owned(),
                |secs| Timestamp::from_secs(i64::try_from(secs).unwrap()).to_string(),
            );
            let begins = if *is_over { "2035-12-01T00:00:00Z" } else { "2026-01-01T00:00:00Z" };
            let audiences: Vec<String> = audiences.iter().map(|n| format!("\"{}\"", POINTS[*n].1)).collect();
            write!(text, "---\napiVersion: legate/v1\nkind: DelegationGrant\nmetadata: {{name: {name}, namespace: law}}\nspec: {{delegator: \"agent:link-{n}\", delegate: link-{}, permissions: [{}], audiences: [{}], purpose: A law., notBefore: \"{begins}\", notAfter: \"{ends}\", mayRedelegate: {}, maxDepth: {depth}}}\n", n + 1, texts(rights), audiences.join(", "), *depth > 0).unwrap();
        }
    }
    text
}

/// The suite, and everybody in it.
struct Court {
    raised: Raised,
    links: Vec<Runtime>,
    addresses: Vec<String>,
    backends: Vec<Client>,
    /// The ids of the grants, by name.
    grants: BTreeMap<String, String>,
}

impl Court {
    async fn new() -> Self {
        let raised = Raised::new().await;
        apply(&raised, &standing()).await;
        let (mut links, mut addresses, mut backends) = (Vec::new(), Vec::new(), Vec::new());
        let namespace = Name::parse("law").unwrap();
        for n in 0..AGENTS {
            let wanted = AgentRef { namespace: "law".into(), name: format!("link-{n}"), ..AgentRef::default() };
            let mut agents = AgentServiceClient::new(raised.operator("registry"));
            let found = agents.get_agent(GetAgentRequest { agent: Some(wanted), as_of: None }).await.unwrap();
            let id = id_of(&found.into_inner().agent.unwrap());
            let token = raised.enrolment_token(Holder::AgentId(id.clone())).await;
            let issuer = raised.remote("credential-issuer");
            links.push(Runtime::new(&issuer, enrol(&issuer, &token).await.unwrap().identity().unwrap()).unwrap());
            let id = AgentId::parse(&id).unwrap();
            addresses.push(SpiffeId::agent(raised.suite.domain(), &namespace, &id).to_string());
        }
        for (name, _) in POINTS {
            let point = EnforcementPointRef { namespace: "law".into(), name: name.into() };
            let token = raised.enrolment_token(Holder::EnforcementPoint(point)).await;
            let identity = enrol(&raised.remote("credential-issuer"), &token).await.unwrap().identity().unwrap();
            backends.push(raised.dial("policy-decision", identity));
        }
        Self { raised, links, addresses, backends, grants: BTreeMap::new() }
    }

    /// The ids of what was declared; a name keeps its own.
    async fn learn(&mut self, given: &[Vec<Given>]) {
        let mut registry = DeclarationServiceClient::new(self.raised.operator("registry"));
        for name in given.iter().flatten().map(|grant| grant.name.clone()) {
            let request = GetDeclarationRequest {
                kind: Kind::DelegationGrant.into(),
                namespace: "law".into(),
                name: name.clone(),
                ..GetDeclarationRequest::default()
            };
            let found = registry.get_declaration(request).await.unwrap().into_inner().declaration.unwrap();
            let Some(Object::DelegationGrant(found)) = found.object else { panic!("{found:?}") };
            self.grants.insert(name, found.metadata.unwrap().id);
        }
    }

    /// Waits until tokens are issued by that revision or a later one.
    async fn hear(&self, revision: u64) {
        let begin = Instant::now();
        loop {
            let request = IssueTokenRequest { audience: self.addresses[1].clone(), ..IssueTokenRequest::default() };
            let issued = self.issuer(0).issue_token(request).await;
            if issued.is_ok_and(|issued| issued.into_inner().revision >= revision) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "revision {revision} is not heard");
        }
    }

    fn issuer(&self, n: usize) -> AgentCredentialServiceClient<Client> {
        let who = self.links[n].identity().clone();
        AgentCredentialServiceClient::new(self.raised.dial("credential-issuer", who))
    }
}

/// How often something came of it, so that a law about nothing is noticed.
#[derive(Debug, Default)]
struct Seen {
    exchanged: usize,
    refused: usize,
    allowed: usize,
    denied: usize,
}

/// What a chain may be at most, as far as it is known.
struct Most {
    rights: Rights,
    /// Actions on kinds: a scope says nothing of single resources, nor of what details cut.
    given: BTreeSet<(usize, usize)>,
    /// What the next token may say.
    scope: BTreeSet<usize>,
    /// When the first of what it rests on ends.
    ends: u64,
    /// The grants by which it came to be, the oldest first: each with its place among those of its delegator.
    by: Vec<usize>,
}

impl Most {
    fn of(own: &Rights) -> Self {
        let given = on_kinds(own);
        Self { rights: own.clone(), scope: actions(&given, None), given, ends: u64::MAX, by: Vec::new() }
    }

    /// Cut by one more who acts, and by the grant that lets him.
    fn follow(&mut self, own: &Rights, grant: &Given, point: Option<usize>) {
        self.rights.retain(|right| own.contains(right) && grant.rights.contains(right));
        let (own, grants) = (on_kinds(own), on_kinds(&grant.rights));
        self.given.retain(|one| own.contains(one) && grants.contains(one));
        let may = actions(&self.given, point);
        self.scope.retain(|action| may.contains(action));
        self.ends = self.ends.min(grant.ends.unwrap_or(u64::MAX));
    }

    /// Cut by what is asked for.
    fn cut(&mut self, scope: &[usize], details: Option<&Detail>) {
        if !scope.is_empty() {
            self.scope.retain(|action| scope.contains(action));
        }
        if let Some(details) = details {
            self.rights.retain(|right| details.has(*right));
        }
    }

    /// Holds what a token says against it.
    fn holds(&mut self, token: &str, point: Option<usize>, told: &[String]) {
        let said = claims(token);
        let scope: Vec<&str> = said["scope"].as_str().unwrap().split(' ').collect();
        assert_eq!(scope, told, "the answer and the token say the same");
        let scope: BTreeSet<usize> = scope.iter().map(|one| ACTIONS.iter().position(|a| a == one).unwrap()).collect();
        assert!(scope.is_subset(&self.scope), "{scope:?} of {:?}", self.scope);
        // Details are no actions: what they cut is left to the decision.
        self.scope = scope;
        let ends = said["exp"].as_u64().unwrap();
        assert!(ends <= self.ends, "{ends} is after {}", self.ends);
        self.ends = ends;
        if let Some(point) = point {
            assert_eq!(said["aud"], POINTS[point].1);
        }
    }
}

/// Which actions some of the rights are of, on which kinds.
fn on_kinds(rights: &Rights) -> BTreeSet<(usize, usize)> {
    rights.iter().map(|(action, kind, _)| (*action, *kind)).collect()
}

/// The actions among them, at a point or anywhere.
fn actions(given: &BTreeSet<(usize, usize)>, point: Option<usize>) -> BTreeSet<usize> {
    let here = given.iter().filter(|(_, kind)| point.is_none_or(|point| point == *kind));
    here.map(|(action, _)| *action).collect()
}

async fn chain(
    court: &Court,
    chance: &mut Chance,
    own: &[Rights],
    given: &[Vec<Given>],
    revision: u64,
    seen: &mut Seen,
) {
    let hops = 1 + chance.below(AGENTS - 1);
    let ask_for = |chance: &mut Chance| {
        let scope: Vec<usize> = if chance.one_in(2) { Vec::new() } else { chance.some(&[0, 1, 2], 2, 3) };
        let details = chance.one_in(3).then(|| Detail::of(chance));
        (scope, details)
    };
    let named = |scope: &[usize]| -> Vec<String> { scope.iter().map(|a| ACTIONS[*a].to_owned()).collect() };
    let (scope, details) = ask_for(chance);
    let request = IssueTokenRequest {
        audience: court.addresses[1].clone(),
        scopes: named(&scope),
        authorization_details: details.as_ref().map_or_else(String::new, Detail::text),
        ..IssueTokenRequest::default()
    };
    let mut most = Most::of(&own[0]);
    most.cut(&scope, details.as_ref());
    let Ok(first) = court.issuer(0).issue_token(request).await else {
        seen.refused += 1;
        return;
    };
    let first = first.into_inner();
    most.holds(&first.access_token, None, &first.scopes);
    let mut token = first.access_token;
    for hop in 1..=hops {
        let point = (hop == hops).then(|| chance.below(POINTS.len()));
        let (scope, details) = ask_for(chance);
        let request = ExchangeTokenRequest {
            subject_token: token.clone(),
            subject_token_type: TokenType::AccessToken.into(),
            audience: point.map_or_else(|| court.addresses[hop + 1].clone(), |point| POINTS[point].1.to_owned()),
            scopes: named(&scope),
            authorization_details: details.as_ref().map_or_else(String::new, Detail::text),
            grant: if chance.one_in(3) { given[hop - 1][chance.below(2)].name.clone() } else { String::new() },
            ttl: chance.one_in(3).then_some(prost_types::Duration { seconds: 600, nanos: 0 }),
            ..ExchangeTokenRequest::default()
        };
        let made = match court.issuer(hop).exchange_token(request.clone()).await {
            Ok(made) => made.into_inner(),
            Err(status) => {
                let told = Told::from_status(&status);
                let lawful = [
                    "INVALID_SCOPE",
                    "GRANT_TOO_NARROW",
                    "GRANT_MISSING",
                    "CHAIN_ENDS_HERE",
                    "AUTHORIZATION_DETAILS_REFUSED",
                ];
                assert!(lawful.contains(&told.reason.as_str()), "{request:?}: {told:?}");
                seen.refused += 1;
                return;
            }
        };
        seen.exchanged += 1;
        // By whichever grant it was, that one has to let it.
        let said = claims(&made.access_token);
        assert_eq!(made.chain.len(), hop, "the chain grows by one");
        let by = said["grants"][0].as_str().unwrap();
        let grants = &given[hop - 1];
        let used = grants.iter().position(|grant| court.grants[&grant.name] == by).unwrap();
        let grant = &grants[used];
        assert!(request.grant.is_empty() || request.grant == grant.name);
        assert!(!grant.is_over, "{grant:?} does not hold");
        most.by.push(used);
        for (n, used) in most.by.iter().enumerate() {
            let before = &given[n][*used];
            assert!(hop - 1 - n <= before.depth, "{before:?} lets {} follow", before.depth);
            assert!(point.is_none_or(|p| before.audiences.is_empty() || before.audiences.contains(&p)), "{before:?}");
        }
        most.follow(&own[hop], grant, point);
        most.cut(&scope, details.as_ref());
        most.holds(&made.access_token, point, &made.scopes);
        token = made.access_token;
        let Some(point) = point else { continue };
        let by_last = shown(&court.links[hop], &token);
        for right @ (action, _, folder) in every().filter(|(_, kind, _)| *kind == point) {
            let id = format!("{}/1", FOLDERS[folder]);
            let asked = question(&by_last, ACTIONS[action], &id);
            let resource = Resource { r#type: KINDS[point].into(), id, attributes: None };
            let asked = EvaluateRequest { resource: Some(resource), ..asked };
            let answer = ask(&court.backends[point], at_least(asked, revision)).await;
            let expected = most.rights.contains(&right) && most.scope.contains(&action);
            assert_eq!(word(&answer) == "ALLOWED", expected, "{right:?}: {}", answer.message);
            if expected { seen.allowed += 1 } else { seen.denied += 1 }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_chain_gives_more_than_everybody_in_it_may_and_every_grant_lets_through() {
    let mut court = Court::new().await;
    let (mut chance, mut seen) = (Chance(64), Seen::default());
    for _ in 0..WORLDS {
        // Sooner than a token may end, and long after the world is.
        let soon = SystemClock::new().now().plus(Duration::from_secs(450)).secs();
        let soon = u64::try_from(soon).unwrap();
        let own: Vec<Rights> = (0..AGENTS).map(|_| chance.rights()).collect();
        let given: Vec<Vec<Given>> = (0..AGENTS - 1)
            .map(|n| {
                let one = |side: &str| {
                    let is_over = chance.one_in(8);
                    Given {
                        name: format!("grant-{n}-{side}"),
                        rights: chance.rights(),
                        audiences: if chance.one_in(4) { vec![chance.below(2)] } else { Vec::new() },
                        ends: (chance.one_in(4) && !is_over).then_some(soon),
                        is_over,
                        depth: if chance.one_in(6) { chance.below(2) } else { 2 },
                    }
                };
                ["a", "b"].map(one).into()
            })
            .collect();
        let revision = apply(&court.raised, &world(&own, &given)).await;
        court.learn(&given).await;
        court.hear(revision).await;
        for _ in 0..CHAINS {
            chain(&court, &mut chance, &own, &given, revision, &mut seen).await;
        }
    }
    let Seen { exchanged, refused, allowed, denied } = seen;
    assert!(exchanged > 40 && refused > 10 && allowed > 20 && denied > 40, "{seen:?} is too little to be a law");
    court.raised.suite.shutdown().await;
}
