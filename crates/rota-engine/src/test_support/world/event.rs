use jiff::Timestamp;
use rota_core::id::{ConsumerId, EffectNo, Epoch, RotationId, SecretId, StoreId, VersionRef};

use crate::ports::{Fence, Slot, TargetEffect, Verdict, Which};

/// Something that really happened outside of Rota. Holds no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldEvent {
    pub at: Timestamp,
    /// Whose call it was, or empty.
    pub actor: String,
    pub kind: WorldEventKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorldEventKind {
    /// A new version became the published one.
    Published {
        store: StoreId,
        path: String,
        version: VersionRef,
        epoch: Epoch,
        effect: EffectNo,
    },
    /// Somebody who is not Rota published something.
    PublishedByOther {
        store: StoreId,
        path: String,
        version: VersionRef,
    },
    Staged {
        store: StoreId,
        slot: Slot,
    },
    /// A slot that held a value holds another one now.
    Rewritten {
        store: StoreId,
        slot: Slot,
    },
    Purged {
        store: StoreId,
        slot: Slot,
    },
    InboxEmptied {
        store: StoreId,
        path: String,
    },
    /// The target made a credential and showed it once.
    Created {
        target: String,
        rotation: RotationId,
        identity: String,
    },
    TargetChanged {
        target: String,
        effect: TargetEffect,
        rotation: RotationId,
        identity: String,
        fence: Fence,
    },
    /// A destructive call did not name what it destroys.
    Unnamed {
        target: String,
        effect: TargetEffect,
        rotation: RotationId,
    },
    /// A value was tried; whether it really works, and what the rotator said.
    Proved {
        secret: SecretId,
        rotation: RotationId,
        which: Which,
        works: bool,
        said: bool,
    },
    /// A check was read: what is true, and what it said.
    Checked {
        consumer: ConsumerId,
        truly: Verdict,
        said: Verdict,
    },
    DeploymentBegun {
        consumer: ConsumerId,
        deployment: u64,
        generation: i64,
    },
    DeploymentCompleted {
        consumer: ConsumerId,
        deployment: u64,
    },
    DeploymentFailed {
        consumer: ConsumerId,
        deployment: u64,
    },
    InstanceStarted {
        consumer: ConsumerId,
        instance: u64,
    },
    InstanceStopped {
        consumer: ConsumerId,
        instance: u64,
    },
    InstanceReread {
        consumer: ConsumerId,
        instance: u64,
    },
    HookRan {
        key: String,
    },
}
