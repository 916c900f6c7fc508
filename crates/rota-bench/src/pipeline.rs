//! Rotations a second: the real engine over the real journal, everything else at once.
//!
//! The engine works as the daemon does: so many workers, loops for rollouts, one that
//! opens and one that delivers. Secrets become due little by little, so that a steady
//! number of rotations is in flight: a rollout is looked at five seconds after its
//! start, and somebody else's rotation has its turn meanwhile.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rota_core::policy::accept::digest;
use rota_core::policy::model::Policy;
use rota_engine::ports::Journal as _;
use rota_engine::{Engine, EngineSettings};
use rota_fakes::postgres::TestDatabase;
use rota_postgres::PgJournal;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::fakes::{Done, SystemRandom};
use crate::pgbench::{Load, row_sizes};
use crate::report::{Budget, Figure};
use crate::server::{Server, daemon};
use crate::time::Stopwatch;
use crate::trace::Trace;
use crate::{Sizes, progress, secrets};

/// As the daemon's defaults: `daemon.workers`, `database.max_connections`. The daemon has
/// as many loops for rollouts as it has workers.
const WORKERS: usize = 8;
const CONNECTIONS: u32 = 10;
const ROLLOUT_LOOPS: usize = WORKERS;

/// How many due secrets one look opens, as the daemon does.
const OPEN_AT_ONCE: u32 = 50;

/// How often the bench looks for work that waits, to wake as many loops as there is.
const LISTEN_EVERY: Duration = Duration::from_millis(10);

/// How often the population is counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// A run that moves no rotation for so long is broken.
const STUCK: Duration = Duration::from_secs(120);

/// Measures, and adds what one rotation asks of the database to the report.
///
/// # Errors
/// Where the server fails, or a rotation does not end well.
pub(crate) async fn measure(server: &Server, sizes: &Sizes) -> Result<(Vec<Figure>, Trace)> {
    let policy = secrets::policy(sizes.pipeline_secrets)?;
    let (trace, load) = count(server, &policy, sizes).await?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=sizes.rounds {
        progress(&format!("round {round} of {}", sizes.rounds));
        let rota = rate(server, &policy, sizes).await?;
        let pgbench = load.run(server, CONNECTIONS, sizes.window_seconds).await?;
        ours.push(rota);
        theirs.push(pgbench);
        ratios.push(rota / pgbench);
    }
    let figures = vec![
        Figure::of("pipeline: Rota", "rotations/s", &ours),
        Figure::of("pipeline: pgbench, same statements", "rotations/s", &theirs),
        Figure::of("pipeline: ratio", "", &ratios).within(Budget::AtLeast(0.7)),
    ];
    Ok((figures, trace))
}

/// Runs some rotations from start to end with the server's log on.
async fn count(server: &Server, policy: &Policy, sizes: &Sizes) -> Result<(Trace, Load)> {
    let database = server.migrated().await?;
    let sql = format!("ALTER DATABASE {} SET log_statement = 'all'", database.name());
    let run = Run::prepare(&database, policy).await?;
    database.execute(&sql).await?;
    let before = server.postgres.log().len();
    let running = run.start(&database, sizes.counted, sizes.counted).await?;
    running.until_ended(sizes.counted).await?;
    running.stop().await?;
    let log = server.postgres.log();
    let trace = Trace::read(log.get(before..).context("the log was cut")?, u64::try_from(sizes.counted)?)?;
    let load = Load::of(&trace, &row_sizes(&database).await?)?;
    Ok((trace, load))
}

