//! What every journal promises: one suite for the one in memory and for the one on
//! Postgres, so that what the simulator proves holds for what runs.
//!
//! The cases never wait: a lease of zero has lapsed at once, and dates are given
//! relative to the journal's own clock. Deliberately absent: durability and what
//! several processes do at the same moment, which each journal tests by itself.

mod due;
#[cfg(test)]
mod memory;
mod outbox;
pub mod parts;
mod rollouts;
mod rotations;

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use rota_core::id::SecretId;

use crate::ports::{Journal, OrderId, OrderKind};

/// An empty journal, and what only its owner can do with it.
#[async_trait]
pub trait JournalSubject: Send + Sync {
    fn journal(&self) -> Arc<dyn Journal>;

    /// Gives an order as a person does.
    async fn order(&self, secret: &SecretId, kind: OrderKind) -> OrderId;

    /// The kinds of the lines of a chain, oldest first; `None` is the system's.
    async fn history(&self, secret: Option<&SecretId>) -> Vec<String>;
}

/// One promise; panics where it is broken.
pub type Case = for<'a> fn(&'a dyn JournalSubject) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! cases {
    ($($module:ident: $($case:ident),+ $(,)?);+ $(;)?) => {
        /// Every promise with its name.
        pub const CASES: &[(&str, Case)] = &[
            $($((stringify!($case), |subject| Box::pin($module::$case(subject)))),+),+
        ];
    };
}

cases! {
    due:
        accepting_the_same_digest_again_changes_nothing,
        a_policy_that_is_known_is_not_read_again,
        a_due_date_survives_another_acceptance_of_the_policy,
        what_is_due_comes_by_priority_and_then_by_date,
        a_secret_that_left_the_policy_is_not_due,
        a_postponed_secret_is_not_due_before_its_time,
        a_blocked_secret_neither_is_due_nor_opens,
        an_order_to_rotate_is_due_until_a_rotation_answers_it,
        an_emergency_without_a_rotation_is_due,
        a_postponed_order_is_not_due_before_its_time,
        orders_without_a_rotation_are_stray_until_refused,
        what_is_due_soon_says_what_its_rotation_waits_for,
        a_promotion_moves_the_dates_and_makes_the_value_exist;
    rotations:
        one_rotation_is_in_flight_per_secret_and_per_exclusive_key,
        opening_twice_with_one_id_opens_once,
        an_ended_rotation_frees_its_secret_and_its_keys,
        a_rotation_has_one_holder_until_its_lease_lapses,
        whoever_lost_the_lease_records_nothing,
        a_released_rotation_sleeps_until_its_time,
        an_order_wakes_the_rotation_and_makes_its_holder_stale,
        an_answered_order_does_not_come_again,
        a_claim_brings_what_the_last_record_left,
        epochs_and_effect_numbers_go_on_with_the_next_rotation,
        a_record_keeps_state_history_and_notices_together,
        superseding_ends_the_old_rotation_and_opens_the_new_one,
        a_renewed_lease_ends_later,
        the_past_names_every_rotation_of_a_secret_and_is_never_behind,
        a_distrusted_journal_gives_nothing_out_and_says_so_once;
    rollouts:
        requests_that_wait_are_one_rollout,
        one_rollout_of_a_consumer_is_under_way,
        a_finished_rollout_serves_what_was_published_before_it_was_asked_for,
        a_failed_rollout_shows_until_another_is_asked_for,
        starting_keeps_the_lease_and_every_other_record_gives_it_back,
        a_publication_makes_the_claim_on_a_waiting_rollout_stale,
        a_rollout_claim_brings_the_last_publication_of_each_secret,
        an_emergency_takes_over_the_rollout_under_way,
        an_ended_rollout_wakes_the_rotations_of_its_consumer,
        whoever_lost_a_rollout_records_nothing;
    outbox:
        notices_come_in_order_and_once_per_key,
        each_channel_gets_every_notice,
        one_process_delivers_on_a_channel_at_a_time,
        a_failed_delivery_is_tried_again_at_its_time_and_counted;
}

/// Checks every promise, each on a journal of its own.
///
/// # Panics
/// Where a promise is broken.
pub async fn conforms<F>(mut make: impl FnMut() -> F)
where
    F: Future<Output = Box<dyn JournalSubject>>,
{
    for (_, case) in CASES {
        let subject = make().await;
        case(&*subject).await;
    }
}
