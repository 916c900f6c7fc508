//! The ECS fake against the API reference, through the real SDK.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_ecs::types::{ContainerDefinition, Deployment, DeploymentRolloutState, DesiredStatus, Secret};
use aws_sdk_ecs::{Client, Config};
use jiff::SignedDuration;
use rota_fakes::clock::FakeClock;
use rota_fakes::ecs::{EcsFake, Event, ServiceSetup, Status, Values, reader_from};
use rota_fakes::http::Listen;
use rota_fakes::secretsmanager::SecretsManagerFake;
use rota_fakes::wait;
use serde_json::json;

const REGION: &str = "eu-west-1";

/// ECS and the store that its tasks read at their start.
struct Cloud {
    ecs: EcsFake,
    store: Arc<SecretsManagerFake>,
    client: Client,
}

const BACKEND: ServiceSetup<'static> = ServiceSetup {
    cluster: "prod",
    name: "backend",
    definition: "backend",
    desired: 3,
    breaker: true,
    rolls_back: true,
};

fn client_of(url: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(url)
        .credentials_provider(Credentials::new("AKIAROTA", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

impl Cloud {
    async fn start(setup: &ServiceSetup<'_>) -> Self {
        let store = Arc::new(SecretsManagerFake::start(REGION, Listen::default()).unwrap());
        store.create("app", "one").unwrap();
        let reader = reader_from(Arc::clone(&store));
        let ecs = EcsFake::start(REGION, reader, Listen::default()).unwrap();
        let client = client_of(&ecs.url());
        let cloud = Self { ecs, store, client };
        cloud.register("").await;
        cloud.ecs.create_service(setup).unwrap();
        cloud
    }

    /// Registers a revision whose reference ends with `suffix`, such as a pinned version.
    async fn register(&self, suffix: &str) -> String {
        let arn = self.store.call("DescribeSecret", json!({"SecretId": "app"})).unwrap();
        let from = format!("{}{suffix}", arn["ARN"].as_str().unwrap());
        let secret = Secret::builder().name("JWT_SECRET").value_from(from).build().unwrap();
        let container = ContainerDefinition::builder().name("app").image("app:1").secrets(secret).build();
        let call = self.client.register_task_definition().family("backend").container_definitions(container);
        let output = call.send().await.unwrap();
        output.task_definition().unwrap().task_definition_arn().unwrap().to_owned()
    }

    async fn deployments(&self) -> Vec<Deployment> {
        let output =
            self.client.describe_services().cluster("prod").services("backend").send().await.unwrap();
        output.services()[0].deployments().to_vec()
    }

    async fn force(&self) {
        let call = self.client.update_service().cluster("prod").service("backend").force_new_deployment(true);
        call.send().await.unwrap();
    }

    async fn list(&self, desired: DesiredStatus) -> Vec<String> {
        let call = self.client.list_tasks().cluster("prod").service_name("backend").desired_status(desired);
        call.send().await.unwrap().task_arns().to_vec()
    }

    fn values(&self) -> Vec<String> {
        self.ecs.tasks("backend").iter().filter_map(|task| task.values.get("JWT_SECRET").cloned()).collect()
    }

    /// Steps until an event of this kind.
    fn step_until(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        std::iter::from_fn(|| self.ecs.step("backend")).find(wanted).unwrap()
    }
}

#[tokio::test]
async fn a_forced_deployment_replaces_tasks_one_by_one_and_only_new_ones_read_the_new_value() {
    let cloud = Cloud::start(&BACKEND).await;
    assert_eq!(cloud.values(), ["one", "one", "one"]);
    cloud.store.call("PutSecretValue", json!({
        "SecretId": "app", "SecretString": "two", "ClientRequestToken": "00000000-0000-4000-8000-000000000002",
    })).unwrap();
    assert_eq!(cloud.ecs.settle("backend"), [], "nothing happens by itself");
    cloud.force().await;

    let deployments = cloud.deployments().await;
    assert_eq!(deployments.len(), 2);
    assert_eq!((deployments[0].status(), deployments[1].status()), (Some("PRIMARY"), Some("ACTIVE")));
    assert_eq!(deployments[0].rollout_state(), Some(&DeploymentRolloutState::InProgress));
    let mut mixed = 0;
    while let Some(event) = cloud.ecs.step("backend") {
        let tasks = cloud.ecs.tasks("backend");
        let serving = tasks.iter().filter(|task| task.status == Status::Running).count();
        assert!((3..=4).contains(&serving), "after {event:?} {serving} serve");
        let values = cloud.values();
        mixed += usize::from(values.contains(&"one".to_owned()) && values.contains(&"two".to_owned()));
    }
    assert!(mixed > 4, "old and new serve beside each other");
    assert_eq!(cloud.values(), ["two", "two", "two"]);
    let deployments = cloud.deployments().await;
    assert_eq!(deployments.len(), 1);
    assert_eq!(deployments[0].rollout_state(), Some(&DeploymentRolloutState::Completed));
    assert_eq!(deployments[0].running_count(), 3);

    let same = cloud.client.update_service().cluster("prod").service("backend").send().await.unwrap();
    assert_eq!(
        same.service().unwrap().deployments().len(),
        1,
        "an update that changes nothing deploys nothing"
    );
}

#[tokio::test]
async fn a_task_reads_after_its_creation_and_before_its_start() {
    let cloud = Cloud::start(&BACKEND).await;
    cloud.force().await;
    let Event::Created(arn) = cloud.step_until(|event| matches!(event, Event::Created(_))) else {
        unreachable!()
    };
    let created = cloud.ecs.script().clock().now();
    cloud.ecs.script().clock().advance(SignedDuration::from_mins(1));
    cloud.store.call("PutSecretValue", json!({
        "SecretId": "app", "SecretString": "two", "ClientRequestToken": "00000000-0000-4000-8000-000000000002",
    })).unwrap();
    cloud.step_until(|event| *event == Event::Started(arn.clone()));
    let call = cloud.client.describe_tasks().cluster("prod").tasks(&arn).send().await.unwrap();
    let task = &call.tasks()[0];
    let shown = task.created_at().unwrap().as_secs_f64();
    assert!((shown - created.as_second() as f64).abs() < 5.0, "created before the write");
    assert!(task.started_at().unwrap().as_secs_f64() - shown > 55.0);
    assert!(cloud.values().contains(&"two".to_owned()), "and yet it read the new value");
}

#[tokio::test]
async fn a_draining_task_outlives_the_completed_deployment_and_is_listed_as_to_be_stopped() {
    let cloud = Cloud::start(&BACKEND).await;
    cloud.ecs.hold_draining("backend", true);
    let before = cloud.list(DesiredStatus::Running).await;
    assert_eq!((before.len(), cloud.list(DesiredStatus::Stopped).await.len()), (3, 0));
    cloud.force().await;
    cloud.step_until(|event| matches!(event, Event::Completed(_)));
    assert_eq!(cloud.deployments().await[0].rollout_state(), Some(&DeploymentRolloutState::Completed));
    let mut draining = cloud.list(DesiredStatus::Stopped).await;
    draining.sort();
    let mut expected = before.clone();
    expected.sort();
    assert_eq!(draining, expected);
    let shown = cloud.client.describe_tasks().cluster("prod").set_tasks(Some(before)).send().await.unwrap();
    assert!(shown.tasks().iter().all(|task| task.last_status() == Some("DEACTIVATING")));

    cloud.ecs.hold_draining("backend", false);
    let events = cloud.ecs.settle("backend");
    assert!(events.len() == 3 && events.iter().all(|event| matches!(event, Event::Stopped(_))), "{events:?}");
    let shown = cloud.client.describe_tasks().cluster("prod").set_tasks(Some(draining)).send().await.unwrap();
    assert!(
        shown.tasks().iter().all(|task| task.last_status() == Some("STOPPED") && task.stopped_at().is_some())
    );
    cloud.ecs.script().clock().advance(SignedDuration::from_mins(61));
    assert_eq!(cloud.list(DesiredStatus::Stopped).await.len(), 0, "stopped tasks are shown for an hour");
}

#[tokio::test]
async fn the_circuit_breaker_puts_the_last_good_definition_back() {
    let cloud = Cloud::start(&BACKEND).await;
    let good = cloud.deployments().await[0].task_definition().unwrap().to_owned();
    let version = cloud.store.versions("app")[0].id.clone();
    let pinned = cloud.register(&format!(":::{version}")).await;
    cloud.ecs.fail_starts("backend", 3);
    let call = cloud.client.update_service().cluster("prod").service("backend").task_definition(&pinned);
    call.send().await.unwrap();
    cloud.step_until(|event| matches!(event, Event::Failed(_)));
    let deployments = cloud.deployments().await;
    assert_eq!(deployments[0].task_definition(), Some(good.as_str()));
    assert!(deployments[0].rollout_state_reason().unwrap().contains("rolling back"));
    cloud.ecs.settle("backend");
    let deployments = cloud.deployments().await;
    assert_eq!(deployments.len(), 1, "only the rollback is left to be seen, and it looks stable");
    assert_eq!(deployments[0].rollout_state(), Some(&DeploymentRolloutState::Completed));
    assert!(cloud.ecs.tasks("backend").iter().all(|task| task.definition == good));
}

#[tokio::test]
async fn without_rollback_a_failed_deployment_stays_and_the_old_tasks_go_on() {
    let cloud = Cloud::start(&ServiceSetup { rolls_back: false, ..BACKEND }).await;
    // A version that does not exist: the secrets cannot be pulled.
    let broken = cloud.register(":::00000000-0000-4000-8000-000000000009").await;
    let call = cloud.client.update_service().cluster("prod").service("backend").task_definition(&broken);
    call.send().await.unwrap();
    let events = cloud.ecs.settle("backend");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::StartFailed(_))).count(), 2);
    assert!(matches!(events.last(), Some(Event::Failed(_))));
    let deployments = cloud.deployments().await;
    assert_eq!(deployments[0].rollout_state(), Some(&DeploymentRolloutState::Failed));
    assert_eq!((deployments[0].failed_tasks(), deployments[1].running_count()), (3, 3));
    let stopped = cloud.list(DesiredStatus::Stopped).await;
    let shown = cloud.client.describe_tasks().cluster("prod").set_tasks(Some(stopped)).send().await.unwrap();
    assert!(shown.tasks()[0].stopped_reason().unwrap().starts_with("ResourceInitializationError"));
    // A later deployment is what ends it.
    cloud.register("").await;
    let call = cloud.client.update_service().cluster("prod").service("backend").task_definition("backend");
    call.send().await.unwrap();
    assert!(matches!(cloud.ecs.settle("backend").last(), Some(Event::Completed(_))));
}

