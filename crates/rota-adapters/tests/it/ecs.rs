//! The ECS rollout and the ECS task hook against a strict ECS whose tasks read a
//! strict Secrets Manager at their start.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use jiff::SignedDuration;
use rota_adapters::aws::AwsEnvironment;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::{hooks, rollouts};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, RotationId, SecretId};
use rota_core::policy::model::{Hook, HookPoint, RolloutPolicy};
use rota_engine::ports::{HookContext, HookRunner, HookStatus, Pin, Rollout, RolloutContext, RolloutStatus};
use rota_engine::test_support::hook_suite::HookUnderTest;
use rota_engine::test_support::rollout_suite::RolloutUnderTest;
use rota_fakes::ecs::{EcsFake, Event, ServiceSetup, reader_from};
use rota_fakes::http::{Effect, Fault as Scripted, Listen};
use rota_fakes::secretsmanager::SecretsManagerFake;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{environment, fault};

const REGION: &str = "eu-west-1";
const SETTLE: SignedDuration = SignedDuration::from_secs(60);

struct Cloud {
    ecs: EcsFake,
    store: Arc<SecretsManagerFake>,
    environment: AdapterEnvironment,
    pinned: bool,
}

impl Cloud {
    fn start(pinned: bool) -> Self {
        let store = Arc::new(SecretsManagerFake::start(REGION, Listen::default()).unwrap());
        store.create("app", "one").unwrap();
        let reader = reader_from(Arc::clone(&store));
        let ecs = EcsFake::start(REGION, reader, Listen::default()).unwrap();
        let credentials = Credentials::new("AKIAROTA", "secret", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        let aws = AwsEnvironment::with_config(config, Some(&ecs.url())).unwrap();
        let environment = AdapterEnvironment { aws, ..environment() };
        let cloud = Self { ecs, store, environment, pinned };
        let container = json!({"name": "app", "image": "app:1", "secrets": [{"name": "JWT_SECRET", "valueFrom": cloud.arn()}]});
        let family = json!({"family": "backend", "containerDefinitions": [container]});
        cloud.ecs.call("RegisterTaskDefinition", family).unwrap();
        let setup = ServiceSetup {
            cluster: "prod",
            name: "backend",
            definition: "backend",
            desired: 3,
            breaker: true,
            rolls_back: true,
        };
        cloud.ecs.create_service(&setup).unwrap();
        cloud
    }

    fn arn(&self) -> String {
        let shown = self.store.call("DescribeSecret", json!({"SecretId": "app"})).unwrap();
        shown["ARN"].as_str().unwrap().to_owned()
    }

    fn values(&self) -> Vec<String> {
        self.ecs.tasks("backend").iter().filter_map(|task| task.values.get("JWT_SECRET").cloned()).collect()
    }

    fn build(&self, service: &str) -> Arc<dyn Rollout> {
        let policy = RolloutPolicy {
            kind: "ecs".to_owned(),
            settings: json!({ "cluster": "prod", "service": service, "region": REGION }),
            deadline: SignedDuration::from_mins(30),
        };
        (rollouts::ecs::KIND.build)(&policy, &self.environment).unwrap()
    }

    /// Publishes the next value and lets it settle.
    fn published(&self) -> RolloutContext {
        let version = "00000000-0000-4000-8000-000000000002";
        let put = json!({"SecretId": "app", "SecretString": "two", "ClientRequestToken": version});
        self.store.call("PutSecretValue", put).unwrap();
        let clock = self.ecs.script().clock();
        let published_at = clock.now();
        clock.advance(SETTLE + SignedDuration::from_secs(1));
        let pin = Pin { name: "JWT_SECRET".to_owned(), reference: format!("{}:::{version}", self.arn()) };
        RolloutContext {
            consumer: ConsumerId::new("backend").unwrap(),
            generation: 7,
            published_at,
            settle: SETTLE,
            pins: if self.pinned { vec![pin] } else { Vec::new() },
            now: clock.now(),
        }
    }

    /// Lets the clock go on without an event.
    fn later(&self, context: &mut RolloutContext) {
        self.ecs.script().clock().advance(SignedDuration::from_secs(20));
        context.now = self.ecs.script().clock().now();
    }

    async fn look(&self, handle: &Value, memory: &Value, context: &RolloutContext) -> (RolloutStatus, Value) {
        self.build("backend").observe(handle, memory, context).await.unwrap()
    }
}

#[async_trait]
impl RolloutUnderTest for Cloud {
    fn rollout(&self) -> Arc<dyn Rollout> {
        self.build("backend")
    }

