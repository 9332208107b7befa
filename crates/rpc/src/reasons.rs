//! The reasons that the chassis itself gives.

use tonic::Code;

use crate::Reason;

/// Every reason in this file, for docs/errors.md.
pub const REASONS: &[&Reason] = &[
    &INTERNAL,
    &ACCESS_DENIED,
    &UNAUTHENTICATED,
    &METHOD_UNKNOWN,
    &DEADLINE_TOO_SHORT,
    &DEADLINE_EXCEEDED,
    &INVALID_ARGUMENT,
    &DUPLICATE_HEADER,
    &OVERLOADED,
    &UNREACHABLE,
    &PAGE_TOKEN_INVALID,
    &OPERATOR_NOT_PERMITTED,
    &BREAK_GLASS_REFUSED,
];

/// Something of ours is broken.
pub static INTERNAL: Reason = Reason {
    name: "INTERNAL",
    code: Code::Internal,
    meaning: "Something inside Legate is broken; the call may or may not have had its effect.",
    cure: "Look the incident id up in the service's log; repeat a write only with the same request_id.",
};

/// The method is not for this caller.
pub static ACCESS_DENIED: Reason = Reason {
    name: "ACCESS_DENIED",
    code: Code::PermissionDenied,
    meaning: "The method's row in the access table does not list callers of this kind.",
    cure: "Call with the certificate of somebody who may: see the service's access table.",
};

/// No certificate was shown where one is needed.
pub static UNAUTHENTICATED: Reason = Reason {
    name: "UNAUTHENTICATED",
    code: Code::Unauthenticated,
    meaning: "The caller showed no client certificate, and the method is not open to strangers.",
    cure: "Connect with a client certificate (LEGATE_CERT and LEGATE_KEY, or --cert and --key).",
};

/// The method has no row in the access table.
pub static METHOD_UNKNOWN: Reason = Reason {
    name: "METHOD_UNKNOWN",
    code: Code::Unimplemented,
    meaning: "This service has no such method.",
    cure: "See that the call goes to the right service, and that client and service are of the same release.",
};

/// The deadline leaves no time to work in.
pub static DEADLINE_TOO_SHORT: Reason = Reason {
    name: "DEADLINE_TOO_SHORT",
    code: Code::DeadlineExceeded,
    meaning: "The call's deadline is less than 50 ms away, so it was not begun.",
    cure: "Give the call more time; 5 s is the default.",
};

/// The deadline passed while the call was under way.
pub static DEADLINE_EXCEEDED: Reason = Reason {
    name: "DEADLINE_EXCEEDED",
    code: Code::DeadlineExceeded,
    meaning: "The call was not finished when its deadline passed; a write may or may not have happened.",
    cure: "Repeat a write only with the same request_id; give the call more time.",
};

/// The request breaks a rule.
pub static INVALID_ARGUMENT: Reason = Reason {
    name: "INVALID_ARGUMENT",
    code: Code::InvalidArgument,
    meaning: "A field of the request is missing or breaks its grammar or range.",
    cure: "Correct the fields that are named and call again.",
};

/// A header that has to be single came twice.
pub static DUPLICATE_HEADER: Reason = Reason {
    name: "DUPLICATE_HEADER",
    code: Code::InvalidArgument,
    meaning: "A header that may come once, such as authorization, came several times.",
    cure: "Send it once.",
};

/// Too much at once.
pub static OVERLOADED: Reason = Reason {
    name: "OVERLOADED",
    code: Code::ResourceExhausted,
    meaning: "A bounded queue is full.",
    cure: "Wait as long as RetryInfo says, then call again.",
};

/// The service cannot be reached.
pub static UNREACHABLE: Reason = Reason {
    name: "UNREACHABLE",
    code: Code::Unavailable,
    meaning: "The service at the address cannot be reached, or is not the one that was expected.",
    cure: "Check the address, that the service runs, and that its CA is the one you trust.",
};

/// The page token is no good.
pub static PAGE_TOKEN_INVALID: Reason = Reason {
    name: "PAGE_TOKEN_INVALID",
    code: Code::InvalidArgument,
    meaning: "The page token is edited, or belongs to another question or caller.",
    cure: "Start again without a page token.",
};

/// The operator has no role that gives the right.
pub static OPERATOR_NOT_PERMITTED: Reason = Reason {
    name: "OPERATOR_NOT_PERMITTED",
    code: Code::PermissionDenied,
    meaning: "The operator has no role, in force now, that gives the right that the call needs in that namespace.",
    cure: "See your roles (legate whoami); an administrator of the namespace gives more with an OperatorBinding.",
};

/// The operator may not state an emergency.
pub static BREAK_GLASS_REFUSED: Reason = Reason {
    name: "BREAK_GLASS_REFUSED",
    code: Code::PermissionDenied,
    meaning: "The call states an emergency, and the operator has no BREAK_GLASS role in force now.",
    cure: "Call without --break-glass, or let an administrator give the role with an OperatorBinding.",
};

/// Defines a service's reasons, and `REASONS`, the list of all of them.
#[macro_export]
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $code:ident, $meaning:literal, $cure:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: $crate::Reason = $crate::Reason {
            name: stringify!($name),
            code: $crate::Code::$code,
            meaning: $meaning,
            cure: $cure,
        };)*

        /// Every reason that this service gives, beside those of the crates it is built on.
        pub const REASONS: &[&$crate::Reason] = &[$(&$name),*];
    };
}
