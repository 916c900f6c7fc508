//! Switches that break one protection each.
//!
//! A simulation that finds nothing proves nothing until it is seen to find
//! something: each switch plants the bug that its protection prevents.

/// Which protections of the fakes stand. All of them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one switch, thrown alone")]
pub struct Guards {
    /// The journal refuses a record from an epoch that is not the row's.
    pub records_check_the_epoch: bool,
    /// An order raises the epoch of the rotation in flight.
    pub orders_raise_the_epoch: bool,
    /// The journal opens one rotation a secret and exclusive key.
    pub one_rotation_in_flight: bool,
    /// The journal keeps the intents that it was given.
    pub intents_are_kept: bool,
    /// A rollout that began before a publication does not serve it.
    pub rollouts_begin_after_the_publication: bool,
    /// The copy of the policy that a claim brings keeps its overlap and `token_ttl`.
    pub the_overlap_is_kept: bool,
    /// A store publishes only over the version that the writer read.
    pub publications_compare: bool,
    /// A slot is written once.
    pub slots_are_written_once: bool,
    /// The target refuses an effect whose fence is not greater than the last one.
    pub fences_are_compared: bool,
    /// The target is asked whether an earlier creation arrived.
    pub creations_are_looked_up: bool,
    /// The new value is really tried, rather than believed.
    pub proofs_are_made: bool,
    /// Idleness is read from the target's sessions.
    pub idleness_is_read: bool,
    /// A rollout is finished when no old instance is left, rather than when its deployment is stable.
    pub finished_means_no_old_instance: bool,
    /// Before what a rollout took away is gone for good, every instance is looked at again.
    pub rollouts_are_rechecked: bool,
    /// A check that cannot be read is unknown, rather than healthy.
    pub unknown_is_not_healthy: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            records_check_the_epoch: true,
            orders_raise_the_epoch: true,
            one_rotation_in_flight: true,
            intents_are_kept: true,
            rollouts_begin_after_the_publication: true,
            the_overlap_is_kept: true,
            publications_compare: true,
            slots_are_written_once: true,
            fences_are_compared: true,
            creations_are_looked_up: true,
            proofs_are_made: true,
            idleness_is_read: true,
            finished_means_no_old_instance: true,
            rollouts_are_rechecked: true,
            unknown_is_not_healthy: true,
        }
    }
}
