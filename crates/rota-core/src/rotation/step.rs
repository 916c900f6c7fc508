//! The steps of a rotation, forward and backward, and the phase each belongs to.

use serde::{Deserialize, Serialize};

use crate::policy::model::HookPoint;

/// One step. Verbs; the order is decided by [`super::plan`], not by this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Copies the value in use to a write-once slot and reads it back.
    Keep,
    /// Puts the candidate into its slot: generated here, handed in by a person, or created by the target.
    Stage,
    /// Makes the target accept the candidate beside the old value.
    Install,
    /// Proves the candidate by really using it.
    Prove,
    /// Publishes `[old, new]`: everybody accepts the new one.
    Introduce,
    IntroduceRollout,
    /// Publishes `[new, old]`: everybody uses the new one.
    Promote,
    PromoteRollout,
    /// Waits out the overlap and collects healthy observations.
    Watch,
    /// Reads evidence that the old value is idle.
    ConfirmIdle,
    /// Publishes `[new]`.
    Withdraw,
    WithdrawRollout,
    /// Reads the same evidence again, right before the old value is disabled.
    RecheckIdle,
    /// Makes the target refuse the old value, in a way that can be taken back.
    Disable,
    /// Makes the target refuse the old value for good.
    Revoke,
    /// A person says that the provider's key is revoked.
    Confirm,
    /// Proves in one attempt that the new value is accepted and the old one refused.
    ProveRefused,
    /// Empties the slots.
    Purge,
    /// Undo: makes the target accept the old value again and proves it.
    Restore,
    /// Undo: publishes `[new, old]` from `[new]`.
    Reaccept,
    ReacceptRollout,
    /// Undo: publishes `[old, new]` from `[new, old]`.
    Demote,
    DemoteRollout,
    /// Undo: waits until nothing that the new value signed is still in use.
    Cooldown,
    /// Undo: publishes `[old]`.
    Reject,
    RejectRollout,
    /// Undo: removes the candidate from the target.
    Remove,
    /// Undo: empties the slots.
    Discard,
    /// Runs what the policy asks for at this point.
    Hook(HookPoint),
}

/// Where a rotation is, in the words of its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Generate,
    DualRun,
    Monitor,
    Retire,
    RollingBack,
    Held,
    Completed,
    RolledBack,
    Abandoned,
    Superseded,
}

impl Phase {
    /// The name as stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::DualRun => "dual_run",
            Self::Monitor => "monitor",
            Self::Retire => "retire",
            Self::RollingBack => "rolling_back",
            Self::Held => "held",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Abandoned => "abandoned",
            Self::Superseded => "superseded",
        }
    }

    /// True once nothing more happens in the rotation.
    #[must_use]
    pub fn is_ended(self) -> bool {
        match self {
            Self::Completed | Self::RolledBack | Self::Abandoned | Self::Superseded => true,
            Self::Generate
            | Self::DualRun
            | Self::Monitor
            | Self::Retire
            | Self::RollingBack
            | Self::Held => false,
        }
    }
}

/// What a step does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Changes something outside: wants an intent before and an observation first.
    Effect,
    /// Writes what consumers read.
    Publication(List),
    /// Waits for the consumers' rollouts of the last publication.
    Rollout,
    /// Only reads.
    Observation,
    /// Waits for time or for a person.
    Wait,
}

