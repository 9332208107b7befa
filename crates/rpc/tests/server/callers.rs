//! Who gets in: the table for every kind of caller, unknown methods, standing, and headers that claim to be somebody.

use legate_mtls::{Expect, Identity};
use legate_rpc::{Code, Told};
use legate_wire::audit::AppendEventsRequest;
use legate_wire::registry::GetAgentRequest;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::feed_service_client::FeedServiceClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::house::{APPEND, House, ask, told};

#[tokio::test]
async fn the_table_lets_in_those_it_lists_and_nobody_else() {
    let (house, serving) = House::raise().await;
    for (who, identity) in house.everybody() {
        let end = house.ingest(identity).append_events(ask("")).await;
        match who {
            "an agent" | "the registry" => assert_eq!(end.unwrap().into_inner().acked_seq, 7, "{who}"),
            "nobody" => assert_eq!(told(end), (Code::Unauthenticated, "UNAUTHENTICATED".into()), "{who}"),
            _ => assert_eq!(told(end), (Code::PermissionDenied, "ACCESS_DENIED".into()), "{who}"),
        }
    }
    assert_eq!(house.calls(), 2, "who is refused reaches no handler");
    assert_eq!(house.last_seen().method, APPEND);
    let noted = house.refusals.take();
    assert_eq!(noted.len(), 4, "{noted:?}");
    assert!(noted.iter().all(|one| one.method == APPEND && one.count == 1 && one.from.is_some()));
    let text = house.metrics.text();
    let counted = |code: &str| {
        let line = format!("method=\"{APPEND}\",code=\"{code}\"}} ");
        text.lines().find_map(|l| l.split_once(&line)).map(|(_, n)| n.to_owned())
    };
    let counts = ["OK", "UNAUTHENTICATED", "PERMISSION_DENIED"].map(|code| counted(code).unwrap_or_default());
    assert_eq!(counts, ["2", "1", "3"], "{text}");
    serving.shutdown(crate::house::LONG).await;
}

#[tokio::test]
async fn a_method_without_a_row_is_there_for_nobody() {
    let (house, serving) = House::raise().await;
    for (who, identity) in house.everybody() {
        let client = house.dial(identity);
        // One that the service does not know, and one that it knows and the table does not.
        let unknown = AgentServiceClient::new(client.clone()).get_agent(GetAgentRequest::default()).await;
        assert_eq!(told(unknown), (Code::Unimplemented, "METHOD_UNKNOWN".into()), "{who}");
        let hidden = FeedServiceClient::new(client).watch(futures_util::stream::empty()).await;
        assert_eq!(told(hidden), (Code::Unimplemented, "METHOD_UNKNOWN".into()), "{who}");
    }
    assert_eq!(house.calls(), 0);
    serving.shutdown(crate::house::LONG).await;
}

#[tokio::test]
async fn standing_that_is_taken_back_ends_calls_on_an_open_connection() {
    let (house, serving) = House::raise().await;
    let mut agent = house.ingest(house.agent());
    agent.append_events(ask("")).await.unwrap();
    house.taken.0.lock().push(house.agent_id());
    assert_eq!(told(agent.append_events(ask("")).await), (Code::PermissionDenied, "SUSPENDED".into()));
    let noted = house.refusals.take();
    assert_eq!((noted[0].caller.as_str(), noted[0].reason), (house.agent_id().as_str(), "SUSPENDED"));
    house.taken.0.lock().clear();
    agent.append_events(ask("")).await.unwrap();
    assert_eq!((house.calls(), serving.connections().len()), (2, 1));
    serving.shutdown(crate::house::LONG).await;
}