/// Rotations that ended within the window, a second.
///
/// Rotations opened together end together: the window is at least as long as as many as
/// are in flight need to end, or it could fall between two such waves.
async fn rate(server: &Server, policy: &Policy, sizes: &Sizes) -> Result<f64> {
    let database = server.migrated().await?;
    let run = Run::prepare(&database, policy).await?;
    let secrets = i64::try_from(policy.secrets.len())?;
    let running = run.start(&database, secrets, sizes.in_flight).await?;
    // From here on rotations in every step of their way are in flight.
    running.until_ended(sizes.in_flight).await?;
    // A server in use has had its autovacuum; pgbench's tables have it as well.
    database.execute("VACUUM (ANALYZE)").await?;
    let watch = Stopwatch::start();
    let before = running.ended();
    tokio::time::sleep(Duration::from_secs(sizes.window_seconds.into())).await;
    running.until_ended(before + sizes.in_flight).await?;
    let ended = running.ended() - before;
    let seconds = watch.elapsed().as_secs_f64();
    ensure!(running.opened() < secrets, "the window was longer than the policy; raise its size");
    running.stop().await?;
    Ok(f64::from(i32::try_from(ended)?) / seconds)
}

/// A database with secrets, and the world where they are.
struct Run {
    policy: Policy,
}

impl Run {
    async fn prepare(database: &TestDatabase, policy: &Policy) -> Result<Self> {
        let journal = PgJournal::new(daemon(database, 1).await?);
        journal.accept_policy(policy, &digest(policy), "bench").await?;
        journal.close().await;
        database.execute("ANALYZE").await?;
        Ok(Self { policy: policy.clone() })
    }

    /// Starts the loops. At most `in_flight` rotations are under way, and at most
    /// `at_most` secrets become due.
    async fn start(self, database: &TestDatabase, at_most: i64, in_flight: i64) -> Result<Running> {
        let journal = PgJournal::new(daemon(database, CONNECTIONS).await?);
        let settings =
            EngineSettings { open_at_once: OPEN_AT_ONCE, ..EngineSettings::new("bench".to_owned()) };
        let engine = Arc::new(Engine::new(
            Arc::new(journal.clone()),
            Arc::new(secrets::world(&self.policy)?),
            Arc::new(Stopwatch::start()),
            Arc::new(Mutex::new(SystemRandom)),
            settings,
        ));
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        for _ in 0..WORKERS {
            let (engine, state) = (Arc::clone(&engine), Arc::clone(&state));
            tasks.spawn(async move {
                while state.goes_on() {
                    if engine.drive_one().await?.is_none() {
                        state.rotations.notified().await;
                    }
                }
                Ok::<(), anyhow::Error>(())
            });
        }
        for _ in 0..ROLLOUT_LOOPS {
            let (engine, state) = (Arc::clone(&engine), Arc::clone(&state));
            tasks.spawn(async move {
                while state.goes_on() {
                    if engine.drive_rollout().await?.is_none() {
                        state.rollouts.notified().await;
                    }
                }
                Ok(())
            });
        }
        let (delivering, delivery) = (Arc::clone(&engine), Arc::clone(&state));
        tasks.spawn(async move {
            while delivery.goes_on() {
                if delivering.deliver(&Done).await?.is_none_or(|count| count == 0) {
                    delivery.notices.notified().await;
                }
            }
            Ok(())
        });
        tasks.spawn(listen(PgConnection::connect(database.url()).await?, Arc::clone(&state)));
        let feeder = Feeder { engine, state: Arc::clone(&state), at_most, in_flight };
        let connection = PgConnection::connect(database.url()).await?;
        tasks.spawn(feeder.run(connection));
        Ok(Running { state, tasks, journal })
    }
}

#[derive(Default)]
struct State {
    stopping: AtomicBool,
    opened: AtomicI64,
    in_flight: AtomicI64,
    rotations: Notify,
    rollouts: Notify,
    notices: Notify,
}

impl State {
    fn goes_on(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed)
    }

    fn wake_all(&self) {
        for bell in [&self.rotations, &self.rollouts, &self.notices] {
            bell.notify_waiters();
        }
    }
}

