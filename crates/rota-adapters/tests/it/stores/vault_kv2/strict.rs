//! The store's promises, and what is Vault's own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_adapters::stores::vault_kv2::VaultKv2Store;
use rota_core::fault::Fault;
use rota_core::id::VersionRef;
use rota_core::publication::Place;
use rota_engine::ports::{SecretStore, SlotState};
use rota_engine::test_support::SimClock;
use rota_engine::test_support::store_suite::StoreUnderTest;
use rota_fakes::http::{Effect, Fault as Scripted, Listen};
use rota_fakes::vault::VaultFake;
use rota_fakes::wait;
use serde_json::{Value, json};

use super::{body, fresh_path, slot, store, token_login};
use crate::support::{fault, token, value};

/// What the page of the store tells people to give the daemon, for `acd/*`.
fn rights() -> String {
    let page = include_str!("../../../../../../docs/stores/vault-kv2.md");
    let policy = page.split("```hcl").nth(1).unwrap().split("```").next().unwrap();
    policy.replace("acd/", "rota-test/")
}

enum Server {
    Fake(VaultFake),
    Real { address: String, token: String },
}

/// A store that has the rights on the page and no others, or a real server's own token.
struct Subject {
    server: Server,
    token: String,
    clock: SimClock,
}

impl Subject {
    async fn fake() -> Self {
        let fake = VaultFake::start(Listen::default()).unwrap();
        fake.policy("rota", &rights()).await.unwrap();
        let token = fake.token(json!({ "policies": ["rota"], "ttl": "1h" })).await.unwrap();
        Self { server: Server::Fake(fake), token, clock: SimClock::new(Timestamp::UNIX_EPOCH) }
    }

    /// The server of `VAULT_ADDR`, else the fake.
    async fn any() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let (Some(address), Some(token)) = (variable("VAULT_ADDR"), variable("VAULT_TOKEN")) else {
            return Self::fake().await;
        };
        let clock = SimClock::new(Timestamp::UNIX_EPOCH);
        Self { server: Server::Real { address, token: token.clone() }, token, clock }
    }

    fn vault(&self) -> VaultKv2Store {
        let address = match &self.server {
            Server::Fake(fake) => fake.url(),
            Server::Real { address, .. } => address.clone(),
        };
        store(&address, token_login(&self.token), &self.clock)
    }

    fn of_fake(&self) -> &VaultFake {
        match &self.server {
            Server::Fake(fake) => fake,
            Server::Real { .. } => panic!("this test is about the fake"),
        }
    }

    async fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        self.of_fake().admin(method, path, body).await.unwrap()
    }
}

#[async_trait]
impl StoreUnderTest for Subject {
    fn store(&self) -> Arc<dyn SecretStore> {
        Arc::new(self.vault())
    }

    fn path(&self) -> String {
        fresh_path()
    }

    async fn write_by_hand(&self, path: &str, content: &str) {
        let path = format!("secret/data/{path}");
        match &self.server {
            Server::Fake(fake) => drop(fake.admin("POST", &path, body(content)).await.unwrap()),
            Server::Real { address, token } => {
                let call = reqwest::Client::new().post(format!("{address}/v1/{path}"));
                let call = call.header("x-vault-token", token).json(&body(content));
                call.send().await.unwrap().error_for_status().unwrap();
            }
        }
    }
}

rota_engine::store_suite!(Subject::any().await);

#[tokio::test]
async fn a_lost_answer_after_any_write_is_found_again() {
    for effect in [Effect::CutAfter, Effect::CutBefore] {
        let subject = Subject::fake().await;
        let (vault, path) = (subject.vault(), fresh_path());
        let mut base = None;
        for text in ["1", "2"] {
            subject.of_fake().script().add(Scripted::next("POST /v1/secret/data/", effect.clone()));
            let token = token();
            let write = async || vault.write(&path, &value(text), base.as_ref(), &token).await;
            assert!(matches!(fault(write().await), Fault::Transient { .. }));
            let version = write().await.unwrap();
            assert_eq!(write().await.unwrap(), version);
            base = Some(version);
        }
        assert!(base.unwrap().0.starts_with("2@"), "nothing was written twice");
        for lost in ["POST /v1/secret/data/", "POST /v1/secret/destroy/"] {
            let slot = slot("rota-test/x");
            subject.of_fake().script().add(Scripted::next(lost, effect.clone()));
            let mut failures = 0;
            while vault.stage(&slot, &value("candidate")).await.is_err() {
                failures += 1;
            }
            while vault.purge(&slot).await.is_err() {
                failures += 1;
            }
            assert_eq!(failures, 1, "{lost}");
            assert!(matches!(vault.read_slot(&slot).await.unwrap(), SlotState::Tombstone));
        }
    }
}

