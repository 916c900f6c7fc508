//! What the figures were measured on.

use std::fmt;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};

use crate::report::Figure;
use crate::time::Stopwatch;

/// Settings of the server that decide how long a commit takes, and its version.
const SETTINGS: [&str; 7] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
];

/// How many blocks are written to find out what a sync costs.
const SYNCS: usize = 100;

/// As large as a page of Postgres' write-ahead log.
const BLOCK: usize = 8192;

/// Facts about machine, server and build.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_mb: u64,
    kernel: String,
    /// Processes that ran or waited to run before the benchmark began, over a minute.
    load_before: String,
    build: &'static str,
    postgres: Vec<(&'static str, String)>,
    /// What writing one block and syncing it costs, in milliseconds.
    sync_ms: f64,
}

impl Machine {
    /// # Errors
    /// Where the server or the temporary folder cannot be used.
    pub(crate) async fn look(server_url: &str) -> Result<Self> {
        let mut connection = PgConnection::connect(server_url).await?;
        let mut postgres = Vec::new();
        for name in SETTINGS {
            let query = sqlx::query_scalar("SELECT current_setting($1)").bind(name);
            postgres.push((name, query.fetch_one(&mut connection).await?));
        }
        connection.close().await?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_default(),
            memory_mb: field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kilobytes| kilobytes / 1024),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_before: read("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            postgres,
            sync_ms: sync_cost()?,
        })
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The text after the colon of the first line that begins with `name`.
pub(crate) fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn sync_cost() -> Result<f64> {
    let mut file = tempfile::tempfile().context("make a file to sync")?;
    let mut samples = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let watch = Stopwatch::start();
        file.write_all(&[0x5a; BLOCK])?;
        file.sync_data()?;
        samples.push(watch.millis());
    }
    Ok(Figure::of("sync", "ms", &samples).median)
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} x {}, {} MB, Linux {}, load {} before, {} build, one synced block {:.2} ms",
            self.cores,
            self.processor,
            self.memory_mb,
            self.kernel,
            self.load_before,
            self.build,
            self.sync_ms
        )?;
        let settings: Vec<String> =
            self.postgres.iter().map(|(name, value)| format!("{name} {value}")).collect();
        write!(f, "Postgres: {}", settings.join(", "))
    }
}
