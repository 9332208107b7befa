//! Generated code for everything under proto/, and nothing else (but `Debug` that hides secrets, what all declared objects have, and
//! a message that is passed on as it rests).
#![allow(
    missing_docs,
    clippy::all,
    clippy::large_futures,
    unreachable_pub,
    reason = "generated; the documentation is in proto/"
)]

mod declared;
mod passed_on;
mod redacted;
mod redacted_svids;

/// Every message and service as a `google.protobuf.FileDescriptorSet`, for reflection and JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The packages, nested as their names are, since generated code refers across them by path.
mod legate {
    pub mod registry {
        pub mod v1 {
            tonic::include_proto!("legate.registry.v1");
            pub use crate::passed_on::SnapshotPart;
        }
    }
    pub mod credential {
        pub mod v1 {
            tonic::include_proto!("legate.credential.v1");
        }
    }
    pub mod policy {
        pub mod v1 {
            tonic::include_proto!("legate.policy.v1");
        }
    }
    pub mod audit {
        pub mod v1 {
            tonic::include_proto!("legate.audit.v1");
        }
    }
    pub mod workload {
        pub mod v1 {
            tonic::include_proto!("legate.workload.v1");
        }
    }
}

/// What ours carry of Google's packages.
mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// What of Envoy's own API is served; proto/envoy says whose it is.
pub mod envoy {
    tonic::include_proto!("envoy.service.auth.v3");
}

/// How Envoy takes its secrets from a node's socket.
pub mod sds {
    tonic::include_proto!("envoy.service.secret.v3");
}

/// SPIFFE's Workload API, which has no package.
pub mod spiffe {
    tonic::include_proto!("_");
}

/// SPIFFE's Broker API, a draft.
pub mod broker {
    tonic::include_proto!("spiffe.broker");
}

pub use google::rpc;
pub use legate::audit::v1 as audit;
pub use legate::credential::v1 as credential;
pub use legate::policy::v1 as policy;
pub use legate::registry::v1 as registry;
pub use legate::workload::v1 as workload;
