//! Checks a second and what each costs, beside another policy decision point: the program `cerbos` with its own load-test policies,
//! and the same rules as Cedar here, asked the same questions by the same loop over TLS.
//!
//! Cerbos records nothing here and believes whoever asks; ours is asked over mutual TLS, judges the caller's right to ask, and has
//! every decision in its spool before it answers.

mod cerbos;
mod ported;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use legate::dev::pki;
use legate_rpc::Client;
use legate_wire::policy as wire;
use wire::decision_service_client::DecisionServiceClient;

use self::cerbos::Cerbos;
use crate::apart::free_ports;
use crate::house::House;
use crate::load::{self, Seen, count};
use crate::{Failed, Plan};

/// Copies of the policies, each for a resource type of its own: eight files of theirs, eighteen policies of ours.
const COPIES: u32 = 100;
/// Connections, and calls in flight on each.
const CONNECTIONS: usize = 2;
const IN_FLIGHT: usize = 32;
/// Questions in a request of many: five resources, two actions each, as in their load test.
const MANY: usize = 10;

/// Where the peer is.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The program.
    pub(crate) program: PathBuf,
    /// `hack/loadtest/templates/classic` of its repository.
    pub(crate) templates: PathBuf,
}

/// One side, asked several times.
#[derive(Default)]
struct Side {
    seen: Vec<Seen>,
    cpu: Vec<f64>,
}

impl Side {
    fn add(&mut self, seen: Seen, cpu: Duration, checks: usize) {
        self.cpu.push(1e6 * cpu.as_secs_f64() / count(seen.calls * checks));
        self.seen.push(seen);
    }

    fn micros(&self) -> f64 {
        load::median(self.cpu.clone())
    }

    fn tell(&self, what: &str) {
        load::line(what, &self.seen);
        println!("    CPU of the server for a check: {:.1} µs", self.micros());
    }
}

/// What is asked: one question, or ten of five resources.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    One,
    Ten,
}

impl Size {
    fn checks(self) -> usize {
        if self == Self::One { 1 } else { MANY }
    }
}

/// Numbers of copies, so that all of them are asked about.
fn numbers() -> impl Fn() -> u32 + Clone + Send + Sync {
    let next = Arc::new(AtomicUsize::new(0));
    move || u32::try_from(next.fetch_add(1, Ordering::Relaxed) % COPIES as usize).unwrap_or(0)
}

async fn ask_ours(clients: &[Client], agent: &str, plan: Plan, size: Size) -> Result<Seen, Failed> {
    let halves = clients.len();
    let callers: Vec<_> = clients
        .iter()
        .enumerate()
        .flat_map(|(half, c)| (0..IN_FLIGHT).map(move |_| (half, DecisionServiceClient::new(c.clone()))))
        .collect();
    let (agent, numbers) = (agent.to_owned(), numbers());
    load::run(callers, plan.time, move |(half, mut client)| {
        // Each enforcement point asks about its own half of the types.
        let half_of = COPIES / u32::try_from(halves).unwrap_or(1);
        let n = u32::try_from(half).unwrap_or(0) * half_of + numbers() % half_of;
        let mut questions = ported::questions(&agent, n);
        async move {
            if size == Size::One {
                let (question, wanted) = questions.swap_remove(0);
                let answer = client.evaluate(question).await?.into_inner();
                ported::check(&answer, wanted)?;
            } else {
                let (evaluations, wanted): (Vec<_>, Vec<_>) = questions.into_iter().unzip();
                let request = wire::EvaluateBatchRequest { evaluations };
                let answers = client.evaluate_batch(request).await?.into_inner().evaluations;
                if answers.len() != wanted.len() {
                    return Err("answers are missing".into());
                }
                answers.iter().zip(wanted).try_for_each(|(answer, wanted)| ported::check(answer, wanted))?;
            }
            Ok((half, client))
        }
    })
    .await
}

/// Measures, and prints.
pub(crate) async fn measure(plan: Plan, peer: &Peer) -> Result<(), Failed> {
    println!(
        "\npeer: {COPIES} copies of the policies, {CONNECTIONS} connections with {IN_FLIGHT} requests in flight each; cerbos keeps no \
         record, policy-decision keeps one of every check"
    );
    let plan_of_house = Plan { agents: 1, policies: 0, ..plan };
    let mut house = House::raise_at(plan_of_house, free_ports()?).await?;
    house.declare(&ported::declared(COPIES, CONNECTIONS)).await?;
    let agent = house.agent_id(0).await?;
    let mut backend = Vec::new();
    for point in 0..CONNECTIONS {
        backend.extend(house.backend_as(&ported::point(point), 1).await?.0);
    }
    let apart = house.part().await?;
    let at = pki::SERVICES.iter().position(|service| *service == "policy-decision").ok_or("no policy-decision")?;
    let cerbos = Cerbos::raise(&house.suite, peer, COPIES, CONNECTIONS).await?;
    let sizes = [Size::One, Size::Ten];
    let mut sides = [(Side::default(), Side::default()), (Side::default(), Side::default())];
    // Everything once before it is measured.
    for size in sizes {
        let brief = Plan { time: Duration::from_millis(500), ..plan };
        ask_ours(&backend, &agent, brief, size).await?;
        cerbos.ask(brief, size.checks(), IN_FLIGHT).await?;
    }
    for _ in 0..plan.rounds {
        for (size, (ours, theirs)) in sizes.into_iter().zip(&mut sides) {
            let before = apart.cpu_at_rest().await?;
            let seen = ask_ours(&backend, &agent, plan, size).await?;
            let after = apart.cpu_at_rest().await?;
            ours.add(seen, after[at].saturating_sub(before[at]), size.checks());
            let before = cerbos.cpu()?;
            let seen = cerbos.ask(plan, size.checks(), IN_FLIGHT).await?;
            theirs.add(seen, cerbos.cpu()?.saturating_sub(before), size.checks());
        }
    }
    for (size, (ours, theirs)) in sizes.into_iter().zip(&sides) {
        let what = if size == Size::One { "one question a request" } else { "ten questions a request" };
        theirs.tell(&format!("cerbos, {what}"));
        ours.tell(&format!("policy-decision, {what}"));
        load::ratio(&format!("requests a second / cerbos's, {what}"), &ours.seen, &theirs.seen, Some(4.0));
        load::at_most(&format!("CPU of a check / cerbos's, {what}"), ours.micros() / theirs.micros(), 1.0 / 6.0);
    }
    drop(cerbos);
    drop(apart);
    house.lower().await;
    Ok(())
}
