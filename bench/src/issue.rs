//! Tokens and certificates a second and what each costs, against a signature and an HMAC alone with the same library.
//!
//! Each service is a process of its own here: its CPU time is what the kernel counts of it, from before the first call until all
//! that the calls left to be shipped and indexed is done.

mod beside;

use std::path::Path;
use std::time::Instant;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use legate::dev::pki;
use legate_client::Runtime;
use legate_ids::{AgentId, Name, SpiffeId};
use legate_wire::registry as wire;
use wire::declaration::Object;

use self::beside::Beside;
use crate::apart::{Apart, Cpu, free_ports};
use crate::house::{AUDIENCE, House, NAMESPACE, agent_of, metadata, permission};
use crate::load::{self, Seen, count};
use crate::oauth::OauthClient;
use crate::{Failed, Plan, kept};

/// Connections, each with one call in flight.
const CONNECTIONS: u32 = 16;
/// Tokens a second that are promised on two cores.
const RATE: f64 = 2_000.0;
/// CPU time of the issuer that a token may cost, in milliseconds.
const COST: f64 = 0.3;

/// P-256 signatures and HMACs by one core, as the issuer makes them for a token by a client secret.
fn floor(plan: Plan) -> Result<f64, Failed> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let pepper = hmac::Key::generate(hmac::HMAC_SHA256, &random)?;
    let message = [7u8; 600];
    let start = Instant::now();
    let mut made = 0usize;
    while start.elapsed() < plan.time {
        for _ in 0..100 {
            std::hint::black_box(hmac::sign(&pepper, &message[..64]));
            std::hint::black_box(key.sign(&random, &message)?);
        }
        made += 100;
    }
    Ok(count(made) / start.elapsed().as_secs_f64())
}

/// What so many calls cost.
struct Cost {
    seen: Seen,
    cpu: Cpu,
}

/// One thing that is measured, several times.
struct Row {
    what: &'static str,
    is_token: bool,
    rounds: Vec<Cost>,
}

impl Row {
    fn new(what: &'static str, is_token: bool) -> Self {
        Self { what, is_token, rounds: Vec::new() }
    }

    async fn run<C, F>(
        &mut self,
        apart: &Apart,
        plan: Plan,
        callers: &[C],
        call: impl Fn(C) -> F + Send + Sync + 'static,
    ) -> Result<(), Failed>
    where
        C: Clone + Send + 'static,
        F: Future<Output = Result<C, Failed>> + Send + 'static,
    {
        let before = apart.cpu_at_rest().await?;
        let seen = load::run(callers.to_vec(), plan.time, call).await?;
        let after = apart.cpu_at_rest().await?;
        let mut cpu = Cpu::default();
        for ((spent, after), before) in cpu.iter_mut().zip(after).zip(before) {
            *spent = after.saturating_sub(before);
        }
        self.rounds.push(Cost { seen, cpu });
        Ok(())
    }

    /// Milliseconds of a service's CPU time for one call: the middle of the rounds.
    fn cost(&self, service: usize) -> f64 {
        let each = |round: &Cost| round.cpu.get(service).copied().unwrap_or_default().as_secs_f64();
        load::median(self.rounds.iter().map(|round| 1_000.0 * each(round) / count(round.seen.calls)).collect())
    }

    fn rate(&self) -> f64 {
        load::median(self.rounds.iter().map(|round| round.seen.rate()).collect())
    }

    fn seen(&self) -> Vec<Seen> {
        self.rounds.iter().map(|round| round.seen.clone()).collect()
    }

    /// Milliseconds of credential-issuer's CPU time for one call.
    fn issuer(&self) -> f64 {
        pki::SERVICES.iter().position(|service| *service == "credential-issuer").map_or(0.0, |at| self.cost(at))
    }

    fn tell(&self, floor: f64) {
        load::line(self.what, &self.seen());
        let each =
            |name: &str| pki::SERVICES.iter().position(|service| *service == name).map_or(0.0, |at| self.cost(at));
        println!(
            "    CPU ms a call: credential-issuer {:.3} ({:.1} floors), policy-decision {:.3}, audit-collector {:.3}, registry {:.3}",
            self.issuer(),
            self.issuer() * floor / 1_000.0,
            each("policy-decision"),
            each("audit-collector"),
            each("registry"),
        );
        if self.is_token {
            load::tell("    tokens a second", self.rate(), Some(RATE));
            load::at_most("    CPU ms of credential-issuer for a token", self.issuer(), COST);
        }
    }
}

