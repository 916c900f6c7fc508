//! The strict fake: signatures, tokens, labels and quotas as documented.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::stores::aws_secrets_manager::AwsSecretsManagerStore;
use rota_core::fault::Fault;
use rota_core::id::VersionRef;
use rota_core::publication::Place;
use rota_engine::ports::{SecretStore, SlotState};
use rota_engine::test_support::store_suite::StoreUnderTest;
use rota_fakes::http::{Effect, Fault as Scripted, Listen};
use rota_fakes::secretsmanager::SecretsManagerFake;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{KEY, KEY_ID, REGION, environment_at, fresh_path, slot, store, store_with};
use crate::support::{fault, token, value};

pub(super) struct Subject {
    pub(super) fake: SecretsManagerFake,
    environment: AdapterEnvironment,
}

impl Subject {
    pub(super) async fn new() -> Self {
        let fake = SecretsManagerFake::start(REGION, Listen::default()).unwrap();
        fake.add_key(KEY_ID, KEY);
        let environment = environment_at(&fake.url(), KEY_ID, KEY).await;
        Self { fake, environment }
    }

    pub(super) fn aws(&self) -> AwsSecretsManagerStore {
        store(&self.environment)
    }

    /// A secret with this value, and its version.
    pub(super) async fn published(&self, text: &str) -> (String, VersionRef) {
        let path = fresh_path();
        let version = self.aws().write(&path, &value(text), None, &token()).await.unwrap();
        (path, version)
    }

    fn labels_of(&self, path: &str, version: &VersionRef) -> Vec<String> {
        let found = self.fake.versions(path).into_iter().find(|held| held.id == version.0);
        found.unwrap().labels
    }
}

#[async_trait]
impl StoreUnderTest for Subject {
    fn store(&self) -> Arc<dyn SecretStore> {
        Arc::new(self.aws())
    }

    fn path(&self) -> String {
        fresh_path()
    }

    async fn write_by_hand(&self, path: &str, content: &str) {
        if self.fake.versions(path).is_empty() {
            return self.fake.create(path, content).unwrap();
        }
        let token = Uuid::new_v4().to_string();
        let fields = json!({ "SecretId": path, "SecretString": content, "ClientRequestToken": token });
        self.fake.call("PutSecretValue", fields).unwrap();
    }
}

rota_engine::store_suite!(Subject::new().await);

#[tokio::test]
async fn the_labels_move_with_each_publication_and_no_version_is_ever_without_one_before_its_time() {
    let subject = Subject::new().await;
    let (path, first) = subject.published("1").await;
    assert_eq!(subject.labels_of(&path, &first), ["AWSCURRENT"]);
    let second = subject.aws().write(&path, &value("2"), Some(&first), &token()).await.unwrap();
    assert_eq!(subject.labels_of(&path, &first), ["AWSPREVIOUS"]);
    assert_eq!(subject.labels_of(&path, &second), ["AWSCURRENT", "rota-pending"]);
    let third = subject.aws().write(&path, &value("1"), Some(&second), &token()).await.unwrap();
    assert_eq!(subject.labels_of(&path, &second), ["AWSPREVIOUS"]);
    assert_eq!(subject.labels_of(&path, &third), ["AWSCURRENT", "rota-pending"]);
    assert_eq!(subject.labels_of(&path, &first), Vec::<String>::new());
}

#[tokio::test]
async fn a_lost_answer_after_any_call_of_a_publication_is_found_again() {
    for lost in ["CreateSecret", "PutSecretValue", "UpdateSecretVersionStage"] {
        for effect in [Effect::CutAfter, Effect::CutBefore] {
            let subject = Subject::new().await;
            let (path, base) = match lost {
                "CreateSecret" => (fresh_path(), None),
                _ => {
                    let (path, version) = subject.published("1").await;
                    (path, Some(version))
                }
            };
            subject.fake.script().add(Scripted::next(lost, effect));
            let token = token();
            let write = async || subject.aws().write(&path, &value("2"), base.as_ref(), &token).await;
            assert!(matches!(fault(write().await), Fault::Transient { .. }), "{lost}");
            let version = write().await.unwrap();
            assert_eq!(version.0, token.token.to_string());
            assert_eq!(subject.fake.value(&path, "AWSCURRENT").unwrap(), "2");
            assert_eq!(write().await.unwrap(), version);
        }
    }
}

#[tokio::test]
async fn a_late_label_move_of_a_stale_holder_is_refused() {
    let subject = Subject::new().await;
    let (path, first) = subject.published("1").await;
    subject.fake.script().add(Scripted::next("UpdateSecretVersionStage", Effect::Late));
    let stale = tokio::spawn({
        let (store, path, first) = (subject.aws(), path.clone(), first.clone());
        async move { store.write(&path, &value("stale"), Some(&first), &token()).await }
    });
    let held = async || Ok((subject.fake.script().held() == 1).then_some(()));
    rota_fakes::wait::until(std::time::Duration::from_secs(10), "the held call", held).await.unwrap();
    let second = subject.aws().write(&path, &value("2"), Some(&first), &token()).await.unwrap();
    subject.fake.script().release_late().unwrap();
    stale.abort();
    assert_eq!(subject.aws().read(&path).await.unwrap().unwrap().version, second);
    assert_eq!(subject.fake.value(&path, "AWSCURRENT").unwrap(), "2");
}

