//! The servers of this crate as processes, for scripts and for tests that kill.
//!
//! Each prints where it is reached as its first line and runs until SIGTERM,
//! SIGINT or, with `--until-eof`, the end of its standard input.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use rota_fakes::ecs::{self, EcsFake};
use rota_fakes::grafana::GrafanaFake;
use rota_fakes::http::Listen;
use rota_fakes::moto::{self, MotoServer};
use rota_fakes::postgres::{self, PostgresOptions, PostgresServer};
use rota_fakes::secretsmanager::SecretsManagerFake;
use rota_fakes::slack::SlackFake;
use rota_fakes::tls::TestCa;
use rota_fakes::vault::VaultFake;
use rota_fakes::webhook::WebhookFake;
use serde_json::Value;

#[derive(Parser)]
#[command(about = "Servers for tests", version)]
struct Arguments {
    /// End when standard input ends, so that a killed caller leaves nothing behind
    #[arg(long, global = true)]
    until_eof: bool,
    #[command(subcommand)]
    server: Server,
}

#[derive(Subcommand)]
enum Server {
    /// A private Postgres cluster; prints the superuser's URL
    Postgres {
        /// fsync on
        #[arg(long)]
        durable: bool,
    },
    /// A Slack incoming-webhook sink; prints its address, then the webhook's URL
    Slack {
        /// Print what people would read on standard error
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        listen: ListenArguments,
    },
    /// A Vault server; prints its address, then its URL, then a root token
    Vault {
        /// Serve TLS for `localhost` and write the private authority's certificate here
        #[arg(long)]
        tls_ca: Option<PathBuf>,
        #[command(flatten)]
        listen: ListenArguments,
    },
    /// A Grafana server whose administrator is `admin` with the password `admin`; prints its
    /// address, then its URL
    Grafana {
        #[command(flatten)]
        listen: ListenArguments,
    },
    /// AWS Secrets Manager of one region; prints its address, then the endpoint URL
    Secretsmanager {
        /// The region that requests must be signed for
        #[arg(long, default_value = "us-east-1")]
        region: String,
        #[command(flatten)]
        listen: ListenArguments,
    },
    /// Amazon ECS of one region; prints its address, then the endpoint URL
    Ecs {
        /// The region that requests must be signed for
        #[arg(long, default_value = "us-east-1")]
        region: String,
        /// Where starting tasks read their secrets: a Secrets Manager endpoint
        #[arg(long)]
        secrets_url: String,
        /// Milliseconds between two events of a rollout
        #[arg(long, default_value_t = 100)]
        pause_ms: u64,
        #[command(flatten)]
        listen: ListenArguments,
    },
    /// A sink for signed webhooks; prints its address, then the URL to deliver to
    Webhook {
        /// A file that holds a signing key; give it twice while one is rotated
        #[arg(long, required = true)]
        key_file: Vec<PathBuf>,
        #[command(flatten)]
        listen: ListenArguments,
    },
    /// The AWS emulator; prints its URL
    Moto,
    /// Runs a command with Postgres and the AWS emulator around it, for a whole test run
    Around {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Args)]
struct ListenArguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

