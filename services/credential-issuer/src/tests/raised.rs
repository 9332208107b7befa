//! The service raised as it is in production: real mutual TLS, and around it a registry and a policy-decision that are not.
