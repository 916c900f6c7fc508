//! The proxy that keeps what goes through it.

use reqwest::Client;
use rota_fakes::http::Listen;
use rota_fakes::recorder::Recorder;
use rota_fakes::vault::VaultFake;
use serde_json::Value;

#[tokio::test]
async fn what_goes_through_a_recorder_is_unchanged_and_kept() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let recorder = Recorder::start(&vault.url()).unwrap();
    let place = format!("{}/v1/secret/data/a?version=1", recorder.url());
    let body = r#"{"data":{"key":"value"}}"#;
    let write = Client::new().post(&place).header("x-vault-token", vault.root_token()).body(body);
    assert_eq!(write.send().await.unwrap().status(), 200);
    let stored = vault.admin("GET", "secret/data/a", Value::Null).await.unwrap();
    assert_eq!(stored["data"]["data"]["key"], "value");
    let refused = Client::new().get(&place).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let told = refused.text().await.unwrap();

    let calls = recorder.calls();
    let kept: Vec<(&str, &str)> =
        calls.iter().map(|call| (call.call.as_str(), call.request.as_str())).collect();
    let path = "/v1/secret/data/a?version=1";
    assert_eq!(kept, [(format!("POST {path}").as_str(), body), (&format!("GET {path}"), "")]);
    assert!(calls[0].answer.contains("created_time") && calls[1].answer == told, "{told}");
}

#[tokio::test]
async fn what_was_sent_to_a_server_that_is_gone_is_kept() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    let recorder = Recorder::start(&vault.url()).unwrap();
    drop(vault);
    let answer = Client::new().post(recorder.url()).body("a value").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(recorder.calls()[0].request, "a value");
}
