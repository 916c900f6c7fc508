//! `rota serve`: the daemon. Starts the loops, keeps them alive, and stops them in time.
//!
//! Deliberately absent: what the loops do (see `work` and `policy`), and any recovery:
//! a daemon that starts goes on with what the journal says, whoever died before.

mod board;
mod digest;
mod http;
mod measure;
mod policy;
mod prune;
mod status;
mod wake;
mod work;

use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_engine::ports::{Clock, Journal};
use rota_engine::{Engine, EngineSettings};
use rota_postgres::{ConnectSettings, PgJournal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::channels::{Channel, Channels};
use crate::config::{Configuration, Settings};
use crate::exit::{Exit, Failure, Outcome};
use crate::machine::{SystemRandom, positive};
use crate::{database, wiring};
use board::{Board, Trouble};
use policy::Keeper;
use wake::{Scheduler, Wake};
use work::Crew;

/// What `pg_stat_activity` shows.
pub(crate) const WHO: &str = "rota serve";

/// The longest that one call of an adapter may take, as a part of the lease: three of
/// them and the record of an outcome fit.
const CALLS_IN_A_LEASE: i32 = 4;

/// The longest that one call of an adapter may take under such a lease.
pub(crate) fn call_limit(lease: SignedDuration) -> SignedDuration {
    lease / CALLS_IN_A_LEASE
}

/// How many rotations one look for due ones opens.
const OPEN_AT_ONCE: u32 = 50;

/// How often the status page's document is read.
const STATUS_EVERY: SignedDuration = SignedDuration::from_secs(2);

/// Between two attempts to reach the database at the start.
const CONNECT_AGAIN: SignedDuration = SignedDuration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(configuration: Arc<Configuration>, migrate: bool) -> Outcome {
    let settings = &configuration.settings;
    let stop = CancellationToken::new();
    let board = Arc::new(Board::default());
    let metrics = measure::start()?;
    let listener = http::bind(settings.daemon.listen).await?;
    let address = listener.local_addr().unwrap_or(settings.daemon.listen);
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    // Health answers from the first moment, before the database does.
    let shared = http::Shared { board: Arc::clone(&board), metrics };
    let page = tokio::spawn(http::serve(listener, shared, stop.clone()));
    let signals = tokio::spawn(stop_on_signal(stop.clone(), Arc::clone(&board)));
    let outcome = work(&configuration, migrate, &board, &stop).await;
    stop.cancel();
    signals.abort();
    let _ = page.await;
    outcome
}

async fn work(
    configuration: &Arc<Configuration>,
    migrate: bool,
    board: &Arc<Board>,
    stop: &CancellationToken,
) -> Outcome {
    let settings = &configuration.settings;
    let clock = wiring::clock();
    let Some(journal) = reach_database(configuration, migrate, board, &clock, stop).await? else {
        return Ok(Exit::Success);
    };
    let replica = replica(settings);
    let crew = Crew {
        engine: Arc::new(engine(settings, journal.clone(), &clock, &replica)?),
        clock: Arc::clone(&clock),
        board: Arc::clone(board),
        wake: Wake::new(),
        stop: stop.clone(),
    };
    let source = wiring::policy_source(configuration).await?;
    let keeper = Keeper {
        journal: journal.clone(),
        source: source.place,
        kinds: Arc::new(wiring::kinds()?),
        objects: source.objects,
        every: settings.policy.reload.0,
        replica: replica.clone(),
    };
    keeper.announce(board);
    let channels = Arc::new(Channels::new(Arc::clone(configuration))?);
    let digest_due = Arc::new(Notify::new());
    let scheduler = Scheduler::start(
        Arc::clone(&clock),
        settings.daemon.wake.0,
        &settings.daemon.digest,
        crew.wake.clone(),
        Arc::clone(&digest_due),
    )
    .await?;
    tracing::info!(%replica, "working");
    let mut tasks = JoinSet::new();
    crew.keep(&mut tasks, "policy", move |crew| keeper.clone().run(crew));
    crew.keep(&mut tasks, "open", Crew::open);
    crew.keep(&mut tasks, "remind", Crew::remind);
    for _ in 0..settings.daemon.workers.get() {
        crew.keep(&mut tasks, "drive", Crew::drive);
        crew.keep(&mut tasks, "rollouts", Crew::roll_out);
    }
    let marks = journal.clone();
    crew.keep(&mut tasks, "marks", move |crew| crew.compare(marks.clone()));
    for channel in Channel::configured(configuration) {
        let channels = Arc::clone(&channels);
        crew.keep(&mut tasks, "deliver", move |crew| crew.deliver(Arc::clone(&channels), channel));
    }
    let reader = journal.reports();
    crew.keep(&mut tasks, "status", move |crew| status::keep(crew, reader.clone(), STATUS_EVERY));
    let (pruned, retention) = (journal.clone(), prune::retention(settings));
    crew.keep(&mut tasks, "prune", move |crew| prune::keep(crew, pruned.clone(), retention));
    let listener = journal.clone();
    crew.keep(&mut tasks, "listen", move |crew| listen(crew, listener.clone()));
    let teller = journal.clone();
    crew.keep(&mut tasks, "digest", move |crew| digest::keep(crew, teller.clone(), Arc::clone(&digest_due)));
    tasks.spawn(scheduler.watch(
        Arc::clone(&clock),
        settings.daemon.wake.0,
        crew.wake.clone(),
        Arc::clone(board),
        stop.clone(),
    ));
    stop.cancelled().await;
    crew.engine.stop();
    finish(tasks, settings.daemon.stop_timeout.0).await;
    journal.close().await;
    Ok(Exit::Success)
}

/// Waits for the steps under way; what is not finished in time is left to its lease.
async fn finish(mut tasks: JoinSet<()>, timeout: SignedDuration) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(positive(timeout), all).await.is_err() {
        tracing::warn!(
            "a step did not end within daemon.stop_timeout; its outcome is observed by whoever goes on"
        );
        tasks.shutdown().await;
    }
    tracing::info!("stopped");
}

