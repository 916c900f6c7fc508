//! The versioned key-value engine.

use jiff::SignedDuration;
use rota_fakes::http::{Effect, Fault, Listen};
use rota_fakes::vault::VaultFake;
use serde_json::{Value, json};

use super::{Caller, error};

const CAS_MISSED: &str = "check-and-set parameter did not match the current version";

fn value(text: &str) -> Value {
    json!({"data": {"value": text}})
}

fn with_cas(text: &str, cas: u64) -> Value {
    json!({"data": {"value": text}, "options": {"cas": cas}})
}

#[tokio::test]
async fn check_and_set_lets_exactly_the_expected_version_be_replaced() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let root = Caller::root(&vault);
    let (status, first) = root.post("secret/data/app/jwt", with_cas("one", 0)).await;
    assert_eq!((status, first["data"]["version"].as_u64()), (200, Some(1)));
    assert_eq!(first["data"]["deletion_time"], "");
    assert_eq!(error(&root.post("secret/data/app/jwt", with_cas("two", 0)).await), (400, CAS_MISSED));
    assert_eq!(root.status("PUT", "secret/data/app/jwt", with_cas("two", 1)).await, 200);
    assert_eq!(error(&root.post("secret/data/app/jwt", with_cas("three", 1)).await), (400, CAS_MISSED));
    assert_eq!(error(&root.post("secret/data/other", with_cas("x", 5)).await), (400, CAS_MISSED));

    let (status, latest) = root.get("secret/data/app/jwt").await;
    assert_eq!((status, &latest["data"]["data"]), (200, &json!({"value": "two"})));
    assert_eq!(latest["data"]["metadata"]["version"], 2);
    let (_, older) = root.get("secret/data/app/jwt?version=1").await;
    assert_eq!(older["data"]["data"]["value"], "one");
    assert_eq!(root.get("secret/data/app/jwt?version=3").await, (404, json!({"errors": []})));
    assert_eq!(root.get("secret/data/absent").await, (404, json!({"errors": []})));
    assert_eq!(
        error(&root.post("secret/data/app/jwt", json!({"value": "x"})).await),
        (400, "no data provided")
    );
}

#[tokio::test]
async fn a_required_check_and_set_refuses_writes_without_one() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let root = Caller::root(&vault);
    assert_eq!(root.status("POST", "secret/metadata/strict", json!({"cas_required": true})).await, 204);
    let refused = root.post("secret/data/strict", value("one")).await;
    assert_eq!(error(&refused), (400, "check-and-set parameter required for this call"));
    assert_eq!(root.status("POST", "secret/data/strict", with_cas("one", 0)).await, 200);

    assert_eq!(root.status("POST", "secret/config", json!({"cas_required": true})).await, 204);
    assert_eq!(root.status("POST", "secret/data/lax", value("one")).await, 400);
    let (_, config) = root.get("secret/config").await;
    let expected = json!({"cas_required": true, "max_versions": 0, "delete_version_after": "0s"});
    assert_eq!(config["data"], expected);
}

#[tokio::test]
async fn a_deleted_version_is_a_404_with_metadata_until_it_is_undeleted_or_destroyed() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let root = Caller::root(&vault);
    root.post("secret/data/a", value("one")).await;
    root.post("secret/data/a", value("two")).await;
    assert_eq!(root.status("DELETE", "secret/data/a", Value::Null).await, 204);
    let (status, deleted) = root.get("secret/data/a").await;
    assert_eq!((status, &deleted["data"]["data"]), (404, &Value::Null));
    assert_eq!(deleted["data"]["metadata"]["version"], 2);
    assert_ne!(deleted["data"]["metadata"]["deletion_time"], "");
    assert_eq!(root.get("secret/data/a?version=1").await.0, 200);
    // A deleted version still counts for check-and-set.
    assert_eq!(error(&root.post("secret/data/a", with_cas("x", 0)).await), (400, CAS_MISSED));

    assert_eq!(root.status("POST", "secret/undelete/a", json!({"versions": [2]})).await, 204);
    assert_eq!(root.get("secret/data/a").await.1["data"]["data"]["value"], "two");
    assert_eq!(root.status("POST", "secret/delete/a", json!({"versions": [1]})).await, 204);
    assert_eq!(root.get("secret/data/a?version=1").await.0, 404);
    assert_eq!(root.status("PUT", "secret/destroy/a", json!({"versions": [1, 2]})).await, 204);
    assert_eq!(root.status("POST", "secret/undelete/a", json!({"versions": [1, 2]})).await, 204);
    let (status, destroyed) = root.get("secret/data/a").await;
    assert_eq!((status, &destroyed["data"]["metadata"]["destroyed"]), (404, &json!(true)));
    assert_eq!(error(&root.post("secret/destroy/a", json!({})).await), (400, "no version number provided"));
}

