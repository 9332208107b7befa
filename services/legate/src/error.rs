//! Why a command fails: what, why, what to do next, the stable reason, and the exit code.

use std::fmt;
use std::io;

use legate_boot::StartError;
use legate_client::ClientError;
use legate_rpc::{Code, Reason, Told};
use tonic::Status;

legate_rpc::reasons! {
    /// The command line is not one.
    USAGE, InvalidArgument, "The command line lacks something, or says something that the program does not know.", "See legate help, or legate COMMAND --help.";
    /// A service's address or an identity is not known.
    CONTEXT_MISSING, FailedPrecondition, "The program was not told where a service is, whom to believe or who you are.", "Source the env file of legate dev, set the LEGATE_ variable, or give the flag that is named.";
    /// A local file is no good.
    FILE_REFUSED, InvalidArgument, "A local file is missing, unreadable, too open or broken, or one would be overwritten.", "Look at the file that is named.";
    /// Keys are in use.
    KEYS_IN_USE, FailedPrecondition, "Somebody else is at work on the keys, or a credential-issuer that runs knows only a version of the key-encryption key that would be dropped.", "Wait a few seconds and do it again; where systemd hands the key over, restart credential-issuer first.";
    /// A manifest is no good.
    MANIFEST_INVALID, InvalidArgument, "A manifest has an unknown field, a wrong value, something twice, or cannot be read.", "Mend the place that is named; legate schema prints what is allowed.";
    /// A mapping of tools is no good.
    MAPPING_INVALID, InvalidArgument, "A mapping of the tools of an MCP server has an unknown field, a wrong value, something twice, or cannot be read.", "Mend the place that is named; legate mcp schema makes a mapping to begin with.";
    /// A plan file is no good.
    PLAN_FILE_INVALID, InvalidArgument, "A plan file cannot be read, or was changed since legate plan wrote it.", "Plan again, and apply that plan unchanged.";
    /// A policy test fails.
    POLICY_TEST_FAILED, FailedPrecondition, "A question of a policy test is answered in another way than it has to be.", "See which question fails (legate plan, legate policy test), and mend the policy or the test.";
    /// A policy does not fit.
    POLICY_INVALID, InvalidArgument, "The Cedar policy does not parse, is a template, uses what a decision cannot provide, or does not fit the schema of what there is.", "Mend the policy at the place that is named; legate policy schema NAMESPACE prints what there is.";
    /// A schema cannot be used.
    POLICY_SCHEMA_INVALID, InvalidArgument, "The policy_schema of the namespace does not parse, or declares what no question could be.", "Mend it as is said; docs/policies.md shows what can be declared.";
    /// Nobody can be asked for a proof.
    ANALYSIS_UNAVAILABLE, FailedPrecondition, "The solver does not start, or this legate was built without the feature analyze.", "Install cvc5 (Debian: apt install cvc5), or say where it is (--solver, LEGATE_CVC5); build legate with --features analyze.";
    /// Policies are not such that anything can be proved.
    NOT_PROVABLE, FailedPrecondition, "A policy looks at what callers state, and the namespace declares nothing of that; or it may fail where an agent has no such attribute.", "Declare policySchema of the namespace (docs/policies.md), and guard what may be absent with `has`.";
    /// Something was not found out.
    ANALYSIS_INCOMPLETE, Aborted, "Of some actions and types the solver did not find out in its time what differs, or nothing can be proved.", "Look at the lines that say why; give it more time (--each, --timeout), or compare fewer policies.";
    /// The registry does not stand still.
    REGISTRY_BUSY, Aborted, "What has to be looked at as a whole was written again while it was looked at.", "Try again.";
    /// A log does not verify.
    VERIFICATION_FAILED, DataLoss, "The log, a proof or a checkpoint is not what was signed.", "Keep the log and the checkpoint as they are, and find out who changed what; compare with a copy.";
    /// A receiver does not take events.
    EXPORT_REFUSED, FailedPrecondition, "The receiver of an export refuses events, or rejects some of them.", "See what it says; what it has taken is not sent again with --resume.";
    /// A service or suite does not start.
    START_REFUSED, FailedPrecondition, "A service does not start.", "Mend what the message names, and start again.";
    /// A suite's directory is somebody else's.
    DIRECTORY_NOT_OURS, FailedPrecondition, "The directory is not empty and was not made by legate dev, or another legate dev uses it.", "Give an empty directory, or one that legate dev made, to one legate dev at a time.";
    /// The node helper's socket cannot be served.
    SOCKET_REFUSED, FailedPrecondition, "The path of the node helper's socket cannot be used: others could put a socket there, something else lies there, or somebody serves it.", "Give a path in a directory that belongs to root or to the helper's user and that nobody else may write to.";
    /// The node has no identity.
    NODE_IDENTITY_MISSING, FailedPrecondition, "The node helper has no certificate of a node that is good now, and nothing to obtain one by.", "Give it a one-time token (legate credential create --node NAMESPACE/NAME), or an identity token of an issuer that the node's namespace trusts.";
    /// A development suite would be reachable or would use other data.
    DEV_OVERRIDDEN, FailedPrecondition, "The environment overrides configuration (LEGATE_CONFIG_...), and a development suite listens on the loopback and keeps its data in its directory, always.", "Unset the variables that are named, or use legate serve.";
    /// The demo's story did not hold.
    DEMO_FAILED, Internal, "A step of the demo did not go as promised.", "See the steps that are marked FAILED.";
    /// A health check found something.
    DOCTOR_FOUND, FailedPrecondition, "Something that Legate needs is not as it should be.", "Mend the lines that are marked; legate doctor says what it looked at.";
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or allowed.
    Done,
    /// The command line, a local file or the request is wrong.
    Usage,
    /// A plan has changes, and it was asked to say so.
    Changes,
    /// Denied.
    Denied,
    /// Something else was written in between, or stands against it.
    Conflict,
    /// A service is not there now.
    Unavailable,
    /// A log or proof does not verify.
    Unverified,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 1,
            Self::Changes => 2,
            Self::Denied => 3,
            Self::Conflict => 4,
            Self::Unavailable => 5,
            Self::Unverified => 6,
        }
    }

    /// What a gRPC code means for the one who asked.
    pub(crate) const fn of(code: Code) -> Self {
        match code {
            Code::Ok => Self::Done,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::Aborted | Code::AlreadyExists | Code::FailedPrecondition => Self::Conflict,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => Self::Unavailable,
            Code::DataLoss => Self::Unverified,
            _ => Self::Usage,
        }
    }
}

