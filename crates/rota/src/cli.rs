//! The command line, as clap sees it. Help texts are the first documentation that
//! people meet; `docs/command-line.md` is checked against them.
//!
//! Deliberately absent: what the commands do (see [`crate::commands`]).

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;
use rota_core::audit::Anchor;
use rota_core::id::{SecretId, StoreId};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Rotates secrets: generate, dual-run, monitor, retire.
///
/// `rota serve` is the daemon. Every other command reads the state database, or leaves
/// an order there that the daemon carries out; nothing needs a shell where the daemon runs.
#[derive(Debug, Parser)]
#[command(name = "rota", version, styles = STYLES, max_term_width = 100, disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failure, 2 usage, 3 invalid configuration, policy or input, 4 unavailable,\n\
    5 refused, 6 not found, 7 unhealthy, 8 not confirmed. Documentation: docs/command-line.md")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Folder with default.toml and {environment}.toml [default: ./config, where it exists]
    #[arg(long, global = true, env = "ROTA_CONFIG_DIR", value_name = "DIR", help_heading = "Global options")]
    pub(crate) config_dir: Option<PathBuf>,

    /// Read {environment}.toml too
    #[arg(
        long,
        global = true,
        env = "ROTA_ENVIRONMENT",
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub(crate) environment: Option<String>,

    /// Set one configuration value, over files and environment
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = assignment,
        help_heading = "Global options")]
    pub(crate) set: Vec<(String, String)>,

    /// Print one JSON document instead of text; errors too, on standard error
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,

    /// No colour [also: NO_COLOR, TERM=dumb, or output that is not a terminal]
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_color: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon
    Serve(Serve),
    /// Bring the state database to this version's schema
    Migrate,
    /// Look at the policy, check it, accept it
    #[command(subcommand)]
    Policy(Policy),
    /// What rotates next, when and why
    Plan(Plan),
    /// How every secret is, or one of them in full
    Status(Status),
    /// Ask for a rotation now
    Rotate(Rotate),
    /// Hand in the new value of an operator-supplied secret
    Submit(Submit),
    /// Say that the old key is revoked at the provider
    Confirm(Order),
    /// Stop a rotation where it is
    Hold(Order),
    /// Let a held rotation go on
    Resume(Order),
    /// Go back to the old value
    Rollback(Order),
    /// Give a rotation up and leave things as they are
    Abandon(Order),
    /// Say when a secret was last rotated before Rota knew it
    Adopt(Adopt),
    /// Say that what an abandoned rotation or a recovery left is dealt with
    Reconcile(Reconcile),
    /// What happened
    #[command(args_conflicts_with_subcommands = true)]
    History(History),
    /// Messages to people
    #[command(subcommand)]
    Notify(Notify),
    /// Look for everything that would make a rotation fail, with a fix beside each finding
    Doctor(Doctor),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The key of env files, and the sealed copies of replaced ones
    #[command(subcommand)]
    EnvFile(EnvFile),
    /// The providers whose API keys can be rotated, and files that describe more of them
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Go on after the state database was restored from a backup
    Recover(Recover),
    /// Ask a running daemon whether it is well (for container health checks)
    Health(Health),
    /// Print a completion script
    Completions {
        /// Whose
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one page for each command to a folder
    Man {
        /// Where the pages go; it is made where it is missing
        folder: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Migrate the state database first
    #[arg(long)]
    pub(crate) migrate: bool,
    #[command(flatten)]
    pub(crate) policy: PolicyOption,
    /// Address for health, metrics and the status page [config: daemon.listen]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyOption {
    /// The policy: a file, a folder or s3://bucket/key [config: policy.source]
    #[arg(long = "policy", value_name = "SOURCE")]
    pub(crate) source: Option<String>,
}

/// For commands that go by the accepted policy.
#[derive(Debug, Args)]
pub(crate) struct OtherPolicy {
    /// Another policy than the accepted one: a file, a folder or s3://bucket/key
    #[arg(long = "policy", value_name = "SOURCE")]
    pub(crate) source: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check a policy without touching anything
    Lint {
        /// A file, a folder or s3://bucket/key [config: policy.source]
        source: Option<String>,
        /// Warnings are errors
        #[arg(long)]
        strict: bool,
    },
    /// Print the JSON Schema of the policy file
    Schema,
    /// Show what the policy says in full, every default filled in
    Show {
        /// Only this secret
        name: Option<SecretId>,
        #[command(flatten)]
        policy: PolicyOption,
        /// The version that the daemons act on, from the state database
        #[arg(long, conflicts_with = "source")]
        accepted: bool,
    },
    /// Compare the policy with the accepted one
    Diff {
        #[command(flatten)]
        policy: PolicyOption,
    },
    /// Make the policy the one that all daemons act on
    Accept {
        #[command(flatten)]
        policy: PolicyOption,
        /// Consent to losing more than a fifth of the secrets
        #[arg(long)]
        accept_removals: bool,
        #[command(flatten)]
        consent: Consent,
    },
}

/// How a dangerous order is confirmed.
#[derive(Debug, Args)]
pub(crate) struct Consent {
    /// Do not ask; needs --reason
    #[arg(long, requires = "reason")]
    pub(crate) yes: bool,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) by: By,
}

