//! One secret whose rotations follow each other, each killed somewhere else.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rota_core::rotation::{Rotation, plan};
use rota_fakes::wait;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::poke::Poke;
use crate::subjects::{Aws, STORES, Store, Subject, Target, word};
use crate::world::{Daemon, LIMIT, Login, World};

/// Overlap, token lifetime and the rest are as short as they may be.
const COMMON: &str = r#"
version = 1
application = "acd"
environment = "development"

[consumer.app]
settle = "1s"
rollout = { kind = "command", commands = [["/bin/true"]] }
checks = [{ kind = "command", command = ["/bin/true"] }]
"#;

const TIMES: &str = "consumers = [\"app\"]\nhealthy = { count = 1, every = \"1s\" }\noverlap = \"1s\"\n\
    cadence = \"90d\"\nlead = \"5s\"\n";

/// A point that no process reaches within this time is not there.
const SLOWEST: Duration = Duration::from_secs(120);

/// Between two looks at the database, which has more to do.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a rotation goes that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the order to its end.
    Forward,
    /// Turned back from as far as that is legal.
    Back,
    /// Fast-forwarded by an emergency, once everybody uses the new value.
    Emergency,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Forward, Self::Back, Self::Emergency];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Back => "back",
            Self::Emergency => "emergency",
        }
    }

    fn outcome(self) -> &'static str {
        match self {
            Self::Forward | Self::Emergency => "completed",
            Self::Back => "rolled_back",
        }
    }
}

/// What a point cost.
pub(super) struct Survived {
    /// How often the process was killed.
    pub(super) kills: u32,
}

/// What a daemon came to.
enum Came {
    Killed,
    ToRest,
}

pub(super) struct Lane {
    world: World,
    subject: Subject,
    aws: Aws,
    settings: Vec<(String, String)>,
    pool: PgPool,
    _poke: Poke,
    /// Names the files of passed points.
    daemons: AtomicU32,
    /// What a person has done already: the rotation, and at which step.
    done: Mutex<Option<(Uuid, String)>>,
}

impl Lane {
    /// With the first value in use, and no rotation yet.
    pub(super) async fn new(subject: Subject, aws: &Aws) -> Self {
        let world = World::new().await;
        let mut lines = String::new();
        for (name, text) in &subject.before {
            match subject.store {
                Store::Env => lines.push_str(&format!("{name}='{text}'\n")),
                Store::Aws => aws.create(&format!("{}/{name}", world.database.name()), text).await,
                Store::Vault => panic!("there is no real server of it"),
            }
        }
        world.write("app.env", &lines);
        // The emulator is shared.
        let stores = STORES.replace("acd/{name}", &format!("{}/{{name}}", world.database.name()));
        let stores = stores.split("[store.vault]").next().unwrap().to_owned();
        let disables = subject.name.ends_with("_URL") || subject.name == "S3_KEY";
        let revoke = if disables { "revoke_after = \"1s\"\n" } else { "" };
        world.write_policy(&format!("{COMMON}{stores}{}{TIMES}{revoke}", subject.policy));
        let lint = world.run(Login::Nobody, &["policy", "lint", "policy.toml"]);
        assert_eq!(lint.code, 0, "{}{}", lint.stdout, lint.stderr);
        let pool = PgPoolOptions::new().max_connections(2).connect(world.database.url()).await.unwrap();
        Self {
            _poke: Poke::of(&world.database),
            settings: aws.settings(&aws.url),
            aws: aws.clone(),
            world,
            subject,
            pool,
            daemons: AtomicU32::new(0),
            done: Mutex::default(),
        }
    }

