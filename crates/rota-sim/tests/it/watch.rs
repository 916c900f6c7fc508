//! The watch after the promotion: what counts for the overlap, and what a round that
//! could not be read does and does not do.

use jiff::{SignedDuration, Timestamp};
use rota_core::policy::model::OnFailure;
use rota_core::rotation::{HoldReason, Outcome, Step};
use rota_engine::test_support::{Health, SecretPlan};

use crate::engine::{World, shape};

fn plan(on_failure: OnFailure) -> SecretPlan {
    SecretPlan { on_failure, ..shape("a signing key in a list") }
}

/// A rotation whose first round was healthy.
fn watched_once(on_failure: OnFailure) -> World {
    let mut world = World::rotating(plan(on_failure));
    world.until(|world| world.step() == Some(Step::Watch) && world.watch().healthy == 1);
    world
}

fn hours_from_now(world: &World, hours: i64) -> Timestamp {
    world.sim.scenario.clock.now() + SignedDuration::from_hours(hours)
}

fn give_fleets(world: &World, health: Health) {
    world.sim.scenario.world.with(|state| {
        state.fleets.values_mut().for_each(|fleet| fleet.health = health);
    });
}

/// How long the watch takes, from its first round on, where the next one is spoiled.
fn watch_with_one_spoiled_round(spoil: impl Fn(Timestamp) -> Health) -> SignedDuration {
    let mut world = watched_once(OnFailure::Hold);
    let begun = world.sim.scenario.clock.now();
    give_fleets(&world, spoil(hours_from_now(&world, 9)));
    world.until(|world| world.step() != Some(Step::Watch));
    assert_eq!(world.holds, []);
    world.sim.scenario.clock.now().duration_since(begun)
}

#[test]
fn the_overlap_counts_only_time_that_ended_in_a_healthy_round() {
    let plan = plan(OnFailure::Hold);
    let whole = plan.overlap + plan.healthy.every;
    let unknown =
        watch_with_one_spoiled_round(|until| Health { unknown_until: Some(until), ..Health::default() });
    assert!(unknown >= whole, "{unknown:#}");
    let unhealthy =
        watch_with_one_spoiled_round(|until| Health { unhealthy_until: Some(until), ..Health::default() });
    assert!(unhealthy >= whole, "{unhealthy:#}");
}

#[test]
fn checks_that_cannot_be_read_hold_a_rotation_and_never_turn_it_back() {
    let mut world = watched_once(OnFailure::Rollback);
    let unknown_until = Some(hours_from_now(&world, 20));
    give_fleets(&world, Health { unknown_until, ..Health::default() });
    assert_eq!(world.until_ended(), Outcome::Completed);
    assert!(matches!(world.holds.as_slice(), [HoldReason::Unread { .. }]), "{:?}", world.holds);
}

#[test]
fn a_round_that_could_not_be_read_does_not_hide_unhealthy_ones_around_it() {
    let mut world = watched_once(OnFailure::Rollback);
    give_fleets(&world, Health { unhealthy_until: Some(hours_from_now(&world, 9)), ..Health::default() });
    world.until(|world| world.watch().failures_in_row == 1);
    give_fleets(&world, Health { unknown_until: Some(hours_from_now(&world, 9)), ..Health::default() });
    world.until(|world| world.watch().unread_in_row == 1);
    give_fleets(&world, Health { unhealthy_until: Some(hours_from_now(&world, 9)), ..Health::default() });
    assert_eq!(world.until_ended(), Outcome::RolledBack);
    assert_eq!(world.holds, []);
}
