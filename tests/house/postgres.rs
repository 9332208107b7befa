//! The suite on PostgreSQL, and a PostgreSQL that goes away and comes back, where `LEGATE_TEST_POSTGRES` names a server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use legate_rpc::{Code, Told};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::{AgentRef, ResumeAgentRequest, SuspendAgentRequest};
use sea_orm::{ConnectionTrait as _, Database};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::asking::{ask, at_least, question, word};
use crate::log::Log;
use crate::processes::Processes;
use crate::raised::{LONG, example_agent};

/// A way to a server that can be closed and opened again.
struct Way {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Way {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut open, server) = (open.clone(), server.clone());
                tokio::spawn(async move {
                    if !*open.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(&server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, is_open }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_goes_away_is_told_as_such_and_nothing_acknowledged_is_lost() {
    let Ok(base) = std::env::var("LEGATE_TEST_POSTGRES") else { return };
    let admin = Database::connect(&base).await.unwrap();
    let (user, server) = base.strip_prefix("postgres://").unwrap().rsplit_once('@').unwrap();
    let server = server.split_once('/').map_or(server, |(server, _)| server);
    let way = Way::to(server.to_owned()).await;
    let name = format!("legate_house_{}_{}", std::process::id(), way.address.port());
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let through = format!("postgres://{user}@{}/{name}", way.address);

    let mut suite = Processes::start_on(Some(through), "warn").await;
    let parties = suite.parties().await;
    let asked = at_least(question(&parties.shown, "invoice:read", "apollo/1"), parties.revision);
    assert_eq!(word(&ask(&parties.backend, asked).await), "ALLOWED");
    let mut agents = AgentServiceClient::new(suite.operator("registry"));
    let which = || Some(AgentRef { id: parties.agent.clone(), ..AgentRef::default() });
    let suspend = || SuspendAgentRequest { agent: which(), reason: "a test".into(), ..Default::default() };

    way.is_open.send_replace(false);
    let mut request = tonic::Request::new(suspend());
    request.set_timeout(Duration::from_secs(10));
    let told = Told::from_status(&agents.suspend_agent(request).await.unwrap_err());
    assert_eq!((told.reason.as_str(), told.code), ("DATABASE_UNAVAILABLE", Code::Unavailable), "{told:?}");
    assert!(told.retry_after.is_some() && !told.message.contains(&name), "{told:?}");

    way.is_open.send_replace(true);
    let begin = Instant::now();
    let revision = loop {
        match agents.suspend_agent(suspend()).await {
            Ok(suspended) => break suspended.into_inner().revision,
            Err(status) => assert!(begin.elapsed() < LONG, "{:?}", Told::from_status(&status)),
        }
    };
    let asked = at_least(question(&parties.shown, "invoice:read", "apollo/1"), revision);
    assert_eq!(word(&ask(&parties.backend, asked).await), "AGENT_SUSPENDED");
    suite.crash("registry").await;
    let state = example_agent(suite.operator("registry")).await.status.unwrap().state();
    assert_eq!(state, legate_wire::registry::AgentState::Suspended);
    let request = ResumeAgentRequest { agent: which(), reason: "a test".into(), ..Default::default() };
    AgentServiceClient::new(suite.operator("registry")).resume_agent(request).await.unwrap();
    suite.stop();
    let log = Log::read(&suite.audit_log());
    assert_eq!(log.of_type("agent.suspended").filter(|e| e.revision == revision).count(), 1);
    admin.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
