//! How fakes are served, and the faults that a test scripts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use jiff::SignedDuration;
use reqwest::{Client, StatusCode};
use rota_fakes::http::{Effect, Fault, Listen, Script, Seen, Serving};
use rota_fakes::tls::TestCa;
use rota_fakes::wait;
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

/// A server that counts the calls that took effect.
struct Counter {
    effects: Arc<AtomicU32>,
    script: Script,
    serving: Serving,
}

impl Counter {
    fn start(listen: Listen) -> Self {
        let effects = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&effects);
        let count = async move || (counted.fetch_add(1, Ordering::SeqCst) + 1).to_string();
        let script = Script::with_clock(listen.clock.clone());
        let router = Router::new().route("/count", post(count));
        Self { effects, serving: Serving::start(router, script.clone(), listen).unwrap(), script }
    }

    async fn call(&self) -> reqwest::Result<reqwest::Response> {
        Client::new().post(format!("{}/count", self.serving.url())).send().await
    }

    fn effects(&self) -> u32 {
        self.effects.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_cut_before_has_no_effect_and_a_cut_after_has_one() {
    let counter = Counter::start(Listen::default());
    counter.script.add(Fault::next("POST /count", Effect::CutBefore));
    counter.script.add(Fault::next("POST /count", Effect::CutAfter));
    counter.call().await.unwrap_err();
    assert_eq!(counter.effects(), 0);
    counter.call().await.unwrap_err();
    assert_eq!(counter.effects(), 1);
    assert_eq!(counter.call().await.unwrap().text().await.unwrap(), "2");
    assert_eq!(counter.script.pending(), 0);
}

#[tokio::test]
async fn a_fault_strikes_as_often_as_it_says_after_as_many_as_it_lets_through() {
    let counter = Counter::start(Listen::default());
    counter.script.add(Fault::status("/count", 503).after(1).times(2));
    counter.script.add(Fault::status("/elsewhere", 500));
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(counter.call().await.unwrap().status().as_u16());
    }
    assert_eq!(answers, [200, 503, 503, 200]);
    assert_eq!(counter.effects(), 2);
    assert_eq!(counter.script.count("POST /count"), 4);
    assert_eq!(counter.script.seen()[1], Seen { call: "POST /count".to_owned(), status: Some(503) });
    counter.script.clear();
    assert_eq!(counter.script.pending(), 0);
}

#[tokio::test]
async fn a_late_call_takes_effect_after_its_client_has_given_up() {
    let counter = Counter::start(Listen::default());
    counter.script.add(Fault::next("", Effect::Late));
    counter.script.add(Fault::next("", Effect::Hang));
    let impatient = Client::builder().timeout(Duration::from_millis(200)).build().unwrap();
    for _ in 0..2 {
        let call = impatient.post(format!("{}/count", counter.serving.url()));
        assert!(call.send().await.unwrap_err().is_timeout());
    }
    assert_eq!((counter.effects(), counter.script.held()), (0, 1));
    assert_eq!(counter.script.release_late().unwrap(), 1);
    assert_eq!((counter.effects(), counter.script.held()), (1, 0));
}

#[tokio::test]
async fn the_controls_do_from_outside_what_the_handle_does() {
    let counter = Counter::start(Listen::default());
    let client = Client::new();
    let control = |path: &str| format!("{}/_fake/{path}", counter.serving.url());
    let answer = json!({"answer": {"status": 418, "headers": [["x-kind", "teapot"]], "body": "short"}});
    for fault in [json!({"on": "/count", "effect": answer}), json!({"effect": "late"})] {
        let added = client.post(control("faults")).json(&fault).send().await.unwrap();
        assert_eq!(added.status(), StatusCode::NO_CONTENT);
    }
    let teapot = counter.call().await.unwrap();
    assert_eq!((teapot.status().as_u16(), teapot.headers()["x-kind"].as_bytes()), (418, &b"teapot"[..]));

    let patient = tokio::spawn(client.post(format!("{}/count", counter.serving.url())).send());
    let held = async || Ok((counter.script.held() == 1).then_some(()));
    wait::until(SOON, "the held call", held).await.unwrap();
    client.post(control("late")).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(counter.effects(), 1);
    patient.abort();

    client.post(control("clock")).json(&json!({"seconds": 86_400})).send().await.unwrap();
    let date = counter.call().await.unwrap().headers()["date"].to_str().unwrap().to_owned();
    let date = jiff::fmt::rfc2822::parse(&date).unwrap().timestamp();
    let ahead = date.duration_since(counter.script.clock().now());
    assert!(ahead.abs() < SignedDuration::from_secs(10), "the date header shows the fake's clock");

    let seen: Vec<Seen> = client.get(control("seen")).send().await.unwrap().json().await.unwrap();
    assert_eq!(seen, counter.script.seen());
    client.post(control("faults")).json(&json!({"effect": "hang"})).send().await.unwrap();
    client.delete(control("faults")).send().await.unwrap();
    assert_eq!(counter.script.pending(), 0);
}

#[tokio::test]
async fn tls_is_served_with_a_certificate_of_the_private_authority() {
    let ca = TestCa::new().unwrap();
    let tls = ca.issue(&["localhost"]).unwrap().server_config().unwrap();
    let counter = Counter::start(Listen { tls: Some(tls), ..Listen::default() });
    counter.call().await.unwrap_err();

    let authority = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([authority]).build().unwrap();
    let answer = client.post(format!("{}/count", counter.serving.url())).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "1");
}

#[tokio::test]
async fn a_dropped_fake_closes_its_port() {
    let counter = Counter::start(Listen::default());
    let address = counter.serving.address();
    counter.call().await.unwrap();
    drop(counter);
    assert!(std::net::TcpStream::connect(address).is_err());
}
