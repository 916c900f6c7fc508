//! The operations, as the API reference says.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::model::{Definition, Status};
use super::rollout::Ecs;
use crate::aws_json::{ACCOUNT, AwsError, AwsResult, refuse};

type Fields = Map<String, Value>;

/// `DescribeTasks` takes at most this many.
const TASKS_A_CALL: usize = 100;

/// `DescribeServices` takes at most this many.
const SERVICES_A_CALL: usize = 10;

/// The `include` and other fields that are understood or without effect here,
/// by operation; a field outside of them is a mistake.
const KNOWN_FIELDS: [(&str, &[&str]); 8] = [
    ("DescribeServices", &["cluster", "services", "include"]),
    ("UpdateService", &["cluster", "service", "taskDefinition", "forceNewDeployment", "desiredCount"]),
    ("DescribeTaskDefinition", &["taskDefinition", "include"]),
    ("DeregisterTaskDefinition", &["taskDefinition"]),
    (
        "ListTasks",
        &["cluster", "serviceName", "family", "desiredStatus", "maxResults", "nextToken", "startedBy"],
    ),
    ("DescribeTasks", &["cluster", "tasks", "include"]),
    ("StopTask", &["cluster", "task", "reason"]),
    ("DescribeClusters", &["clusters", "include"]),
];

impl Ecs {
    /// Carries out an operation.
    pub(super) fn call(&mut self, operation: &str, fields: &Fields, now: Timestamp) -> AwsResult {
        self.forget_old_tasks(now);
        let known = KNOWN_FIELDS.iter().find(|(name, _)| *name == operation).map(|(_, known)| *known);
        if let Some(unknown) =
            fields.keys().find(|key| known.is_some_and(|known| !known.contains(&key.as_str())))
        {
            return refuse("InvalidParameterException", format!("`{unknown}` is not served here"));
        }
        match operation {
            "DescribeClusters" => Ok(self.describe_clusters(fields)),
            "DescribeServices" => self.describe_services(fields),
            "UpdateService" => self.update_service(fields, now),
            "RegisterTaskDefinition" => self.register(fields),
            "DescribeTaskDefinition" => {
                let definition = self.find_definition(required(fields, "taskDefinition")?)?;
                Ok(
                    json!({"taskDefinition": definition.show(), "tags": definition.fields.get("tags").unwrap_or(&json!([]))}),
                )
            }
            "DeregisterTaskDefinition" => {
                let arn = self.find_definition(required(fields, "taskDefinition")?)?.arn.clone();
                let found = self.definitions.iter_mut().find(|definition| definition.arn == arn);
                let definition = found.ok_or_else(no_definition)?;
                definition.active = false;
                Ok(json!({"taskDefinition": definition.show()}))
            }
            "ListTasks" => self.list_tasks(fields),
            "DescribeTasks" => self.describe_tasks(fields),
            "RunTask" => self.run_task(fields, now),
            "StopTask" => self.stop_task(fields),
            _ => refuse("UnknownOperationException", "the operation is not known"),
        }
    }

    fn cluster(&self, fields: &Fields) -> Result<String, AwsError> {
        let named = last_part(text(fields, "cluster").unwrap_or("default"));
        if self.clusters.iter().any(|cluster| cluster == named) {
            return Ok(named.to_owned());
        }
        refuse("ClusterNotFoundException", "Cluster not found.")
    }

    fn describe_clusters(&self, fields: &Fields) -> Value {
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in list(fields, "clusters") {
            let name = last_part(&name).to_owned();
            let arn = super::model::cluster_arn(&self.region, &name);
            if self.clusters.contains(&name) {
                found.push(json!({"clusterArn": arn, "clusterName": name, "status": "ACTIVE"}));
            } else {
                failures.push(json!({"arn": arn, "reason": "MISSING"}));
            }
        }
        json!({"clusters": found, "failures": failures})
    }

    fn describe_services(&self, fields: &Fields) -> AwsResult {
        let cluster = self.cluster(fields)?;
        let names = list(fields, "services");
        if names.is_empty() || names.len() > SERVICES_A_CALL {
            return refuse("InvalidParameterException", "Services has 1 to 10 names.");
        }
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in names {
            match self.service_index(&cluster, &name) {
                Some(index) => {
                    let service = &self.services[index];
                    found.push(service.show(&self.region, &self.tasks_of(&service.group())));
                }
                None => {
                    let arn = format!(
                        "arn:aws:ecs:{}:{ACCOUNT}:service/{cluster}/{}",
                        self.region,
                        last_part(&name)
                    );
                    failures.push(json!({"arn": arn, "reason": "MISSING"}));
                }
            }
        }
        Ok(json!({"services": found, "failures": failures}))
    }