    /// Every point that an undisturbed rotation passes, in order, its repeats numbered.
    pub(super) async fn points(&mut self, way: Way) -> Vec<String> {
        self.turn(way).await;
        let (mut daemon, passed) = self.daemon("");
        let ended = self.ended(way).await;
        if way == Way::Forward {
            self.order("rotate", "").await;
        }
        assert!(matches!(self.came(&mut daemon, way, ended + 1).await, Came::ToRest));
        // The end can be seen a moment before its last point is passed.
        let whole = async || {
            let text = std::fs::read_to_string(&passed)?;
            let is_whole = |line: &str| line.starts_with("rotation.ended/") && line.ends_with("/after");
            Ok(text.lines().any(is_whole).then_some(text))
        };
        let text = wait::until(LIMIT, "the last point", whole).await.unwrap();
        drop(daemon);
        self.lapse().await;
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        // What failed for a moment and was tried again is no part of every rotation.
        let lines = text.lines().filter(|point| !point.starts_with("step.failed/"));
        let numbered = lines.map(|point| {
            let time = times.entry(point).or_default();
            *time += 1;
            format!("{point}#{time}")
        });
        let points: Vec<String> = numbered.collect();
        self.assert_steps_are_covered(way, &points).await;
        points
    }

    /// The plan of the core knows which steps there are.
    async fn assert_steps_are_covered(&self, way: Way, points: &[String]) {
        let sql = "SELECT rotation::text FROM rota.rotations ORDER BY opened_at DESC LIMIT 1";
        let text: String = sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap();
        let rotation: Rotation = serde_json::from_str(&text).unwrap();
        let steps = match way {
            Way::Forward => plan::forward(&rotation.order, &rotation.shape),
            Way::Back => plan::backward(&rotation.order, &rotation.shape, &rotation.facts),
            // What came before the order is done.
            Way::Emergency => {
                let all = plan::forward(&rotation.order, &rotation.shape);
                let rest = all.into_iter().skip_while(|step| step.as_str() != "promote").skip(1);
                rest.filter(|step| step.as_str() != "promote_rollout").collect()
            }
        };
        for step in steps {
            let ends = ["step.done", "rotation.ended"].map(|kind| format!("{kind}/{step}/after#1"));
            assert!(
                ends.iter().any(|end| points.contains(end)),
                "{way:?}: {step} is in no point: {points:?}"
            );
        }
    }

    /// Begins a rotation, kills the process at `point` (and, where `crashes` is more, at the
    /// first point that each recovery comes to), and sees that it ends as it should, with one
    /// value alive and nothing lost.
    pub(super) async fn survives(&mut self, way: Way, point: &str, crashes: u32) -> Survived {
        let when = format!("{} {} at {point}, {crashes} crashes", self.subject.name, way.name());
        let old = self.published().await;
        let ended = self.ended(way).await;
        let mut kills = self.turn(way).await;
        let (mut daemon, _) = self.daemon(&format!("abort@{point}"));
        if way == Way::Forward {
            self.order("rotate", "").await;
        }
        self.killed(&mut daemon, &when).await;
        kills += 1;
        for _ in 1..crashes {
            self.lapse().await;
            if self.is_at_rest().await {
                break;
            }
            let (mut daemon, _) = self.daemon("abort@*");
            match self.came(&mut daemon, way, ended + 1).await {
                Came::Killed => kills += 1,
                Came::ToRest => break,
            }
        }
        self.lapse().await;
        let (mut daemon, _) = self.daemon("");
        let came = self.came(&mut daemon, way, ended + 1).await;
        assert!(matches!(came, Came::ToRest), "{when}: the process ended by itself: {}", daemon.log());
        drop(daemon);
        self.lapse().await;
        self.assert_unharmed(way, &when, &old).await;
        Survived { kills }
    }

    /// Where the way begins with a rotation that stands somewhere: has it stand there, with
    /// its process killed, and gives the order. Returns how many kills that took.
    async fn turn(&self, way: Way) -> u32 {
        let (from, order, suspect) = match way {
            Way::Forward => return 0,
            Way::Back => (self.furthest(), "rollback", ""),
            Way::Emergency => ("step.done/promote_rollout/after", "emergency", "older"),
        };
        let (mut daemon, _) = self.daemon(&format!("abort@{from}"));
        self.order("rotate", "").await;
        self.killed(&mut daemon, from).await;
        self.lapse().await;
        self.order(order, suspect).await;
        1
    }

