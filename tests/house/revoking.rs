//! Everything that was issued to a class is taken back by one order: end to end, on a raised suite.

use std::time::Duration;

use legate_client::Runtime;
use legate_clock::Timestamp;
use legate_rpc::Told;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::token_service_client::TokenServiceClient;
use legate_wire::credential::{IntrospectRequest, PreviewRevocationRequest, preview_revocation_request};
use legate_wire::registry::revocation_service_client::RevocationServiceClient;
use legate_wire::registry::revoke_issued_request::Level;
use legate_wire::registry::{RevocationReason, RevokeIssuedRequest};

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, LONG, Raised};

fn order(namespace: &str, class: &str) -> RevokeIssuedRequest {
    RevokeIssuedRequest {
        namespace: namespace.into(),
        level: Some(Level::AgentClass(class.into())),
        reason: RevocationReason::KeyCompromise.into(),
        comment: "a node was seized".into(),
        request_id: "order-1".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_is_cut_off_by_one_order_at_every_door() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let issued = payments.runtime.token(AUDIENCE).await.unwrap();
    let presenter = payments.runtime.identity().x5t_s256().unwrap();
    let shown = Shown { token: issued.access_token.clone(), presenter };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let read = || question(&shown, "invoice:read", "apollo/1001");
    assert_eq!(word(&ask(&backend, read()).await), "ALLOWED");

    let mut admin = CredentialAdminServiceClient::new(raised.operator("credential-issuer"));
    let level = Some(preview_revocation_request::Level::AgentClass("invoice-worker".into()));
    let preview = PreviewRevocationRequest { namespace: "payments".into(), level };
    let preview = admin.preview_revocation(preview).await.unwrap().into_inner();
    assert_eq!((preview.agents, preview.credentials.len(), preview.partial), (1, 1, false));

    // Whoever is no operator orders nothing, and of a class that is not there nothing is ordered.
    let mut as_agent = RevocationServiceClient::new(raised.dial("registry", payments.runtime.identity().clone()));
    let refused = as_agent.revoke_issued(order("payments", "invoice-worker")).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "ACCESS_DENIED");
    let mut revocations = RevocationServiceClient::new(raised.operator("registry"));
    let refused = revocations.revoke_issued(order("payments", "none")).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "OBJECT_NOT_FOUND");

    let before = legate_clock::Clock::now(&legate_clock::SystemClock::new());
    let revoked = revocations.revoke_issued(order("payments", "invoice-worker")).await.unwrap().into_inner();
    let cutoff = Timestamp::try_from(revoked.authorization_cutoff.unwrap()).unwrap();
    assert!(cutoff.since(before) >= Duration::from_secs(5));
    // The same order again is the same order.
    let again = revocations.revoke_issued(order("payments", "invoice-worker")).await.unwrap().into_inner();
    assert_eq!(again, revoked);

    assert_eq!(word(&ask(&backend, at_least(read(), revoked.revision)).await), "TOKEN_OUTLIVED");
    let point = TokenServiceClient::new(raised.dial("credential-issuer", payments.backend.clone()));
    let inactive = async {
        loop {
            let request = IntrospectRequest { token: issued.access_token.clone() };
            if !point.clone().introspect(request).await.unwrap().into_inner().active {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, inactive).await.unwrap();
    // The door refuses the certificate, over a new connection too.
    let anew = Runtime::new(&raised.remote("credential-issuer"), payments.enrolled.identity().unwrap()).unwrap();
    for runtime in [&payments.runtime, &anew] {
        assert!(runtime.token(AUDIENCE).await.is_err());
        assert!(runtime.renew().await.is_err());
    }
    // The backend is of no class.
    assert_eq!(word(&ask(&backend, read()).await), "TOKEN_OUTLIVED");
    raised.suite.shutdown().await;
}