/// Why a command fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// The stable reason, as in docs/errors.md; empty when nobody gave one.
    pub reason: String,
    /// What and why.
    pub what: String,
    /// Fields of the request that are wrong: path and why.
    pub fields: Vec<(String, String)>,
    /// What to do next.
    pub next: String,
}

impl Failure {
    /// Something on this side of the wire.
    pub(crate) fn local(reason: &'static Reason, what: impl Into<String>) -> Self {
        let exit = if reason.code == Code::DataLoss { Exit::Unverified } else { Exit::Usage };
        Self { exit, reason: reason.name.into(), what: what.into(), fields: Vec::new(), next: reason.cure.into() }
    }

    /// A local file.
    pub(crate) fn file(path: &std::path::Path, why: impl fmt::Display) -> Self {
        Self::local(&FILE_REFUSED, format!("{}: {why}", path.display()))
    }

    /// The other end of the pipe was closed: there is nobody to tell anything.
    pub(crate) fn is_silent(&self) -> bool {
        self.exit == Exit::Done
    }

    fn told(told: Told) -> Self {
        Self {
            exit: Exit::of(told.code),
            reason: told.reason,
            what: told.message,
            fields: told.violations,
            next: told.cure,
        }
    }

    /// What a service answered, or that it did not.
    pub(crate) fn status(service: &str, endpoint: &str, status: &Status) -> Self {
        Self::answered(service, endpoint, Told::from_status(status), || whole(status))
    }

    fn answered(service: &str, endpoint: &str, told: Told, whole: impl FnOnce() -> String) -> Self {
        let mut failure = Self::told(told);
        if failure.reason.is_empty() {
            if failure.exit == Exit::Unavailable {
                return Self::unreachable(service, endpoint, &whole());
            }
            failure.what = format!("{service} at {endpoint}: {}", whole());
        }
        failure
    }

