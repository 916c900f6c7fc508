//! `command`: programs on the daemon's own host that reload the consumer's
//! instances one after the other (pm2, docker compose).
//!
//! Each command is followed by a pause and a health check before the next one runs.
//! How far it is stands in the journal, so another call or another process goes on
//! there; a command whose end was not recorded runs again, and a rollout that is
//! begun again starts from its first command. Commands therefore have to bear being
//! repeated, as a reload does. Recipes: docs/rollouts/command.md.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{Facts, KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Rollout, RolloutContext, RolloutStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalog::RolloutKind;
use crate::checks::address_problem;
use crate::child::{self, End, Program, Runs};
use crate::http::HttpClient;
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "command";

/// The kind as policies see it.
pub const KIND: RolloutKind = RolloutKind {
    spec: KindSpec::new(Port::Rollout, NAME, "programs on this host that reload the instances one by one")
        .inline::<CommandSettings>()
        .lint(lint)
        .facts(|settings| Facts { host_local: host_of(settings).is_some(), ..Facts::default() }),
    build: |policy, environment| {
        Ok(Arc::new(CommandRollout::new(
            &policy.settings,
            environment.host.clone(),
            environment.client.clone(),
            environment.runs.clone(),
        )?))
    },
};

/// How long one command may take where the policy does not say: a reload waits for
/// connections to drain.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// How long an instance may take to become healthy where the policy does not say.
const DEFAULT_HEALTHY_WITHIN: SignedDuration = SignedDuration::from_mins(2);

/// A health check is one look.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

/// `{ kind = "command", host = "web-1", commands = [["pm2", "reload", "backend-0"]] }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// The machine that runs the commands, as `host` of its daemon's configuration names it.
    host: Option<String>,
    /// The commands in their order, one for each instance: a program and its
    /// arguments each; no shell reads them.
    commands: Vec<Vec<String>>,
    /// How long to wait after each command.
    pause: Option<DurationText>,
    /// What must be well after the pause, before the next command.
    health: Option<Health>,
    /// How long an instance may take to become healthy; 2m where nothing is said.
    healthy_within: Option<DurationText>,
    /// How long one command may take; 5m where nothing is said.
    timeout: Option<DurationText>,
    /// The folder that the commands run in; the daemon's own where nothing is said.
    directory: Option<PathBuf>,
    /// Names of the daemon's environment that they get beside PATH, HOME and the like.
    #[serde(default)]
    environment: Vec<String>,
}

/// An address that answers 200, or a program that ends with 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Health {
    Url(UrlHealth),
    Command(CommandHealth),
}

/// `health = { url = "http://127.0.0.1:3000/api/health" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlHealth {
    url: String,
}

/// `health = { command = ["/usr/local/bin/backend-is-up"] }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandHealth {
    command: Vec<String>,
}

/// How far the rollout is; stands in the journal between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Progress {
    /// The command that runs next, or whose instance is waited for.
    command: usize,
    /// When that command ended well; `None` before.
    ended_at: Option<Timestamp>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Run,
    Rest { until: Timestamp },
    LookAtHealth { give_up_at: Timestamp },
    Finish,
}

/// The rollout.
pub struct CommandRollout {
    settings: CommandSettings,
    /// What this host is called; `None` where the configuration does not say.
    here: Option<String>,
    http: HttpClient,
    runs: Runs,
}

