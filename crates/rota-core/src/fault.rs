//! What can go wrong at a port, named by what the caller does next.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// A failed call. The message names the system and what a person can do; it
/// never holds a value, a request body or a third-party `Debug` text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Unreachable, timed out or answered 5xx. The effect is unknown: observe, then try again.
    #[error("{message}")]
    Transient { message: String },
    /// Asked to slow down. The effect did not happen: try again, not before `retry_after`.
    #[error("{message}")]
    RateLimited { message: String, retry_after: SignedDuration },
    /// Refused for lack of rights or a bad login. A person has to change something.
    #[error("{message}")]
    Denied { message: String },
    /// Something else stands where ours should. Read it and decide.
    #[error("{message}")]
    Conflict { message: String },
    /// The request can never succeed as it is. A person has to change something.
    #[error("{message}")]
    Invalid { message: String },
}

impl Fault {
    pub fn transient(message: impl Into<String>) -> Self {
        Self::Transient { message: message.into() }
    }

    pub fn denied(message: impl Into<String>) -> Self {
        Self::Denied { message: message.into() }
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into() }
    }

    /// True where trying the same call again later can succeed by itself.
    #[must_use]
    pub fn passes_by_itself(&self) -> bool {
        match self {
            Self::Transient { .. } | Self::RateLimited { .. } => true,
            Self::Denied { .. } | Self::Conflict { .. } | Self::Invalid { .. } => false,
        }
    }

    /// How long the fault itself asks to be left alone.
    #[must_use]
    pub fn asks_to_wait(&self) -> SignedDuration {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            Self::Transient { .. } | Self::Denied { .. } | Self::Conflict { .. } | Self::Invalid { .. } => {
                SignedDuration::ZERO
            }
        }
    }
}
