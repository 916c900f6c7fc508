//! A process that ends at any record of a rotation: another one goes on, or turns back
//! where a person says so; and nobody who uses the secret notices.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use rota_core::rotation::Rotation;
use rota_engine::Engine;
use rota_engine::ports::{Journal, Record};
use tokio::sync::Notify;

use crate::handed_in::HandedIn;
use crate::signing::{Form, SECRET, Signing, TOKEN_TTL};
use crate::support::World;
use crate::witness::{Witness, Witnessed};

/// A secret whose rotations are interrupted.
#[async_trait]
pub(crate) trait Interrupted: Sync {
    fn world(&self) -> &World;

    fn secret(&self) -> &'static str;

    /// Every step of its rotation, in order.
    fn steps(&self) -> &'static [&'static str];

    /// The steps that change something outside.
    fn effects(&self) -> &'static [&'static str];

    /// What a new instance reads, each value once.
    fn published(&self) -> Vec<String>;

    /// From here the old value may be gone: only forward.
    fn is_past_undo(&self, at: Point) -> bool;

    /// People do what the rotation waits for.
    async fn people(&self) {}

    /// The rotation that was killed at `at` has ended, and nobody has noticed.
    async fn assert_unharmed(&self, at: Point, turned_back: bool);
}

/// The rotation of a generated value that its consumers verify among each other.
#[async_trait]
impl Interrupted for Signing {
    fn world(&self) -> &World {
        &self.world
    }

    fn secret(&self) -> &'static str {
        SECRET
    }

    fn steps(&self) -> &'static [&'static str] {
        &[
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
        ]
    }

    fn effects(&self) -> &'static [&'static str] {
        &["keep", "stage", "introduce", "promote", "withdraw", "purge"]
    }

    fn published(&self) -> Vec<String> {
        self.published()
    }

    fn is_past_undo(&self, at: Point) -> bool {
        at.step == "purge" && at.moment != Moment::Reached
    }

    async fn assert_unharmed(&self, at: Point, _: bool) {
        self.world.consumers.pass(TOKEN_TTL).await;
        assert_eq!(self.fleet.failures(), [], "{at:?}");
        self.assert_nobody_noticed();
    }
}

/// Where in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The step was reached, and nothing of it has happened.
    Reached,
    /// Its intent is recorded, and its effect has not happened.
    Intended,
    /// Its effect has happened, and its outcome is not recorded.
    Unrecorded,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) step: &'static str,
    pub(crate) moment: Moment,
}

/// Every record of a rotation. The first step is reached by opening.
fn points(secret: &dyn Interrupted) -> Vec<Point> {
    let reached = secret.steps().iter().skip(1).map(|step| Point { step, moment: Moment::Reached });
    let moments = [Moment::Intended, Moment::Unrecorded];
    let effects = secret.effects().iter().flat_map(|step| moments.map(|moment| Point { step, moment }));
    reached.chain(effects).collect()
}

/// Ends its process at a point, unless another process ended there: the call never returns.
struct Killer {
    at: Point,
    struck: Notify,
    has_struck: Arc<AtomicBool>,
}

