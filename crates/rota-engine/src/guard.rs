//! The protections that stand between a rotation and a lost key, each with a name.
//!
//! A simulation that finds nothing proves nothing until it is seen to find something.
//! A build with the feature `test-support` can take one protection away, in the engine
//! or in the fakes beside it; in every other build all of them stand, and nothing of
//! this is left in the program.

macro_rules! guards {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One protection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Guard {
            /// Every protection.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What it promises, in one sentence.
            #[must_use]
            pub fn promise(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

guards! {
    /// The journal refuses a record from an epoch that is not the row's.
    RecordsCheckTheEpoch,
    /// An order raises the epoch of the rotation in flight.
    OrdersRaiseTheEpoch,
    /// The journal opens one rotation a secret and exclusive key.
    OneRotationInFlight,
    /// The journal keeps the intents that it was given.
    IntentsAreKept,
    /// A rollout that began before a publication does not serve it.
    RolloutsBeginAfterThePublication,
    /// The copy of the policy that a claim brings keeps its overlap and `token_ttl`.
    TheOverlapIsKept,
    /// A store publishes only over the version that the writer read.
    PublicationsCompare,
    /// A slot is written once.
    SlotsAreWrittenOnce,
    /// The target refuses an effect whose fence is not greater than the last one.
    FencesAreCompared,
    /// The target is asked whether an earlier creation arrived.
    CreationsAreLookedUp,
    /// The new value is really tried, rather than believed.
    ProofsAreMade,
    /// Idleness is read from the target's sessions.
    IdlenessIsRead,
    /// A rollout is finished when no old instance is left, not when its deployment is stable.
    FinishedMeansNoOldInstance,
    /// Before what a rollout took away is gone for good, every instance is looked at again.
    RolloutsAreRechecked,
    /// A check that cannot be read is unknown, not healthy.
    UnknownIsNotHealthy,
    /// Destructive calls name exactly one credential.
    CredentialsAreNamed,
    /// The target is looked at before it is changed.
    EffectsAreObservedFirst,
    /// No effect starts before its intent is recorded.
    IntentsComeFirst,
    /// Every intent has its line in history.
    IntentsAreInHistory,
    /// Effect numbers grow.
    EffectNumbersGrow,
    /// The old value is copied to a slot before anything else happens.
    TheOldValueIsKept,
    /// The new value is proven before it is published, and once more right then.
    ProofComesFirst,
    /// An unhealthy observation does not count as a healthy one.
    UnhealthyIsNotHealthy,
    /// A rotation watches for the whole overlap with enough observations.
    TheWatchIsWaitedFor,
    /// A step that follows a rollout waits for its end.
    RolloutsAreWaitedFor,
    /// Every consumer rolls out.
    EveryConsumerRollsOut,
    /// No rollout starts before the publication can be seen everywhere.
    SettleIsWaitedFor,
    /// On the way back, what the new value signed expires before it is refused.
    TheCooldownIsWaited,
    /// A disabled value stays recoverable for `revoke_after`.
    RevokingWaits,
    /// Nothing is withdrawn or disabled outside the window.
    TheWindowIsKept,
    /// Slots are purged last.
    SlotsArePurgedLast,
    /// What a rotation that was taken over has lost is removed before another key is made.
    LostKeysGoFirst,
    /// What leaked is revoked, also where another rotation had put it there.
    LeaksAreRevoked,
    /// An undo waits until a late effect has landed, where no fence stops it.
    LateEffectsAreWaitedOut,
    /// What someone else published is not overwritten.
    ForeignIsHeld,
    /// A stale read is read again before it is taken for someone else's work.
    StaleReadsAreReadAgain,
    /// Every mirror is published to.
    MirrorsAreWritten,
    /// A call that does not answer is given up after its limit.
    CallsAreLimited,
    /// A rotation that is held tells somebody.
    HoldsAreTold,
    /// No value reaches the journal.
    ValuesStayOutOfTheJournal,
}

/// Which protections stand: all, or all but one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guards {
    without: Option<Guard>,
}

impl Guards {
    /// All but `guard`.
    #[must_use]
    pub fn without(guard: Guard) -> Self {
        Self { without: Some(guard) }
    }

    #[must_use]
    pub fn stand(self, guard: Guard) -> bool {
        self.without != Some(guard)
    }
}