/// What consumers read: the first to use, the rest to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// The secret does not exist yet.
    Nothing,
    Old,
    OldNew,
    NewOld,
    New,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 35] = [
        Self::Hook(HookPoint::BeforeGenerate),
        Self::Keep,
        Self::Stage,
        Self::Install,
        Self::Prove,
        Self::Hook(HookPoint::AfterGenerate),
        Self::Introduce,
        Self::IntroduceRollout,
        Self::Hook(HookPoint::BeforePromote),
        Self::Promote,
        Self::PromoteRollout,
        Self::Hook(HookPoint::AfterPromote),
        Self::Watch,
        Self::Hook(HookPoint::BeforeRetire),
        Self::ConfirmIdle,
        Self::Withdraw,
        Self::WithdrawRollout,
        Self::RecheckIdle,
        Self::Disable,
        Self::Revoke,
        Self::Confirm,
        Self::Hook(HookPoint::OnEmergency),
        Self::ProveRefused,
        Self::Hook(HookPoint::AfterRetire),
        Self::Purge,
        Self::Restore,
        Self::Reaccept,
        Self::ReacceptRollout,
        Self::Demote,
        Self::DemoteRollout,
        Self::Cooldown,
        Self::Reject,
        Self::RejectRollout,
        Self::Remove,
        Self::Discard,
    ];

    /// The phase that the step belongs to.
    #[must_use]
    pub fn phase(self) -> Phase {
        match self {
            Self::Keep | Self::Stage | Self::Install | Self::Prove => Phase::Generate,
            Self::Introduce | Self::IntroduceRollout | Self::Promote | Self::PromoteRollout => Phase::DualRun,
            Self::Watch => Phase::Monitor,
            Self::ConfirmIdle
            | Self::Withdraw
            | Self::WithdrawRollout
            | Self::RecheckIdle
            | Self::Disable
            | Self::Revoke
            | Self::Confirm
            | Self::ProveRefused
            | Self::Purge => Phase::Retire,
            Self::Restore
            | Self::Reaccept
            | Self::ReacceptRollout
            | Self::Demote
            | Self::DemoteRollout
            | Self::Cooldown
            | Self::Reject
            | Self::RejectRollout
            | Self::Remove
            | Self::Discard => Phase::RollingBack,
            Self::Hook(point) => match point {
                HookPoint::BeforeGenerate | HookPoint::AfterGenerate => Phase::Generate,
                HookPoint::BeforePromote | HookPoint::AfterPromote => Phase::DualRun,
                HookPoint::BeforeRetire | HookPoint::AfterRetire | HookPoint::OnEmergency => Phase::Retire,
            },
        }
    }

    /// What the step does to the world.
    #[must_use]
    pub fn nature(self) -> Nature {
        match self {
            Self::Keep
            | Self::Stage
            | Self::Install
            | Self::Disable
            | Self::Revoke
            | Self::Purge
            | Self::Restore
            | Self::Remove
            | Self::Discard
            | Self::Hook(_) => Nature::Effect,
            Self::Prove | Self::Watch | Self::ConfirmIdle | Self::RecheckIdle | Self::ProveRefused => {
                Nature::Observation
            }
            Self::Introduce | Self::Demote => Nature::Publication(List::OldNew),
            Self::IntroduceRollout
            | Self::PromoteRollout
            | Self::WithdrawRollout
            | Self::ReacceptRollout
            | Self::DemoteRollout
            | Self::RejectRollout => Nature::Rollout,
            Self::Promote | Self::Reaccept => Nature::Publication(List::NewOld),
            Self::Withdraw => Nature::Publication(List::New),
            Self::Confirm | Self::Cooldown => Nature::Wait,
            Self::Reject => Nature::Publication(List::Old),
        }
    }

    /// The rollout that a publication is followed by; `None` for every other step.
    #[must_use]
    pub fn followed_by(self) -> Option<Self> {
        match self {
            Self::Introduce => Some(Self::IntroduceRollout),
            Self::Promote => Some(Self::PromoteRollout),
            Self::Withdraw => Some(Self::WithdrawRollout),
            Self::Reaccept => Some(Self::ReacceptRollout),
            Self::Demote => Some(Self::DemoteRollout),
            Self::Reject => Some(Self::RejectRollout),
            _ => None,
        }
    }

    /// The name as stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Stage => "stage",
            Self::Install => "install",
            Self::Prove => "prove",
            Self::Introduce => "introduce",
            Self::IntroduceRollout => "introduce_rollout",
            Self::Promote => "promote",
            Self::PromoteRollout => "promote_rollout",
            Self::Watch => "watch",
            Self::ConfirmIdle => "confirm_idle",
            Self::Withdraw => "withdraw",
            Self::WithdrawRollout => "withdraw_rollout",
            Self::RecheckIdle => "recheck_idle",
            Self::Disable => "disable",
            Self::Revoke => "revoke",
            Self::Confirm => "confirm",
            Self::ProveRefused => "prove_refused",
            Self::Purge => "purge",
            Self::Restore => "restore",
            Self::Reaccept => "reaccept",
            Self::ReacceptRollout => "reaccept_rollout",
            Self::Demote => "demote",
            Self::DemoteRollout => "demote_rollout",
            Self::Cooldown => "cooldown",
            Self::Reject => "reject",
            Self::RejectRollout => "reject_rollout",
            Self::Remove => "remove",
            Self::Discard => "discard",
            Self::Hook(point) => match point {
                HookPoint::BeforeGenerate => "hook_before_generate",
                HookPoint::AfterGenerate => "hook_after_generate",
                HookPoint::BeforePromote => "hook_before_promote",
                HookPoint::AfterPromote => "hook_after_promote",
                HookPoint::BeforeRetire => "hook_before_retire",
                HookPoint::AfterRetire => "hook_after_retire",
                HookPoint::OnEmergency => "hook_on_emergency",
            },
        }
    }

    /// The step of that stored name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }

    /// True where the step publishes or changes the target, so that a rollback
    /// must assume that it happened once its intent stands.
    #[must_use]
    pub fn leaves_a_trace(self) -> bool {
        match self.nature() {
            Nature::Effect | Nature::Publication(_) => true,
            Nature::Rollout | Nature::Observation | Nature::Wait => false,
        }
    }

    /// True for steps of the way back.
    #[must_use]
    pub fn undoes(self) -> bool {
        self.phase() == Phase::RollingBack
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Step {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom(format!("no step is called `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_listed_once_and_keeps_its_name_in_storage() {
        let mut names = std::collections::BTreeSet::new();
        for step in Step::ALL {
            assert!(names.insert(step.as_str()), "{step:?} stands twice");
            let stored = serde_json::to_string(&step).unwrap();
            assert_eq!(serde_json::from_str::<Step>(&stored).unwrap(), step);
        }
    }
}