#[tokio::test]
async fn what_lost_the_race_for_the_label_is_not_kept_alive() {
    let subject = Subject::new().await;
    let (path, first) = subject.published("1").await;
    subject.fake.script().add(Scripted::next("UpdateSecretVersionStage", Effect::CutBefore));
    let loser = token();
    fault(subject.aws().write(&path, &value("loser"), Some(&first), &loser).await);
    subject.fake.lag(2);
    subject.write_by_hand(&path, "by hand").await;
    // The read lags, so the store believes that it may go on; the service does not.
    let lost = subject.aws().write(&path, &value("loser"), Some(&first), &loser).await;
    assert!(matches!(fault(lost), Fault::Transient { .. } | Fault::Conflict { .. }));
    subject.fake.lag(0);
    for _ in 0..3 {
        let again = subject.aws().write(&path, &value("loser"), Some(&first), &loser).await;
        assert!(matches!(fault(again), Fault::Conflict { .. }));
    }
    assert_eq!(subject.fake.value(&path, "AWSCURRENT").unwrap(), "by hand");
    assert_eq!(subject.labels_of(&path, &VersionRef(loser.token.to_string())), Vec::<String>::new());
}

#[tokio::test]
async fn a_secret_without_a_value_gets_its_first_one() {
    let subject = Subject::new().await;
    let path = fresh_path();
    subject.fake.call("CreateSecret", json!({ "Name": path })).unwrap();
    assert!(subject.aws().read(&path).await.unwrap().is_none());
    let slot = slot(&path, false);
    subject.aws().stage(&slot, &value("candidate")).await.unwrap();
    assert!(subject.aws().read(&path).await.unwrap().is_none(), "a slot became the first version");
    let version = subject.aws().write(&path, &value("1"), None, &token()).await.unwrap();
    assert_eq!(subject.aws().read(&path).await.unwrap().unwrap().version, version);
}

#[tokio::test]
async fn a_secret_is_created_with_the_key_and_tags_of_the_policy() {
    let subject = Subject::new().await;
    let settings = json!({ "region": REGION, "tags": { "team": "platform" }, "kms_key": "alias/rota" });
    let store = store_with(&subject.environment, settings).unwrap();
    let path = fresh_path();
    store.write(&path, &value("1"), None, &token()).await.unwrap();
    let described = subject.fake.call("DescribeSecret", json!({ "SecretId": path })).unwrap();
    assert_eq!(described["Tags"], json!([{ "Key": "team", "Value": "platform" }]));
    let created = subject.fake.script().count("CreateSecret");
    assert_eq!(created, 1);
}

#[tokio::test]
async fn slots_of_a_shared_document_are_secrets_of_their_own_that_consumers_of_the_document_may_not_read() {
    let subject = Subject::new().await;
    let (path, _) = subject.published("{}").await;
    let shared = slot(&path, true);
    subject.aws().stage(&shared, &value("candidate")).await.unwrap();
    assert_eq!(subject.fake.versions(&path).len(), 1);
    let own = format!("rota-slots/{path}/JWT_SECRET");
    assert_eq!(subject.fake.versions(&own).len(), 2);
    assert!(!subject.fake.value(&own, "AWSCURRENT").unwrap().contains("candidate"));
}

#[tokio::test]
async fn a_purged_slot_may_be_pruned_and_then_only_the_journal_remembers_it() {
    let subject = Subject::new().await;
    let (path, _) = subject.published("1").await;
    let slot = slot(&path, false);
    subject.aws().stage(&slot, &value("candidate")).await.unwrap();
    assert_eq!(subject.fake.prune(&path), 0, "a filled slot is never pruned");
    subject.aws().purge(&slot).await.unwrap();
    assert_eq!(subject.fake.prune(&path), 1);
    assert!(matches!(subject.aws().read_slot(&slot).await.unwrap(), SlotState::Empty));
}

#[tokio::test]
async fn a_lost_answer_after_any_call_of_staging_and_purging_is_found_again() {
    for shared in [false, true] {
        for lost in ["PutSecretValue", "CreateSecret", "UpdateSecretVersionStage"] {
            let subject = Subject::new().await;
            let (path, _) = subject.published("1").await;
            let slot = slot(&path, shared);
            subject.fake.script().add(Scripted::next(lost, Effect::CutAfter));
            let mut failures = 0;
            while subject.aws().stage(&slot, &value("candidate")).await.is_err() {
                failures += 1;
            }
            while subject.aws().purge(&slot).await.is_err() {
                failures += 1;
            }
            let struck = shared || lost != "CreateSecret";
            assert_eq!(failures, i32::from(struck), "{lost} {shared}");
            assert!(matches!(subject.aws().read_slot(&slot).await.unwrap(), SlotState::Tombstone));
        }
    }
}

