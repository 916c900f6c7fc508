//! `command`: a program whose exit code says how a consumer is.
//!
//! 0 is healthy, 1 is unhealthy; every other code, a signal and the end of its time
//! are unknown. As `prove` it reads the value from standard input, and 1 says that
//! the value is refused. Its output is dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_core::value::SecretValue;
use rota_engine::ports::{Check, CheckContext, Reading, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{reading, timeout, unread};
use crate::catalog::CheckKind;
use crate::child::{End, Program};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "command";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "a program whose exit code says how a consumer is")
        .inline::<CommandSettings>()
        .lint(lint),
    build: |policy, _| Ok(Arc::new(CommandCheck::new(&policy.settings)?)),
};

/// `{ kind = "command", command = ["/usr/local/bin/check-backend"] }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// The program and its arguments; no shell reads them.
    command: Vec<String>,
    /// The folder that it runs in; the daemon's own where nothing is said.
    directory: Option<PathBuf>,
    /// Names of the daemon's environment that it gets beside PATH, HOME and the like.
    #[serde(default)]
    environment: Vec<String>,
    /// How long it may run; 10s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// The check.
pub struct CommandCheck {
    settings: CommandSettings,
    timeout: Duration,
}

impl CommandCheck {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value) -> Result<Self, Fault> {
        let settings: CommandSettings = settings::read(NAME, settings)?;
        Ok(Self { timeout: timeout(settings.timeout), settings })
    }
}

#[async_trait]
impl Check for CommandCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let program = Program {
            argv: self.settings.command.clone(),
            directory: self.settings.directory.clone(),
            environment: self.settings.environment.clone(),
            variables: Vec::new(),
            input: context.value.as_ref().map(SecretValue::duplicate),
            timeout: self.timeout,
        };
        let name = program.name();
        match program.run().await {
            Ok(end) => Ok(judge(&name, end)),
            Err(fault) => unread(fault),
        }
    }
}

fn judge(name: &str, end: End) -> Reading {
    let verdict = match end {
        End::Code(0) => Verdict::Healthy,
        End::Code(1) => Verdict::Unhealthy,
        End::Code(_) | End::Signal(_) | End::TimedOut(_) => Verdict::Unknown,
    };
    reading(verdict, None, format!("`{name}` {end}"))
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = CommandSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    problems.extend(crate::child::problems("/command", &settings.command));
    problems.extend(crate::child::environment_problem("/environment", &settings.environment));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zero_is_healthy_and_only_one_is_unhealthy() {
        let verdict = |end| judge("check", end).verdict;
        assert_eq!(verdict(End::Code(0)), Verdict::Healthy);
        assert_eq!(verdict(End::Code(1)), Verdict::Unhealthy);
        for end in [End::Code(2), End::Code(127), End::Signal(9), End::TimedOut(Duration::from_secs(1))] {
            assert_eq!(verdict(end), Verdict::Unknown, "{end}");
        }
        assert_eq!(judge("check", End::Code(3)).detail, "`check` ended with exit code 3");
    }
}
