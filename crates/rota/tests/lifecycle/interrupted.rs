//! A process that ends at any record of a rotation: another one goes on, or turns back
//! where a person says so; and nobody who signs or verifies notices.

use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;
use rota_core::rotation::Rotation;
use rota_engine::ports::{Journal, Record};
use tokio::sync::Notify;

use crate::signing::{SECRET, Signing, TOKEN_TTL};
use crate::witness::{Witness, Witnessed};

/// Every step of the rotation of a generated list, in order.
const STEPS: [&str; 12] = [
    "keep",
    "stage",
    "prove",
    "introduce",
    "introduce_rollout",
    "promote",
    "promote_rollout",
    "watch",
    "withdraw",
    "withdraw_rollout",
    "prove_refused",
    "purge",
];

/// The steps that change something outside.
const EFFECTS: [&str; 6] = ["keep", "stage", "introduce", "promote", "withdraw", "purge"];

/// Where in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The step was reached, and nothing of it has happened.
    Reached,
    /// Its intent is recorded, and its effect has not happened.
    Intended,
    /// Its effect has happened, and its outcome is not recorded.
    Unrecorded,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    step: &'static str,
    moment: Moment,
}

impl Point {
    /// Every record of a rotation. The first step is reached by opening.
    fn all() -> Vec<Self> {
        let reached = STEPS.iter().skip(1).map(|step| Self { step, moment: Moment::Reached });
        let moments = [Moment::Intended, Moment::Unrecorded];
        let effects = EFFECTS.iter().flat_map(|step| moments.map(|moment| Self { step, moment }));
        reached.chain(effects).collect()
    }

    /// The old value may be gone: only forward from here.
    fn is_past_undo(self) -> bool {
        self.step == "purge" && self.moment != Moment::Reached
    }
}

/// Ends the process at a point: the call never returns.
struct Killer {
    at: Point,
    struck: Notify,
}

impl Killer {
    async fn strike(&self) {
        self.struck.notify_one();
        pending().await
    }
}

fn stands_at(rotation: &Rotation, step: &str) -> bool {
    rotation.step().is_some_and(|now| now.as_str() == step)
}

#[async_trait]
impl Witness for Killer {
    async fn before(&self, was: &Rotation, record: &Record) {
        let Point { step, moment } = self.at;
        let ends = stands_at(was, step) && was.open_intent().is_some() && !stands_at(&record.rotation, step);
        if moment == Moment::Unrecorded && ends {
            self.strike().await;
        }
    }

    async fn after(&self, was: &Rotation, now: &Rotation) {
        let Point { step, moment } = self.at;
        let strikes = match moment {
            Moment::Reached => !stands_at(was, step) && stands_at(now, step),
            Moment::Intended => stands_at(now, step) && now.open_intent().is_some(),
            Moment::Unrecorded => false,
        };
        if strikes {
            self.strike().await;
        }
    }
}

/// Starts a rotation whose process is killed at `at`.
async fn killed_at(signing: &Signing, at: Point) {
    let killer = Arc::new(Killer { at, struck: Notify::new() });
    let journal = Arc::clone(&signing.world.journal) as Arc<dyn Journal>;
    let engine =
        signing.world.engine_on(Witnessed::over(journal, Arc::clone(&killer) as Arc<dyn Witness>), "killed");
    let engines = [&engine];
    signing.world.order("rotate", SECRET).await;
    tokio::select! {
        () = signing.world.work_with(&engines, SECRET, || async { false }) => {}
        () = killer.struck.notified() => {}
    }
}

/// One rotation after the other, each killed somewhere else.
async fn goes_on_everywhere(store: &str) {
    let signing = Signing::adopt(store).await;
    let mut completed = 0;
    for at in Point::all() {
        let old = signing.published();
        killed_at(&signing, at).await;
        completed += 1;
        signing.world.work_until_ended(SECRET, "completed", completed).await;
        let new = signing.published();
        assert_eq!((old.len(), new.len()), (1, 1), "{at:?}");
        assert_ne!(old, new, "{at:?}");
        signing.world.consumers.pass(TOKEN_TTL).await;
        assert_eq!(signing.fleet.failures(), [], "{at:?}");
    }
    signing.assert_nobody_noticed();
    let effects = signing.effects().await;
    assert_eq!(effects, EFFECTS.repeat(Point::all().len()), "no effect twice");
    signing.world.assert_history_has_no_hole().await;
}

/// As above; then a person says that each is to be turned back.
async fn turns_back_from_everywhere(store: &str) {
    let signing = Signing::adopt(store).await;
    let (mut completed, mut turned_back) = (0, 0);
    for at in Point::all() {
        let old = signing.published();
        killed_at(&signing, at).await;
        signing.world.order("rollback", SECRET).await;
        if at.is_past_undo() {
            completed += 1;
            signing.world.work_until_ended(SECRET, "completed", completed).await;
            assert!(!signing.published().contains(&old[0]), "{at:?}");
        } else {
            turned_back += 1;
            signing.world.work_until_ended(SECRET, "rolled_back", turned_back).await;
            assert_eq!(signing.published(), old, "{at:?}");
        }
        signing.world.consumers.pass(TOKEN_TTL).await;
        assert_eq!(signing.fleet.failures(), [], "{at:?}");
    }
    assert_eq!((completed, turned_back), (2, 21));
    signing.assert_nobody_noticed();
    signing.world.assert_history_has_no_hole().await;
}

#[tokio::test]
async fn a_rotation_in_secrets_manager_goes_on_wherever_its_process_was_killed() {
    goes_on_everywhere("aws").await;
}

#[tokio::test]
async fn a_rotation_in_vault_goes_on_wherever_its_process_was_killed() {
    goes_on_everywhere("vault").await;
}

#[tokio::test]
async fn a_rotation_in_an_env_file_goes_on_wherever_its_process_was_killed() {
    goes_on_everywhere("env").await;
}

#[tokio::test]
async fn a_rotation_in_secrets_manager_turns_back_from_wherever_it_stands() {
    turns_back_from_everywhere("aws").await;
}

#[tokio::test]
async fn a_rotation_in_vault_turns_back_from_wherever_it_stands() {
    turns_back_from_everywhere("vault").await;
}

#[tokio::test]
async fn a_rotation_in_an_env_file_turns_back_from_wherever_it_stands() {
    turns_back_from_everywhere("env").await;
}