/// The same kind of token of the other issuer, several times.
#[derive(Default)]
struct Theirs {
    seen: Vec<Seen>,
    cpu: Vec<f64>,
}

impl Theirs {
    async fn run(&mut self, beside: &Beside, plan: Plan, clients: &[OauthClient]) -> Result<(), Failed> {
        let before = beside.cpu()?;
        let call = |client: OauthClient| async move { client.token().await.map(|_| client) };
        let seen = load::run(clients.to_vec(), plan.time, call).await?;
        let spent = beside.cpu()?.saturating_sub(before);
        self.cpu.push(1_000.0 * spent.as_secs_f64() / count(seen.calls));
        self.seen.push(seen);
        Ok(())
    }

    /// Beside ours.
    fn tell(&self, by: &str, ours: &Row) {
        let cpu = load::median(self.cpu.clone());
        load::line(&format!("oidc-provider over plain HTTP, nothing kept, by {by}"), &self.seen);
        println!("    CPU ms a call: {cpu:.3}");
        load::ratio(&format!("    tokens a second / oidc-provider's, by {by}"), &ours.seen(), &self.seen, Some(1.0));
        load::at_most(&format!("    CPU of a token / oidc-provider's, by {by}"), ours.issuer() / cpu, 1.0);
    }
}

/// What the OAuth clients are, and the chain of four that act for one another.
fn declared() -> Vec<Object> {
    let policy = wire::CredentialPolicySpec {
        methods: vec![
            wire::CredentialMethod::EnrolmentToken.into(),
            wire::CredentialMethod::ClientSecret.into(),
            wire::CredentialMethod::PrivateKeyJwt.into(),
            wire::CredentialMethod::TlsClientAuth.into(),
        ],
        token_binding: wire::TokenBinding::Optional.into(),
        ..wire::CredentialPolicySpec::default()
    };
    let class = wire::AgentClassSpec {
        ceiling: vec![permission("*")],
        credential_policy: "clients".into(),
        ..wire::AgentClassSpec::default()
    };
    let mut all = vec![
        Object::CredentialPolicy(wire::CredentialPolicy { metadata: metadata("clients"), spec: Some(policy) }),
        Object::AgentClass(wire::AgentClass { metadata: metadata("client"), spec: Some(class), status: None }),
    ];
    for n in 0..CONNECTIONS {
        all.extend(["secret", "key", "certificate"].map(|by| agent_of("client", &format!("{by}-{n}"))));
    }
    all.extend((0..5).map(|n| agent_of("client", &link(n))));
    all.extend((0..4).map(grant));
    all
}

/// The name of an agent of the chain.
fn link(n: u32) -> String {
    format!("link-{n}")
}

/// By which the next of the chain acts for what is before it.
fn grant(n: u32) -> Object {
    let spec = wire::DelegationGrantSpec {
        delegator: format!("agent:{}", link(n)),
        delegate: link(n + 1),
        permissions: vec![permission("invoice:read")],
        purpose: "is measured".into(),
        not_after: Some(prost_types::Timestamp { seconds: 2_082_758_400, nanos: 0 }),
        may_redelegate: n < 3,
        max_depth: 3 - n,
        parent: if n == 0 { String::new() } else { format!("grant-{}", n - 1) },
        ..wire::DelegationGrantSpec::default()
    };
    Object::DelegationGrant(wire::DelegationGrant { metadata: metadata(&format!("grant-{n}")), spec: Some(spec) })
}

/// Everybody who asks.
struct Callers {
    secrets: Vec<OauthClient>,
    keys: Vec<OauthClient>,
    certificates: Vec<OauthClient>,
    runtimes: Vec<Runtime>,
    /// The agents of the chain, each over as many connections as there are callers.
    links: Vec<Vec<Runtime>>,
    addresses: Vec<String>,
}