#[tokio::test]
async fn definitions_are_revisions_of_a_family_and_refuse_what_only_comes_out() {
    let cloud = Cloud::start(&BACKEND).await;
    let second = cloud.register("::AWSPENDING:").await;
    assert!(second.ends_with(":task-definition/backend:2"));
    for named in ["backend", "backend:2", &second] {
        let shown = cloud.client.describe_task_definition().task_definition(named).send().await.unwrap();
        let shown = shown.task_definition().unwrap();
        assert_eq!((shown.revision(), shown.container_definitions()[0].secrets().len()), (2, 1));
    }
    let mut fields =
        cloud.ecs.call("DescribeTaskDefinition", json!({"taskDefinition": "backend:1"})).unwrap();
    assert!(cloud.ecs.call("RegisterTaskDefinition", fields["taskDefinition"].take()).is_err());
    let gone = cloud.client.deregister_task_definition().task_definition("backend:2").send().await.unwrap();
    assert_eq!(gone.task_definition().unwrap().status().unwrap().as_str(), "INACTIVE");
    let call = cloud.client.update_service().cluster("prod").service("backend").task_definition("backend:2");
    assert_eq!(call.send().await.unwrap_err().code(), Some("ClientException"));
    let unknown = cloud.client.describe_task_definition().task_definition("backend:9").send().await;
    assert_eq!(unknown.unwrap_err().code(), Some("ClientException"));
}