    pub(super) fn service_index(&self, cluster: &str, name: &str) -> Option<usize> {
        let name = last_part(name);
        self.services.iter().position(|service| service.cluster == cluster && service.name == name)
    }

    fn update_service(&mut self, fields: &Fields, now: Timestamp) -> AwsResult {
        let cluster = self.cluster(fields)?;
        let index = self.service_index(&cluster, required(fields, "service")?);
        let index = index.ok_or_else(|| AwsError::new("ServiceNotFoundException", "Service not found."))?;
        let current = self.services[index].deployments.last().map(|deployment| deployment.definition.clone());
        let wanted = match text(fields, "taskDefinition") {
            Some(named) => {
                let definition = self.find_definition(named)?;
                if !definition.active {
                    return refuse("ClientException", "TaskDefinition is inactive");
                }
                Some(definition.arn.clone())
            }
            None => current.clone(),
        };
        let forced = fields.get("forceNewDeployment").and_then(Value::as_bool).unwrap_or(false);
        if let Some(count) = fields.get("desiredCount").and_then(Value::as_u64) {
            self.services[index].desired = usize::try_from(count).unwrap_or(usize::MAX);
        }
        if let Some(definition) = wanted.clone().filter(|_| forced || wanted != current) {
            self.deploy(index, definition, "ECS deployment in progress.".to_owned(), now);
        }
        let service = &self.services[index];
        Ok(json!({"service": service.show(&self.region, &self.tasks_of(&service.group()))}))
    }

    pub(super) fn register(&mut self, fields: &Fields) -> AwsResult {
        let family = required(fields, "family")?.to_owned();
        let containers = fields.get("containerDefinitions").and_then(Value::as_array);
        let is_whole = |container: &Value| container["name"].is_string() && container["image"].is_string();
        if !containers.is_some_and(|list| !list.is_empty() && list.iter().all(is_whole)) {
            return refuse("ClientException", "Container definitions need a name and an image.");
        }
        // These come back from DescribeTaskDefinition but are no input of RegisterTaskDefinition.
        let output_only = ["taskDefinitionArn", "revision", "status", "requiresAttributes", "registeredAt"];
        if let Some(wrong) = output_only.iter().find(|key| fields.contains_key(**key)) {
            return refuse("InvalidParameterException", format!("Unknown parameter in input: {wrong}"));
        }
        let last = self
            .definitions
            .iter()
            .filter(|definition| definition.family == family)
            .map(|d| d.revision)
            .max();
        let revision = last.unwrap_or(0) + 1;
        let definition = Definition {
            arn: format!("arn:aws:ecs:{}:{ACCOUNT}:task-definition/{family}:{revision}", self.region),
            family,
            revision,
            active: true,
            fields: fields.clone(),
        };
        let shown = definition.show();
        self.definitions.push(definition);
        Ok(json!({"taskDefinition": shown}))
    }

    /// By ARN, `family:revision`, or `family` for the newest active one.
    fn find_definition(&self, named: &str) -> Result<&Definition, AwsError> {
        let short = last_part(named);
        let exact = |definition: &&Definition| {
            definition.arn == named || format!("{}:{}", definition.family, definition.revision) == short
        };
        let newest = || {
            let of_family =
                self.definitions.iter().filter(|definition| definition.family == named && definition.active);
            of_family.max_by_key(|definition| definition.revision)
        };
        self.definitions.iter().find(exact).or_else(newest).ok_or_else(no_definition)
    }