async fn stop_on_signal(stop: CancellationToken, board: Arc<Board>) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received; only SIGKILL ends this process");
        return;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping: no new step begins");
    board.stop();
    stop.cancel();
}

/// Waits for the database where it does not answer; gives up where a person has to
/// change something. `None` where the process is stopped meanwhile.
async fn reach_database(
    configuration: &Configuration,
    migrate: bool,
    board: &Board,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<Option<PgJournal>, Failure> {
    let settings = database::settings(configuration, WHO).await?;
    loop {
        let failure = match reach(&settings, migrate).await {
            Ok(journal) => {
                board.report("database", None);
                return Ok(Some(journal));
            }
            Err(fault) if fault.passes_by_itself() => fault,
            Err(fault) => return Err(fault.into()),
        };
        let trouble = Trouble { message: failure.to_string(), blocks: true };
        if board.report("database", Some(trouble)) {
            tracing::error!(fault = %failure, "the state database does not answer; trying again");
        }
        tokio::select! {
            () = clock.sleep(CONNECT_AGAIN) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

async fn reach(settings: &ConnectSettings, migrate: bool) -> Result<PgJournal, Fault> {
    if migrate {
        rota_postgres::migrate(settings).await?;
    }
    let pool = settings.connect().await?;
    rota_postgres::check_schema(&pool).await?;
    let journal = PgJournal::new(pool);
    // A restored backup is no reason to go: whoever stays tells people, claims nothing, and
    // goes on by itself after `rota recover`.
    match journal.check_identity().await {
        Ok(()) => {}
        Err(fault) if fault.passes_by_itself() => return Err(fault),
        Err(fault) => tracing::error!(%fault, "nothing is claimed"),
    }
    Ok(journal)
}

fn engine(
    settings: &Settings,
    journal: PgJournal,
    clock: &Arc<dyn Clock>,
    replica: &str,
) -> Result<Engine, Failure> {
    let lease = settings.daemon.lease.0;
    let engine_settings = EngineSettings {
        holder: replica.to_owned(),
        lease,
        call_limit: call_limit(lease),
        open_at_once: OPEN_AT_ONCE,
    };
    let journal: Arc<dyn Journal> = Arc::new(journal);
    let random = Arc::new(Mutex::new(SystemRandom));
    Ok(Engine::new(journal, wiring::adapters(settings)?, Arc::clone(clock), random, engine_settings))
}

/// The configured name, else the host's and the process's number: two processes of one
/// machine are two holders.
fn replica(settings: &Settings) -> String {
    settings.daemon.replica.clone().unwrap_or_else(|| {
        let name = rustix::system::uname();
        format!("{}-{}", name.nodename().to_string_lossy(), std::process::id())
    })
}

/// Turns the database's notifications into wake-ups.
async fn listen(crew: Crew, journal: PgJournal) {
    while !crew.stop.is_cancelled() {
        let mut wakes = match journal.listen().await {
            Ok(wakes) => wakes,
            Err(fault) => {
                crew.after_fault(&fault).await;
                continue;
            }
        };
        loop {
            let next = tokio::select! {
                next = wakes.next() => next,
                () = crew.stop.cancelled() => return,
            };
            match next {
                Ok(()) => crew.wake.up("notify"),
                Err(fault) => {
                    crew.after_fault(&fault).await;
                    break;
                }
            }
        }
    }
}
