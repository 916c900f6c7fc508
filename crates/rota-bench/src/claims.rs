//! What looking for work costs where few of many secrets are due.
//!
//! Every secret also has a rotation that ended long ago, as in a database that has been
//! in use for a while.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use rota_core::policy::accept::digest;
use rota_engine::ports::Journal as _;
use rota_engine::{Engine, EngineSettings};
use rota_fakes::postgres::TestDatabase;
use rota_postgres::PgJournal;

use crate::fakes::SystemRandom;
use crate::report::Figure;
use crate::server::{Server, daemon};
use crate::time::Stopwatch;
use crate::{Sizes, secrets};

/// How many secrets are due, whatever there are.
const DUE: usize = 10;

const LEASE: SignedDuration = SignedDuration::from_secs(120);

/// Gives every secret a rotation that ended: `{}` stands for nothing that is read again.
const PAST: &str = "INSERT INTO rota.rotations (id, secret, phase, urgent, rotation, policy, incarnation, \
        epoch, last_effect, wake_at, opened_at, ended_at) \
    SELECT n.id, n.secret, 'completed', false, \
        jsonb_build_object('id', n.id::text, 'secret', n.secret, 'shape', jsonb_build_object('source', 'generated'), \
            'facts', repeat('step done ', 100)), \
        jsonb_build_object('secret', repeat('policy ', 100)), 1, nextval('rota.epochs'), 20, \
        clock_timestamp() - interval '40 days', clock_timestamp() - interval '41 days', \
        clock_timestamp() - interval '40 days' \
    FROM (SELECT gen_random_uuid() AS id, s.id AS secret FROM rota.secrets s) n";

/// Puts a past behind every secret, and tells the planner.
///
/// # Errors
/// Where the server refuses.
pub(crate) async fn give_a_past(database: &TestDatabase) -> Result<()> {
    database.execute(PAST).await?;
    database.execute("VACUUM ANALYZE").await
}

/// # Errors
/// Where the server fails.
pub(crate) async fn measure(server: &Server, sizes: &Sizes) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for &count in &sizes.claim_secrets {
        figures.extend(with(server, count, sizes.claim_samples).await?);
    }
    Ok(figures)
}

async fn with(server: &Server, count: usize, samples: usize) -> Result<Vec<Figure>> {
    let database = server.migrated().await?;
    let journal = PgJournal::new(daemon(&database, 4).await?);
    let policy = secrets::policy(count)?;
    journal.accept_policy(&policy, &digest(&policy), "bench").await?;
    give_a_past(&database).await?;
    let due = (0..DUE)
        .map(|index| format!("'{}'", secrets::name(index * count / DUE)))
        .collect::<Vec<_>>()
        .join(", ");
    let sql = format!(
        "UPDATE rota.secrets SET value_exists = true, next_due_at = clock_timestamp(), \
         next_start_at = clock_timestamp() WHERE id IN ({due})"
    );
    database.execute(&sql).await?;
    let look = due_looks(&journal, samples).await?;
    let opened = open(&journal, &policy).await?;
    ensure!(opened == DUE, "{opened} of {DUE} were opened");
    let claim = claims(&journal, samples).await?;
    let idle = idle_claims(&journal, samples).await?;
    journal.close().await;
    Ok(vec![
        Figure::of(format!("look for due, {DUE} of {count} due"), "ms", &look),
        Figure::of(format!("claim, {DUE} of {count} in flight"), "ms", &claim),
        Figure::of(format!("claim that finds nothing, {count} secrets"), "ms", &idle),
    ])
}

async fn due_looks(journal: &PgJournal, samples: usize) -> Result<Vec<f64>> {
    let mut looks = Vec::with_capacity(samples);
    for _ in 0..samples {
        let watch = Stopwatch::start();
        let (_, due) = journal.due(50).await?;
        looks.push(watch.millis());
        ensure!(due.len() == DUE, "{} of {DUE} are due", due.len());
    }
    Ok(looks)
}

async fn open(journal: &PgJournal, policy: &rota_core::policy::model::Policy) -> Result<usize> {
    let engine = Engine::new(
        Arc::new(journal.clone()),
        Arc::new(secrets::world(policy)?),
        Arc::new(Stopwatch::start()),
        Arc::new(Mutex::new(SystemRandom)),
        EngineSettings::new("bench".to_owned()),
    );
    Ok(engine.open_due().await?)
}

async fn claims(journal: &PgJournal, samples: usize) -> Result<Vec<f64>> {
    let mut claims = Vec::with_capacity(samples);
    for _ in 0..samples {
        let watch = Stopwatch::start();
        let claim = journal.claim("bench", LEASE).await?;
        claims.push(watch.millis());
        let claim = claim.context("ten are in flight and none is awake")?;
        journal.release(&claim, claim.now).await?;
    }
    Ok(claims)
}

async fn idle_claims(journal: &PgJournal, samples: usize) -> Result<Vec<f64>> {
    while let Some(claim) = journal.claim("bench", LEASE).await? {
        journal.release(&claim, Timestamp::MAX).await?;
    }
    let mut claims = Vec::with_capacity(samples);
    for _ in 0..samples {
        let watch = Stopwatch::start();
        let claim = journal.claim("bench", LEASE).await?;
        claims.push(watch.millis());
        ensure!(claim.is_none(), "nothing was to be claimed");
    }
    Ok(claims)
}