impl CommandRollout {
    /// `here` is what the daemon's configuration calls its host.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, here: Option<String>, http: HttpClient, runs: Runs) -> Result<Self, Fault> {
        Ok(Self { settings: settings::read(NAME, settings)?, here, http, runs })
    }

    fn next(&self, progress: Progress, now: Timestamp) -> Next {
        if progress.command >= self.settings.commands.len() {
            return Next::Finish;
        }
        let Some(ended_at) = progress.ended_at else { return Next::Run };
        let pause = self.settings.pause.map_or(SignedDuration::ZERO, |text| text.0);
        let within = self.settings.healthy_within.map_or(DEFAULT_HEALTHY_WITHIN, |text| text.0);
        let until = later(ended_at, pause);
        if now < until {
            Next::Rest { until }
        } else {
            Next::LookAtHealth { give_up_at: later(until, within) }
        }
    }

    /// One look: waits for an instance, or runs at most one command.
    async fn advance(
        &self,
        mut progress: Progress,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, Progress), Fault> {
        let number = progress.command + 1;
        match self.next(progress, context.now) {
            Next::Rest { until } => {
                return Ok((
                    under_way(format!("the pause after command {number} ends at {until}")),
                    progress,
                ));
            }
            Next::LookAtHealth { give_up_at } => {
                if self.is_healthy().await? {
                    progress = Progress { command: number, ended_at: None };
                } else if context.now < give_up_at {
                    return Ok((
                        under_way(format!("the instance after command {number} is not healthy yet")),
                        progress,
                    ));
                } else {
                    let detail =
                        format!("the instance after command {number} did not become healthy in time");
                    return Ok((RolloutStatus::Failed { detail }, progress));
                }
            }
            Next::Run | Next::Finish => {}
        }
        match self.next(progress, context.now) {
            Next::Finish => Ok((RolloutStatus::Finished, progress)),
            Next::Run | Next::Rest { .. } | Next::LookAtHealth { .. } => self.run(progress, context).await,
        }
    }

    async fn run(
        &self,
        progress: Progress,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, Progress), Fault> {
        let argv = self.settings.commands.get(progress.command).cloned().unwrap_or_default();
        let program = self.program(argv, self.timeout());
        let name = format!("command {} (`{}`)", progress.command + 1, program.name());
        let key = format!("rollout/{}/{}/{}", context.consumer, context.generation, progress.command);
        Ok(match self.runs.look(&key, || program).await? {
            None => (under_way(format!("{name} runs")), progress),
            Some(End::Code(0)) => {
                (under_way(format!("{name} is done")), Progress { ended_at: Some(context.now), ..progress })
            }
            Some(end @ (End::Code(_) | End::Signal(_) | End::TimedOut(_))) => {
                (RolloutStatus::Failed { detail: format!("{name} {end}") }, progress)
            }
        })
    }

    fn timeout(&self) -> Duration {
        let said = self.settings.timeout.and_then(|text| Duration::try_from(text.0).ok());
        said.unwrap_or(DEFAULT_TIMEOUT)
    }

    fn program(&self, argv: Vec<String>, timeout: Duration) -> Program {
        Program {
            argv,
            directory: self.settings.directory.clone(),
            environment: self.settings.environment.clone(),
            variables: Vec::new(),
            input: None,
            timeout,
        }
    }

    /// True where the instance is well; what cannot be read is not.
    async fn is_healthy(&self) -> Result<bool, Fault> {
        match &self.settings.health {
            None => Ok(true),
            Some(Health::Url(health)) => {
                let request = self.http.request(Method::GET, &health.url)?.timeout(HEALTH_TIMEOUT);
                match self.http.send("the instance's health address", request).await {
                    Ok(answer) => Ok(answer.status() == StatusCode::OK),
                    Err(fault) if fault.passes_by_itself() => Ok(false),
                    Err(fault) => Err(fault),
                }
            }
            Some(Health::Command(health)) => {
                let end = self.program(health.command.clone(), HEALTH_TIMEOUT).run().await?;
                Ok(end == End::Code(0))
            }
        }
    }
}

#[async_trait]
impl Rollout for CommandRollout {
    fn must_be_here(&self) -> Result<(), Fault> {
        settings::must_be_here("rollout", self.settings.host.as_ref(), self.here.as_ref())
    }

    async fn begin(&self, _: &RolloutContext) -> Result<Value, Fault> {
        // The first look runs the first command.
        self.must_be_here()?;
        Ok(json!({}))
    }

    async fn observe(
        &self,
        _: &Value,
        memory: &Value,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        self.must_be_here()?;
        // Without a memory the first command runs (again).
        let progress = Progress::deserialize(memory).unwrap_or_default();
        let (status, progress) = self.advance(progress, context).await?;
        Ok((status, json!(progress)))
    }
}

fn under_way(detail: String) -> RolloutStatus {
    RolloutStatus::UnderWay { detail }
}

fn later(from: Timestamp, by: SignedDuration) -> Timestamp {
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn host_of(settings: &Value) -> Option<String> {
    CommandSettings::deserialize(settings).ok().and_then(|settings| settings.host)
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = CommandSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        child::environment_problem("/environment", &settings.environment).into_iter().collect();
    if settings.commands.is_empty() {
        problems.push(KindProblem::error(
            "no-command",
            "/commands",
            "nothing is run",
            "write one command for each instance: `commands = [[\"pm2\", \"reload\", \"backend-0\"]]`",
        ));
    }
    for (index, command) in settings.commands.iter().enumerate() {
        problems.extend(child::problems(&format!("/commands/{index}"), command));
    }
    match &settings.health {
        Some(Health::Url(health)) => problems.extend(address_problem("/health/url", &health.url)),
        Some(Health::Command(health)) => {
            problems.extend(child::problems("/health/command", &health.command));
        }
        None if settings.commands.len() > 1 => problems.push(
            KindProblem::error(
                "no-health",
                "",
                "the next instance is reloaded whether or not the last one came up",
                "write `health = { url = \"http://127.0.0.1:3000/api/health\" }`",
            )
            .warning(),
        ),
        None => {}
    }
    problems
}

#[cfg(test)]
mod tests;
