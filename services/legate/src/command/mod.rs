//! One file for each noun: what it asks, and how it tells the answer.

mod agent;
mod agent_usage;
mod alert;
mod apply;
mod approval;
mod audit;
mod audit_export;
mod audit_send;
mod change;
mod check;
mod check_stream;
mod client;
mod credential;
mod custody;
mod declare;
mod declared;
mod doctor;
mod dossier;
mod drift;
mod evidence;
mod explain;
mod export;
mod export_columns;
mod find_leaked;
mod generate;
mod grant;
mod health;
mod history;
mod import;
mod instance;
mod key;
mod lifecycle;
mod login;
mod mcp;
mod namespace_report;
mod owner;
mod person;
mod personal_grant;
mod plan;
mod plan_file;
mod policy;
mod prove;
mod prune;
mod query;
mod receipts;
mod replay;
mod report;
mod review;
mod revoke_issued;
mod search;
mod shadow;
mod spawning;
mod standing;
mod stop;
mod stop_touches;
mod tail;
mod token;
mod usage;
mod verify;
mod whoami;
mod witness;
mod workload;

use legate_mtls::Identity;
use legate_wire::registry::AgentRef;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{GetAgentRequest, Kind};

use crate::cli::{Checking, Cli, Command};
use crate::error::USAGE;
use crate::output::{Format, Out};
use crate::place::{Line, Place, Service};
use crate::{Exit, Failure};

pub(crate) use verify::{verify_directory, verify_log};

/// What every command has at hand.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) place: Place,
    pub(crate) format: Format,
    pub(crate) show: bool,
}

impl Desk {
    pub(crate) fn out(&self) -> Out<std::io::BufWriter<std::io::StdoutLock<'static>>> {
        Out::stdout(self.format)
    }

    /// A line to a service, as the operator.
    pub(crate) fn line(&self, service: Service) -> Result<Line, Failure> {
        self.line_as(service, self.place.operator()?)
    }

    /// A line to a service, as somebody else.
    pub(crate) fn line_as(&self, service: Service, us: Identity) -> Result<Line, Failure> {
        self.place.line(service, us, self.show)
    }

    /// The id of an agent that is named by NAMESPACE/NAME or by its id.
    pub(crate) async fn agent_id(&self, text: &str) -> Result<String, Failure> {
        let wanted = agent_ref(text)?;
        if !wanted.id.is_empty() {
            return Ok(wanted.id);
        }
        let registry = self.line(Service::Registry)?;
        let request = GetAgentRequest { agent: Some(wanted), as_of: None };
        let answer = registry
            .ask(request, |client, r| async move { AgentServiceClient::new(client).get_agent(r).await })
            .await?;
        Ok(answer.agent.and_then(|a| a.metadata).map(|m| m.id).unwrap_or_default())
    }
}

/// Reads NAMESPACE/NAME, or an id.
pub(crate) fn agent_ref(text: &str) -> Result<AgentRef, Failure> {
    if text.starts_with("agt_") {
        return match legate_ids::AgentId::parse(text) {
            Ok(id) => Ok(AgentRef { id: id.to_string(), ..AgentRef::default() }),
            Err(e) => Err(Failure::local(&USAGE, format!("{text:?}: {e}"))),
        };
    }
    let (namespace, name) = named(text)?;
    Ok(AgentRef { namespace, name, ..AgentRef::default() })
}

