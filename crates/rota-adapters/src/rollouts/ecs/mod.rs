//! `ecs`: a service of Amazon ECS.
//!
//! Without pinned references a deployment is forced; with them a revision of the task
//! definition is registered that names exactly the published versions. Finished is
//! what `judge` says: the deployment COMPLETED and, in two listings apart, no task
//! that has not stopped was created before the publication could be seen everywhere.
//!
//! Facts from the Amazon ECS API Reference (UpdateService, DescribeServices,
//! ListTasks, DescribeTasks, RegisterTaskDefinition) and Developer Guide ("Deployment
//! circuit breaker"). Deliberately absent: services with the CODE_DEPLOY and EXTERNAL
//! controllers, whose deployments ECS does not judge.

mod judge;
mod pins;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ecs::types::{DeploymentControllerType, DeploymentRolloutState, Service};
use rota_core::fault::Fault;
use rota_core::policy::kinds::{Facts, KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Pin, Rollout, RolloutContext, RolloutStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::judge::{Deployment, DeploymentState, Listing, Memory, Task};
use super::settled_at;
use crate::catalog::RolloutKind;
use crate::ecs::{Cluster, EcsEnvironment, Location, Tasks, empty_name, timestamp};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "ecs";

/// The kind as policies see it.
pub const KIND: RolloutKind = RolloutKind {
    spec: KindSpec::new(
        Port::Rollout,
        NAME,
        "a service of Amazon ECS, by a forced deployment or a pinned revision",
    )
    .inline::<EcsSettings>()
    .lint(lint)
    .facts(|_| Facts { pins_versions: true, ..Facts::default() }),
    build: |policy, environment| Ok(Arc::new(EcsRollout::new(&policy.settings, environment.into())?)),
};

/// `{ kind = "ecs", cluster = "prod", service = "backend" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EcsSettings {
    /// The cluster's name or ARN.
    cluster: String,
    /// The service's name.
    service: String,
    /// The region; where nothing is said that of the cluster's ARN, else the daemon's own.
    region: Option<String>,
    /// The ARN of a role to assume, for another account or for fewer rights.
    assume_role: Option<String>,
    /// What that role's trust policy asks for, where it belongs to somebody else.
    external_id: Option<String>,
}

/// What [`EcsRollout::begin`] leaves.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Handle {
    deployment: String,
    /// False where a deployment was found that had begun late enough.
    begun: bool,
}

/// The rollout.
pub struct EcsRollout {
    settings: EcsSettings,
    environment: EcsEnvironment,
}

impl EcsSettings {
    fn location(&self) -> Location<'_> {
        Location {
            cluster: &self.cluster,
            region: self.region.as_deref(),
            assume_role: self.assume_role.as_deref(),
            external_id: self.external_id.as_deref(),
        }
    }
}

impl EcsRollout {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, environment: EcsEnvironment) -> Result<Self, Fault> {
        Ok(Self { settings: settings::read(NAME, settings)?, environment })
    }

    async fn cluster(&self) -> Result<Cluster<'_>, Fault> {
        self.settings.location().reach(&self.environment).await
    }

    /// The revision that shows `pins`: the current one, one that an earlier call
    /// registered, or a new one.
    async fn pinned_revision(
        &self,
        cluster: &Cluster<'_>,
        service: &Service,
        pins: &[Pin],
    ) -> Result<String, Fault> {
        let current = service.task_definition().unwrap_or_default();
        let (definition, tags) = cluster.definition(current).await?;
        if pins::are_shown(&definition, pins) {
            return Ok(current.to_owned());
        }
        let input = pins::pinned(&definition, &tags, pins)?;
        let (newest, _) = cluster.definition(definition.family().unwrap_or(current)).await?;
        match &newest.task_definition_arn {
            Some(arn) if pins::is_registered(&newest, &input) => Ok(arn.clone()),
            Some(_) | None => cluster.register(input).await,
        }
    }

    /// Those of `definitions` that show `pins`; `None` where nothing is pinned.
    async fn showing(
        &self,
        cluster: &Cluster<'_>,
        definitions: BTreeSet<&str>,
        pins: &[Pin],
    ) -> Result<Option<BTreeSet<String>>, Fault> {
        if pins.is_empty() {
            return Ok(None);
        }
        let mut showing = BTreeSet::new();
        for name in definitions {
            if pins::are_shown(&cluster.definition(name).await?.0, pins) {
                showing.insert(name.to_owned());
            }
        }
        Ok(Some(showing))
    }
}

#[async_trait]
impl Rollout for EcsRollout {
    async fn begin(&self, context: &RolloutContext) -> Result<Value, Fault> {
        let cluster = self.cluster().await?;
        let service = cluster.service(&self.settings.service).await?;
        must_be_judged(&service)?;
        if let Some(deployment) = late_enough(&service, context)
            && self.shows(&cluster, &service, &context.pins).await?
        {
            return Ok(json!(Handle { deployment, begun: false }));
        }
        let revision = match context.pins.as_slice() {
            [] => None,
            pins => Some(self.pinned_revision(&cluster, &service, pins).await?),
        };
        let service = cluster.deploy(&self.settings.service, revision.as_deref()).await?;
        let deployment = primary(&service).and_then(|primary| primary.id.clone());
        let deployment = deployment.ok_or_else(|| Fault::transient("ECS did not say what it deploys"))?;
        Ok(json!(Handle { deployment, begun: true }))
    }