    fn list_tasks(&self, fields: &Fields) -> AwsResult {
        let cluster = self.cluster(fields)?;
        let group = match text(fields, "serviceName") {
            Some(name) => {
                let index = self.service_index(&cluster, name);
                let index =
                    index.ok_or_else(|| AwsError::new("ServiceNotFoundException", "Service not found."))?;
                Some(self.services[index].group())
            }
            None => None,
        };
        let desired = text(fields, "desiredStatus").unwrap_or("RUNNING");
        if !["RUNNING", "PENDING", "STOPPED"].contains(&desired) {
            return refuse("InvalidParameterException", "desiredStatus is RUNNING, PENDING or STOPPED");
        }
        let in_cluster = format!(":task/{cluster}/");
        let arns: Vec<&String> = self
            .tasks
            .iter()
            .filter(|task| task.arn.contains(&in_cluster))
            .filter(|task| group.as_ref().is_none_or(|group| task.group == *group))
            .filter(|task| text(fields, "startedBy").is_none_or(|by| task.started_by == by))
            .filter(|task| {
                text(fields, "family").is_none_or(|family| task.definition.contains(&format!("/{family}:")))
            })
            .filter(|task| task.desired() == desired)
            .map(|task| &task.arn)
            .collect();
        let most = fields.get("maxResults").and_then(Value::as_u64).unwrap_or(100);
        let most = usize::try_from(most).unwrap_or(TASKS_A_CALL).min(TASKS_A_CALL);
        let from: usize = text(fields, "nextToken").and_then(|token| token.parse().ok()).unwrap_or(0);
        let page: Vec<&&String> = arns.iter().skip(from).take(most).collect();
        let mut answer = json!({"taskArns": page});
        if from + page.len() < arns.len() {
            answer["nextToken"] = (from + page.len()).to_string().into();
        }
        Ok(answer)
    }

    fn describe_tasks(&self, fields: &Fields) -> AwsResult {
        let cluster = self.cluster(fields)?;
        let names = list(fields, "tasks");
        if names.is_empty() || names.len() > TASKS_A_CALL {
            return refuse("InvalidParameterException", "Tasks has 1 to 100 ids.");
        }
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in names {
            match self.tasks.iter().find(|task| last_part(&task.arn) == last_part(&name)) {
                Some(task) => found.push(self.show_task(task, &cluster)),
                None => failures.push(json!({"arn": name, "reason": "MISSING"})),
            }
        }
        Ok(json!({"tasks": found, "failures": failures}))
    }

    fn show_task(&self, task: &super::model::Task, cluster: &str) -> Value {
        let containers = self.definition(&task.definition).map(Definition::containers).unwrap_or_default();
        task.show(cluster, &self.region, &containers)
    }

    fn run_task(&mut self, fields: &Fields, now: Timestamp) -> AwsResult {
        let cluster = self.cluster(fields)?;
        let definition = self.find_definition(required(fields, "taskDefinition")?)?;
        if !definition.active {
            return refuse("ClientException", "TaskDefinition is inactive");
        }
        let (arn, group) = (definition.arn.clone(), format!("family:{}", definition.family));
        let by = text(fields, "startedBy").unwrap_or_default();
        let count = fields.get("count").and_then(Value::as_u64).unwrap_or(1);
        if !(1..=10).contains(&count) {
            return refuse("InvalidParameterException", "count is 1 to 10");
        }
        let token = text(fields, "clientToken").map(ToOwned::to_owned);
        let before = token.as_ref().and_then(|token| self.run_tokens.get(token)).cloned();
        let arns = match before {
            // The same token starts nothing twice.
            Some(arns) => arns,
            None => (0..count).map(|_| self.new_task(&cluster, &arn, &group, by, now)).collect(),
        };
        if let Some(token) = token {
            self.run_tokens.insert(token, arns.clone());
        }
        let started = self.tasks.iter().filter(|task| arns.contains(&task.arn));
        let shown: Vec<Value> = started.map(|task| self.show_task(task, &cluster)).collect();
        Ok(json!({"tasks": shown, "failures": []}))
    }

    fn stop_task(&mut self, fields: &Fields) -> AwsResult {
        let cluster = self.cluster(fields)?;
        let wanted = last_part(required(fields, "task")?).to_owned();
        let at = self.tasks.iter().position(|task| last_part(&task.arn) == wanted);
        let Some(at) = at else {
            return refuse("InvalidParameterException", "The referenced task was not found.");
        };
        if self.tasks[at].is_wanted() {
            self.tasks[at].status = Status::Deactivating;
        }
        Ok(json!({"task": self.show_task(&self.tasks[at], &cluster)}))
    }
}

fn no_definition() -> AwsError {
    AwsError::new("ClientException", "Unable to describe task definition.")
}

fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str)
}

fn required<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, AwsError> {
    let missing = || AwsError::new("InvalidParameterException", format!("{name} can not be blank."));
    text(fields, name).filter(|text| !text.is_empty()).ok_or_else(missing)
}

fn list(fields: &Fields, name: &str) -> Vec<String> {
    let items = fields.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// The name in an ARN, or the name itself.
fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
