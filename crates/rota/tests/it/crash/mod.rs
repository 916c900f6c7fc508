//! The process is killed at every point of a rotation, on real servers, and goes on.
//!
//! Every line of history has a point right before its record and one right after: before
//! and after each intent, after each effect, after each outcome. The points are those that
//! an undisturbed rotation passes; the plan of the core says which steps they must cover.
//! A test here takes some of them; `scripts/crash-matrix` takes all, and crashes the
//! recovery twice more.

mod lane;
mod report;

use rota_fakes::moto::MotoServer;
use rota_fakes::postgres::shared;
use tokio::sync::OnceCell;

use crate::subjects::{Aws, Store, Subject};
use lane::{Lane, Way};
use report::{Extent, Figures};

/// The emulator of all lanes, as its administrator.
async fn aws() -> &'static Aws {
    static EMULATOR: OnceCell<(MotoServer, Aws)> = OnceCell::const_new();
    let start = async || {
        let server = MotoServer::start(&[]).unwrap();
        let aws = Aws::of(&server).await;
        (server, aws)
    };
    &EMULATOR.get_or_init(start).await.1
}

/// Which points a test takes where nobody asks for all.
#[derive(Clone, Copy)]
enum Sample {
    /// After the intent and after the effect, of each step that changes something: what
    /// may have happened is unknown there.
    Effects,
    /// The four of publishing the new value.
    Promotion,
}

impl Sample {
    fn takes(self, point: &str) -> bool {
        let parts: Vec<&str> = point.split(['/', '#']).collect();
        let (kind, step, when) = (parts[0], parts[1], parts[2]);
        let effects =
            ["keep", "stage", "install", "introduce", "promote", "withdraw", "disable", "revoke", "purge"];
        let is_unknown = kind == "step.intended" && when == "after" || ends(kind) && when == "before";
        match self {
            Self::Effects => effects.contains(&step) && is_unknown,
            Self::Promotion => step == "promote" && (kind == "step.intended" || ends(kind)),
        }
    }
}

/// Lines that tell the outcome of a step.
fn ends(kind: &str) -> bool {
    ["step.done", "rotation.ended"].contains(&kind)
}

/// Kills the process at points of rotations of `subject`, and sees that nothing is lost.
async fn survive(kind: &str, subject: Subject, sample: Sample) {
    let extent = Extent::asked_for();
    if !extent.wants(kind) {
        return;
    }
    let mut lane = Lane::new(subject, aws().await).await;
    for way in Way::ALL.into_iter().filter(|way| extent.goes(*way)) {
        let points = lane.points(way).await;
        let wanted = points.iter().filter(|point| extent.is_whole() || sample.takes(point));
        let wanted: Vec<String> = wanted.cloned().collect();
        assert!(wanted.len() >= 4, "{kind}: {points:?}");
        let mut figures = Figures::of(kind, way, points.len());
        for crashes in extent.crashes() {
            // From the end: what goes on after one point does not pass the next one.
            for point in wanted.iter().rev() {
                let survived = lane.survives(way, point, *crashes).await;
                figures.count(*crashes, survived);
            }
        }
        figures.tell();
    }
    lane.assert_history().await;
}

macro_rules! survivors {
    ($($name:ident: $kind:literal, $sample:ident, $subject:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            survive($kind, $subject, Sample::$sample).await;
        })*
    };
}

survivors! {
    a_value_in_an_env_file_survives: "generated", Effects,
        Subject::generated("SESSION_SECRET", Store::Env);
    a_value_in_secrets_manager_survives: "generated-aws", Promotion,
        Subject::generated("API_KEY", Store::Aws);
    a_handed_in_key_survives: "operator", Promotion,
        Subject::operator("PROVIDER_KEY", Store::Env, "");
    two_users_of_postgres_survive: "postgres-two-users", Effects,
        Subject::postgres("DATABASE_URL", Store::Env, shared().unwrap(), "two-users").await;
    new_users_of_postgres_survive: "postgres-new-user", Promotion,
        Subject::postgres("DATABASE_URL", Store::Env, shared().unwrap(), "new-user").await;
    one_user_of_postgres_survives: "postgres-one-user", Promotion,
        Subject::postgres("DATABASE_URL", Store::Env, shared().unwrap(), "one-user").await;
    two_passwords_of_redis_survive: "redis-two-passwords", Effects,
        Subject::redis("CACHE_URL", Store::Env, "two-passwords");
    two_users_of_redis_survive: "redis-two-users", Promotion,
        Subject::redis("CACHE_URL", Store::Env, "two-users");
    keys_of_iam_survive: "aws-iam", Effects,
        Subject::iam("S3_KEY", Store::Aws, aws().await).await;
}

#[test]
fn a_sample_takes_the_points_where_nobody_knows_what_happened() {
    let taken = |sample: Sample| {
        let steps = ["promote", "purge", "watch"].into_iter();
        let kinds = ["step.intended", "step.done", "rotation.ended", "baseline.taken"];
        let points = steps.flat_map(|step| {
            let kinds = kinds.iter().flat_map(|kind| ["before", "after"].map(|when| (kind, when)));
            kinds.map(move |(kind, when)| format!("{kind}/{step}/{when}#1")).collect::<Vec<_>>()
        });
        points.filter(|point| sample.takes(point)).count()
    };
    assert_eq!((taken(Sample::Effects), taken(Sample::Promotion)), (6, 6));
}
