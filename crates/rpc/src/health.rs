//! `grpc.health.v1` of one service.

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Says whether the service serves.
#[derive(Clone)]
pub struct Health(pub(crate) HealthReporter);

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Health")
    }
}

impl Health {
    /// Sets what is told about `service`; the empty name stands for the whole process.
    pub async fn set_serving(&self, service: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(service, status).await;
    }
}
