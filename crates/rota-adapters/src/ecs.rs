//! Calls to Amazon ECS that rollouts and hooks share.
//!
//! Each method is one question or one change, read to its last page. What fails is
//! told by ECS's error code alone: its messages repeat names and reasons that are
//! not ours to print.

use std::error::Error;
use std::sync::Arc;

use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::operation::register_task_definition::builders::RegisterTaskDefinitionInputBuilder;
use aws_sdk_ecs::primitives::DateTime;
use aws_sdk_ecs::types::{DesiredStatus, Service, Tag, Task, TaskDefinition, TaskDefinitionField};
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::policy::kinds::KindProblem;
use tokio::sync::Mutex;

use crate::aws::{self, AwsAccount, AwsEnvironment, AwsRole, account_problems, own_region};
use crate::environment::AdapterEnvironment;

/// The most that one DescribeTasks takes.
const TASKS_AT_ONCE: usize = 100;

/// A listing that goes on longer than this is broken: a service has at most 5,000
/// tasks (Amazon ECS service quotas), a page has 100, and both statuses are asked for.
const MAX_PAGES: usize = 200;

/// The clients of each account and region: making one can mean to assume a role.
#[derive(Clone, Default)]
pub struct EcsClients {
    made: Arc<Mutex<Vec<(AwsAccount, Client)>>>,
}

impl EcsClients {
    async fn client(&self, aws: &AwsEnvironment, account: &AwsAccount) -> Client {
        let mut made = self.made.lock().await;
        if let Some((_, client)) = made.iter().find(|(known, _)| known == account) {
            return client.clone();
        }
        let client = Client::new(&aws.account(account).await);
        made.push((account.clone(), client.clone()));
        client
    }
}

/// Where a cluster is and as whom it is called, as settings say it.
pub(crate) struct Location<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) region: Option<&'a str>,
    pub(crate) assume_role: Option<&'a str>,
    pub(crate) external_id: Option<&'a str>,
}

impl<'a> Location<'a> {
    /// # Errors
    /// [`Fault::Invalid`] where no region is known.
    pub(crate) async fn reach(&self, environment: &EcsEnvironment) -> Result<Cluster<'a>, Fault> {
        let region = self.region.or(self.region_of_arn()).map(ToOwned::to_owned).or_else(own_region);
        let region = region.ok_or_else(|| {
            Fault::invalid(format!("the region of cluster `{}` is not known, write `region`", self.cluster))
        })?;
        let role = self
            .assume_role
            .map(|arn| AwsRole { arn: arn.to_owned(), external_id: self.external_id.map(ToOwned::to_owned) });
        let account = AwsAccount { region, role };
        let client = environment.clients.client(&environment.aws, &account).await;
        Ok(Cluster { client, name: self.cluster })
    }

    fn region_of_arn(&self) -> Option<&'a str> {
        self.cluster.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2))
    }

    /// What is wrong with it as settings.
    pub(crate) fn problems(&self) -> Vec<KindProblem> {
        let mut problems = Vec::new();
        if self.cluster.trim().is_empty() {
            problems.push(empty_name("/cluster"));
        }
        problems.extend(account_problems(self.region, self.assume_role, self.external_id));
        problems
    }
}

/// A name that ECS cannot know.
pub(crate) fn empty_name(pointer: &str) -> KindProblem {
    KindProblem::error("name", pointer, "the name is empty", "write the name that ECS shows")
}

/// What calls to ECS need of the daemon's configuration.
#[derive(Clone)]
pub struct EcsEnvironment {
    pub aws: AwsEnvironment,
    pub clients: EcsClients,
}

impl From<&AdapterEnvironment> for EcsEnvironment {
    fn from(environment: &AdapterEnvironment) -> Self {
        Self { aws: environment.aws.clone(), clients: environment.ecs.clone() }
    }
}

