//! What the registry knows without clock, network or disk.