    async fn publish(&self) -> RolloutContext {
        self.published()
    }

    async fn pass(&self, context: &mut RolloutContext) {
        self.ecs.step("backend");
        self.ecs.script().clock().advance(SignedDuration::from_secs(5));
        context.now = self.ecs.script().clock().now();
    }

    async fn has_old_instance(&self, _: &RolloutContext) -> bool {
        self.values().contains(&"one".to_owned())
    }
}

mod forced {
    use super::Cloud;
    rota_engine::rollout_suite!(Cloud::start(false));
}

mod pinned {
    use super::Cloud;
    rota_engine::rollout_suite!(Cloud::start(true));
}

fn is_under_way(status: &RolloutStatus) -> bool {
    matches!(status, RolloutStatus::UnderWay { .. })
}

#[tokio::test]
async fn a_draining_task_holds_up_the_end_though_the_deployment_is_completed() {
    let cloud = Cloud::start(false);
    cloud.ecs.hold_draining("backend", true);
    let mut context = cloud.published();
    let handle = cloud.rollout().begin(&context).await.unwrap();
    cloud.ecs.settle("backend");
    let mut memory = Value::Null;
    for _ in 0..4 {
        let (status, next) = cloud.look(&handle, &memory, &context).await;
        assert!(
            matches!(&status, RolloutStatus::UnderWay { detail } if detail.contains("3 of 6 tasks")),
            "{status:?}"
        );
        memory = next;
        cloud.later(&mut context);
    }
    cloud.ecs.hold_draining("backend", false);
    cloud.ecs.settle("backend");
    let (status, memory) = cloud.look(&handle, &memory, &context).await;
    assert!(is_under_way(&status), "one listing is not enough");
    cloud.later(&mut context);
    assert_eq!(cloud.look(&handle, &memory, &context).await.0, RolloutStatus::Finished);
}

#[tokio::test]
async fn what_the_circuit_breaker_puts_back_fails_the_rollout_though_it_is_stable() {
    for pinned in [false, true] {
        let cloud = Cloud::start(pinned);
        let mut context = cloud.published();
        cloud.ecs.fail_starts("backend", 3);
        let handle = cloud.rollout().begin(&context).await.unwrap();
        let mut memory = Value::Null;
        let failed = loop {
            let (status, next) = cloud.look(&handle, &memory, &context).await;
            assert_ne!(status, RolloutStatus::Finished);
            memory = next;
            cloud.later(&mut context);
            if cloud.ecs.step("backend").is_none() || matches!(status, RolloutStatus::Failed { .. }) {
                break status;
            }
        };
        assert!(matches!(failed, RolloutStatus::Failed { .. }), "{failed:?}");
        cloud.ecs.settle("backend");
        let (status, _) = cloud.look(&handle, &memory, &context).await;
        assert!(matches!(status, RolloutStatus::Failed { .. }), "it stays failed: {status:?}");
    }
}

#[tokio::test]
async fn what_the_circuit_breaker_put_back_between_two_looks_fails_the_rollout() {
    let cloud = Cloud::start(false);
    let mut context = cloud.published();
    let handle = cloud.rollout().begin(&context).await.unwrap();
    let (status, mut memory) = cloud.look(&handle, &Value::Null, &context).await;
    assert!(matches!(status, RolloutStatus::UnderWay { .. }), "nothing has failed yet: {status:?}");
    cloud.ecs.fail_starts("backend", 3);
    cloud.ecs.settle("backend");
    for _ in 0..2 {
        cloud.later(&mut context);
        let (status, next) = cloud.look(&handle, &memory, &context).await;
        assert!(
            matches!(&status, RolloutStatus::Failed { detail } if detail.contains("put back")),
            "{status:?}"
        );
        memory = next;
    }
}

#[tokio::test]
async fn a_pinned_rollout_registers_one_revision_however_often_it_begins() {
    let cloud = Cloud::start(true);
    let context = cloud.published();
    cloud.ecs.script().add(Scripted::next("RegisterTaskDefinition", Effect::CutAfter));
    assert!(matches!(fault(cloud.rollout().begin(&context).await), Fault::Transient { .. }));
    cloud.ecs.script().add(Scripted::next("UpdateService", Effect::CutAfter));
    assert!(matches!(fault(cloud.rollout().begin(&context).await), Fault::Transient { .. }));
    cloud.rollout().begin(&context).await.unwrap();
    assert_eq!(cloud.ecs.script().count("RegisterTaskDefinition"), 1);
    assert_eq!(cloud.ecs.script().count("UpdateService"), 1, "the deployment of the lost answer serves");
    let newest = cloud.ecs.call("DescribeTaskDefinition", json!({"taskDefinition": "backend"})).unwrap();
    let container = &newest["taskDefinition"]["containerDefinitions"][0];
    assert_eq!(container["secrets"][0]["valueFrom"], context.pins[0].reference.as_str());
    assert_eq!(container["image"], "app:1");
}

#[tokio::test]
async fn a_deployment_without_the_pins_over_ours_fails_the_rollout() {
    let cloud = Cloud::start(true);
    let context = cloud.published();
    let handle = cloud.rollout().begin(&context).await.unwrap();
    let old = json!({"cluster": "prod", "service": "backend", "taskDefinition": "backend:1", "forceNewDeployment": true});
    cloud.ecs.call("UpdateService", old).unwrap();
    cloud.ecs.settle("backend");
    let (status, _) = cloud.look(&handle, &Value::Null, &context).await;
    assert!(
        matches!(&status, RolloutStatus::Failed { detail } if detail.contains("backend:1")),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_forced_deployment_by_a_pipeline_over_ours_is_followed() {
    let cloud = Cloud::start(false);
    let mut context = cloud.published();
    let handle = cloud.rollout().begin(&context).await.unwrap();
    cloud.ecs.step("backend");
    let theirs = json!({"cluster": "prod", "service": "backend", "forceNewDeployment": true});
    cloud.ecs.call("UpdateService", theirs).unwrap();
    cloud.ecs.settle("backend");
    let (status, memory) = cloud.look(&handle, &Value::Null, &context).await;
    assert!(is_under_way(&status), "{status:?}");
    cloud.later(&mut context);
    assert_eq!(cloud.look(&handle, &memory, &context).await.0, RolloutStatus::Finished);
    assert!(!cloud.values().contains(&"one".to_owned()));
}

#[tokio::test]
async fn what_does_not_exist_and_what_fails_says_what_to_do_next() {
    let cloud = Cloud::start(false);
    let context = cloud.published();
    let missing = fault(cloud.build("frontend").begin(&context).await);
    assert!(matches!(&missing, Fault::Invalid { message } if message.contains("frontend")), "{missing}");
    let answer = |status: u16, code: &str| {
        let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
        Effect::Answer { status, headers, body: json!({"__type": code, "message": "hunter2"}).to_string() }
    };
    for (status, code) in [
        (400, "AccessDeniedException"),
        (400, "BlockedException"),
        (400, "ExpiredTokenException"),
        (400, "ThrottlingException"),
        (500, "ServerException"),
        (400, "ClusterNotFoundException"),
        (400, "ServiceNotFoundException"),
        (400, "ServiceNotActiveException"),
        (400, "InvalidParameterException"),
        (400, "ClientException"),
    ] {
        cloud.ecs.script().add(Scripted::next("DescribeServices", answer(status, code)));
        let fault = fault(cloud.rollout().begin(&context).await);
        let fits = match code {
            "AccessDeniedException" | "BlockedException" | "ExpiredTokenException" => {
                matches!(fault, Fault::Denied { .. })
            }
            "ThrottlingException" => matches!(fault, Fault::RateLimited { .. }),
            "ServerException" => matches!(fault, Fault::Transient { .. }),
            _ => matches!(fault, Fault::Invalid { .. }),
        };
        assert!(fits, "{code}: {fault}");
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
    }
    assert_eq!(cloud.ecs.script().count("UpdateService"), 0);
}

fn hook_at(cloud: &Cloud) -> Arc<dyn HookRunner> {
    let settings = json!({ "cluster": "prod", "task": "backend", "region": REGION });
    let hook = Hook { at: HookPoint::BeforePromote, kind: "ecs-task".to_owned(), settings };
    (hooks::ecs_task::KIND.build)(&hook, &cloud.environment).unwrap()
}

fn run_of(cloud: &Cloud, rotation: u128) -> HookContext {
    HookContext {
        rotation: RotationId(Uuid::from_u128(rotation)),
        secret: SecretId::new("JWT_SECRET").unwrap(),
        point: HookPoint::BeforePromote,
        index: 0,
        attempt: 0,
        now: cloud.ecs.script().clock().now(),
    }
}

#[tokio::test]
async fn a_hooks_task_runs_once_and_its_exit_code_decides() {
    let cloud = Cloud::start(false);
    let hook = hook_at(&cloud);
    for (rotation, code) in [(1, 0), (2, 3)] {
        cloud.ecs.exit_code("backend", code);
        let context = run_of(&cloud, rotation);
        cloud.ecs.script().add(Scripted::next("RunTask", Effect::CutAfter));
        assert!(matches!(fault(hook.run(&context).await), Fault::Transient { .. }));
        for _ in 0..2 {
            assert!(matches!(hook.run(&context).await, Ok(HookStatus::UnderWay { .. })));
        }
        let started = json!({"cluster": "prod", "startedBy": context.idempotency_key()});
        let running = cloud.ecs.call("ListTasks", started).unwrap();
        let arns = running["taskArns"].as_array().unwrap();
        assert_eq!(arns.len(), 1, "a repeat starts nothing");
        let arn = arns[0].as_str().unwrap();
        let events: Vec<Event> = std::iter::from_fn(|| cloud.ecs.step_task(arn)).collect();
        assert!(events.contains(&Event::Stopped(arn.to_owned())), "{events:?}");
        let status = hook.run(&context).await.unwrap();
        match code {
            0 => assert_eq!(status, HookStatus::Succeeded),
            _ => assert!(
                matches!(&status, HookStatus::Failed { detail } if detail.contains("exit code 3")),
                "{status:?}"
            ),
        }
        assert_eq!(hook.run(&context).await.unwrap(), status, "a stopped task is found again");
    }
}

/// Tasks of ECS, and the code that they end with.
struct Tasks {
    cloud: Cloud,
    hook: Arc<dyn HookRunner>,
}

impl Tasks {
    fn start() -> Self {
        let cloud = Cloud::start(false);
        let hook = hook_at(&cloud);
        Self { cloud, hook }
    }

    fn list(&self, filter: Value) -> Vec<String> {
        let listed = self.cloud.ecs.call("ListTasks", filter).unwrap();
        let arns = listed["taskArns"].as_array().unwrap().iter();
        arns.map(|arn| arn.as_str().unwrap().to_owned()).collect()
    }
}

#[async_trait]
impl HookUnderTest for Tasks {
    fn hook(&self) -> Arc<dyn HookRunner> {
        Arc::clone(&self.hook)
    }

    fn run(&self) -> HookContext {
        run_of(&self.cloud, 7)
    }

    async fn let_it_succeed(&self, succeeds: bool) {
        self.cloud.ecs.exit_code("backend", if succeeds { 0 } else { 3 });
    }

    async fn pass(&self) {
        for arn in self.list(json!({ "cluster": "prod", "family": "backend" })) {
            self.cloud.ecs.step_task(&arn);
        }
    }

    async fn runs_seen(&self) -> BTreeSet<String> {
        let mut runs = BTreeSet::new();
        for attempt in [0, 1] {
            let key = HookContext { attempt, ..self.run() }.idempotency_key();
            for desired in ["RUNNING", "STOPPED"] {
                let filter = json!({ "cluster": "prod", "startedBy": key, "desiredStatus": desired });
                runs.extend(self.list(filter));
            }
        }
        runs
    }
}

mod hook_suite {
    use super::Tasks;
    rota_engine::hook_suite!(Tasks::start());
}