#[tokio::test]
async fn headers_that_claim_to_be_somebody_are_ignored() {
    let (house, serving) = House::raise().await;
    let claims = [
        ("x-agent-id", "agt_01h455vb4pex5vsknk084sn02q"),
        (
            "x-forwarded-client-cert",
            "By=spiffe://example.org/legate/audit-collector;URI=spiffe://example.org/legate/registry",
        ),
        ("x-spiffe-id", "spiffe://example.org/legate/registry"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("ssl-client-s-dn", "CN=admin"),
    ];
    let claiming = || {
        let mut request = ask("");
        for (name, value) in claims {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    house.ingest(house.agent()).append_events(claiming()).await.unwrap();
    assert_eq!(house.last_seen().peer, house.agent_id().as_str());
    let nobody = house.ingest(Identity::anonymous()).append_events(claiming()).await;
    assert_eq!(told(nobody).1, "UNAUTHENTICATED");
    let operator = house.ingest(house.operator()).append_events(claiming()).await;
    assert_eq!(told(operator).1, "ACCESS_DENIED");
    let noted = house.refusals.take();
    assert!(noted.iter().all(|one| one.from.is_some_and(|ip| ip.is_loopback())), "{noted:?}");
    serving.shutdown(crate::house::LONG).await;
}

#[tokio::test]
async fn a_header_that_is_single_comes_once() {
    let (house, serving) = House::raise().await;
    let mut agent = house.ingest(house.agent());
    for header in ["authorization", "grpc-timeout", "traceparent"] {
        let mut twice = ask("");
        let (one, two) = match header {
            "grpc-timeout" => ("5S", "50S"),
            "authorization" => ("Bearer a", "Bearer b"),
            _ => (
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        };
        twice.metadata_mut().insert(header, one.parse().unwrap());
        agent.append_events(ask("")).await.unwrap();
        twice.metadata_mut().append(header, two.parse().unwrap());
        let end = agent.append_events(twice).await;
        match header {
            "authorization" => assert_eq!(told(end), (Code::InvalidArgument, "DUPLICATE_HEADER".into())),
            // Neither gives anybody a right: the first counts.
            _ => {
                end.unwrap();
                let seen = house.last_seen();
                assert!(seen.left < std::time::Duration::from_secs(20), "{seen:?}");
            }
        }
    }
    let mut once = ask("");
    once.metadata_mut().insert("authorization", "Bearer a".parse().unwrap());
    once.metadata_mut()
        .insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
    agent.append_events(once).await.unwrap();
    assert_eq!(house.last_seen().trace_id, "0af7651916cd43dd8448eb211c80319c", "the trace goes on");
    serving.shutdown(crate::house::LONG).await;
}

#[tokio::test]
async fn health_is_told_to_whoever_has_a_certificate() {
    let (house, serving) = House::raise().await;
    let of = |service: &str| HealthCheckRequest { service: service.into() };
    for serves in [true, false] {
        serving.health().set_serving("", serves).await;
        let wanted = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        for (who, identity) in house.everybody() {
            let end = HealthClient::new(house.dial(identity)).check(of("")).await;
            match who {
                "nobody" => assert_eq!(told(end).1, "UNAUTHENTICATED"),
                _ => assert_eq!(end.unwrap().into_inner().status(), wanted, "{who}"),
            }
        }
    }
    let unknown = HealthClient::new(house.dial(house.agent())).check(of("other")).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    serving.shutdown(crate::house::LONG).await;
}

#[tokio::test]
async fn a_server_that_is_not_the_one_expected_gets_no_call() {
    let (house, serving) = House::raise().await;
    let client = house.dial_as(house.agent(), Expect::Service("registry"));
    let mut client = legate_wire::audit::ingest_service_client::IngestServiceClient::new(client);
    let end = client.append_events(AppendEventsRequest::default()).await;
    let status = end.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(house.calls(), 0);
    serving.shutdown(crate::house::LONG).await;
}

#[tokio::test]
async fn what_is_broken_is_told_by_an_incident_and_no_more() {
    let (house, serving) = House::raise().await;
    let status = house.ingest(house.agent()).append_events(ask("broken")).await.unwrap_err();
    let told = Told::from_status(&status);
    assert_eq!((told.code, told.reason.as_str()), (Code::Internal, "INTERNAL"));
    assert!(told.metadata.contains_key("incident"));
    assert!(!format!("{status:?}").contains("canary"), "{status:?}");
    serving.shutdown(crate::house::LONG).await;
}