#[tokio::test]
async fn only_the_newest_versions_are_kept_and_the_greater_limit_counts() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let root = Caller::root(&vault);
    for count in 1..=11 {
        root.post("secret/data/ten", value(&count.to_string())).await;
    }
    assert_eq!(root.get("secret/data/ten?version=1").await, (404, json!({"errors": []})));
    assert_eq!(root.get("secret/data/ten?version=2").await.0, 200);

    root.post("secret/metadata/two", json!({"max_versions": 2})).await;
    for count in 1..=4 {
        root.post("secret/data/two", value(&count.to_string())).await;
    }
    let (_, metadata) = root.get("secret/metadata/two").await;
    let metadata = &metadata["data"];
    assert_eq!((&metadata["current_version"], &metadata["oldest_version"]), (&json!(4), &json!(3)));
    assert_eq!(metadata["versions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["3", "4"]);

    root.post("secret/config", json!({"max_versions": 3})).await;
    root.post("secret/data/two", value("5")).await;
    assert_eq!(root.get("secret/data/two?version=3").await.0, 200);
}

#[tokio::test]
async fn versions_delete_themselves_after_the_shorter_declared_time() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let root = Caller::root(&vault);
    root.post("secret/config", json!({"delete_version_after": "2h"})).await;
    root.post("secret/metadata/short", json!({"delete_version_after": "30m"})).await;
    root.post("secret/data/short", value("x")).await;
    root.post("secret/data/long", value("x")).await;
    assert_eq!(root.get("secret/metadata/short").await.1["data"]["delete_version_after"], "30m0s");
    vault.script().clock().advance(SignedDuration::from_mins(31));
    assert_eq!(root.get("secret/data/short").await.0, 404);
    assert_eq!(root.get("secret/data/long").await.0, 200);
    vault.script().clock().advance(SignedDuration::from_mins(90));
    assert_eq!(root.get("secret/data/long").await.0, 404);
}

#[tokio::test]
async fn metadata_is_listed_carries_custom_fields_and_its_removal_forgets_everything() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let root = Caller::root(&vault);
    for path in ["app/one", "app/two", "app/deep/three", "top"] {
        root.post(&format!("secret/data/{path}"), value("x")).await;
    }
    let (_, keys) = root.call("LIST", "secret/metadata/app", Value::Null).await;
    assert_eq!(keys["data"]["keys"], json!(["deep/", "one", "two"]));
    let (_, keys) = root.get("secret/metadata/?list=true").await;
    assert_eq!(keys["data"]["keys"], json!(["app/", "top"]));
    assert_eq!(root.call("LIST", "secret/metadata/none", Value::Null).await, (404, json!({"errors": []})));

    let custom = json!({"custom_metadata": {"rotation": "0193-a"}});
    assert_eq!(root.status("POST", "secret/metadata/top", custom).await, 204);
    assert_eq!(
        root.get("secret/data/top").await.1["data"]["metadata"]["custom_metadata"]["rotation"],
        "0193-a"
    );
    for wrong in
        [json!({"k": ""}), json!({"k": "v".repeat(513)}), json!({"k".repeat(129): "v"}), json!({"k": 1})]
    {
        assert_eq!(root.status("POST", "secret/metadata/top", json!({"custom_metadata": wrong})).await, 400);
    }

    assert_eq!(root.status("DELETE", "secret/metadata/top", Value::Null).await, 204);
    assert_eq!(root.get("secret/metadata/top").await, (404, json!({"errors": []})));
    // Which is why tombstones must stay: the name can be created anew.
    assert_eq!(root.status("POST", "secret/data/top", with_cas("again", 0)).await, 200);
}

#[tokio::test]
async fn an_answer_lost_after_the_write_leaves_the_next_version_readable() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let root = Caller::root(&vault);
    root.post("secret/data/a", with_cas("one", 0)).await;
    vault.script().add(Fault::next("POST /v1/secret/data/a", Effect::CutAfter));
    let lost = reqwest::Client::new()
        .post(format!("{}/v1/secret/data/a", vault.url()))
        .header("x-vault-token", vault.root_token())
        .json(&with_cas("two", 1))
        .send()
        .await;
    lost.unwrap_err();
    assert_eq!(root.get("secret/data/a?version=2").await.1["data"]["data"]["value"], "two");
    vault.rate_limit("/v1/secret/", 1, 7);
    assert_eq!(root.get("secret/data/a").await.0, 429);
    vault.behind("/v1/secret/", 1);
    assert_eq!(error(&root.get("secret/data/a").await), (412, "required index state not present"));
    assert_eq!(root.get("secret/data/a").await.0, 200);
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_say_so() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let root = Caller::root(&vault);
    assert_eq!(root.get("nowhere/data/a").await.0, 404);
    assert_eq!(root.get("secret/a").await.0, 404);
    assert_eq!(root.call("PATCH", "secret/data/a", value("x")).await.0, 405);
    assert_eq!(root.get("secret/delete/a").await.0, 405);
    assert_eq!(root.post("secret/data/a/", value("x")).await.0, 404);
    assert_eq!(root.post("secret/data/a%20b", value("x")).await.0, 200);
    assert_eq!(root.call("LIST", "secret/metadata", Value::Null).await.1["data"]["keys"], json!(["a b"]));
}