impl Killer {
    async fn strike(&self) {
        if !self.has_struck.swap(true, Ordering::Relaxed) {
            self.struck.notify_one();
            pending().await
        }
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

/// A process that ends at `at`, with what says that it did.
fn mortal(world: &World, at: Point, has_struck: &Arc<AtomicBool>, holder: &str) -> (Engine, Arc<Killer>) {
    let killer = Arc::new(Killer { at, struck: Notify::new(), has_struck: Arc::clone(has_struck) });
    let journal = Arc::clone(&world.journal) as Arc<dyn Journal>;
    let journal = Witnessed::over(journal, Arc::clone(&killer) as Arc<dyn Witness>);
    (world.engine_on(journal, holder), killer)
}

/// Starts a rotation whose process is killed at `at`.
async fn killed_at(secret: &dyn Interrupted, at: Point) {
    let has_struck = Arc::default();
    let (engine, killer) = mortal(secret.world(), at, &has_struck, "killed");
    secret.world().order("rotate", secret.secret()).await;
    let never = || async {
        secret.people().await;
        false
    };
    secret.world().work_with_mortals(&[(&engine, &killer.struck)], secret.secret(), never).await;
}

async fn is_completed(secret: &dyn Interrupted, times: i64) -> bool {
    secret.people().await;
    secret.world().ended(secret.secret(), "completed").await >= times
}

/// The rotation has ended with one new value, and each effect has happened once.
async fn assert_gone_on(secret: &dyn Interrupted, at: Point, old: &[String]) {
    let new = secret.published();
    assert_eq!((old.len(), new.len()), (1, 1), "{at:?}");
    assert_ne!(old, new, "{at:?}");
    secret.assert_unharmed(at, false).await;
}

async fn assert_effects_once(secret: &dyn Interrupted) {
    let effects = secret.world().effects(secret.secret()).await;
    assert_eq!(effects, secret.effects().repeat(points(secret).len()), "no effect twice");
    secret.world().assert_history_has_no_hole().await;
}

/// One rotation after the other, each killed somewhere else.
async fn goes_on_everywhere(secret: &dyn Interrupted) {
    for (at, completed) in points(secret).into_iter().zip(1..) {
        let old = secret.published();
        killed_at(secret, at).await;
        let enough = || is_completed(secret, completed);
        secret.world().work_until(secret.secret(), enough).await;
        assert_gone_on(secret, at, &old).await;
    }
    assert_effects_once(secret).await;
}

/// As above; then a person says that each is to be turned back.
async fn turns_back_from_everywhere(secret: &dyn Interrupted) {
    let (world, name) = (secret.world(), secret.secret());
    let (mut completed, mut turned_back) = (0, 0);
    for at in points(secret) {
        let old = secret.published();
        killed_at(secret, at).await;
        world.order("rollback", name).await;
        if secret.is_past_undo(at) {
            completed += 1;
            world.work_until_ended(name, "completed", completed).await;
            assert!(!secret.published().contains(&old[0]), "{at:?}");
        } else {
            turned_back += 1;
            world.work_until_ended(name, "rolled_back", turned_back).await;
            assert_eq!(secret.published(), old, "{at:?}");
        }
        secret.assert_unharmed(at, !secret.is_past_undo(at)).await;
    }
    let past_undo = points(secret).into_iter().filter(|at| secret.is_past_undo(*at)).count();
    assert!(completed == i64::try_from(past_undo).unwrap() && turned_back > completed);
    world.assert_history_has_no_hole().await;
}

/// Two processes at one journal. Whichever of them comes to the point first ends there,
/// and the other one goes on alone.
async fn goes_on_with_two_of_which_one_dies(secret: &dyn Interrupted) {
    let world = secret.world();
    for (at, completed) in points(secret).into_iter().zip(1..) {
        let old = secret.published();
        let has_struck = Arc::default();
        let (one, of_one) = mortal(world, at, &has_struck, "one");
        let (other, of_other) = mortal(world, at, &has_struck, "other");
        world.order("rotate", secret.secret()).await;
        let both = [(&one, &of_one.struck), (&other, &of_other.struck)];
        world.work_with_mortals(&both, secret.secret(), || is_completed(secret, completed)).await;
        assert!(has_struck.load(Ordering::Relaxed), "{at:?}: nobody came there");
        assert_gone_on(secret, at, &old).await;
    }
    assert_effects_once(secret).await;
    let sql = "SELECT count(DISTINCT convert_from(canonical, 'UTF8')::jsonb #>> '{entry,actor}') \
        FROM rota.rotation_history WHERE kind = 'step.done'";
    let workers: i64 = sqlx::query_scalar(sql).fetch_one(&world.operator).await.unwrap();
    assert_eq!(workers, 2, "both have worked");
}

/// The runbooks' two ways to name a pair.
const OLD_ASIDE: Form = Form::Pair(SECRET, "SESSION_SECRET_OLD");
const NEW_ASIDE: Form = Form::Pair("SESSION_SECRET_NEW", SECRET);

macro_rules! interrupted {
    ($($name:ident: $act:ident($secret:expr);)*) => {
        $(#[tokio::test]
        async fn $name() {
            $act(&$secret).await;
        })*
    };
}

interrupted! {
    a_rotation_in_secrets_manager_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(Signing::adopt("aws").await);
    a_rotation_in_vault_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(Signing::adopt("vault").await);
    a_rotation_in_an_env_file_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(Signing::adopt("env").await);
    a_rotation_in_secrets_manager_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(Signing::adopt("aws").await);
    a_rotation_in_vault_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(Signing::adopt("vault").await);
    a_rotation_in_an_env_file_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(Signing::adopt("env").await);

    a_pair_in_secrets_manager_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(Signing::adopt_as("aws", OLD_ASIDE).await);
    a_pair_in_secrets_manager_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(Signing::adopt_as("aws", OLD_ASIDE).await);
    a_pair_in_vault_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(Signing::adopt_as("vault", NEW_ASIDE).await);
    a_pair_in_vault_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(Signing::adopt_as("vault", NEW_ASIDE).await);
    a_pair_in_an_env_file_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(Signing::adopt_as("env", NEW_ASIDE).await);
    a_pair_in_an_env_file_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(Signing::adopt_as("env", NEW_ASIDE).await);

    a_handed_in_pair_in_secrets_manager_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(HandedIn::pair("aws").await);
    a_handed_in_pair_in_secrets_manager_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(HandedIn::pair("aws").await);
    a_handed_in_pair_in_vault_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(HandedIn::pair("vault").await);
    a_handed_in_pair_in_vault_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(HandedIn::pair("vault").await);
    a_handed_in_pair_in_an_env_file_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(HandedIn::pair("env").await);
    a_handed_in_pair_in_an_env_file_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(HandedIn::pair("env").await);
    a_handed_in_name_goes_on_wherever_its_process_was_killed:
        goes_on_everywhere(HandedIn::single("aws").await);
    a_handed_in_name_turns_back_from_wherever_it_stands:
        turns_back_from_everywhere(HandedIn::single("aws").await);

    a_rotation_of_two_processes_in_secrets_manager_goes_on_wherever_one_dies:
        goes_on_with_two_of_which_one_dies(Signing::adopt("aws").await);
    a_rotation_of_two_processes_in_vault_goes_on_wherever_one_dies:
        goes_on_with_two_of_which_one_dies(Signing::adopt("vault").await);
    a_handed_in_pair_of_two_processes_goes_on_wherever_one_dies:
        goes_on_with_two_of_which_one_dies(HandedIn::pair("aws").await);
}