#[tokio::test]
async fn a_late_write_of_a_stale_holder_is_refused() {
    let subject = Subject::fake().await;
    let path = fresh_path();
    let first = subject.vault().write(&path, &value("1"), None, &token()).await.unwrap();
    subject.of_fake().script().add(Scripted::next("POST /v1/secret/data/", Effect::Late));
    let stale = tokio::spawn({
        let (vault, path, first) = (subject.vault(), path.clone(), first.clone());
        async move { vault.write(&path, &value("stale"), Some(&first), &token()).await }
    });
    let held = async || Ok((subject.of_fake().script().held() == 1).then_some(()));
    wait::until(Duration::from_secs(10), "the held call", held).await.unwrap();
    let second = subject.vault().write(&path, &value("2"), Some(&first), &token()).await.unwrap();
    subject.of_fake().script().release_late().unwrap();
    stale.abort();
    assert_eq!(subject.vault().read(&path).await.unwrap().unwrap().version, second);
}

#[tokio::test]
async fn a_deleted_version_is_nothing_published_and_the_next_write_goes_over_it() {
    let subject = Subject::fake().await;
    let (vault, path) = (subject.vault(), fresh_path());
    let first = vault.write(&path, &value("1"), None, &token()).await.unwrap();
    subject.admin("DELETE", &format!("secret/data/{path}"), json!({})).await;
    assert!(vault.read(&path).await.unwrap().is_none());
    assert!(matches!(
        fault(vault.write(&path, &value("2"), Some(&first), &token()).await),
        Fault::Conflict { .. }
    ));
    let second = vault.write(&path, &value("2"), None, &token()).await.unwrap();
    assert!(second.0.starts_with("2@"), "{second}");
}

#[tokio::test]
async fn a_path_that_was_made_anew_is_not_taken_for_the_one_that_was_read() {
    let subject = Subject::fake().await;
    let (vault, path) = (subject.vault(), fresh_path());
    let before = vault.write(&path, &value("1"), None, &token()).await.unwrap();
    subject.admin("DELETE", &format!("secret/metadata/{path}"), json!({})).await;
    subject.of_fake().script().clock().advance(SignedDuration::from_secs(1));
    subject.write_by_hand(&path, "another").await;
    let stale = vault.write(&path, &value("2"), Some(&before), &token()).await;
    assert!(matches!(fault(stale), Fault::Conflict { .. }));
}