/// Wakes as many loops as there is work for, so that a loop which looks in vain is rare:
/// in the daemon that is the database's notifications' business.
async fn listen(mut connection: PgConnection, state: Arc<State>) -> Result<()> {
    let sql = "SELECT \
        (SELECT count(*) FROM (SELECT FROM rota.rotations WHERE ended_at IS NULL AND holder IS NULL \
            AND wake_at <= clock_timestamp() LIMIT 8) r), \
        (SELECT count(*) FROM (SELECT FROM rota.rollouts WHERE ended_at IS NULL AND holder IS NULL \
            AND wake_at <= clock_timestamp() LIMIT 2) o), \
        (SELECT count(*) FROM (SELECT FROM rota.deliveries WHERE delivered_at IS NULL LIMIT 1) d)";
    while state.goes_on() {
        let (rotations, rollouts, notices): (i64, i64, i64) =
            sqlx::query_as(sql).fetch_one(&mut connection).await?;
        for (work, bell) in
            [(rotations, &state.rotations), (rollouts, &state.rollouts), (notices, &state.notices)]
        {
            (0..work).for_each(|_| bell.notify_one());
        }
        tokio::time::sleep(LISTEN_EVERY).await;
    }
    Ok(())
}

/// Makes secrets due and opens their rotations, as long as there is room.
struct Feeder {
    engine: Arc<Engine>,
    state: Arc<State>,
    at_most: i64,
    in_flight: i64,
}

impl Feeder {
    async fn run(self, mut connection: PgConnection) -> Result<()> {
        while self.state.goes_on() {
            let sql = "SELECT count(*) FROM rota.rotations WHERE ended_at IS NULL";
            let in_flight: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
            self.state.in_flight.store(in_flight, Ordering::Relaxed);
            let opened = self.state.opened.load(Ordering::Relaxed);
            let room = (self.in_flight - in_flight).min(self.at_most - opened).min(OPEN_AT_ONCE.into());
            if room <= 0 {
                tokio::time::sleep(COUNT_EVERY).await;
                continue;
            }
            for index in opened..opened + room {
                let sql = "UPDATE rota.secrets SET value_exists = true, next_due_at = clock_timestamp(), \
                    next_start_at = clock_timestamp() WHERE id = $1";
                let name = secrets::name(usize::try_from(index)?);
                sqlx::query(sql).bind(name).execute(&mut connection).await?;
            }
            let now = i64::try_from(self.engine.open_due().await?)?;
            ensure!(now == room, "{now} of {room} due secrets were opened");
            self.state.opened.fetch_add(now, Ordering::Relaxed);
            self.state.in_flight.fetch_add(now, Ordering::Relaxed);
        }
        Ok(())
    }
}

struct Running {
    state: Arc<State>,
    tasks: JoinSet<Result<()>>,
    journal: PgJournal,
}

impl Running {
    fn opened(&self) -> i64 {
        self.state.opened.load(Ordering::Relaxed)
    }

    fn ended(&self) -> i64 {
        self.opened() - self.state.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until so many rotations have ended.
    async fn until_ended(&self, count: i64) -> Result<()> {
        let (mut best, mut since) = (0, Stopwatch::start());
        while self.ended() < count {
            if self.ended() > best {
                (best, since) = (self.ended(), Stopwatch::start());
            }
            if since.elapsed() > STUCK {
                bail!("{} of {count} rotations ended, and no other does", self.ended());
            }
            tokio::time::sleep(COUNT_EVERY).await;
        }
        Ok(())
    }

    async fn stop(mut self) -> Result<()> {
        self.state.stopping.store(true, Ordering::Relaxed);
        while !self.tasks.is_empty() {
            self.state.wake_all();
            // A loop that only now begins to wait is woken in the next turn.
            if let Ok(Some(ended)) = tokio::time::timeout(LISTEN_EVERY, self.tasks.join_next()).await {
                ended??;
            }
        }
        let counts = self.journal.reports().counts().await?;
        ensure!(!counts.rotations.contains_key("held"), "rotations were held: {:?}", counts.rotations);
        self.journal.close().await;
        Ok(())
    }
}