impl ListenArguments {
    fn plain(&self) -> Listen {
        Listen { address: self.listen, ..Listen::default() }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _running: Box<dyn std::any::Any> = match arguments.server {
        Server::Postgres { durable } => {
            let options = PostgresOptions::new();
            let server = PostgresServer::start(if durable { options.durable() } else { options })?;
            announce(server.endpoint()?.url())?;
            Box::new(server)
        }
        Server::Slack { print, listen } => {
            let fake = SlackFake::start(listen.plain())?;
            announce(&format!("{}\n{}", fake.address(), fake.url()))?;
            if print {
                return runtime.block_on(async {
                    tokio::select! {
                        ended = ended(arguments.until_eof) => ended?,
                        printed = print_messages(&fake) => printed?,
                    }
                    Ok(ExitCode::SUCCESS)
                });
            }
            Box::new(fake)
        }
        Server::Vault { tls_ca, listen } => {
            let mut listen = listen.plain();
            if let Some(file) = tls_ca {
                let ca = TestCa::new()?;
                std::fs::write(&file, ca.pem()).with_context(|| format!("write {}", file.display()))?;
                listen.tls = Some(ca.issue(&["localhost", "127.0.0.1"])?.server_config()?);
            }
            let fake = VaultFake::start(listen)?;
            announce(&format!("{}\n{}\n{}", fake.address(), fake.url(), fake.root_token()))?;
            Box::new(fake)
        }
        Server::Grafana { listen } => {
            let fake = GrafanaFake::start(listen.plain())?;
            announce(&format!("{}\n{}", fake.address(), fake.url()))?;
            Box::new(fake)
        }
        Server::Secretsmanager { region, listen } => {
            let fake = SecretsManagerFake::start(&region, listen.plain())?;
            announce(&format!("{}\n{}", fake.address(), fake.url()))?;
            Box::new(fake)
        }
        Server::Ecs { region, secrets_url, pause_ms, listen } => {
            let fake = EcsFake::start(&region, ecs::reader_of(&secrets_url, &region), listen.plain())?;
            fake.automatic(Some(Duration::from_millis(pause_ms)));
            announce(&format!("{}\n{}", fake.address(), fake.url()))?;
            Box::new(fake)
        }
        Server::Webhook { key_file, listen } => {
            let keys = key_file.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.trim_ascii()).collect();
            let fake = WebhookFake::start(&keys, listen.plain())?;
            announce(&format!("{}\n{}", fake.address(), fake.url()))?;
            Box::new(fake)
        }
        Server::Moto => {
            let server = MotoServer::start(&[])?;
            announce(&server.url())?;
            Box::new(server)
        }
        Server::Around { command } => return around(&command),
    };
    runtime.block_on(ended(arguments.until_eof))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts Postgres and the AWS emulator once, names them in the environment, runs `command`
/// and hands on its exit code.
fn around(command: &[String]) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().context("name a command to run")?;
    let postgres = PostgresServer::start(PostgresOptions::new())?;
    let moto = MotoServer::start(&[])?;
    let status = Command::new(program)
        .args(arguments)
        .env(postgres::ENDPOINT_VARIABLE, postgres.endpoint()?.url())
        .env(moto::ENDPOINT_VARIABLE, moto.url())
        .status()
        .with_context(|| format!("run {program}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Prints every message as it comes, each after a line that begins with `--`.
async fn print_messages(fake: &SlackFake) -> Result<()> {
    let mut shown = 0;
    loop {
        let messages = fake.received();
        for message in &messages[shown..] {
            let mut err = std::io::stderr().lock();
            writeln!(err, "-- {}", message.text)?;
            for text in readable(&message.payload) {
                writeln!(err, "   {}", text.replace('\n', "\n   "))?;
            }
        }
        shown = messages.len();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The texts of a payload's blocks, in their order.
fn readable(payload: &Value) -> Vec<String> {
    match payload {
        Value::Object(object) => {
            let own = object.get("text").and_then(Value::as_str).filter(|_| object.contains_key("type"));
            own.map(str::to_owned).into_iter().chain(object.values().flat_map(readable)).collect()
        }
        Value::Array(items) => items.iter().flat_map(readable).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn announce(address: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{address}")?;
    Ok(out.flush()?)
}

async fn ended(until_eof: bool) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (closed, mut input_ended) = tokio::sync::mpsc::channel::<()>(1);
    let _open = if until_eof {
        // A plain thread: nothing can interrupt a read of standard input, and
        // the process's end does not wait for this one.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drop(closed);
        });
        None
    } else {
        Some(closed)
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = input_ended.recv() => {}
    }
    Ok(())
}
