//! `ecs-task`: a task of Amazon ECS that does the work and ends with 0.
//!
//! Nothing is remembered between two looks: the task is found again by `startedBy`,
//! which is the run's idempotency key, among those that should run and those that
//! stopped within the hour for which ECS shows them; RunTask itself is sent with the
//! same client token, which ECS answers with the task of the first call (Amazon ECS
//! API Reference, RunTask, "Ensuring idempotency").

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecs::operation::run_task::RunTaskError;
use aws_sdk_ecs::types::{AssignPublicIp, AwsVpcConfiguration, NetworkConfiguration, Task, TaskStopCode};
use rota_core::fault::Fault;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{HookContext, HookRunner, HookStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::HookKind;
use crate::ecs::{Cluster, EcsEnvironment, Location, Tasks, empty_name, fault};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "ecs-task";

/// The kind as policies see it.
pub const KIND: HookKind = HookKind {
    spec: KindSpec::new(Port::Hook, NAME, "a task of Amazon ECS that does the work and ends with 0")
        .inline::<EcsTaskSettings>()
        .lint(lint),
    build: |policy, environment| Ok(Arc::new(EcsTaskHook::new(&policy.settings, environment.into())?)),
};

/// `{ kind = "ecs-task", cluster = "prod", task = "backup", subnets = ["subnet-1"] }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EcsTaskSettings {
    /// The cluster's name or ARN.
    cluster: String,
    /// The task definition: its family for the newest revision, or `family:revision`.
    task: String,
    /// Whose exit code counts; that of every container where nothing is said.
    container: Option<String>,
    /// The subnets of a task with network mode `awsvpc` (all of Fargate).
    #[serde(default)]
    subnets: Vec<String>,
    /// Its security groups.
    #[serde(default)]
    security_groups: Vec<String>,
    /// Whether it gets a public address, which it needs in a subnet without NAT.
    #[serde(default)]
    public_ip: bool,
    /// `FARGATE`, `EC2` or `EXTERNAL`; the cluster's default where nothing is said.
    launch_type: Option<LaunchType>,
    /// The region; where nothing is said that of the cluster's ARN, else the daemon's own.
    region: Option<String>,
    /// The ARN of a role to assume, for another account or for fewer rights.
    assume_role: Option<String>,
    /// What that role's trust policy asks for, where it belongs to somebody else.
    external_id: Option<String>,
}

impl EcsTaskSettings {
    fn location(&self) -> Location<'_> {
        Location {
            cluster: &self.cluster,
            region: self.region.as_deref(),
            assume_role: self.assume_role.as_deref(),
            external_id: self.external_id.as_deref(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum LaunchType {
    Fargate,
    Ec2,
    External,
}

/// The hook.
pub struct EcsTaskHook {
    settings: EcsTaskSettings,
    environment: EcsEnvironment,
}

impl EcsTaskHook {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, environment: EcsEnvironment) -> Result<Self, Fault> {
        Ok(Self { settings: settings::read(NAME, settings)?, environment })
    }

    /// The task of an earlier look.
    async fn find(&self, cluster: &Cluster<'_>, key: &str) -> Result<Option<Task>, Fault> {
        if let Some(running) = cluster.tasks(Tasks::StartedBy(key)).await?.into_iter().next() {
            return Ok(Some(running));
        }
        let stopped = cluster.tasks(Tasks::StoppedOfFamily(self.family())).await?;
        Ok(stopped.into_iter().find(|task| task.started_by() == Some(key)))
    }

    fn family(&self) -> &str {
        let name = self.settings.task.rsplit('/').next().unwrap_or_default();
        name.split(':').next().unwrap_or(name)
    }

    async fn start(&self, cluster: &Cluster<'_>, key: &str) -> Result<Task, Fault> {
        let call = cluster.client.run_task().cluster(cluster.name).task_definition(&self.settings.task);
        let call = call
            .started_by(key)
            .client_token(key)
            .set_launch_type(self.settings.launch_type.map(Into::into))
            .set_network_configuration(self.network()?);
        let doing = "ECS RunTask";
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) => {
                // The token was used with other settings, before the policy changed: that task counts.
                let earlier = match error.as_service_error() {
                    Some(RunTaskError::ConflictException(conflict)) => conflict.resource_ids().to_vec(),
                    _ => Vec::new(),
                };
                if earlier.is_empty() {
                    return Err(fault(doing, &error));
                }
                let task = cluster.describe(earlier).await?.into_iter().next();
                return task.ok_or_else(|| Fault::transient(format!("{doing}: its task is not shown")));
            }
        };
        let reason = answer.failures().first().and_then(|failure| failure.reason());
        answer.tasks().first().cloned().ok_or_else(|| not_started(reason))
    }

    fn network(&self) -> Result<Option<NetworkConfiguration>, Fault> {
        let settings = &self.settings;
        if settings.subnets.is_empty() {
            return Ok(None);
        }
        let public = if settings.public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
        let groups = (!settings.security_groups.is_empty()).then(|| settings.security_groups.clone());
        let vpc = AwsVpcConfiguration::builder()
            .set_subnets(Some(settings.subnets.clone()))
            .set_security_groups(groups)
            .assign_public_ip(public)
            .build()
            .map_err(|_| Fault::invalid("the hook's `subnets` cannot be used"))?;
        Ok(Some(NetworkConfiguration::builder().awsvpc_configuration(vpc).build()))
    }
}

#[async_trait]
impl HookRunner for EcsTaskHook {
    async fn run(&self, context: &HookContext) -> Result<HookStatus, Fault> {
        let cluster = self.settings.location().reach(&self.environment).await?;
        let key = context.idempotency_key();
        let task = match self.find(&cluster, &key).await? {
            Some(task) => task,
            None => self.start(&cluster, &key).await?,
        };
        Ok(judge(&task, self.settings.container.as_deref()))
    }
}