/// Reads NAMESPACE/NAME.
pub(crate) fn named(text: &str) -> Result<(String, String), Failure> {
    let bad = |why: &dyn std::fmt::Display| Failure::local(&USAGE, format!("{text:?} is not NAMESPACE/NAME: {why}"));
    let (namespace, name) = text.split_once('/').ok_or_else(|| bad(&"there is no slash"))?;
    for part in [namespace, name] {
        legate_ids::Name::parse(part).map_err(|e| bad(&e))?;
    }
    Ok((namespace.to_owned(), name.to_owned()))
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result<Exit, Failure> {
    let format = Format::or_default(cli.output);
    let desk = |place: Place| -> Result<Desk, Failure> {
        Ok(Desk { place: place.with_context()?, format, show: cli.show_request })
    };
    match cli.command {
        Command::Demo(args) => wait(async move {
            let held = Box::pin(crate::demo::run(args.keep, args.dir.as_deref())).await?;
            Ok(if held { Exit::Done } else { Exit::Usage })
        }),
        Command::Dev(args) => wait(async move {
            Box::pin(crate::dev::dev(args)).await?;
            Ok(Exit::Done)
        }),
        Command::Serve(args) => {
            crate::dev::serve(&args.service, &args.config)?;
            Ok(Exit::Done)
        }
        Command::Plan(args) => {
            let desk = desk(args.place.clone())?;
            wait(plan::run(desk, args))
        }
        Command::Apply(args) => {
            let desk = desk(args.place.clone())?;
            wait(apply::run(desk, args))
        }
        Command::Export(args) => {
            let desk = desk(args.place.clone())?;
            wait(export::run(desk, args))
        }
        Command::Import(args) => {
            let desk = desk(args.place.clone())?;
            wait(import::import(desk, args))
        }
        Command::Agent(noun) => wait(agent::run(desk(noun.place)?, noun.verb)),
        Command::Class(noun) => wait(standing::run(desk(noun.place)?, Kind::AgentClass, noun.verb)),
        Command::Role(noun) => wait(declared::run(desk(noun.place)?, Kind::Role, noun.verb)),
        Command::Binding(noun) => wait(declared::run(desk(noun.place)?, Kind::RoleBinding, noun.verb)),
        Command::Policy(noun) => wait(policy::run(desk(noun.place)?, noun.verb)),
        Command::Namespace(noun) => wait(standing::run(desk(noun.place)?, Kind::Namespace, noun.verb)),
        Command::EnforcementPoint(noun) => wait(declared::run(desk(noun.place)?, Kind::EnforcementPoint, noun.verb)),
        Command::Node(noun) => wait(declared::run(desk(noun.place)?, Kind::Node, noun.verb)),
        Command::Group(noun) => wait(declared::run(desk(noun.place)?, Kind::Group, noun.verb)),
        Command::Boundary(noun) => wait(declared::run(desk(noun.place)?, Kind::Boundary, noun.verb)),
        Command::CredentialPolicy(noun) => wait(declared::run(desk(noun.place)?, Kind::CredentialPolicy, noun.verb)),
        Command::Issuer(noun) => wait(declared::run(desk(noun.place)?, Kind::TrustedIssuer, noun.verb)),
        Command::Federation(noun) => wait(declared::run(desk(noun.place)?, Kind::FederatedTrustDomain, noun.verb)),
        Command::Attestation(noun) => wait(declared::run(desk(noun.place)?, Kind::AttestationPolicy, noun.verb)),
        Command::Grant(noun) => wait(grant::run(desk(noun.place)?, noun.verb)),
        Command::PolicyTest(noun) => wait(declared::run(desk(noun.place)?, Kind::PolicyTest, noun.verb)),
        Command::LifecyclePolicy(noun) => wait(lifecycle::run(desk(noun.place)?, noun.verb)),
        Command::Mcp(noun) => wait(mcp::run(desk(noun.place)?, noun.verb)),
        Command::Operator(noun) => wait(declared::run(desk(noun.place)?, Kind::OperatorBinding, noun.verb)),
        Command::Approval(noun) => wait(approval::run(desk(noun.place)?, noun.verb)),
        Command::Review(noun) => {
            let noun = *noun;
            wait(review::run(desk(noun.place)?, noun.verb))
        }
        Command::Person(noun) => wait(person::run(desk(noun.place)?, noun.verb)),
        Command::Credential(noun) => wait(credential::run(desk(noun.place)?, noun.verb)),
        Command::Instance(noun) => wait(instance::run(desk(noun.place)?, noun.verb)),
        Command::Stop(args) => {
            let desk = desk(args.place.clone())?;
            wait(stop::stop(desk, args))
        }
        Command::Resume(args) => {
            let desk = desk(args.place.clone())?;
            wait(stop::resume(desk, args))
        }
        Command::Stops(args) => {
            let desk = desk(args.place.clone())?;
            wait(stop::list(desk, args))
        }
        Command::Containment(args) => {
            let desk = desk(args.place.clone())?;
            wait(stop::containment(desk, args))
        }
        Command::Token(noun) => wait(token::run(desk(noun.place)?, noun.verb)),
        Command::Key(noun) => wait(key::run(desk(noun.place)?, noun.verb)),
        Command::Check(Checking::One(args)) => {
            let desk = desk(args.place.clone())?;
            wait(check::run(desk, *args))
        }
        Command::Check(Checking::Stream { place, identity }) => wait(check_stream::run(desk(*place)?, identity)),
        Command::Explain(args) => {
            let desk = desk(args.question.place.clone())?;
            wait(explain::run(desk, args))
        }
        Command::WhoCan(args) => {
            let desk = desk(args.place.clone())?;
            wait(explain::who_can(desk, args))
        }
        Command::WhatCan(args) => {
            let desk = desk(args.place.clone())?;
            wait(explain::what_can(desk, args))
        }
        Command::Drift(args) => {
            let desk = desk(args.place.clone())?;
            wait(drift::run(desk, args))
        }
        Command::Dossier(args) => {
            let desk = desk(args.place.clone())?;
            wait(dossier::run(desk, *args))
        }
        Command::Report(args) => {
            let desk = desk(args.place.clone())?;
            wait(namespace_report::run(desk, *args))
        }
        Command::Subject(noun) => wait(custody::subject(desk(noun.place)?, noun.verb)),
        Command::Hold(noun) => {
            let noun = *noun;
            wait(custody::hold(desk(noun.place)?, noun.verb))
        }
        Command::Audit(noun) => {
            let noun = *noun;
            wait(audit::run(desk(noun.place)?, noun.verb))
        }
        Command::Alert(noun) => wait(alert::run(desk(noun.place)?, noun.verb)),
        Command::Verify(args) => wait(verify::run(format, args)),
        Command::Workload(args) => wait(workload::run(*args)),
        Command::Witness { verb } => wait(witness::run(format, verb)),
        Command::Login(args) => {
            let desk = desk(args.place.clone())?;
            wait(login::run(desk, args))
        }
        Command::Whoami(args) => wait(whoami::run(desk(args.place)?)),
        Command::Doctor(args) => wait(doctor::run(desk(args.place)?)),
        Command::Schema => generate::schema(),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { out } => generate::man(out.as_deref()),
    }
}

/// Runs to the end on a runtime of its own.
fn wait(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from)?;
    let done = runtime.block_on(Box::pin(work));
    // A blocking read of standard input may still sit there; nobody waits for it.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn agents_are_named_in_two_ways() {
        let by_name = agent_ref("payments/invoice-bot").unwrap();
        assert_eq!((by_name.namespace.as_str(), by_name.name.as_str()), ("payments", "invoice-bot"));
        let id = legate_ids::AgentId::from_parts(1, [7; 10]).to_string();
        assert_eq!(agent_ref(&id).unwrap().id, id);
        for bad in ["invoice-bot", "agt_1", "a/b/c", "/a", "a/", "A/b", "a/b\u{202e}"] {
            assert_eq!(agent_ref(bad).unwrap_err().reason, "USAGE", "{bad}");
        }
    }
}
