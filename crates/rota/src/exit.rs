//! How a command ends: exit codes, and errors that say what to do.
//!
//! Deliberately absent: a conversion from any error. Third-party texts can hold
//! values, so every place that turns one into a [`Failure`] says what it shows.

use std::fmt;

use rota_core::fault::Fault;
use rota_engine::ports::JournalError;
use serde::{Deserialize, Serialize};

/// The exit codes, as `docs/command-line.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// Something went wrong that no other code names.
    Failure = 1,
    /// The command line itself was wrong (clap's code).
    Usage = 2,
    /// Configuration, policy or input that has to be changed first.
    Invalid = 3,
    /// The database or another system could not be reached; the same command may work later.
    Unavailable = 4,
    /// Not allowed: missing rights, or an order that the rotation's state forbids.
    Refused = 5,
    /// No such secret, rotation or policy.
    NotFound = 6,
    /// It was looked at and is not well: `health`, `doctor`, `history verify`, `status NAME`.
    Unhealthy = 7,
    /// The person said no, or could not be asked.
    Declined = 8,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed, in words for the person who ran it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened: lower-case, no full stop, never a value.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Exit::Invalid, message)
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says first what was being done.
    pub(crate) fn while_doing(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let exit = match &fault {
            Fault::Transient { .. } | Fault::RateLimited { .. } => Exit::Unavailable,
            Fault::Denied { .. } | Fault::Conflict { .. } => Exit::Refused,
            Fault::Invalid { .. } => Exit::Invalid,
        };
        Self::new(exit, fault.to_string())
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Stale => Self::new(Exit::Refused, error.to_string()),
            JournalError::Fault(fault) => fault.into(),
        }
    }
}

/// Standard output is closed or full. Nothing else in the program returns a bare
/// `io::Error`, and its text holds no content.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // The reader has what it wanted (`rota history | head`): nothing is wrong.
            return Self::new(Exit::Success, String::new());
        }
        Self::new(Exit::Failure, format!("cannot write the output: {error}"))
    }
}

pub(crate) type Outcome = Result<Exit, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_code() {
        let page = include_str!("../../../docs/command-line.md");
        let all = [
            Exit::Success,
            Exit::Failure,
            Exit::Usage,
            Exit::Invalid,
            Exit::Unavailable,
            Exit::Refused,
            Exit::NotFound,
            Exit::Unhealthy,
            Exit::Declined,
        ];
        for exit in all {
            let word = serde_json::to_value(exit).unwrap();
            let row = format!("| {} | `{}` |", exit as u8, word.as_str().unwrap());
            assert!(page.contains(&row), "docs/command-line.md has no row {row}");
        }
    }
}
