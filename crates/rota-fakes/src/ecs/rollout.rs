//! How a service's tasks are replaced, one event at a time.
//!
//! A new task starts before an old one is told to stop, so there is always one
//! more than desired at most. A task that is gone is replaced from the newest
//! deployment, also where that one is completed. Secrets are read between a task's creation and
//! its start, in an event of its own.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::model::{Definition, Deployment, RolloutState, Service, Status, Task, Values};
use crate::aws_json::ACCOUNT;
use crate::secretsmanager::SecretsManagerFake;

/// Resolves the references of a starting task; an error is a task that cannot start.
pub type Reader = Arc<dyn Fn(&[(String, String)]) -> Result<Values, String> + Send + Sync>;

/// Tasks read a strict Secrets Manager at their start, one request for each reference.
pub fn reader_from(store: Arc<SecretsManagerFake>) -> Reader {
    Arc::new(move |references| {
        let resolve = |(name, from): &(String, String)| {
            let value = store.resolve(from).ok_or_else(|| format!("cannot resolve {name}"))?;
            Ok((name.clone(), value))
        };
        references.iter().map(resolve).collect()
    })
}

/// Stopped tasks are shown for about an hour.
const STOPPED_SHOWN_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Bounds of the failures that the circuit breaker waits for
/// ("How the Amazon ECS deployment circuit breaker detects failures").
const BREAKER_LEAST: usize = 3;
const BREAKER_MOST: usize = 200;

/// What happened in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A task was created; it has read nothing yet.
    Created(String),
    /// A task read its secrets.
    Read(String),
    /// A task began to serve.
    Started(String),
    /// A task could not start.
    StartFailed(String),
    /// A task was told to stop.
    Draining(String),
    /// A task is gone.
    Stopped(String),
    /// A deployment reached a steady state.
    Completed(String),
    /// The circuit breaker gave a deployment up.
    Failed(String),
}

/// Everything of one region.
pub(super) struct Ecs {
    pub(super) region: String,
    pub(super) services: Vec<Service>,
    pub(super) definitions: Vec<Definition>,
    pub(super) tasks: Vec<Task>,
    pub(super) clusters: Vec<String>,
    pub(super) reader: Reader,
    /// Exit codes of tasks that run once, by family.
    pub(super) exit_codes: std::collections::BTreeMap<String, i64>,
    /// Tasks that a client token of RunTask has made.
    pub(super) run_tokens: std::collections::BTreeMap<String, Vec<String>>,
}

impl std::fmt::Debug for Ecs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ecs")
            .field("services", &self.services)
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}

impl Ecs {
    pub(super) fn tasks_of(&self, group: &str) -> Vec<&Task> {
        self.tasks.iter().filter(|task| task.group == group).collect()
    }

    pub(super) fn definition(&self, arn: &str) -> Option<&Definition> {
        self.definitions.iter().find(|definition| definition.arn == arn)
    }

    pub(super) fn forget_old_tasks(&mut self, now: Timestamp) {
        self.tasks.retain(|task| task.stopped.is_none_or(|at| now.duration_since(at) < STOPPED_SHOWN_FOR));
    }

    pub(super) fn new_task(
        &mut self,
        cluster: &str,
        definition: &str,
        group: &str,
        by: &str,
        now: Timestamp,
    ) -> String {
        let id = Uuid::new_v4().simple();
        let arn = format!("arn:aws:ecs:{}:{ACCOUNT}:task/{cluster}/{id}", self.region);
        self.tasks.push(Task {
            arn: arn.clone(),
            definition: definition.to_owned(),
            group: group.to_owned(),
            started_by: by.to_owned(),
            status: Status::Provisioning,
            created: now,
            started: None,
            stopped: None,
            values: Values::new(),
            exit_code: None,
            stopped_reason: None,
        });
        arn
    }

