//! The real daemon with many secrets: how soon it is ready, and how large it is; and
//! how long and how large the command that only reads such a policy.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rota_fakes::postgres::TestDatabase;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::claims::give_a_past;
use crate::machine::field;
use crate::report::{Budget, Figure};
use crate::server::{Server, daemon_url, number};
use crate::time::Stopwatch;
use crate::{Sizes, secrets};

/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A daemon that is not ready by then never will be.
const LIMIT: Duration = Duration::from_secs(120);

/// How many secrets the budgets speak of, with what they allow.
const BUDGETS: [(usize, Allowed); 2] = [
    (1_000, Allowed { ready_ms: 500.0, resident_mb: 40.0 }),
    (100_000, Allowed { ready_ms: 3_000.0, resident_mb: 200.0 }),
];

#[derive(Clone, Copy)]
struct Allowed {
    ready_ms: f64,
    resident_mb: f64,
}

/// # Errors
/// Where the daemon does not start.
pub(crate) async fn measure(server: &Server, sizes: &Sizes) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for &count in &sizes.daemon_secrets {
        figures.extend(with(server, count, sizes).await?);
    }
    for &count in &sizes.policy_secrets {
        figures.extend(read_policy(count, sizes.starts).await?);
    }
    Ok(figures)
}

async fn with(server: &Server, count: usize, sizes: &Sizes) -> Result<Vec<Figure>> {
    let database = server.migrated().await?;
    let folder = tempfile::tempdir()?;
    secrets::write_files(folder.path(), count)?;
    let url = daemon_url(&database).await?;

    // The first start finds a policy that nobody accepted yet.
    let first = Stopwatch::start();
    let mut daemon = Daemon::start(&url, folder.path())?;
    daemon.until_ready().await?;
    until_accepted(&database, count).await?;
    let accepted = first.millis();
    daemon.stop().await?;
    give_a_past(&database).await?;

    let (mut ready, mut resident, mut peak) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..sizes.starts {
        let watch = Stopwatch::start();
        let mut daemon = Daemon::start(&url, folder.path())?;
        daemon.until_ready().await?;
        ready.push(watch.millis());
        // Long enough for the first look at the policy's source and some rounds of every loop.
        tokio::time::sleep(Duration::from_secs(sizes.settle_seconds)).await;
        resident.push(daemon.megabytes("VmRSS")?);
        peak.push(daemon.megabytes("VmHWM")?);
        daemon.stop().await?;
    }
    let allowed = BUDGETS.iter().find(|(secrets, _)| *secrets == count).map(|(_, allowed)| *allowed);
    let budgeted = |figure: Figure, limit: fn(Allowed) -> f64| match allowed {
        Some(allowed) => figure.within(Budget::AtMost(limit(allowed))),
        None => figure,
    };
    Ok(vec![
        budgeted(Figure::of(format!("start to ready, {count} secrets"), "ms", &ready), |allowed| {
            allowed.ready_ms
        }),
        budgeted(Figure::of(format!("resident, {count} secrets"), "MB", &resident), |allowed| {
            allowed.resident_mb
        }),
        Figure::of(format!("largest resident, {count} secrets"), "MB", &peak),
        Figure::of(format!("first start to accepted, {count} secrets"), "ms", &[accepted]),
    ])
}

/// Waits until the journal has the policy's secrets.
async fn until_accepted(database: &TestDatabase, count: usize) -> Result<()> {
    let watch = Stopwatch::start();
    while usize::try_from(number(database, "SELECT count(*) FROM rota.secrets").await?)? < count {
        ensure!(watch.elapsed() < LIMIT, "the policy was not accepted within {LIMIT:?}");
        tokio::time::sleep(LOOK_EVERY * 10).await;
    }
    Ok(())
}

/// `rota policy lint` on a folder.
async fn read_policy(count: usize, samples: usize) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    secrets::write_files(folder.path(), count)?;
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let watch = Stopwatch::start();
        let mut lint = rota(folder.path())?.arg("policy").arg("lint").arg(folder.path()).spawn()?;
        let mut peak = 0.0;
        let status = loop {
            if let Some(status) = lint.try_wait()? {
                break status;
            }
            // Until it ends: then the last look is at most a moment old.
            peak = lint.id().and_then(|id| megabytes(id, "VmHWM").ok()).unwrap_or(peak);
            tokio::time::sleep(LOOK_EVERY).await;
        };
        ensure!(status.success(), "`rota policy lint` refused the policy of the benchmark");
        times.push(watch.millis());
        peaks.push(peak);
    }
    Ok(vec![
        Figure::of(format!("policy load, {count} secrets"), "ms", &times),
        Figure::of(format!("policy load, {count} secrets, largest resident"), "MB", &peaks),
    ])
}

/// The program beside this one, in `folder`, silent.
fn rota(folder: &Path) -> Result<Command> {
    let own = std::env::current_exe()?;
    let program: PathBuf = own.parent().context("this program is in no folder")?.join("rota");
    ensure!(program.is_file(), "{} is not built; scripts/bench builds it", program.display());
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

struct Daemon {
    child: Child,
    address: SocketAddr,
}

impl Daemon {
    fn start(url: &str, policy: &Path) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = rota(policy)?;
        command
            .arg("serve")
            .env("ROTA__DATABASE__URL", url)
            .env("ROTA__POLICY__SOURCE", policy)
            .env("ROTA__DAEMON__LISTEN", address.to_string())
            .env("ROTA__VAULT__ADDRESS", "http://127.0.0.1:1")
            .env("ROTA__VAULT__AUTH", "token")
            .env("ROTA__VAULT__TOKEN", "none");
        Ok(Self { child: command.spawn()?, address })
    }

    async fn until_ready(&mut self) -> Result<()> {
        let watch = Stopwatch::start();
        loop {
            let answer = self.ask().await.unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended with {status}");
            }
            ensure!(watch.elapsed() < LIMIT, "the daemon was not ready within {LIMIT:?}: {answer}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What `/readyz` says; an error while nobody listens.
    async fn ask(&self) -> std::io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(self.address).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn megabytes(&self, name: &str) -> Result<f64> {
        megabytes(self.child.id().context("the daemon has ended")?, name)
    }

    async fn stop(mut self) -> Result<()> {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(id.context("the daemon has ended")?, Signal::TERM)?;
        let status = self.child.wait().await?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

/// A line of proc_pid_status(5) that counts kilobytes.
fn megabytes(process: u32, name: &str) -> Result<f64> {
    let text = field(&format!("/proc/{process}/status"), name).context("the process is gone")?;
    let kilobytes: f64 = text.split_whitespace().next().context("no number")?.parse()?;
    Ok(kilobytes / 1024.0)
}
