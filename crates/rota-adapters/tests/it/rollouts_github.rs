//! The rollout by GitHub Actions against a strict fake of its API.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::rollouts::github_dispatch::KIND;
use rota_core::fault::Fault;
use rota_core::id::ConsumerId;
use rota_core::policy::model::RolloutPolicy;
use rota_engine::ports::{Rollout, RolloutContext, RolloutStatus};
use rota_engine::test_support::rollout_suite::RolloutUnderTest;
use rota_fakes::clock::FakeClock;
use rota_fakes::github::{BRANCH, GithubFake, REPOSITORY, WORKFLOW, Workflow};
use rota_fakes::http::{Effect, Fault as Scripted, Listen};
use serde_json::{Value, json};

use crate::support::{environment_with, fault};

const TOKEN: &str = "github_pat_hunter2";

struct Repository {
    fake: GithubFake,
    environment: AdapterEnvironment,
    settings: Value,
}

impl Repository {
    fn start() -> Self {
        let clock = FakeClock::following();
        let fake = GithubFake::start(TOKEN, Listen { clock, ..Listen::default() }).unwrap();
        let settings = json!({
            "repository": REPOSITORY, "workflow": WORKFLOW, "ref": BRANCH, "token": "aws:github",
            "inputs": { "service": "backend" }, "api": fake.url(),
        });
        let environment = environment_with(&[("aws:github", TOKEN), ("aws:wrong", "another-token")]);
        Self { fake, environment, settings }
    }

    fn rollout_with(&self, more: Value) -> Arc<dyn Rollout> {
        let mut settings = self.settings.clone();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let policy = RolloutPolicy {
            kind: "github-dispatch".to_owned(),
            settings,
            deadline: SignedDuration::from_mins(30),
        };
        (KIND.build)(&policy, &self.environment).unwrap()
    }

    fn context(&self) -> RolloutContext {
        let clock = self.fake.script().clock();
        clock.advance(SignedDuration::from_secs(5));
        let published_at = clock.now();
        clock.advance(SignedDuration::from_secs(5));
        RolloutContext {
            consumer: ConsumerId::new("backend").unwrap(),
            generation: 7,
            published_at,
            settle: SignedDuration::ZERO,
            pins: Vec::new(),
            now: clock.now(),
        }
    }

    async fn look(&self, handle: &Value, context: &RolloutContext) -> RolloutStatus {
        self.rollout().observe(handle, &Value::Null, context).await.unwrap().0
    }
}

#[async_trait]
impl RolloutUnderTest for Repository {
    fn rollout(&self) -> Arc<dyn Rollout> {
        self.rollout_with(json!({}))
    }

    async fn publish(&self) -> RolloutContext {
        self.context()
    }

    async fn pass(&self, context: &mut RolloutContext) {
        self.fake.script().clock().advance(SignedDuration::from_secs(5));
        self.fake.step();
        context.now = self.fake.script().clock().now();
    }

    async fn has_old_instance(&self, context: &RolloutContext) -> bool {
        self.fake.oldest_instance() < context.published_at
    }
}

mod suite {
    use super::Repository;
    rota_engine::rollout_suite!(Repository::start());
}

#[tokio::test]
async fn a_run_is_dispatched_once_with_the_policys_inputs_and_its_own_name() {
    let repository = Repository::start();
    let mut context = repository.context();
    repository.rollout().begin(&context).await.unwrap();
    repository.pass(&mut context).await;
    repository.rollout().begin(&context).await.unwrap();
    let name = format!("backend-7-{}", context.published_at.as_second());
    let dispatched = repository.fake.dispatched();
    assert_eq!(json!(dispatched), json!([{ "rota": name, "service": "backend" }]));
}

#[tokio::test]
async fn a_dispatch_whose_answer_was_lost_is_found_again() {
    let repository = Repository::start();
    let mut context = repository.context();
    repository.fake.script().add(Scripted::next("POST", Effect::CutAfter));
    assert!(matches!(fault(repository.rollout().begin(&context).await), Fault::Transient { .. }));
    repository.pass(&mut context).await;
    repository.rollout().begin(&context).await.unwrap();
    assert_eq!(repository.fake.dispatched().len(), 1);
}

#[tokio::test]
async fn a_run_that_fails_or_is_never_shown_fails_the_rollout_and_says_what_to_do() {
    let repository = Repository::start();
    let declared = |named_by: Option<&str>, conclusion| Workflow {
        inputs: vec!["rota".to_owned(), "service".to_owned()],
        named_by: named_by.map(str::to_owned),
        conclusion,
    };
    repository.fake.set_workflow(declared(Some("rota"), "failure"));
    let mut context = repository.context();
    let handle = repository.rollout().begin(&context).await.unwrap();
    assert!(matches!(repository.look(&handle, &context).await, RolloutStatus::UnderWay { .. }));
    for _ in 0..2 {
        repository.pass(&mut context).await;
    }
    let failed = repository.look(&handle, &context).await;
    assert!(matches!(&failed, RolloutStatus::Failed { detail } if detail.contains(WORKFLOW)), "{failed:?}");

    repository.fake.set_workflow(declared(None, "success"));
    let mut context = repository.context();
    let handle = repository.rollout().begin(&context).await.unwrap();
    repository.pass(&mut context).await;
    assert!(matches!(repository.look(&handle, &context).await, RolloutStatus::UnderWay { .. }));
    context.now += SignedDuration::from_mins(2);
    let nameless = repository.look(&handle, &context).await;
    assert!(
        matches!(&nameless, RolloutStatus::Failed { detail } if detail.contains("run-name: deploy ${{ inputs.rota }}")),
        "{nameless:?}"
    );
}

#[tokio::test]
async fn what_github_refuses_says_what_to_do_and_never_the_token() {
    let repository = Repository::start();
    let context = repository.context();
    for (settings, denied, word) in [
        (json!({ "token": "aws:wrong" }), true, "401"),
        (json!({ "repository": "acme/nothing" }), false, "acme/nothing"),
        (json!({ "ref": "gone" }), false, "`gone`"),
        (json!({ "inputs": { "unknown": "x" } }), false, "workflow_dispatch"),
    ] {
        let fault = fault(repository.rollout_with(settings.clone()).begin(&context).await);
        assert_eq!(matches!(fault, Fault::Denied { .. }), denied, "{fault}");
        assert_eq!(matches!(fault, Fault::Invalid { .. }), !denied, "{fault}");
        assert!(fault.to_string().contains(word) && !fault.to_string().contains("hunter2"), "{fault}");
    }
    let limited = [("x-ratelimit-remaining".to_owned(), "0".to_owned())].to_vec();
    for (status, headers, passes) in [(403, limited, true), (403, Vec::new(), false), (502, Vec::new(), true)]
    {
        let body = "{\"message\":\"hunter2\"}".to_owned();
        repository.fake.script().add(Scripted::next("GET", Effect::Answer { status, headers, body }));
        let fault = fault(repository.rollout().begin(&context).await);
        assert_eq!(fault.passes_by_itself(), passes, "{status}: {fault}");
        assert!(!fault.to_string().contains("hunter2"), "{fault}");
    }
    assert_eq!(repository.fake.dispatched().len(), 0);
}
