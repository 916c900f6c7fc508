//! The Secrets Manager fake against the API reference, through the real SDK.

use std::time::Duration;

use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::types::Tag;
use aws_sdk_secretsmanager::{Client, Config};
use jiff::SignedDuration;
use rota_fakes::http::{Effect, Fault, Listen};
use rota_fakes::secretsmanager::SecretsManagerFake;
use serde_json::json;

const REGION: &str = "eu-west-1";

fn fake() -> SecretsManagerFake {
    SecretsManagerFake::start(REGION, Listen::default()).unwrap()
}

fn client_with(fake: &SecretsManagerFake, key: (&str, &str), region: &'static str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .endpoint_url(fake.url())
        .credentials_provider(Credentials::new(key.0, key.1, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

fn client(fake: &SecretsManagerFake) -> Client {
    client_with(fake, ("AKIAROTA", "secret"), REGION)
}

/// A request token whose last digit is `n`.
fn token(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// The error code of a refused call.
fn code<T: std::fmt::Debug, E: ProvideErrorMetadata>(result: Result<T, E>) -> String {
    result.unwrap_err().code().unwrap_or("none").to_owned()
}

/// The labels of each version, by the last digits of its id.
fn stages(described: &DescribeSecretOutput) -> Vec<(String, Vec<String>)> {
    let mut shown: Vec<(String, Vec<String>)> = described
        .version_ids_to_stages()
        .into_iter()
        .flatten()
        .map(|(id, labels)| {
            let mut labels = labels.clone();
            labels.sort();
            (id.trim_start_matches(['0', '4', '8', '-']).to_owned(), labels)
        })
        .collect();
    shown.sort();
    shown
}

fn labelled(expected: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let owned = |labels: &[&str]| labels.iter().map(ToString::to_string).collect();
    expected.iter().map(|(id, labels)| (id.to_string(), owned(labels))).collect()
}

async fn put(client: &Client, n: u32, value: &str, labels: &[&str]) -> Result<Vec<String>, String> {
    let mut call =
        client.put_secret_value().secret_id("app").client_request_token(token(n)).secret_string(value);
    for label in labels {
        call = call.version_stages(*label);
    }
    match call.send().await {
        Ok(output) => Ok(output.version_stages().to_vec()),
        Err(error) => Err(error.code().unwrap_or("none").to_owned()),
    }
}

async fn create(client: &Client) {
    let call = client.create_secret().name("app").client_request_token(token(1)).secret_string("one");
    call.send().await.unwrap();
}

async fn described(client: &Client) -> Vec<(String, Vec<String>)> {
    stages(&client.describe_secret().secret_id("app").send().await.unwrap())
}

#[tokio::test]
async fn a_request_token_makes_a_write_happen_once_and_never_with_another_value() {
    let fake = fake();
    let client = client(&fake);
    create(&client).await;
    assert_eq!(put(&client, 2, "two", &["slot"]).await, Ok(vec!["slot".to_owned()]));
    assert_eq!(put(&client, 2, "two", &["slot"]).await, Ok(vec!["slot".to_owned()]));
    assert_eq!(put(&client, 2, "other", &["slot"]).await, Err("ResourceExistsException".to_owned()));
    assert_eq!(fake.versions("app").len(), 2);

    // The same call again restores no label that was lost meanwhile.
    let lose = client.update_secret_version_stage().secret_id("app").version_stage("slot");
    lose.remove_from_version_id(token(2)).send().await.unwrap();
    assert_eq!(put(&client, 2, "two", &["slot"]).await, Ok(vec![]));
    assert_eq!(described(&client).await, labelled(&[("1", &["AWSCURRENT"])]));

    // Once the service has pruned the version, its token makes a new one.
    assert_eq!(fake.prune("app"), 1);
    assert_eq!(put(&client, 2, "other", &["slot"]).await, Ok(vec!["slot".to_owned()]));

    let again = client.create_secret().name("app").client_request_token(token(1));
    assert_eq!(
        again.clone().secret_string("one").send().await.unwrap().version_id(),
        Some(token(1).as_str())
    );
    assert_eq!(code(again.secret_string("two").send().await), "ResourceExistsException");
}

#[tokio::test]
async fn the_previous_label_follows_when_the_current_one_moves() {
    let fake = fake();
    let client = client(&fake);
    create(&client).await;
    put(&client, 2, "two", &["AWSPENDING"]).await.unwrap();
    assert_eq!(described(&client).await, labelled(&[("1", &["AWSCURRENT"]), ("2", &["AWSPENDING"])]));
    put(&client, 3, "three", &[]).await.unwrap();
    let expected: &[(&str, &[&str])] =
        &[("1", &["AWSPREVIOUS"]), ("2", &["AWSPENDING"]), ("3", &["AWSCURRENT"])];
    assert_eq!(described(&client).await, labelled(expected));

    let promote = client.update_secret_version_stage().secret_id("app").version_stage("AWSCURRENT");
    let promote = promote.move_to_version_id(token(2));
    assert_eq!(code(promote.clone().send().await), "InvalidParameterException");
    let wrong = promote.clone().remove_from_version_id(token(1));
    assert_eq!(code(wrong.send().await), "InvalidParameterException");
    promote.remove_from_version_id(token(3)).send().await.unwrap();
    let expected: &[(&str, &[&str])] = &[("2", &["AWSCURRENT", "AWSPENDING"]), ("3", &["AWSPREVIOUS"])];
    assert_eq!(described(&client).await, labelled(expected));

    let current = client.get_secret_value().secret_id("app").send().await.unwrap();
    assert_eq!((current.secret_string(), current.version_id()), (Some("two"), Some(token(2).as_str())));
    let previous =
        client.get_secret_value().secret_id("app").version_stage("AWSPREVIOUS").send().await.unwrap();
    assert_eq!(previous.secret_string(), Some("three"));
    let both = client.get_secret_value().secret_id("app").version_id(token(3));
    assert_eq!(
        both.clone().version_stage("AWSPREVIOUS").send().await.unwrap().secret_string(),
        Some("three")
    );
    assert_eq!(code(both.version_stage("AWSCURRENT").send().await), "InvalidRequestException");
    let absent = client.get_secret_value().secret_id("app");
    assert_eq!(code(absent.clone().version_stage("none").send().await), "ResourceNotFoundException");
    assert_eq!(code(absent.version_id(token(9)).send().await), "ResourceNotFoundException");

    let remove = client.update_secret_version_stage().secret_id("app").version_stage("AWSCURRENT");
    assert_eq!(code(remove.remove_from_version_id(token(2)).send().await), "InvalidParameterException");
}

#[tokio::test]
async fn a_version_without_labels_is_hidden_deprecated_and_prunable() {
    let fake = fake();
    let client = client(&fake);
    create(&client).await;
    put(&client, 2, "two", &[]).await.unwrap();
    put(&client, 3, "three", &[]).await.unwrap();
    assert_eq!(described(&client).await, labelled(&[("2", &["AWSPREVIOUS"]), ("3", &["AWSCURRENT"])]));
    let list = client.list_secret_version_ids().secret_id("app");
    assert_eq!(list.clone().send().await.unwrap().versions().len(), 2);
    let all = list.include_deprecated(true);
    assert_eq!(all.clone().send().await.unwrap().versions().len(), 3);
    let first = all.clone().max_results(2).send().await.unwrap();
    let rest = all.max_results(2).next_token(first.next_token().unwrap()).send().await.unwrap();
    assert_eq!((first.versions().len(), rest.versions().len(), rest.next_token()), (2, 1, None));
    assert_eq!(
        client.get_secret_value().secret_id("app").version_id(token(1)).send().await.unwrap().secret_string(),
        Some("one")
    );
    assert_eq!(fake.prune("app"), 1);
    let gone = client.get_secret_value().secret_id("app").version_id(token(1));
    assert_eq!(code(gone.send().await), "ResourceNotFoundException");
}

#[tokio::test]
async fn the_first_version_becomes_current_whatever_labels_it_was_given() {
    let fake = fake();
    let client = client(&fake);
    client.create_secret().name("app").send().await.unwrap();
    assert_eq!(code(client.get_secret_value().secret_id("app").send().await), "ResourceNotFoundException");
    put(&client, 1, "one", &["slot"]).await.unwrap();
    assert_eq!(described(&client).await, labelled(&[("1", &["AWSCURRENT", "slot"])]));
    put(&client, 2, "two", &["slot"]).await.unwrap();
    assert_eq!(described(&client).await, labelled(&[("1", &["AWSCURRENT"]), ("2", &["slot"])]));
}

#[tokio::test]
async fn the_quotas_of_labels_versions_and_size_hold() {
    let fake = fake();
    let client = client(&fake);
    create(&client).await;
    let names: Vec<String> = (0..19).map(|n| format!("l{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    put(&client, 2, "two", &names).await.unwrap();
    assert_eq!(put(&client, 3, "three", &["one-more"]).await, Err("LimitExceededException".to_owned()));
    assert_eq!(fake.versions("app").len(), 2);
    assert_eq!(put(&client, 3, "three", &["l0"]).await, Ok(vec!["l0".to_owned()]));

    assert_eq!(put(&client, 4, &"x".repeat(65_537), &["l0"]).await, Err("ValidationException".to_owned()));
    put(&client, 4, &"x".repeat(65_536), &["l0"]).await.unwrap();
    for n in 5..=100 {
        put(&client, n, "x", &["l0"]).await.unwrap();
    }
    assert_eq!(put(&client, 101, "x", &["l0"]).await, Err("LimitExceededException".to_owned()));
    // Unlabelled ones make room once they are a day old.
    fake.script().clock().advance(SignedDuration::from_hours(25));
    assert_eq!(put(&client, 101, "x", &["l0"]).await, Ok(vec!["l0".to_owned()]));
    assert_eq!(fake.versions("app").len(), 4);
}

#[tokio::test]
async fn a_deleted_secret_refuses_use_can_be_restored_and_is_gone_after_its_window() {
    let fake = fake();
    let client = client(&fake);
    create(&client).await;
    let delete = client.delete_secret().secret_id("app");
    assert_eq!(code(delete.clone().recovery_window_in_days(6).send().await), "InvalidParameterException");
    delete.clone().recovery_window_in_days(7).send().await.unwrap();
    assert_eq!(code(client.get_secret_value().secret_id("app").send().await), "InvalidRequestException");
    assert_eq!(put(&client, 2, "two", &[]).await, Err("InvalidRequestException".to_owned()));
    let recreate = client.create_secret().name("app").secret_string("x");
    assert_eq!(code(recreate.send().await), "InvalidRequestException");
    assert!(client.describe_secret().secret_id("app").send().await.unwrap().deleted_date().is_some());
    client.restore_secret().secret_id("app").send().await.unwrap();
    put(&client, 2, "two", &[]).await.unwrap();
    delete.send().await.unwrap();
    fake.script().clock().advance(SignedDuration::from_hours(24 * 30));
    assert_eq!(code(client.describe_secret().secret_id("app").send().await), "ResourceNotFoundException");
}

#[tokio::test]
async fn tags_native_rotation_names_and_arns_are_seen() {
    let fake = fake();
    let client = client(&fake);
    create(&client).await;
    let tag = Tag::builder().key("team").value("acd").build();
    client.tag_resource().secret_id("app").tags(tag).send().await.unwrap();
    let seen = client.describe_secret().secret_id("app").send().await.unwrap();
    assert_eq!((seen.tags()[0].value(), seen.rotation_enabled()), (Some("acd"), None));
    fake.switch_rotation_on("app").unwrap();
    let arn = seen.arn().unwrap();
    assert!(arn.starts_with("arn:aws:secretsmanager:eu-west-1:123456789012:secret:app-"));
    let by_arn = client.describe_secret().secret_id(arn).send().await.unwrap();
    assert_eq!(by_arn.rotation_enabled(), Some(true));
    let partial = &arn[..arn.len() - 7];
    assert_eq!(client.describe_secret().secret_id(partial).send().await.unwrap().name(), Some("app"));
    assert_eq!(code(client.describe_secret().secret_id("other").send().await), "ResourceNotFoundException");
    assert_eq!(
        code(client.create_secret().name("a b").secret_string("x").send().await),
        "ValidationException"
    );
    assert_eq!(fake.value("app", "AWSCURRENT").as_deref(), Some("one"));
    fake.create("app/two", "x").unwrap();
    assert_eq!(client.list_secrets().send().await.unwrap().secret_list().len(), 2);
    assert!(fake.call("CreateSecret", json!({"Name": "app"})).is_err());
}

#[tokio::test]
async fn reads_lag_behind_writes_for_as_long_as_the_test_says() {
    let fake = fake();
    let client = client(&fake);
    create(&client).await;
    fake.lag(2);
    put(&client, 2, "two", &[]).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let read = client.get_secret_value().secret_id("app").send().await.unwrap();
        seen.push(read.secret_string().unwrap().to_owned());
    }
    assert_eq!(seen, ["one", "one", "two"]);
    // The token is not fooled by it.
    assert_eq!(put(&client, 2, "other", &[]).await, Err("ResourceExistsException".to_owned()));
    client.create_secret().name("new").secret_string("x").send().await.unwrap();
    let read = client.describe_secret().secret_id("new");
    assert_eq!(code(read.clone().send().await), "ResourceNotFoundException");
    assert_eq!(code(read.clone().send().await), "ResourceNotFoundException");
    read.send().await.unwrap();
}

#[tokio::test]
async fn throttling_denial_and_lost_answers_are_scripted() {
    let fake = fake();
    let client = client(&fake);
    create(&client).await;
    fake.throttle("PutSecretValue", 1);
    fake.deny("PutSecretValue", 1);
    assert_eq!(put(&client, 2, "two", &[]).await, Err("ThrottlingException".to_owned()));
    assert_eq!(put(&client, 2, "two", &[]).await, Err("AccessDeniedException".to_owned()));
    fake.script().add(Fault::next(".PutSecretValue", Effect::CutAfter));
    assert_eq!(put(&client, 2, "two", &[]).await, Err("none".to_owned()));
    assert_eq!(fake.value("app", "AWSCURRENT").as_deref(), Some("two"));
    assert_eq!(fake.script().count("secretsmanager.PutSecretValue"), 3);
}

#[tokio::test]
async fn a_call_must_be_signed_for_the_region_and_by_a_known_key() {
    let fake = fake();
    create(&client(&fake)).await;
    let elsewhere = client_with(&fake, ("AKIAROTA", "secret"), "us-east-1");
    assert_eq!(put(&elsewhere, 2, "two", &[]).await, Err("InvalidSignatureException".to_owned()));
    fake.add_key("AKIAROTA", "secret");
    put(&client(&fake), 2, "two", &[]).await.unwrap();
    let stranger = client_with(&fake, ("AKIAOTHER", "secret"), REGION);
    assert_eq!(put(&stranger, 3, "x", &[]).await, Err("UnrecognizedClientException".to_owned()));
    let forger = client_with(&fake, ("AKIAROTA", "another"), REGION);
    assert_eq!(put(&forger, 3, "x", &[]).await, Err("InvalidSignatureException".to_owned()));
    let unsigned = reqwest::Client::new()
        .post(fake.url())
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "secretsmanager.ListSecrets")
        .body("{}")
        .timeout(Duration::from_secs(10));
    let answer = unsigned.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("MissingAuthenticationTokenException"));
    fake.script().clock().advance(SignedDuration::from_hours(1));
    assert_eq!(put(&client(&fake), 3, "x", &[]).await, Err("RequestExpired".to_owned()));
}
