//! What can be wrong with the module, and what is then to be done about it.

use cryptoki::error::{Error, RvError};

use crate::keys::KeyError;

/// Why the module did not do what it was asked for. Never holds a PIN or any part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The session, the token or the way to it fell away: begun again, it may go.
    #[error("{0}")]
    Line(String),
    /// An object is not there under the handle by which it was known.
    #[error("an object has another handle now")]
    Handle,
    /// The key is not in the token.
    #[error("the key is not in the token")]
    Lost,
    /// Asking again does not help, and may harm.
    #[error("{0}")]
    Refused(String),
    /// It answered, and not as it should.
    #[error("{0}")]
    Wrong(String),
    /// It did not answer in time.
    #[error("the module did not answer in time")]
    Silent,
    /// It answers others, and more is asked of it than it does in time.
    #[error("more is asked of the module than it does in time")]
    Busy,
    /// It did not do its work a moment ago, and is asked again when it does.
    #[error("{0}")]
    Down(String),
}

impl Trouble {
    pub(super) fn of(token: &str, why: &Self) -> KeyError {
        KeyError::Module { what: format!("the token {token:?} (PKCS #11)"), why: why.to_string() }
    }

    /// Whether the module does its work all the same.
    pub(super) const fn is_of_one_call(&self) -> bool {
        matches!(self, Self::Handle | Self::Lost | Self::Wrong(_) | Self::Busy)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let Error::Pkcs11(code, _) = error else { return Self::Wrong(text) };
        match code {
            RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid => Self::Handle,
            RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::SessionCount
            | RvError::OperationActive
            | RvError::UserNotLoggedIn
            | RvError::CryptokiNotInitialized
            | RvError::DeviceError
            | RvError::DeviceRemoved
            | RvError::DeviceMemory
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::SlotIdInvalid
            | RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::FunctionCanceled
            | RvError::HostMemory
            // What a maker's own code means is not known; to begin again is the one thing that may help.
            | RvError::VendorDefined(_) => Self::Line(text),
            _ => Self::Wrong(text),
        }
    }
}