    /// Makes a deployment PRIMARY.
    pub(super) fn deploy(
        &mut self,
        service: usize,
        definition: String,
        reason: String,
        now: Timestamp,
    ) -> String {
        let id = format!("ecs-svc/{:019}", Uuid::new_v4().as_u128() % 10_000_000_000_000_000_000);
        self.services[service].deployments.push(Deployment {
            id: id.clone(),
            definition,
            state: RolloutState::InProgress,
            reason,
            failed_tasks: 0,
            created: now,
            updated: now,
        });
        id
    }

    /// Does the next thing for a service, if there is one.
    pub(super) fn step_service(&mut self, index: usize, now: Timestamp) -> Option<Event> {
        let group = self.services[index].group();
        let primary = self.services[index].deployments.last()?.clone();
        let event = self
            .stop_a_draining_one(index, &group, now)
            .or_else(|| self.advance_a_starting_one(index, &group, &primary, now))
            .or_else(|| self.create_or_drain(index, &group, &primary, now));
        self.drop_drained_deployments(index, &group);
        event
    }

    /// Does the next thing for a task that runs once.
    pub(super) fn step_task(&mut self, arn: &str, now: Timestamp) -> Option<Event> {
        let at = self.tasks.iter().position(|task| task.arn == arn)?;
        let code =
            self.tasks[at].group.strip_prefix("family:").and_then(|family| self.exit_codes.get(family));
        let code = code.copied().unwrap_or(0);
        match self.tasks[at].status {
            Status::Provisioning => Some(self.read(at, now)),
            Status::Pending => {
                self.tasks[at].status = Status::Running;
                self.tasks[at].started = Some(now);
                Some(Event::Started(arn.to_owned()))
            }
            Status::Running => {
                self.tasks[at].end("Essential container in task exited", Some(code), now);
                Some(Event::Stopped(arn.to_owned()))
            }
            Status::Deactivating => {
                self.tasks[at].end("Task stopped by user", Some(137), now);
                Some(Event::Stopped(arn.to_owned()))
            }
            Status::Stopped => None,
        }
    }

    fn stop_a_draining_one(&mut self, index: usize, group: &str, now: Timestamp) -> Option<Event> {
        if self.services[index].holds_draining {
            return None;
        }
        let is_draining = |task: &&mut Task| task.group == group && task.status == Status::Deactivating;
        let task = self.tasks.iter_mut().find(is_draining)?;
        task.end("Scaling activity initiated by deployment", Some(0), now);
        Some(Event::Stopped(task.arn.clone()))
    }

    fn advance_a_starting_one(
        &mut self,
        index: usize,
        group: &str,
        primary: &Deployment,
        now: Timestamp,
    ) -> Option<Event> {
        let at = self.tasks.iter().position(|task| task.group == group && task.status < Status::Running)?;
        let is_of_primary = self.tasks[at].started_by == primary.id;
        if self.tasks[at].status == Status::Provisioning {
            let event = self.read(at, now);
            return Some(self.count_failure(index, event, is_of_primary, now));
        }
        let service = &mut self.services[index];
        if is_of_primary && service.failing_starts > 0 {
            service.failing_starts -= 1;
            self.tasks[at].end("Task failed container health checks", Some(1), now);
            let event = Event::StartFailed(self.tasks[at].arn.clone());
            return Some(self.count_failure(index, event, is_of_primary, now));
        }
        self.tasks[at].status = Status::Running;
        self.tasks[at].started = Some(now);
        Some(Event::Started(self.tasks[at].arn.clone()))
    }

    fn read(&mut self, at: usize, now: Timestamp) -> Event {
        let definition = self.definition(&self.tasks[at].definition);
        let references = definition.map(Definition::secrets).unwrap_or_default();
        let read = (self.reader)(&references);
        let task = &mut self.tasks[at];
        match read {
            Ok(values) => {
                task.values = values;
                task.status = Status::Pending;
                Event::Read(task.arn.clone())
            }
            Err(reason) => {
                let text = format!("ResourceInitializationError: unable to pull secrets: {reason}");
                task.end(&text, None, now);
                Event::StartFailed(task.arn.clone())
            }
        }
    }

