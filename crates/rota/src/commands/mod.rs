//! What each command does, a file for each.
//!
//! Deliberately absent: SQL, HTTP and decisions. A command reads, asks, leaves an
//! order, and says what it did.

mod config_show;
mod doctor;
mod env_file;
mod health;
mod history;
mod migrate;
mod notify;
mod orders;
mod plan;
mod policy;
mod provider;
mod recover;
mod shell;
mod status;
mod submit;

use std::sync::Arc;

use jiff::Timestamp;
use rota_core::policy::duration;
use rota_engine::ports::OrderKind;
use rota_postgres::{JournalPool, Reports};
use tokio::runtime::Builder;

use crate::cli::{Cli, Command, ConfigCommand, Global, Notify, Serve};
use crate::config::{Configuration, Places};
use crate::database::{self, Right};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::{serve, telemetry};

pub(crate) use policy::count_of;

/// What every command is given.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) output: Output,
}

impl Context {
    /// All settings. Flags that a command has for single settings come last.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    pub(crate) fn configuration(&self, own: &[(&str, Option<&String>)]) -> Result<Configuration, Failure> {
        let mut flags = self.global.set.clone();
        flags.extend(own.iter().filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?.clone()))));
        let places = Places {
            folder: self.global.config_dir.clone(),
            environment: self.global.environment.clone(),
            flags,
        };
        Configuration::load(&places, std::env::vars_os())
    }

    /// Connections to the state database, with this person's own login.
    async fn connect(&self, who: &str, needs: &[Right]) -> Result<JournalPool, Failure> {
        database::connect(&self.configuration(&[])?, who, needs).await
    }

    /// The views of the state database.
    async fn reports(&self, who: &str) -> Result<Reports, Failure> {
        Ok(Reports::new(self.connect(who, &[Right::Read]).await?))
    }
}

/// How far away a moment is: `in 3h`, `2d ago`. Two units are enough for people.
fn when(at: Timestamp, now: Timestamp) -> String {
    let away = at.duration_since(now);
    let length = away.abs();
    let unit = match length.as_secs() {
        ..120 => 1,
        120..7_200 => 60,
        7_200..172_800 => 3_600,
        172_800.. => 86_400,
    };
    // To the nearest: a minute after a promotion the next one is not `in 89d`.
    let text = duration::show(jiff::SignedDuration::from_secs((length.as_secs() + unit / 2) / unit * unit));
    if away.is_negative() { format!("{text} ago") } else { format!("in {text}") }
}

async fn daemon(context: &Context, args: &Serve) -> Outcome {
    let own = [("policy.source", args.policy.source.as_ref()), ("daemon.listen", args.listen.as_ref())];
    let configuration = context.configuration(&own)?;
    let logs = &configuration.settings.telemetry;
    telemetry::start(logs.format, &logs.filter);
    serve::run(Arc::new(configuration), args.migrate).await
}

/// Runs one command to its end. Only the daemon needs more than one thread.
pub(crate) fn run(cli: Cli, output: Output) -> Outcome {
    let context = Context { global: cli.global, output };
    let mut builder = if matches!(cli.command, Command::Serve(_)) {
        Builder::new_multi_thread()
    } else {
        telemetry::start(telemetry::Format::Text, "warn");
        Builder::new_current_thread()
    };
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start: {error}")))?;
    runtime.block_on(perform(&context, &cli.command))
}

async fn perform(context: &Context, command: &Command) -> Outcome {
    match command {
        Command::Serve(args) => daemon(context, args).await,
        Command::Migrate => migrate::run(context).await,
        Command::Policy(command) => policy::run(context, command).await,
        Command::Plan(plan) => plan::run(context, plan).await,
        Command::Status(status) => status::run(context, status).await,
        Command::Rotate(order) => orders::rotate(context, order).await,
        Command::Submit(submit) => submit::run(context, submit).await,
        Command::Confirm(order) => orders::simple(context, OrderKind::Confirm, order).await,
        Command::Hold(order) => orders::simple(context, OrderKind::Hold, order).await,
        Command::Resume(order) => orders::simple(context, OrderKind::Resume, order).await,
        Command::Rollback(order) => orders::simple(context, OrderKind::Rollback, order).await,
        Command::Abandon(order) => orders::simple(context, OrderKind::Abandon, order).await,
        Command::Adopt(order) => orders::adopt(context, order).await,
        Command::Reconcile(order) => orders::reconcile(context, order).await,
        Command::History(history) => history::run(context, history).await,
        Command::Notify(Notify::Test) => notify::test(context).await,
        Command::Doctor(doctor) => doctor::run(context, doctor).await,
        Command::Config(ConfigCommand::Show) => config_show::run(context),
        Command::EnvFile(command) => env_file::run(context, command).await,
        Command::Provider(command) => provider::run(context, command),
        Command::Recover(recover) => recover::run(context, recover).await,
        Command::Health(health) => health::run(context, health).await,
        Command::Completions { shell } => shell::completions(context, *shell),
        Command::Man { folder } => shell::man(context, folder.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_units_that_fit() {
        let now: Timestamp = "2026-01-15T10:00:00Z".parse().unwrap();
        let told = |text: &str| when(text.parse().unwrap(), now);
        assert_eq!(told("2026-01-15T10:00:45Z"), "in 45s");
        assert_eq!(told("2026-01-15T09:30:10Z"), "30m ago");
        assert_eq!(told("2026-01-15T20:20:00Z"), "in 10h");
        assert_eq!(told("2026-04-15T10:00:00Z"), "in 90d");
        assert_eq!(told("2026-04-15T09:59:00Z"), "in 90d");
    }
}