#[tokio::test]
async fn what_does_not_exist_is_said_in_the_way_of_each_operation() {
    let cloud = Cloud::start(&BACKEND).await;
    let client = &cloud.client;
    let no_cluster = client.describe_services().cluster("none").services("backend").send().await;
    assert_eq!(no_cluster.unwrap_err().code(), Some("ClusterNotFoundException"));
    let missing = client.describe_services().cluster("prod").services("none").send().await.unwrap();
    assert_eq!((missing.services().len(), missing.failures()[0].reason()), (0, Some("MISSING")));
    let no_service = client.update_service().cluster("prod").service("none").send().await;
    assert_eq!(no_service.unwrap_err().code(), Some("ServiceNotFoundException"));
    let no_task = client.describe_tasks().cluster("prod").tasks("none").send().await.unwrap();
    assert_eq!(no_task.failures()[0].reason(), Some("MISSING"));
    cloud.ecs.throttle("ListTasks", 1);
    assert_eq!(client.list_tasks().send().await.unwrap_err().code(), Some("ThrottlingException"));
    cloud.ecs.add_key("AKIAOTHER", "secret");
    assert_eq!(client.list_tasks().send().await.unwrap_err().code(), Some("UnrecognizedClientException"));
}

#[tokio::test]
async fn a_task_that_runs_once_ends_with_the_scripted_code_and_its_token_starts_it_once() {
    let cloud = Cloud::start(&BACKEND).await;
    cloud.ecs.exit_code("backend", 3);
    let run = cloud.client.run_task().cluster("prod").task_definition("backend").client_token("hook-1");
    let first = run.clone().send().await.unwrap().tasks()[0].task_arn().unwrap().to_owned();
    let again = run.send().await.unwrap().tasks()[0].task_arn().unwrap().to_owned();
    assert_eq!(first, again);
    let events: Vec<Event> = std::iter::from_fn(|| cloud.ecs.step_task(&first)).collect();
    let expected = [Event::Read(first.clone()), Event::Started(first.clone()), Event::Stopped(first.clone())];
    assert_eq!(events, expected);
    let shown = cloud.client.describe_tasks().cluster("prod").tasks(&first).send().await.unwrap();
    let task = &shown.tasks()[0];
    assert_eq!((task.last_status(), task.containers()[0].exit_code()), (Some("STOPPED"), Some(3)));

    let long = cloud.client.run_task().cluster("prod").task_definition("backend").send().await.unwrap();
    let long = long.tasks()[0].task_arn().unwrap();
    cloud.client.stop_task().cluster("prod").task(long).send().await.unwrap();
    assert_eq!(cloud.ecs.step_task(long), Some(Event::Stopped(long.to_owned())));
}