#[tokio::test]
async fn the_layout_that_stands_there_is_kept() {
    let subject = Subject::fake().await;
    let vault = subject.vault();
    let shown = async |path: &str| {
        let found = subject.admin("GET", &format!("secret/data/{path}"), json!({})).await;
        found["data"]["data"].clone()
    };
    let replace = async |path: &str, text: &str| {
        let base = vault.read(path).await.unwrap().map(|stored| stored.version);
        vault.write(path, &value(text), base.as_ref(), &token()).await.unwrap();
    };
    let path = fresh_path();
    replace(&path, "plain").await;
    assert_eq!(shown(&path).await, json!({ "value": "plain" }));
    replace(&path, r#"{"A":"1"}"#).await;
    assert_eq!(shown(&path).await, json!({ "value": r#"{"A":"1"}"# }));

    let path = fresh_path();
    replace(&path, r#"{"A":"1","n":1.50}"#).await;
    assert_eq!(shown(&path).await, json!({ "A": "1", "n": 1.5 }));
    replace(&path, r#"{"A":"2","n":1.50}"#).await;
    assert_eq!(shown(&path).await, json!({ "A": "2", "n": 1.5 }));
    let only_value = vault.write(&fresh_path(), &value(r#"{"value":"x"}"#), None, &token()).await;
    assert!(matches!(fault(only_value), Fault::Invalid { .. }));
}

#[tokio::test]
async fn slots_are_where_only_the_daemon_reads_and_their_names_stay() {
    let subject = Subject::fake().await;
    let (vault, path) = (subject.vault(), fresh_path());
    let slot = slot(&path);
    vault.stage(&slot, &value("candidate")).await.unwrap();
    let folder = format!("secret/metadata/rota-slots/{path}");
    let listed = subject.admin("LIST", &folder, json!({})).await;
    let [name] = listed["data"]["keys"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert!(name.as_str().unwrap().ends_with("-candidate"));
    vault.purge(&slot).await.unwrap();
    let metadata = format!("{folder}/{}", name.as_str().unwrap());
    let found = subject.admin("GET", &metadata, json!({})).await;
    assert_eq!(found["data"]["versions"]["1"]["destroyed"], true);
}

#[tokio::test]
async fn the_rights_on_the_page_let_nobody_write_a_slot_twice() {
    let subject = Subject::fake().await;
    let slot = slot("rota-test/x");
    subject.vault().stage(&slot, &value("candidate")).await.unwrap();
    let listed = subject.admin("LIST", "secret/metadata/rota-slots/rota-test/x", json!({})).await;
    let name = listed["data"]["keys"][0].as_str().unwrap();
    let url = format!("{}/v1/secret/data/rota-slots/rota-test/x/{name}", subject.of_fake().url());
    let call = reqwest::Client::new().post(url).header("x-vault-token", &subject.token);
    let answer = call.json(&json!({ "data": { "value": "another" } })).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
}

#[tokio::test]
async fn a_slot_that_a_person_deleted_is_told_with_the_way_back() {
    let subject = Subject::fake().await;
    let (vault, path) = (subject.vault(), fresh_path());
    let slot = slot(&path);
    vault.stage(&slot, &value("candidate")).await.unwrap();
    let folder = format!("rota-slots/{path}");
    let listed = subject.admin("LIST", &format!("secret/metadata/{folder}"), json!({})).await;
    let name = listed["data"]["keys"][0].as_str().unwrap();
    subject.admin("DELETE", &format!("secret/data/{folder}/{name}"), json!({})).await;
    let Fault::Invalid { message } = fault(vault.read_slot(&slot).await) else { panic!("another fault") };
    assert!(message.contains("vault kv undelete"), "{message}");
    vault.purge(&slot).await.unwrap();
    assert!(matches!(vault.read_slot(&slot).await.unwrap(), SlotState::Tombstone));
}

#[tokio::test]
async fn an_emptied_inbox_keeps_nothing_that_was_pasted() {
    let subject = Subject::fake().await;
    let (vault, path) = (subject.vault(), fresh_path());
    for text in ["typo", "pasted"] {
        subject.write_by_hand(&path, text).await;
    }
    vault.empty_inbox(&path).await.unwrap();
    let found = subject.admin("GET", &format!("secret/metadata/{path}"), json!({})).await;
    for version in ["1", "2"] {
        assert_eq!(found["data"]["versions"][version]["destroyed"], true);
    }
    assert!(vault.read_other(&Place { path, field: None }).await.unwrap().is_none());
}

#[tokio::test]
async fn the_clock_is_vaults_sealed_or_not() {
    let subject = Subject::fake().await;
    let clock = subject.of_fake().script().clock().clone();
    clock.advance(SignedDuration::from_mins(7));
    for sealed in [false, true] {
        if sealed {
            subject.of_fake().seal();
        }
        let shown = subject.vault().clock().await.unwrap().unwrap();
        assert!(shown.duration_since(clock.now()).abs() < SignedDuration::from_secs(5));
    }
}

#[tokio::test]
async fn a_version_cannot_be_pinned() {
    let subject = Subject::fake().await;
    let reference = subject.vault().pinned_reference("x", &VersionRef("1@t".to_owned())).await.unwrap();
    assert_eq!(reference, None);
}
