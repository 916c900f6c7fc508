//! `command`: a program on the daemon's host that does the work.
//!
//! Exit code 0 is success, everything else a failure. It learns which run it is from
//! ROTA_SECRET, ROTA_ROTATION, ROTA_POINT and ROTA_IDEMPOTENCY_KEY; it is never given
//! a value. At least once: where the daemon ends meanwhile, it runs again with the
//! same key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{Facts, KindContext, KindProblem, KindSpec, Port};
use rota_core::policy::model::HookPoint;
use rota_engine::ports::{HookContext, HookRunner, HookStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::HookKind;
use crate::child::{self, End, Program, Runs};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "command";

/// The kind as policies see it.
pub const KIND: HookKind = HookKind {
    spec: KindSpec::new(Port::Hook, NAME, "a program on this host that does the work")
        .inline::<CommandSettings>()
        .lint(lint)
        .facts(|settings| Facts { host_local: host_of(settings).is_some(), ..Facts::default() }),
    build: |policy, environment| {
        Ok(Arc::new(CommandHook::new(&policy.settings, environment.host.clone(), environment.runs.clone())?))
    },
};

/// How long the work may take where the policy does not say: a backup's time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3_600);

/// `{ kind = "command", command = ["/usr/local/bin/backup-database"], timeout = "2h" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// The machine that runs it, as `host` of its daemon's configuration names it.
    host: Option<String>,
    /// The program and its arguments; no shell reads them.
    command: Vec<String>,
    /// The folder that it runs in; the daemon's own where nothing is said.
    directory: Option<PathBuf>,
    /// Names of the daemon's environment that it gets beside PATH, HOME and the like.
    #[serde(default)]
    environment: Vec<String>,
    /// How long it may run; 1h where nothing is said.
    timeout: Option<DurationText>,
}

/// The hook.
pub struct CommandHook {
    settings: CommandSettings,
    here: Option<String>,
    runs: Runs,
}

impl CommandHook {
    /// `here` is what the daemon's configuration calls its host.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, here: Option<String>, runs: Runs) -> Result<Self, Fault> {
        Ok(Self { settings: settings::read(NAME, settings)?, here, runs })
    }

    fn program(&self, context: &HookContext) -> Program {
        let said = self.settings.timeout.and_then(|text| Duration::try_from(text.0).ok());
        Program {
            argv: self.settings.command.clone(),
            directory: self.settings.directory.clone(),
            environment: self.settings.environment.clone(),
            variables: vec![
                ("ROTA_SECRET", context.secret.to_string()),
                ("ROTA_ROTATION", context.rotation.to_string()),
                ("ROTA_POINT", point_name(context.point)),
                ("ROTA_IDEMPOTENCY_KEY", context.idempotency_key()),
            ],
            input: None,
            timeout: said.unwrap_or(DEFAULT_TIMEOUT),
        }
    }
}

#[async_trait]
impl HookRunner for CommandHook {
    async fn run(&self, context: &HookContext) -> Result<HookStatus, Fault> {
        settings::must_be_here("hook", self.settings.host.as_ref(), self.here.as_ref())?;
        let program = self.program(context);
        let name = program.name();
        let key = format!("hook/{}", context.idempotency_key());
        Ok(match self.runs.look(&key, || program).await? {
            None => HookStatus::UnderWay { detail: format!("`{name}` runs") },
            Some(End::Code(0)) => HookStatus::Succeeded,
            Some(end @ (End::Code(_) | End::Signal(_) | End::TimedOut(_))) => {
                HookStatus::Failed { detail: format!("`{name}` {end}") }
            }
        })
    }
}

/// The point as the policy writes it.
fn point_name(point: HookPoint) -> String {
    match point {
        HookPoint::BeforeGenerate => "before-generate",
        HookPoint::AfterGenerate => "after-generate",
        HookPoint::BeforePromote => "before-promote",
        HookPoint::AfterPromote => "after-promote",
        HookPoint::BeforeRetire => "before-retire",
        HookPoint::AfterRetire => "after-retire",
        HookPoint::OnEmergency => "on-emergency",
    }
    .to_owned()
}

fn host_of(settings: &Value) -> Option<String> {
    CommandSettings::deserialize(settings).ok().and_then(|settings| settings.host)
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = CommandSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> = child::problems("/command", &settings.command).into_iter().collect();
    problems.extend(child::environment_problem("/environment", &settings.environment));
    problems
}

#[cfg(test)]
mod tests {
    use rota_core::id::{RotationId, SecretId};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn context() -> HookContext {
        HookContext {
            rotation: RotationId(Uuid::from_u128(7)),
            secret: SecretId::new("ENCRYPTION_KEY").unwrap(),
            point: HookPoint::BeforePromote,
            index: 1,
            attempt: 0,
            now: "2026-01-15T10:00:00Z".parse().unwrap(),
        }
    }

    async fn run(settings: Value) -> Result<HookStatus, Fault> {
        CommandHook::new(&settings, Some("web-1".to_owned()), Runs::default()).unwrap().run(&context()).await
    }

    #[tokio::test]
    async fn the_program_learns_which_run_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let script = format!("exec env >{}", out.display());
        let status = run(json!({ "command": ["/bin/sh", "-c", script] })).await;
        assert_eq!(status, Ok(HookStatus::Succeeded));
        let seen = std::fs::read_to_string(out).unwrap();
        let key = context().idempotency_key();
        for line in [
            "ROTA_SECRET=ENCRYPTION_KEY".to_owned(),
            format!("ROTA_ROTATION={}", context().rotation),
            "ROTA_POINT=before-promote".to_owned(),
            format!("ROTA_IDEMPOTENCY_KEY={key}"),
        ] {
            assert!(seen.lines().any(|seen| seen == line), "{line} is missing");
        }
    }

    #[tokio::test]
    async fn every_end_but_zero_is_a_failure() {
        let failed = |detail: &str| Ok(HookStatus::Failed { detail: detail.to_owned() });
        let shell = |script: &str| json!({ "command": ["/bin/sh", "-c", script] });
        assert_eq!(run(shell("exit 2")).await, failed("`sh` ended with exit code 2"));
        assert_eq!(run(shell("kill -9 $$")).await, failed("`sh` was ended by signal 9"));
        let slow = json!({ "command": ["/bin/sleep", "300"], "timeout": "1s" });
        assert_eq!(run(slow).await, failed("`sleep` did not end within 1s and was stopped"));
        assert!(matches!(run(json!({ "command": ["/nowhere"] })).await, Err(Fault::Invalid { .. })));
    }

    #[tokio::test]
    async fn only_the_named_host_runs_it() {
        let settings = json!({ "host": "web-2", "command": ["/bin/true"] });
        assert!(matches!(run(settings).await, Err(Fault::Transient { .. })));
    }
}