#[tokio::test]
async fn it_can_roll_out_by_itself() {
    let cloud = Cloud::start(&BACKEND).await;
    cloud.ecs.automatic(Some(Duration::from_millis(5)));
    cloud.force().await;
    let completed = wait::until(Duration::from_secs(20), "the rollout", async || {
        let deployments = cloud.deployments().await;
        let done =
            deployments.iter().all(|it| it.rollout_state() == Some(&DeploymentRolloutState::Completed));
        Ok(done.then_some(deployments.len()))
    });
    assert_eq!(completed.await.unwrap(), 1);
    cloud.ecs.automatic(None);
}

#[tokio::test]
async fn it_runs_as_a_process_whose_tasks_read_a_store_over_the_network() {
    let store = SecretsManagerFake::start(REGION, Listen::default()).unwrap();
    store.create("app", r#"{"jwt": "one"}"#).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_rota-fakes"))
        .args(["ecs", "--until-eof", "--pause-ms", "5", "--region", REGION, "--secrets-url", &store.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let url = BufReader::new(process.stdout.take().unwrap()).lines().nth(1).unwrap().unwrap();
    let client = client_of(&url);
    let arn = store.call("DescribeSecret", json!({"SecretId": "app"})).unwrap();
    let register = async |key: &str| {
        let from = format!("{}:{key}::", arn["ARN"].as_str().unwrap());
        let secret = Secret::builder().name("JWT_SECRET").value_from(from).build().unwrap();
        let container = ContainerDefinition::builder().name("app").image("app:1").secrets(secret).build();
        client
            .register_task_definition()
            .family("backend")
            .container_definitions(container)
            .send()
            .await
            .unwrap();
    };
    let service = json!({"cluster": "prod", "name": "backend", "definition": "backend", "desired": 1});
    let make = reqwest::Client::new().post(format!("{url}/_fake/services")).json(&service);
    register("absent").await;
    let refused = make.try_clone().unwrap().send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("cannot start"));

    register("jwt").await;
    assert_eq!(make.send().await.unwrap().status(), 204);
    let reads = store.script().count("GetSecretValue");
    client
        .update_service()
        .cluster("prod")
        .service("backend")
        .force_new_deployment(true)
        .send()
        .await
        .unwrap();
    let done = wait::until(Duration::from_secs(20), "the rollout", async || {
        let output = client.describe_services().cluster("prod").services("backend").send().await?;
        let deployments = output.services()[0].deployments();
        let is_done = deployments[0].rollout_state() == Some(&DeploymentRolloutState::Completed);
        Ok((is_done && deployments.len() == 1).then_some(()))
    });
    done.await.unwrap();
    assert!(store.script().count("GetSecretValue") > reads);
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[tokio::test]
async fn fakes_of_one_world_go_by_one_clock() {
    let clock = FakeClock::frozen("2026-04-15T10:00:00Z".parse().unwrap());
    let listen = Listen { clock: clock.clone(), ..Listen::default() };
    let store = SecretsManagerFake::start(REGION, listen.clone()).unwrap();
    let ecs = EcsFake::start(REGION, Arc::new(|_| Ok(Values::new())), listen).unwrap();
    clock.advance(SignedDuration::from_hours(24 * 400));
    store.create("app", "one").unwrap();
    let created = store.call("DescribeSecret", json!({"SecretId": "app"})).unwrap()["CreatedDate"].as_f64();
    let container = json!([{"name": "app", "image": "app:1"}]);
    ecs.call("RegisterTaskDefinition", json!({"family": "backend", "containerDefinitions": container}))
        .unwrap();
    ecs.create_service(&BACKEND).unwrap();
    let task = ecs.tasks("backend")[0].created;
    assert_eq!((task, created), (clock.now(), Some(clock.now().as_second() as f64)));
}

#[tokio::test]
async fn a_task_that_is_gone_is_replaced_from_the_newest_deployment() {
    let cloud = Cloud::start(&BACKEND).await;
    assert_eq!(cloud.ecs.step("backend"), None);
    let before = cloud.ecs.tasks("backend");
    cloud.ecs.call("StopTask", json!({"cluster": "prod", "task": before[1].arn})).unwrap();
    let events = cloud.ecs.settle("backend");
    assert!(matches!(
        events.as_slice(),
        [Event::Stopped(gone), Event::Created(_), Event::Read(_), Event::Started(_)] if *gone == before[1].arn
    ));
    let after = cloud.ecs.tasks("backend");
    assert_eq!(after.len(), 3);
    assert!(after.iter().all(|task| task.started_by == before[0].started_by && task.arn != before[1].arn));
}