    /// Counts a failed start; the circuit breaker may give the deployment up.
    fn count_failure(&mut self, index: usize, event: Event, is_of_primary: bool, now: Timestamp) -> Event {
        if !is_of_primary || !matches!(event, Event::StartFailed(_)) {
            return event;
        }
        let service = &mut self.services[index];
        let threshold = service.desired.div_ceil(2).clamp(BREAKER_LEAST, BREAKER_MOST);
        let Some(primary) = service.deployments.last_mut() else { return event };
        if primary.state != RolloutState::InProgress {
            return event;
        }
        primary.failed_tasks += 1;
        primary.updated = now;
        if !service.breaker || usize::try_from(primary.failed_tasks).is_ok_and(|failed| failed < threshold) {
            return event;
        }
        primary.state = RolloutState::Failed;
        primary.reason = "ECS deployment circuit breaker: tasks failed to start.".to_owned();
        let failed = primary.id.clone();
        // "Amazon ECS service event messages": what stays when the deployment is gone.
        let message = format!(
            "(service {}) (deployment {failed}) deployment failed: tasks failed to start.",
            service.name
        );
        service.events.push((now, message));
        if service.rolls_back {
            let (good, reason) =
                (service.last_good.clone(), "ECS deployment circuit breaker: rolling back.".to_owned());
            self.deploy(index, good, reason, now);
        }
        Event::Failed(failed)
    }

    fn create_or_drain(
        &mut self,
        index: usize,
        group: &str,
        primary: &Deployment,
        now: Timestamp,
    ) -> Option<Event> {
        if primary.state == RolloutState::Failed {
            return None;
        }
        let desired = self.services[index].desired;
        let wanted: Vec<&Task> = self.tasks_of(group).into_iter().filter(|task| task.is_wanted()).collect();
        let new = wanted.iter().filter(|task| task.started_by == primary.id).count();
        let old = wanted.iter().find(|task| task.started_by != primary.id).map(|task| task.arn.clone());
        if new < desired && wanted.len() <= desired {
            let cluster = self.services[index].cluster.clone();
            let arn = self.new_task(&cluster, &primary.definition, group, &primary.id, now);
            return Some(Event::Created(arn));
        }
        if primary.state == RolloutState::Completed {
            return None;
        }
        if let Some(arn) = old {
            let task = self.tasks.iter_mut().find(|task| task.arn == arn)?;
            task.status = Status::Deactivating;
            return Some(Event::Draining(arn));
        }
        if let Some(surplus) = wanted.get(desired).map(|task| task.arn.clone()) {
            let task = self.tasks.iter_mut().find(|task| task.arn == surplus)?;
            task.status = Status::Deactivating;
            return Some(Event::Draining(surplus));
        }
        let service = &mut self.services[index];
        service.last_good = primary.definition.clone();
        let newest = service.deployments.last_mut()?;
        newest.state = RolloutState::Completed;
        newest.reason = format!("ECS deployment {} completed.", newest.id);
        newest.updated = now;
        Some(Event::Completed(newest.id.clone()))
    }

    /// A deployment that is not PRIMARY is shown for as long as it has tasks that run.
    fn drop_drained_deployments(&mut self, index: usize, group: &str) {
        let alive: Vec<String> = self
            .tasks_of(group)
            .iter()
            .filter(|task| task.is_wanted())
            .map(|task| task.started_by.clone())
            .collect();
        let service = &mut self.services[index];
        let Some(primary) = service.deployments.last().map(|deployment| deployment.id.clone()) else {
            return;
        };
        let is_shown = |deployment: &Deployment| deployment.id == primary || alive.contains(&deployment.id);
        service.deployments.retain(is_shown);
    }
}