/// No task and a reason: most pass when others stop (Amazon ECS Developer Guide, "API
/// failure reasons").
fn not_started(reason: Option<&str>) -> Fault {
    match reason {
        Some("MISSING" | "INACTIVE") => Fault::invalid(
            "the hook's task cannot be started: its definition or cluster is gone or not active",
        ),
        Some("LOCATION" | "ATTRIBUTE") => Fault::invalid(
            "the hook's task cannot be started: no instance of the cluster fits its definition",
        ),
        _ => Fault::transient("the hook's task cannot be started now: ECS has no room for it"),
    }
}

/// How a task is; only exit codes of 0 are success.
fn judge(task: &Task, container: Option<&str>) -> HookStatus {
    let id = task.task_arn().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default();
    let last = task.last_status().unwrap_or_default();
    if last != "STOPPED" {
        return HookStatus::UnderWay { detail: format!("task {id} is {}", last.to_lowercase()) };
    }
    let failed = |why: String| HookStatus::Failed { detail: format!("task {id} {why}") };
    if task.stop_code() == Some(&TaskStopCode::TaskFailedToStart) {
        return failed("failed to start, look at its stopped reason".to_owned());
    }
    let judged: Vec<_> = task
        .containers()
        .iter()
        .filter(|one| container.is_none_or(|name| one.name() == Some(name)))
        .collect();
    if judged.is_empty() {
        let name = container.unwrap_or("any name");
        return failed(format!("has no container called `{name}`, correct the hook's `container`"));
    }
    match judged.iter().find(|one| one.exit_code() != Some(0)) {
        None => HookStatus::Succeeded,
        Some(one) => {
            let name = one.name().unwrap_or_default();
            match one.exit_code() {
                Some(code) => failed(format!("ended: container `{name}` with exit code {code}")),
                None => failed(format!("ended: container `{name}` without an exit code")),
            }
        }
    }
}

impl From<LaunchType> for aws_sdk_ecs::types::LaunchType {
    fn from(launch_type: LaunchType) -> Self {
        match launch_type {
            LaunchType::Fargate => Self::Fargate,
            LaunchType::Ec2 => Self::Ec2,
            LaunchType::External => Self::External,
        }
    }
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = EcsTaskSettings::deserialize(settings) else { return Vec::new() };
    let mut problems = settings.location().problems();
    if settings.task.trim().is_empty() {
        problems.push(empty_name("/task"));
    }
    if settings.launch_type == Some(LaunchType::Fargate) && settings.subnets.is_empty() {
        problems.push(KindProblem::error(
            "subnets",
            "",
            "a task on Fargate runs in subnets, and none is named",
            "write `subnets = [\"subnet-...\"]`",
        ));
    }
    if settings.subnets.is_empty() && (settings.public_ip || !settings.security_groups.is_empty()) {
        problems.push(KindProblem::error(
            "subnets",
            "",
            "`security_groups` and `public_ip` mean nothing without `subnets`",
            "write `subnets`, or leave the others out",
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::Container;

    use super::*;

    fn task(last_status: &str, exits: &[(&str, Option<i32>)]) -> Task {
        let containers = exits
            .iter()
            .map(|(name, code)| Container::builder().name(*name).set_exit_code(*code).build())
            .collect();
        Task::builder()
            .task_arn("arn:aws:ecs:us-east-1:1:task/prod/abc")
            .last_status(last_status)
            .set_containers(Some(containers))
            .build()
    }

    fn failure(status: HookStatus) -> String {
        match status {
            HookStatus::Failed { detail } => detail,
            other => panic!("{other:?} is not a failure"),
        }
    }

    #[test]
    fn a_task_that_has_not_stopped_is_under_way() {
        for last in ["PROVISIONING", "PENDING", "RUNNING", "STOPPING", "DEPROVISIONING", ""] {
            let status = judge(&task(last, &[("app", Some(0))]), None);
            assert!(matches!(status, HookStatus::UnderWay { .. }), "{last}");
        }
    }

    #[test]
    fn only_exit_codes_of_zero_are_success() {
        assert_eq!(judge(&task("STOPPED", &[("app", Some(0))]), None), HookStatus::Succeeded);
        let both = task("STOPPED", &[("app", Some(0)), ("logs", Some(143))]);
        assert_eq!(judge(&both, Some("app")), HookStatus::Succeeded);
        assert_eq!(failure(judge(&both, None)), "task abc ended: container `logs` with exit code 143");
        assert!(failure(judge(&both, Some("web"))).contains("no container called `web`"));
        assert!(failure(judge(&task("STOPPED", &[("app", None)]), None)).contains("without an exit code"));
        assert!(failure(judge(&task("STOPPED", &[]), None)).contains("no container"));
        let mut unstarted = task("STOPPED", &[("app", Some(0))]);
        unstarted.stop_code = Some(TaskStopCode::TaskFailedToStart);
        assert!(failure(judge(&unstarted, None)).contains("failed to start"));
    }

    #[test]
    fn a_lack_of_room_passes_and_a_missing_definition_does_not() {
        assert!(matches!(not_started(Some("RESOURCE:MEMORY")), Fault::Transient { .. }));
        assert!(matches!(not_started(None), Fault::Transient { .. }));
        assert!(matches!(not_started(Some("MISSING")), Fault::Invalid { .. }));
        assert!(matches!(not_started(Some("ATTRIBUTE")), Fault::Invalid { .. }));
    }
}