    /// A service was not reached, or does not serve.
    pub(crate) fn unreachable(service: &str, endpoint: &str, why: &str) -> Self {
        Self {
            exit: Exit::Unavailable,
            reason: legate_rpc::UNREACHABLE.name.into(),
            what: format!("{service} at {endpoint}: {why}"),
            fields: Vec::new(),
            next: legate_rpc::UNREACHABLE.cure.into(),
        }
    }

    /// The same, where the SDK made the call.
    pub(crate) fn client(service: &str, endpoint: &str, error: ClientError) -> Self {
        match error {
            ClientError::Refused(told) => {
                let said = told.message.clone();
                Self::answered(service, endpoint, *told, || said)
            }
            ClientError::Dial(fault) => Self::status(service, endpoint, &Status::from(fault)),
            ClientError::Tls(e) => Self::local(&FILE_REFUSED, e.to_string()),
            ClientError::Setting(why) => Self::local(&USAGE, why),
            ClientError::Key(e) | ClientError::Spool(e) | ClientError::Svid(e) => Self::local(&FILE_REFUSED, e),
        }
    }
}

/// A status and everything behind it, such as why a handshake failed.
fn whole(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = std::error::Error::source(status);
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        next = source.source();
    }
    if text.is_empty() { status.code().to_string() } else { text }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.reason.is_empty() {
            write!(f, "{}: ", self.reason)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    /// Writing an answer failed. A closed pipe (`| head -1`) is the reader's good right.
    fn from(error: io::Error) -> Self {
        let mut failure = Self::local(&FILE_REFUSED, format!("the answer cannot be written: {error}"));
        if error.kind() == io::ErrorKind::BrokenPipe {
            failure.exit = Exit::Done;
        }
        failure
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::local(&START_REFUSED, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_exit_code() {
        let exit = |code| Failure::status("registry", "https://x", &Status::new(code, "no")).exit.code();
        assert_eq!(exit(Code::InvalidArgument), 1);
        assert_eq!(exit(Code::NotFound), 1);
        assert_eq!(exit(Code::Internal), 1);
        assert_eq!(exit(Code::PermissionDenied), 3);
        assert_eq!(exit(Code::Unauthenticated), 3);
        assert_eq!(exit(Code::Aborted), 4);
        assert_eq!(exit(Code::AlreadyExists), 4);
        assert_eq!(exit(Code::Unavailable), 5);
        assert_eq!(exit(Code::DeadlineExceeded), 5);
        assert_eq!(Failure::local(&VERIFICATION_FAILED, "x").exit.code(), 6);
        assert_eq!(Failure::local(&CONTEXT_MISSING, "x").exit.code(), 1);
        assert_eq!(Exit::Changes.code(), 2);
    }

    #[test]
    fn every_command_that_a_cure_names_exists() {
        use clap::CommandFactory;
        let all = [
            legate_rpc::REASONS,
            legate_registry::REASONS,
            legate_credential_issuer::REASONS,
            legate_policy_decision::REASONS,
            legate_audit_collector::REASONS,
            legate_client::REASONS,
            legate_workload::REASONS,
            REASONS,
        ];
        let mut named = 0;
        for reason in all.concat() {
            for command in reason.cure.split("legate ").skip(1) {
                let words = command.split([' ', ')', ',', '.', ';']);
                let mut at = crate::cli::Cli::command();
                for word in
                    words.take_while(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
                {
                    if at.get_subcommands().next().is_none() {
                        break;
                    }
                    // "legate makes one" speaks of the program, and is said outside of brackets.
                    let speaks = !reason.cure.contains(&format!("(legate {word}")) && at.get_name() == "legate";
                    let Some(next) = at.find_subcommand(word).cloned() else {
                        assert!(speaks, "{}: there is no command {word:?} in {:?}", reason.name, reason.cure);
                        break;
                    };
                    (at, named) = (next, named + 1);
                }
            }
        }
        assert!(named > 10, "{named}");
    }

    #[test]
    fn an_answer_that_is_not_ours_gets_a_reason_and_a_cure() {
        let failure = Failure::status("registry", "https://127.0.0.1:1", &Status::unavailable("connection refused"));
        assert_eq!(failure.reason, "UNREACHABLE");
        assert!(failure.what.contains("registry at https://127.0.0.1:1"), "{failure}");
        assert!(!failure.next.is_empty());
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_silent());
    }
}