    /// The last point from which it can be turned back.
    fn furthest(&self) -> &'static str {
        let policy = &self.subject.policy;
        let is_pair = policy.contains("publish = ");
        let disables =
            policy.contains("\npostgres") || policy.contains("\nredis") || policy.contains("\niam");
        if disables && !policy.contains("one-user") {
            "step.done/disable/after"
        } else if is_pair {
            "step.done/withdraw/after"
        } else {
            "step.done/promote_rollout/after"
        }
    }

    fn daemon(&self, points: &str) -> (Daemon, PathBuf) {
        let number = self.daemons.fetch_add(1, Ordering::Relaxed);
        let passed = self.world.path(&format!("passed-{number}"));
        let daemon = self.world.start_daemon(|command| {
            command.envs(self.settings.iter().cloned()).env("ROTA_TEST_FAILPOINTS_PASSED", &passed);
            if !points.is_empty() {
                command.env("ROTA_TEST_FAILPOINTS", points);
            }
        });
        (daemon, passed)
    }

    /// Waits until the daemon is killed, which is what its point does.
    async fn killed(&self, daemon: &mut Daemon, when: &str) {
        let came = self.watch(daemon, async || false).await;
        assert!(matches!(came, Came::Killed), "{when}: the point was not reached");
    }

    /// Waits until the daemon is killed, or `ended` rotations have ended as the way wants it.
    async fn came(&self, daemon: &mut Daemon, way: Way, ended: i64) -> Came {
        self.watch(daemon, async || self.ended(way).await >= ended && self.is_at_rest().await).await
    }

    async fn watch(&self, daemon: &mut Daemon, is_done: impl AsyncFn() -> bool) -> Came {
        let daemon = Mutex::new(daemon);
        let came = wait::until(SLOWEST, "an end", async || {
            let ended_by = daemon.lock().unwrap().has_ended().map(|status| status.signal());
            if let Some(signal) = ended_by {
                assert_eq!(signal, Some(6), "it ended by itself: {}", daemon.lock().unwrap().log());
                return Ok(Some(Came::Killed));
            }
            self.people().await;
            tokio::time::sleep(LOOK_EVERY).await;
            Ok(is_done().await.then_some(Came::ToRest))
        });
        match came.await {
            Ok(came) => came,
            Err(error) => {
                let state = self.state().await;
                panic!("{error}: {state}: {}", daemon.lock().unwrap().log())
            }
        }
    }

    /// A person does what the rotation waits for, once.
    async fn people(&self) {
        let sql =
            "SELECT id, step FROM rota.rotations WHERE ended_at IS NULL AND step IN ('stage', 'confirm')";
        let waiting: Option<(Uuid, String)> = sqlx::query_as(sql).fetch_optional(&self.pool).await.unwrap();
        if !self.subject.policy.contains("operator") || waiting.is_none() {
            return;
        }
        if *self.done.lock().unwrap() == waiting {
            return;
        }
        let name = self.subject.name;
        let ran = match waiting.as_ref().map(|(_, step)| step.as_str()) {
            Some("confirm") => {
                self.world.run(Login::Operator, &["confirm", name, "--yes", "--reason", "revoked"])
            }
            _ => self.world.run_with_input(Login::Operator, &["submit", name], &word()),
        };
        if ran.code == 0 {
            *self.done.lock().unwrap() = waiting;
        }
    }

    async fn ended(&self, way: Way) -> i64 {
        let sql = "SELECT count(*) FROM rota.rotations WHERE phase = $1";
        sqlx::query_scalar(sql).bind(way.outcome()).fetch_one(&self.pool).await.unwrap()
    }

    async fn is_at_rest(&self) -> bool {
        let sql = "SELECT NOT EXISTS (SELECT FROM rota.rotations WHERE ended_at IS NULL) \
            AND NOT EXISTS (SELECT FROM rota.orders WHERE handled_at IS NULL)";
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Why nothing moves, for a test that fails.
    async fn state(&self) -> String {
        let sql = "SELECT coalesce(string_agg(concat_ws(' ', phase, step, rotation ->> 'state'), '; '), 'nothing') \
            FROM rota.rotations WHERE ended_at IS NULL";
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Gives an order as the command line does.
    async fn order(&self, order: &str, suspect: &str) {
        let name = self.subject.name;
        let arguments = match order {
            "emergency" => format!("'{name}', '{suspect}', 'a leak', 'a test'"),
            _ => format!("'{name}', 'because', 'a test'"),
        };
        // The policy is accepted by the first daemon.
        let known = "SELECT count(*) FROM rota.secrets";
        wait::until(LIMIT, "the policy", async || {
            let known: i64 = sqlx::query_scalar(known).fetch_one(&self.pool).await?;
            Ok((known > 0).then_some(()))
        })
        .await
        .unwrap();
        let sql = format!("SELECT rota.order_{order}({arguments})");
        sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// The lease of a process that died lapses by itself, only later.
    async fn lapse(&self) {
        for table in ["rotations", "rollouts"] {
            let sql =
                format!("UPDATE rota.{table} SET lease_until = clock_timestamp() WHERE holder IS NOT NULL");
            sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
        }
    }

    async fn published(&self) -> String {
        match self.subject.store {
            Store::Aws => {
                self.aws.read(&format!("{}/{}", self.world.database.name(), self.subject.shown)).await
            }
            Store::Env | Store::Vault => self.world.shown_in_env_file(self.subject.shown),
        }
    }

    /// One value is published, accepted and alone; each effect happened once; nothing is left.
    async fn assert_unharmed(&self, way: Way, when: &str, old: &str) {
        let new = self.published().await;
        assert!(self.subject.accepts(&new).await, "{when}: what is published is refused");
        assert_eq!(self.subject.alive().await, 1, "{when}: on the target");
        let is_back = way == Way::Back;
        assert_eq!(new == old, is_back, "{when}: the other value is published");
        if !is_back && self.is_refusable() {
            assert!(!self.subject.accepts(old).await, "{when}: the old value is accepted");
        }
        let filled = std::fs::read_dir(self.world.path(".app.env.rota")).into_iter().flatten().flatten();
        let filled = filled.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        assert_eq!(filled.filter(|text| text.starts_with("# rota slot: filled")).count(), 0, "{when}: slots");
        let twice = "SELECT string_agg(kind || ' ' || step, ', ') FROM ( \
            SELECT h.kind, convert_from(h.canonical, 'UTF8')::jsonb #>> '{entry,step}' AS step \
            FROM rota.rotation_history h WHERE h.kind IN ('step.intended', 'step.done') \
                AND h.rotation = (SELECT id FROM rota.rotations ORDER BY opened_at DESC LIMIT 1) \
            GROUP BY 1, 2 HAVING count(*) > 1) AS lines";
        let twice: Option<String> = sqlx::query_scalar(twice).fetch_one(&self.pool).await.unwrap();
        // Another attempt at a key that the target makes has an intent of its own.
        let is_made_there = matches!(self.subject.target, Target::Iam(..));
        let twice = twice.filter(|twice| !is_made_there || twice != "step.intended stage");
        assert_eq!(twice, None, "{when}: in history twice");
        if !self.subject.policy.contains("operator") {
            let left = "SELECT string_agg(what, '; ') FROM rota.orphans WHERE resolved_at IS NULL";
            let left: Option<String> = sqlx::query_scalar(left).fetch_one(&self.pool).await.unwrap();
            assert_eq!(left, None, "{when}: left alive");
        }
    }

    /// Whether somebody but consumers verifies the value.
    fn is_refusable(&self) -> bool {
        !matches!(self.subject.target, Target::None)
    }

    /// Every chain of history is whole.
    pub(super) async fn assert_history(&self) {
        let ran = self.world.run(Login::Auditor, &["history", "verify"]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }
}