#[derive(Debug, Args)]
pub(crate) struct By {
    /// Your name for the history, beside the database's own record of who you are
    #[arg(long = "as", env = "ROTA_OPERATOR", value_name = "NAME", id = "by")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// How far to look ahead
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3660))]
    pub(crate) days: u16,
    #[command(flatten)]
    pub(crate) policy: OtherPolicy,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this secret, in full
    pub(crate) name: Option<SecretId>,
    /// Show changes as they happen, until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
    /// Only what needs somebody's attention
    #[arg(long, conflicts_with = "name")]
    pub(crate) attention: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The secret
    pub(crate) name: SecretId,
    /// Something leaked: no waits, no windows, no way back
    #[arg(long, requires = "suspect")]
    pub(crate) emergency: bool,
    /// What leaked: a version as `rota status NAME` shows it, `current` where no rotation is in
    /// flight, or `both`
    #[arg(long, value_name = "REF|current|both", requires = "emergency")]
    pub(crate) suspect: Option<String>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// The secret
    pub(crate) name: SecretId,
    #[command(flatten)]
    pub(crate) by: By,
}

#[derive(Debug, Args)]
pub(crate) struct Order {
    /// The secret
    pub(crate) name: SecretId,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// The secret
    pub(crate) name: SecretId,
    /// The day on which the value in use was made
    #[arg(long, value_name = "YYYY-MM-DD", required_unless_present = "due")]
    pub(crate) rotated_on: Option<Date>,
    /// The day of the first due date, in place of what follows from the schedule
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) due: Option<Date>,
    #[command(flatten)]
    pub(crate) policy: OtherPolicy,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// The secret
    pub(crate) name: SecretId,
    /// Only this one, by its number in `rota status NAME`
    #[arg(long, value_name = "NUMBER")]
    pub(crate) orphan: Option<i64>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(subcommand)]
    pub(crate) command: Option<HistoryCommand>,
    #[command(flatten)]
    pub(crate) list: HistoryList,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryList {
    /// Only this secret
    pub(crate) name: Option<SecretId>,
    /// One line for each rotation, or every recorded event
    #[arg(long)]
    pub(crate) events: bool,
    /// One line for each rollout that served these rotations
    #[arg(long, conflicts_with = "events")]
    pub(crate) rollouts: bool,
    /// How it is written; --json is the same as json
    #[arg(long, value_enum, default_value_t = HistoryFormat::Table)]
    pub(crate) format: HistoryFormat,
    /// The same as --format csv
    #[arg(long, conflicts_with = "format")]
    pub(crate) csv: bool,
    /// From this day on, in UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) since: Option<Date>,
    /// At most so many, the newest
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HistoryFormat {
    Table,
    Json,
    Csv,
    /// `2026-01-15 10:00:00 UTC | JWT_SECRET | ROTATED | who | environment | SUCCESS`
    Runbook,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// Check every hash of the history, and what is anchored
    Verify {
        /// A checkpoint that was kept outside, as the digest shows it; may be given several times
        #[arg(long, value_name = "NUMBER:HASH")]
        anchor: Vec<Anchor>,
        /// A file with such checkpoints, one a line
        #[arg(long, value_name = "FILE")]
        anchors: Option<PathBuf>,
    },
    /// Write every row with its canonical bytes, for an independent check
    Export {
        /// Where to [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Notify {
    /// Send a test message to every channel
    Test,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) policy: PolicyOption,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Every setting with its source; secret ones are not shown
    Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// List the providers of this version and of the daemon's own folder
    List,
    /// Check files that describe providers
    Lint {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvFile {
    /// Make a key where none is yet
    Key {
        /// Where to [config: env_file.key_file]
        path: Option<PathBuf>,
    },
    /// List the sealed copies of replaced files
    Backups {
        /// The store, as the policy calls it
        store: StoreId,
        #[command(flatten)]
        policy: PolicyOption,
    },
    /// Put a sealed copy back in place of the file; what stands there is sealed first
    Restore {
        /// The store, as the policy calls it
        store: StoreId,
        /// The copy, by its number in `rota env-file backups STORE`
        number: u64,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        policy: PolicyOption,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// The next incarnation, greater than every earlier one [default: the seconds since 1970]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) number: Option<i64>,
    /// Compare and show the plan, and stop there
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// The daemon's address [config: daemon.listen]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    /// Only whether the process lives, whatever its database does
    #[arg(long)]
    pub(crate) live: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') && !value.is_empty() => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err("write section.key=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_is_for() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no description");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {} has no help", argument.get_id());
            }
            command.get_subcommands().for_each(|sub| check(sub, &path));
        }
        check(&Cli::command(), "");
    }

    #[test]
    fn the_documentation_names_every_command_and_every_option() {
        const PAGE: &str = include_str!("../../../docs/command-line.md");
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name()).trim_start().to_owned();
                assert!(PAGE.contains(&format!("`{path}")), "docs/command-line.md says nothing of `{path}`");
                check(sub, &path);
            }
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(PAGE.contains(&format!("--{option}")), "{path}: nothing of --{option}");
            }
        }
        check(&Cli::command(), "");
    }
}