    /// Every deployment and every task that has not stopped, by its definition's revision.
    async fn recheck(&self, context: &RolloutContext) -> Result<Option<String>, Fault> {
        if context.pins.is_empty() {
            return Ok(None);
        }
        let cluster = self.cluster().await?;
        let service = cluster.service(&self.settings.service).await?;
        let deployments = deployments(&service);
        let tasks: Vec<Task> =
            cluster.tasks(Tasks::OfService(&self.settings.service)).await?.into_iter().map(task).collect();
        let used = definitions_in_use(&deployments, &tasks);
        let showing = self.showing(&cluster, used.clone(), &context.pins).await?.unwrap_or_default();
        let other: Vec<&str> = used.into_iter().filter(|name| !showing.contains(*name)).collect();
        Ok((!other.is_empty()).then(|| format!("{} shows other references again", other.join(", "))))
    }

    async fn observe(
        &self,
        handle: &Value,
        memory: &Value,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        let handle = Handle::deserialize(handle)
            .map_err(|_| Fault::invalid("the rollout's handle cannot be read, ask for the rollout again"))?;
        let memory = Memory::deserialize(memory)
            .unwrap_or_else(|_| Memory { deployment: handle.deployment.clone(), ..Memory::default() });
        let cluster = self.cluster().await?;
        // The service before its tasks: what completes in between shows the next time.
        let service = cluster.service(&self.settings.service).await?;
        let deployments = deployments(&service);
        let tasks: Vec<Task> =
            cluster.tasks(Tasks::OfService(&self.settings.service)).await?.into_iter().map(task).collect();
        let used = definitions_in_use(&deployments, &tasks);
        let pinned = self.showing(&cluster, used, &context.pins).await?;
        let events: Vec<String> =
            service.events().iter().filter_map(|event| event.message().map(str::to_owned)).collect();
        let listing = Listing {
            deployments: &deployments,
            tasks: &tasks,
            events: &events,
            pinned: pinned.as_ref(),
            new_from: settled_at(context),
            begun: handle.begun.then_some(handle.deployment.as_str()),
            now: context.now,
        };
        let (status, memory) = judge::judge(&listing, &memory);
        Ok((status, json!(memory)))
    }
}

impl EcsRollout {
    async fn shows(&self, cluster: &Cluster<'_>, service: &Service, pins: &[Pin]) -> Result<bool, Fault> {
        let current = service.task_definition().unwrap_or_default();
        let showing = self.showing(cluster, BTreeSet::from([current]), pins).await?;
        Ok(showing.is_none_or(|showing| showing.contains(current)))
    }
}

/// Refuses services whose deployments ECS does not judge.
fn must_be_judged(service: &Service) -> Result<(), Fault> {
    let controller = service.deployment_controller().map(|controller| controller.r#type());
    let rolling = controller.is_none_or(|kind| *kind == DeploymentControllerType::Ecs);
    let judged = primary(service).is_none_or(|primary| primary.rollout_state().is_some());
    if rolling && judged {
        return Ok(());
    }
    Err(Fault::invalid(
        "ECS does not tell how a deployment of this service goes (another deployment controller than ECS, or a \
         Classic Load Balancer), use a rollout of kind `webhook`",
    ))
}

fn primary(service: &Service) -> Option<&aws_sdk_ecs::types::Deployment> {
    service.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"))
}

/// The newest deployment where it began after the publication could be seen, by ECS's
/// clock, and has not failed: the one of an earlier call, or somebody else's.
fn late_enough(service: &Service, context: &RolloutContext) -> Option<String> {
    let primary = primary(service)?;
    let late = timestamp(primary.created_at()).is_some_and(|created| created >= settled_at(context));
    let failed = primary.rollout_state() == Some(&DeploymentRolloutState::Failed) || puts_back(primary);
    primary.id.clone().filter(|_| late && !failed)
}

fn deployments(service: &Service) -> Vec<Deployment> {
    let shown = |deployment: &aws_sdk_ecs::types::Deployment| Deployment {
        id: deployment.id().unwrap_or_default().to_owned(),
        is_primary: deployment.status() == Some("PRIMARY"),
        state: match deployment.rollout_state() {
            Some(DeploymentRolloutState::Completed) => DeploymentState::Completed,
            Some(DeploymentRolloutState::Failed) => DeploymentState::Failed,
            // A state that this program does not know is not an end.
            _ => DeploymentState::InProgress,
        },
        rolls_back: puts_back(deployment),
        failed_tasks: deployment.failed_tasks(),
        running: deployment.running_count(),
        desired: deployment.desired_count(),
        definition: deployment.task_definition().unwrap_or_default().to_owned(),
    };
    service.deployments().iter().map(shown).collect()
}

/// The definition of every deployment, and of every task that has not stopped.
fn definitions_in_use<'a>(deployments: &'a [Deployment], tasks: &'a [Task]) -> BTreeSet<&'a str> {
    let running = tasks.iter().filter(|task| task.last_status != "STOPPED");
    deployments
        .iter()
        .map(|deployment| deployment.definition.as_str())
        .chain(running.map(|task| task.definition.as_str()))
        .collect()
}

/// True where ECS says that it puts an earlier deployment back: `ECS deployment
/// circuit breaker: rolling back to deploymentId ...`.
fn puts_back(deployment: &aws_sdk_ecs::types::Deployment) -> bool {
    let reason = deployment.rollout_state_reason().unwrap_or_default().to_lowercase();
    reason.contains("rolling back") || reason.contains("rolled back") || reason.contains("rollback")
}

fn task(task: aws_sdk_ecs::types::Task) -> Task {
    Task {
        created_at: timestamp(task.created_at()),
        last_status: task.last_status.unwrap_or_default(),
        started_by: task.started_by.unwrap_or_default(),
        definition: task.task_definition_arn.unwrap_or_default(),
    }
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = EcsSettings::deserialize(settings) else { return Vec::new() };
    let mut problems = settings.location().problems();
    if settings.service.trim().is_empty() {
        problems.push(empty_name("/service"));
    }
    problems
}
