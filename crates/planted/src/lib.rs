//! Bugs that are planted to see that a test catches each: a harness that catches nothing proves nothing.
//!
//! Each is a feature of this crate, and none is there in a build of the product. Where several are built in, the environment says which
//! one acts, so that one build is enough to try them all, each alone.

#[cfg(all(feature = "bug_ack_before_fsync", not(debug_assertions)))]
compile_error!("bug_ack_before_fsync is a planted bug, for tests only");
#[cfg(all(feature = "bug_any_revision", not(debug_assertions)))]
compile_error!("bug_any_revision is a planted bug, for tests only");
#[cfg(all(feature = "bug_lost_forbid", not(debug_assertions)))]
compile_error!("bug_lost_forbid is a planted bug, for tests only");
#[cfg(all(feature = "bug_no_fence", not(debug_assertions)))]
compile_error!("bug_no_fence is a planted bug, for tests only");
#[cfg(all(feature = "bug_resume_tls", not(debug_assertions)))]
compile_error!("bug_resume_tls is a planted bug, for tests only");
#[cfg(all(feature = "bug_skip_state_on_renew", not(debug_assertions)))]
compile_error!("bug_skip_state_on_renew is a planted bug, for tests only");
#[cfg(all(feature = "bug_stale_allow", not(debug_assertions)))]
compile_error!("bug_stale_allow is a planted bug, for tests only");

/// Names the bug that acts, by its feature.
pub const CHOICE: &str = "LEGATE_PLANTED";

/// The bugs that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The journal acknowledges what is not synced yet.
    AckBeforeFsync,
    /// A decision is made by whatever revision there is.
    AnyRevision,
    /// The index of policies does not meet forbids.
    LostForbid,
    /// Whoever had the lease of a log once writes on.
    NoFence,
    /// A TLS session is resumed, and its client's certificate is not verified again.
    ResumeTls,
    /// Whoever renews is not asked whether it was stopped.
    SkipStateOnRenew,
    /// A view that is too old decides.
    StaleAllow,
}

/// Whether the bug is there, and acts.
#[must_use]
pub fn is(bug: Bug) -> bool {
    let (is_there, name) = match bug {
        Bug::AckBeforeFsync => (cfg!(feature = "bug_ack_before_fsync"), "bug_ack_before_fsync"),
        Bug::AnyRevision => (cfg!(feature = "bug_any_revision"), "bug_any_revision"),
        Bug::LostForbid => (cfg!(feature = "bug_lost_forbid"), "bug_lost_forbid"),
        Bug::NoFence => (cfg!(feature = "bug_no_fence"), "bug_no_fence"),
        Bug::ResumeTls => (cfg!(feature = "bug_resume_tls"), "bug_resume_tls"),
        Bug::SkipStateOnRenew => (cfg!(feature = "bug_skip_state_on_renew"), "bug_skip_state_on_renew"),
        Bug::StaleAllow => (cfg!(feature = "bug_stale_allow"), "bug_stale_allow"),
    };
    is_there && std::env::var_os(CHOICE).is_some_and(|chosen| chosen == name)
}