#[tokio::test]
async fn reads_that_lag_show_absent_or_old_and_never_a_false_success() {
    let subject = Subject::new().await;
    let (path, first) = subject.published("1").await;
    let slot = slot(&path, false);
    subject.fake.lag(1);
    subject.aws().stage(&slot, &value("candidate")).await.unwrap();
    assert!(matches!(subject.aws().read_slot(&slot).await.unwrap(), SlotState::Empty), "not shown yet");
    assert!(matches!(subject.aws().read_slot(&slot).await.unwrap(), SlotState::Filled { .. }));
    subject.aws().write(&path, &value("2"), Some(&first), &token()).await.unwrap();
    // The next read is a stale one: a write over what it shows is refused by the service.
    let stale = subject.aws().write(&path, &value("3"), Some(&first), &token()).await;
    assert!(matches!(fault(stale), Fault::Conflict { .. }));
    subject.fake.lag(0);
    assert_eq!(subject.fake.value(&path, "AWSCURRENT").unwrap(), "2");
}

#[tokio::test]
async fn an_emptied_inbox_keeps_its_value_under_no_label() {
    let subject = Subject::new().await;
    let (path, version) = subject.published("pasted").await;
    for lost in ["PutSecretValue", "UpdateSecretVersionStage"] {
        subject.fake.script().add(Scripted::next(lost, Effect::CutAfter));
        fault(subject.aws().empty_inbox(&path).await);
    }
    subject.aws().empty_inbox(&path).await.unwrap();
    assert_eq!(subject.labels_of(&path, &version), Vec::<String>::new());
    let inbox = Place { path: path.clone(), field: None };
    assert!(subject.aws().read_other(&inbox).await.unwrap().is_none());
    let writes = subject.fake.script().count("PutSecretValue");
    subject.aws().empty_inbox(&path).await.unwrap();
    assert_eq!(subject.fake.script().count("PutSecretValue"), writes, "an empty inbox is left alone");
}

#[tokio::test]
async fn the_clock_is_the_services_even_where_nothing_may_be_read() {
    let subject = Subject::new().await;
    subject.fake.script().clock().advance(SignedDuration::from_mins(7));
    for denied in [false, true] {
        if denied {
            subject.fake.deny("DescribeSecret", 1);
        }
        let shown = subject.aws().clock().await.unwrap().unwrap();
        let off = shown.duration_since(subject.fake.script().clock().now()).abs();
        assert!(off < SignedDuration::from_secs(5), "{off}");
    }
    let (_, address) = (subject.aws(), subject.fake.url());
    drop(subject);
    let gone = store(&environment_at(&address, KEY_ID, KEY).await);
    assert!(matches!(fault(gone.clock().await), Fault::Transient { .. }));
}

#[tokio::test]
async fn a_pinned_reference_names_the_arn_and_exactly_one_version() {
    let subject = Subject::new().await;
    let (path, version) = subject.published("1").await;
    let described = subject.fake.call("DescribeSecret", json!({ "SecretId": path })).unwrap();
    let arn = described["ARN"].as_str().unwrap();
    let reference = subject.aws().pinned_reference(&path, &version).await.unwrap().unwrap();
    assert_eq!(reference, format!("{arn}:::{version}"));
    assert_eq!(reference.split(':').count(), 10);
    assert!(matches!(fault(subject.aws().pinned_reference("absent", &version).await), Fault::Invalid { .. }));
}

#[tokio::test]
async fn the_rights_on_the_page_are_exactly_the_calls_that_are_made() {
    let subject = Subject::new().await;
    let (path, first) = subject.published("1").await;
    let slot = slot(&path, true);
    subject.aws().preflight(&path).await.unwrap();
    subject.aws().stage(&slot, &value("candidate")).await.unwrap();
    subject.aws().write(&path, &value("2"), Some(&first), &token()).await.unwrap();
    subject.aws().purge(&slot).await.unwrap();
    let mut called: BTreeSet<String> = subject
        .fake
        .script()
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.call.split_once("secretsmanager.")?.1.to_owned()))
        .collect();
    // Creating with tags needs a right of its own.
    called.insert("TagResource".to_owned());

    let page = include_str!("../../../../../../docs/stores/aws-secrets-manager.md");
    let policy = page.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let policy: Value = serde_json::from_str(policy).unwrap();
    let actions = policy["Statement"][0]["Action"].as_array().unwrap();
    let allowed: BTreeSet<String> =
        actions.iter().map(|action| action.as_str().unwrap().replace("secretsmanager:", "")).collect();
    assert_eq!(allowed, called);
}