/// Which tasks to list.
pub(crate) enum Tasks<'a> {
    /// Those of a service, under either desired status.
    OfService(&'a str),
    /// Those that a RunTask call with this name started and that should run.
    StartedBy(&'a str),
    /// Those of a family that have stopped or should; ECS shows them for an hour.
    StoppedOfFamily(&'a str),
}

/// One cluster, as one client sees it.
pub(crate) struct Cluster<'a> {
    pub(crate) client: Client,
    pub(crate) name: &'a str,
}

impl Cluster<'_> {
    /// # Errors
    /// [`Fault::Invalid`] where the service does not exist or is not active.
    pub(crate) async fn service(&self, name: &str) -> Result<Service, Fault> {
        let asked = self.client.describe_services().cluster(self.name).services(name).send().await;
        let answer = asked.map_err(|error| fault("ECS DescribeServices", &error))?;
        let service = answer.services.unwrap_or_default().into_iter().next();
        let missing =
            || format!("service `{name}` does not exist in cluster `{}`, correct the rollout", self.name);
        let service = service.ok_or_else(|| Fault::invalid(missing()))?;
        match service.status() {
            Some("ACTIVE") => Ok(service),
            _ => Err(Fault::invalid(format!(
                "service `{name}` in cluster `{}` is not active, correct the rollout or create it again",
                self.name
            ))),
        }
    }

    /// Begins another deployment, with another definition where one is given.
    pub(crate) async fn deploy(&self, service: &str, definition: Option<&str>) -> Result<Service, Fault> {
        let call =
            self.client.update_service().cluster(self.name).service(service).force_new_deployment(true);
        let answer = call.set_task_definition(definition.map(ToOwned::to_owned)).send().await;
        let answer = answer.map_err(|error| fault("ECS UpdateService", &error))?;
        answer.service.ok_or_else(|| Fault::transient("ECS did not say what it deploys"))
    }

    /// # Errors
    /// [`Fault::Transient`] where a task vanished between being listed and described:
    /// the listing is not whole.
    pub(crate) async fn tasks(&self, which: Tasks<'_>) -> Result<Vec<Task>, Fault> {
        let arns = match which {
            Tasks::OfService(service) => {
                let mut arns = self.list(Some(service), None, None, Some(DesiredStatus::Running)).await?;
                arns.extend(self.list(Some(service), None, None, Some(DesiredStatus::Stopped)).await?);
                arns
            }
            Tasks::StartedBy(name) => self.list(None, None, Some(name), None).await?,
            Tasks::StoppedOfFamily(family) => {
                self.list(None, Some(family), None, Some(DesiredStatus::Stopped)).await?
            }
        };
        self.describe(arns).await
    }

    async fn list(
        &self,
        service: Option<&str>,
        family: Option<&str>,
        started_by: Option<&str>,
        desired: Option<DesiredStatus>,
    ) -> Result<Vec<String>, Fault> {
        let mut arns = Vec::new();
        let mut page = None;
        for _ in 0..MAX_PAGES {
            let call = self.client.list_tasks().cluster(self.name).set_desired_status(desired.clone());
            let call = call
                .set_service_name(service.map(ToOwned::to_owned))
                .set_family(family.map(ToOwned::to_owned))
                .set_started_by(started_by.map(ToOwned::to_owned))
                .set_next_token(page);
            let answer = call.send().await.map_err(|error| fault("ECS ListTasks", &error))?;
            arns.extend(answer.task_arns.unwrap_or_default());
            match answer.next_token {
                Some(next) if !next.is_empty() => page = Some(next),
                _ => return Ok(arns),
            }
        }
        Err(Fault::transient("the listing of tasks has no end"))
    }

    pub(crate) async fn describe(&self, mut arns: Vec<String>) -> Result<Vec<Task>, Fault> {
        // A task that stops between the two listings is in both.
        arns.sort_unstable();
        arns.dedup();
        let mut tasks = Vec::with_capacity(arns.len());
        for some in arns.chunks(TASKS_AT_ONCE) {
            let call = self.client.describe_tasks().cluster(self.name).set_tasks(Some(some.to_vec()));
            let answer = call.send().await.map_err(|error| fault("ECS DescribeTasks", &error))?;
            let described = answer.tasks.unwrap_or_default();
            if described.len() != some.len() {
                return Err(Fault::transient("tasks vanished while they were listed"));
            }
            tasks.extend(described);
        }
        Ok(tasks)
    }

    /// A definition by ARN, `family:revision`, or family for its newest revision.
    pub(crate) async fn definition(&self, name: &str) -> Result<(TaskDefinition, Vec<Tag>), Fault> {
        let call = self.client.describe_task_definition().task_definition(name);
        let answer = call.include(TaskDefinitionField::Tags).send().await;
        let answer = answer.map_err(|error| fault("ECS DescribeTaskDefinition", &error))?;
        let definition = answer.task_definition;
        let definition =
            definition.ok_or_else(|| Fault::transient("ECS did not show the task definition"))?;
        Ok((definition, answer.tags.unwrap_or_default()))
    }

    /// Registers a revision and gives its ARN.
    pub(crate) async fn register(
        &self,
        revision: RegisterTaskDefinitionInputBuilder,
    ) -> Result<String, Fault> {
        let answer = revision.send_with(&self.client).await;
        let answer = answer.map_err(|error| fault("ECS RegisterTaskDefinition", &error))?;
        let arn = answer.task_definition.and_then(|definition| definition.task_definition_arn);
        arn.ok_or_else(|| Fault::transient("ECS did not say what it registered"))
    }
}

/// ECS's time as ours.
pub(crate) fn timestamp(at: Option<&DateTime>) -> Option<Timestamp> {
    let at = at?;
    Timestamp::new(at.secs(), i32::try_from(at.subsec_nanos()).ok()?).ok()
}

/// What a failed call asks for. Codes that ECS alone has are told apart here.
pub(crate) fn fault<E>(what: &str, error: &SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error.code() {
        Some("BlockedException") => Fault::denied(format!("{what}: AWS has blocked this account")),
        Some("ConflictException") => {
            Fault::conflict(format!("{what}: another request with the same token stands there"))
        }
        Some("UpdateInProgressException") => {
            Fault::transient(format!("{what}: another update is in progress"))
        }
        Some("ClusterNotFoundException") => {
            Fault::invalid(format!("{what}: there is no such cluster, correct its name and region"))
        }
        Some("ServiceNotFoundException") => {
            Fault::invalid(format!("{what}: there is no such service, correct its name"))
        }
        Some("ServiceNotActiveException") => Fault::invalid(format!("{what}: the service is not active")),
        _ => aws::fault(what, error),
    }
}