impl Callers {
    async fn of(house: &House) -> Result<Self, Failed> {
        let issuer = house.remote("credential-issuer")?;
        let (mut secrets, mut keys, mut certificates, mut runtimes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for n in 0..CONNECTIONS {
            secrets.push(OauthClient::with_secret(house, &format!("secret-{n}")).await?);
            keys.push(OauthClient::with_key(house, &format!("key-{n}")).await?);
            certificates.push(OauthClient::with_certificate(house, &format!("certificate-{n}")).await?);
            runtimes.push(house.runtime(n).await?.0);
        }
        let (mut links, mut addresses) = (Vec::new(), Vec::new());
        for n in 0..5 {
            let identity = house.enrolled(&link(n)).await?.identity()?;
            let many: Result<Vec<_>, _> = (0..CONNECTIONS).map(|_| Runtime::new(&issuer, identity.clone())).collect();
            links.push(many?);
            let id = AgentId::parse(&house.agent_id_of(&link(n)).await?)?;
            addresses.push(SpiffeId::agent(house.suite.domain(), &Name::parse(NAMESPACE)?, &id).to_string());
        }
        Ok(Self { secrets, keys, certificates, runtimes, links, addresses })
    }

    /// The token with which the agent of this number comes to exchange it, handed on from the first.
    async fn handed(&self, to: usize) -> Result<String, Failed> {
        let mut token = self.links[0][0].token(&self.addresses[1]).await?.access_token;
        for n in 1..to {
            token = self.links[n][0].exchange(&token, &self.addresses[n + 1], &[]).await?.access_token;
        }
        Ok(token)
    }
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan, oidc_provider: Option<&Path>) -> Result<(), Failed> {
    println!(
        "\nissue: {CONNECTIONS} connections, one call in flight on each; the services are processes of their own; every issuance is recorded and synced before it is signed"
    );
    let few = Plan { agents: CONNECTIONS, policies: 2, ..plan };
    let mut house = House::raise_at(few, free_ports()?).await?;
    house.declare(&declared()).await?;
    let callers = Callers::of(&house).await?;
    let apart = house.part().await?;

    if let Some(tokens) = plan.storage {
        kept::measure(&house, &apart, &callers.secrets, tokens).await?;
        drop(apart);
        house.lower().await;
        return Ok(());
    }

    let beside = match oidc_provider {
        Some(package) => Some(Beside::raise(package, CONNECTIONS).await?),
        None => None,
    };
    let (mut by_secret, mut by_key) = (Theirs::default(), Theirs::default());
    let mut floors = Vec::new();
    let mut rows = [
        Row::new("client_credentials over HTTPS, by secret", true),
        Row::new("client_credentials over HTTPS, by private_key_jwt", true),
        Row::new("client_credentials over HTTPS, by certificate", true),
        Row::new("IssueToken over gRPC, by certificate", true),
        Row::new("ExchangeToken, depth 1", true),
        Row::new("ExchangeToken, depth 4", true),
        Row::new("certificates renewed, a new key each", false),
        Row::new("introspection over HTTPS", false),
    ];
    for _ in 0..plan.rounds {
        let [secret, key, certificate, grpc, once, four, renewal, introspection] = &mut rows;
        floors.push(tokio::task::spawn_blocking(move || floor(plan)).await??);
        for (row, clients) in [(secret, &callers.secrets), (key, &callers.keys), (certificate, &callers.certificates)] {
            row.run(&apart, plan, clients, |client| async move { client.token().await.map(|_| client) }).await?;
        }
        if let Some(beside) = &beside {
            by_secret.run(beside, plan, &beside.secrets).await?;
            by_key.run(beside, plan, &beside.keys).await?;
        }
        grpc.run(&apart, plan, &callers.runtimes, |runtime| async move {
            runtime.token(AUDIENCE).await?;
            Ok(runtime)
        })
        .await?;
        for (row, depth) in [(once, 1), (four, 4)] {
            let token = callers.handed(depth).await?;
            row.run(&apart, plan, &callers.links[depth], move |runtime| {
                let token = token.clone();
                async move {
                    runtime.exchange(&token, AUDIENCE, &[]).await?;
                    Ok(runtime)
                }
            })
            .await?;
        }
        renewal
            .run(&apart, plan, &callers.runtimes, |runtime| async move {
                runtime.renew().await?;
                Ok(runtime)
            })
            .await?;
        let token = callers.secrets[0].token().await?;
        let asking = vec![callers.secrets[0].clone(); CONNECTIONS as usize];
        introspection
            .run(&apart, plan, &asking, move |client| {
                let token = token.clone();
                async move { client.introspect(&token).await.map(|()| client) }
            })
            .await?;
    }
    let floor = load::median(floors);
    println!(
        "  {:<58} {floor:>9.0} /s   {:.4} ms each",
        "a P-256 signature and an HMAC by one core (floor)",
        1_000.0 / floor
    );
    for row in &rows {
        row.tell(floor);
    }
    if beside.is_some() {
        by_secret.tell("secret", &rows[0]);
        by_key.tell("private_key_jwt", &rows[1]);
    }
    drop(apart);
    house.lower().await;
    Ok(())
}
