//! Services, deployments, task definitions and tasks, and how the API shows them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::aws_json::{ACCOUNT, epoch};

/// What a task gets at its start: names to values.
pub type Values = BTreeMap<String, String>;

/// The state of a task; the order is its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Created; it has read nothing yet.
    Provisioning,
    /// It has read its secrets and starts.
    Pending,
    /// It serves.
    Running,
    /// Told to stop, still serving what it has open.
    Deactivating,
    /// Gone.
    Stopped,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Deactivating => "DEACTIVATING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// A task.
#[derive(Clone)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// The revision that it was started from.
    pub definition: String,
    /// `service:NAME`, or `family:NAME` for one that runs once.
    pub group: String,
    /// The deployment that it belongs to, or who ran it.
    pub started_by: String,
    /// What it is doing.
    pub status: Status,
    /// When it was created.
    pub created: Timestamp,
    /// When it began to serve.
    pub started: Option<Timestamp>,
    /// When it was gone.
    pub stopped: Option<Timestamp>,
    /// What it read at its start.
    pub values: Values,
    /// How its containers ended.
    pub exit_code: Option<i64>,
    /// Why it ended.
    pub stopped_reason: Option<String>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("arn", &self.arn)
            .field("definition", &self.definition)
            .field("status", &self.status)
            .field("values", &self.values.keys())
            .finish_non_exhaustive()
    }
}

impl Task {
    /// Whether it is meant to run.
    pub fn is_wanted(&self) -> bool {
        self.status < Status::Deactivating
    }

    pub(super) fn desired(&self) -> &'static str {
        if self.is_wanted() { "RUNNING" } else { "STOPPED" }
    }

    pub(super) fn end(&mut self, reason: &str, exit_code: Option<i64>, now: Timestamp) {
        self.status = Status::Stopped;
        self.stopped = Some(now);
        self.stopped_reason = Some(reason.to_owned());
        self.exit_code = exit_code;
    }

    pub(super) fn show(&self, cluster: &str, region: &str, containers: &[String]) -> Value {
        let containers: Vec<Value> = containers
            .iter()
            .map(|name| {
                let mut shown = json!({"name": name, "lastStatus": self.status.name(), "taskArn": self.arn});
                if let Some(code) = self.exit_code {
                    shown["exitCode"] = code.into();
                }
                shown
            })
            .collect();
        let mut shown = json!({
            "taskArn": self.arn,
            "clusterArn": cluster_arn(region, cluster),
            "taskDefinitionArn": self.definition,
            "group": self.group,
            "startedBy": self.started_by,
            "lastStatus": self.status.name(),
            "desiredStatus": self.desired(),
            "createdAt": epoch(self.created),
            "containers": containers,
            "launchType": "FARGATE",
        });
        let times = [("startedAt", self.started), ("stoppedAt", self.stopped)];
        for (name, moment) in times.into_iter().filter_map(|(name, moment)| Some((name, moment?))) {
            shown[name] = epoch(moment);
        }
        if let Some(reason) = &self.stopped_reason {
            shown["stoppedReason"] = reason.as_str().into();
        }
        shown
    }
}

/// Where a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RolloutState {
    /// It replaces tasks.
    InProgress,
    /// It reached a steady state.
    Completed,
    /// The circuit breaker gave it up.
    Failed,
}

impl RolloutState {
    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }
}

/// A deployment of a service; the newest one is PRIMARY.
#[derive(Clone, Debug)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) definition: String,
    pub(super) state: RolloutState,
    pub(super) reason: String,
    pub(super) failed_tasks: u32,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
}

/// A service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) desired: usize,
    /// Oldest first; the last is PRIMARY.
    pub(super) deployments: Vec<Deployment>,
    /// The definition of the last deployment that completed.
    pub(super) last_good: String,
    pub(super) breaker: bool,
    pub(super) rolls_back: bool,
    /// How many starts fail from now on.
    pub(super) failing_starts: u32,
    /// Whether tasks that were told to stop go on draining.
    pub(super) holds_draining: bool,
    pub(super) created: Timestamp,
    /// What ECS wrote down, oldest first.
    pub(super) events: Vec<(Timestamp, String)>,
}

/// As many events as `DescribeServices` shows ("Service", Amazon ECS API Reference).
const EVENTS_SHOWN: usize = 100;

