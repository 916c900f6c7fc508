//! Why a rotation is held, and which command gets out.

use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::fault::Fault;

/// Why a rotation waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum HoldReason {
    /// A call that will not succeed by itself.
    Permanent { step: Step, fault: Fault },
    /// Someone else's value stands where ours should.
    Foreign { step: Step, detail: String },
    /// The step took longer than it may.
    DeadlinePassed { step: Step, waiting: Option<String> },
    /// Checks failed while both values stood.
    Unhealthy { detail: String },
    /// Checks could not be read while both values stood.
    Unread { detail: String },
    /// A consumer's rollout failed, or put the old definition back.
    RolloutFailed { consumer: String, detail: String },
    /// The target refuses the new value, or still accepts the old one.
    ProofFailed { step: Step, detail: String },
    /// A slot is empty whose value is needed.
    ValueMissing { detail: String },
    /// What is published is not what the journal says.
    Differs { detail: String },
    /// A person asked for it.
    Asked { by: String, reason: String },
    /// Clocks of database and store disagree, or time went backwards.
    Clock { detail: String },
    /// The state database is a restored backup or lost commits.
    Recovery { detail: String },
}

impl HoldReason {
    /// One sentence for a person, without a full stop.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Permanent { step, fault } => format!("{step} cannot go on: {fault}"),
            Self::Foreign { step, detail } => format!("{step} found someone else's work: {detail}"),
            Self::DeadlinePassed { step, waiting: Some(what) } => {
                format!("{step} took longer than it may, waiting for {what}")
            }
            Self::DeadlinePassed { step, waiting: None } => format!("{step} took longer than it may"),
            Self::Unhealthy { detail } => format!("checks failed: {detail}"),
            Self::Unread { detail } => format!("checks cannot be read: {detail}"),
            Self::RolloutFailed { consumer, detail } => format!("the rollout of {consumer} failed: {detail}"),
            Self::ProofFailed { step, detail } => format!("{step} failed: {detail}"),
            Self::ValueMissing { detail } => format!("a value is missing: {detail}"),
            Self::Differs { detail } => format!("the store differs from the journal: {detail}"),
            Self::Asked { by, reason } => format!("{by} asked to hold: {reason}"),
            Self::Clock { detail } => format!("clocks cannot be trusted: {detail}"),
            Self::Recovery { detail } => format!("the state database cannot be trusted: {detail}"),
        }
    }

    /// A reason for the history of whoever acts on it: no quotes, nothing from outside.
    fn in_short(&self) -> &'static str {
        match self {
            Self::Permanent { .. } => "a step cannot go on",
            Self::Foreign { .. } => "someone else's work is in the way",
            Self::DeadlinePassed { .. } => "a step took too long",
            Self::Unhealthy { .. } => "checks failed",
            Self::Unread { .. } => "checks cannot be read",
            Self::RolloutFailed { .. } => "a rollout failed",
            Self::ProofFailed { .. } => "a proof failed",
            Self::ValueMissing { .. } => "a value is missing",
            Self::Differs { .. } => "the store differs from the journal",
            Self::Asked { .. } => "somebody asked to hold it",
            Self::Clock { .. } => "clocks cannot be trusted",
            Self::Recovery { .. } => "the state database cannot be trusted",
        }
    }

    /// The command that gets out, for the secret `name`. `can_undo` says whether
    /// the old value can still be brought back.
    #[must_use]
    pub fn way_out(&self, name: &str, can_undo: bool) -> String {
        let undo = if can_undo {
            format!(
                ", or `rota rollback {name} --reason \"{}\"` to go back to the old value",
                self.in_short()
            )
        } else {
            String::new()
        };
        match self {
            Self::Recovery { .. } => {
                format!(
                    "`rota recover` compares the journal with the stores, see docs/operating.md; then \
                     `rota resume {name} --reason \"the database was compared\"`"
                )
            }
            Self::Permanent { .. }
            | Self::Foreign { .. }
            | Self::DeadlinePassed { .. }
            | Self::Unhealthy { .. }
            | Self::Unread { .. }
            | Self::RolloutFailed { .. }
            | Self::ProofFailed { .. }
            | Self::ValueMissing { .. }
            | Self::Differs { .. }
            | Self::Asked { .. }
            | Self::Clock { .. } => {
                format!("fix the cause, then `rota resume {name} --reason \"the cause is fixed\"`{undo}")
            }
        }
    }
}