impl Service {
    pub(super) fn group(&self) -> String {
        format!("service:{}", self.name)
    }

    pub(super) fn arn(&self, region: &str) -> String {
        format!("arn:aws:ecs:{region}:{ACCOUNT}:service/{}/{}", self.cluster, self.name)
    }

    pub(super) fn show(&self, region: &str, tasks: &[&Task]) -> Value {
        let count = |id: Option<&str>, wanted: &dyn Fn(&Task) -> bool| {
            tasks.iter().filter(|task| id.is_none_or(|id| task.started_by == id) && wanted(task)).count()
        };
        let is_running = |task: &Task| task.status == Status::Running;
        let is_pending = |task: &Task| task.status < Status::Running;
        let newest = self.deployments.len().saturating_sub(1);
        let deployments: Vec<Value> = self
            .deployments
            .iter()
            .enumerate()
            .rev()
            .map(|(index, deployment)| {
                let id = Some(deployment.id.as_str());
                json!({
                    "id": deployment.id,
                    "status": if index == newest { "PRIMARY" } else { "ACTIVE" },
                    "taskDefinition": deployment.definition,
                    "desiredCount": if index == newest { self.desired } else { 0 },
                    "runningCount": count(id, &is_running),
                    "pendingCount": count(id, &is_pending),
                    "failedTasks": deployment.failed_tasks,
                    "rolloutState": deployment.state.name(),
                    "rolloutStateReason": deployment.reason,
                    "createdAt": epoch(deployment.created),
                    "updatedAt": epoch(deployment.updated),
                    "launchType": "FARGATE",
                })
            })
            .collect();
        let event = |(index, (at, message)): (usize, &(Timestamp, String))| json!({ "id": format!("event-{index}"), "createdAt": epoch(*at), "message": message });
        let events: Vec<Value> = self.events.iter().enumerate().rev().take(EVENTS_SHOWN).map(event).collect();
        json!({
            "events": events,
            "serviceArn": self.arn(region),
            "serviceName": self.name,
            "clusterArn": cluster_arn(region, &self.cluster),
            "status": "ACTIVE",
            "desiredCount": self.desired,
            "runningCount": count(None, &is_running),
            "pendingCount": count(None, &is_pending),
            "taskDefinition": self.deployments.last().map(|deployment| &deployment.definition),
            "deployments": deployments,
            "deploymentConfiguration": {
                "deploymentCircuitBreaker": {"enable": self.breaker, "rollback": self.rolls_back},
                "minimumHealthyPercent": 100,
                "maximumPercent": 200,
            },
            "createdAt": epoch(self.created),
            "launchType": "FARGATE",
            "schedulingStrategy": "REPLICA",
        })
    }
}

/// A revision of a task definition, with all fields that it was registered with.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) arn: String,
    pub(super) family: String,
    pub(super) revision: u32,
    pub(super) active: bool,
    pub(super) fields: Map<String, Value>,
}

impl Definition {
    pub(super) fn show(&self) -> Value {
        let mut shown = self.fields.clone();
        shown.remove("tags");
        shown.insert("taskDefinitionArn".to_owned(), self.arn.as_str().into());
        shown.insert("family".to_owned(), self.family.as_str().into());
        shown.insert("revision".to_owned(), self.revision.into());
        shown.insert("status".to_owned(), if self.active { "ACTIVE" } else { "INACTIVE" }.into());
        Value::Object(shown)
    }

    pub(super) fn containers(&self) -> Vec<String> {
        let list = self.fields.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|container| container["name"].as_str()).map(ToOwned::to_owned).collect()
    }

    /// The references that are resolved when a task starts: name and `valueFrom`.
    pub(super) fn secrets(&self) -> Vec<(String, String)> {
        let list = self.fields.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten();
        let secrets = list.filter_map(|container| container["secrets"].as_array()).flatten();
        secrets
            .filter_map(|secret| {
                Some((secret["name"].as_str()?.to_owned(), secret["valueFrom"].as_str()?.to_owned()))
            })
            .collect()
    }
}

pub(super) fn cluster_arn(region: &str, cluster: &str) -> String {
    format!("arn:aws:ecs:{region}:{ACCOUNT}:cluster/{cluster}")
}
