//! The fleet, and that it catches what a careless rotation does.

use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use reqwest::Client;
use rota_fakes::consumer::{Fleet, KeyReader, keys_of_list, keys_of_pair};
use rota_fakes::http::{Fault, Listen};
use serde_json::{Value, json};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What instances find when they start.
#[derive(Clone, Default)]
struct Published(Arc<Mutex<Vec<String>>>);

impl Published {
    fn of(keys: &[&str]) -> Self {
        let published = Self::default();
        published.set(keys);
        published
    }

    fn set(&self, keys: &[&str]) {
        *self.0.lock().unwrap() = keys.iter().map(ToString::to_string).collect();
    }

    fn reader(&self) -> KeyReader {
        let published = self.clone();
        Arc::new(move || {
            let keys = published.0.lock().unwrap().clone();
            anyhow::ensure!(!keys.is_empty(), "nothing is published");
            Ok(keys)
        })
    }
}

fn roll_out(fleet: &Fleet) {
    fleet
        .restart_one_by_one(|fleet| {
            fleet.drive();
        })
        .unwrap();
}

/// Drives every six hours.
fn days_pass(fleet: &Fleet, days: i32) {
    for _ in 0..days * 4 {
        fleet.script().clock().advance(DAY / 4);
        fleet.drive();
    }
}

#[test]
fn a_rotation_that_introduces_promotes_waits_and_withdraws_fails_nobody() {
    let published = Published::of(&["old"]);
    let fleet = Fleet::start(3, DAY * 7, published.reader(), Listen::default()).unwrap();
    days_pass(&fleet, 8);
    assert!(fleet.oldest_token().unwrap() > DAY * 6);
    for keys in [&["old", "new"], &["new", "old"]] {
        published.set(keys);
        roll_out(&fleet);
    }
    days_pass(&fleet, 7);
    published.set(&["new"]);
    roll_out(&fleet);
    days_pass(&fleet, 1);
    assert_eq!(fleet.failures(), []);
    assert_eq!(fleet.gap(), None);
    assert!(fleet.verifications() > 500);
    assert_eq!(fleet.len(), 3);
}

#[test]
fn promoting_without_introducing_fails_at_instances_that_have_not_restarted() {
    let published = Published::of(&["old"]);
    let fleet = Fleet::start(3, DAY, published.reader(), Listen::default()).unwrap();
    published.set(&["new", "old"]);
    roll_out(&fleet);
    let failures = fleet.failures();
    assert!(!failures.is_empty());
    let started_before = |id: &str| ["instance-1", "instance-2", "instance-3"].contains(&id);
    assert!(failures.iter().all(|it| started_before(&it.verified_by) && !started_before(&it.minted_by)));
}

#[test]
fn withdrawing_before_the_last_old_token_has_expired_fails_the_old_ones() {
    let published = Published::of(&["old"]);
    let fleet = Fleet::start(2, DAY * 7, published.reader(), Listen::default()).unwrap();
    fleet.drive();
    for keys in [&["old", "new"], &["new", "old"]] {
        published.set(keys);
        roll_out(&fleet);
    }
    days_pass(&fleet, 6);
    assert_eq!(fleet.failures(), []);
    published.set(&["new"]);
    roll_out(&fleet);
    assert!(fleet.failures().iter().any(|failure| failure.age >= DAY * 6));
    days_pass(&fleet, 3);
    let gap = fleet.gap().unwrap();
    assert!(
        gap > SignedDuration::ZERO && gap < DAY,
        "the failures end when the last old token expires: {gap}"
    );
}

#[test]
fn instances_read_only_at_their_start_and_a_fleet_can_follow_another() {
    let published = Published::of(&["old"]);
    let fleet = Fleet::start(1, DAY, published.reader(), Listen::default()).unwrap();
    published.set(&["new"]);
    let round = fleet.drive();
    assert_eq!((round.minted, round.failed), (1, 0));
    fleet.add().unwrap();
    assert!(fleet.drive().failed > 0);
    published.set(&[]);
    assert!(fleet.add().is_err());
    assert!(fleet.restart_one_by_one(|_| {}).is_err());
    assert_eq!(fleet.len(), 2);

    let task = |id: &str, key: &str| (id.to_owned(), vec![key.to_owned()]);
    fleet.follow([task("a", "one"), task("b", "one")]);
    // A running task keeps what it read, whatever the caller says now.
    fleet.follow([task("a", "two"), task("c", "one")]);
    let before = fleet.failures().len();
    fleet.script().clock().advance(DAY);
    assert_eq!(fleet.drive().failed, 0);
    assert_eq!(fleet.failures().len(), before);
    fleet.follow([]);
    assert!(fleet.is_empty());
}

#[tokio::test]
async fn the_address_serves_checks_and_every_instance_in_turn() {
    let published = Published::of(&["old"]);
    let fleet = Fleet::start(2, DAY, published.reader(), Listen::default()).unwrap();
    let client = Client::new();
    let rate = async || {
        let answer = client.get(format!("{}/metrics/auth", fleet.url())).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["token_verification_success_rate"].clone()
    };
    assert_eq!(rate().await, Value::Null, "no data is not a good rate");
    let mint = async || {
        let answer = client.post(format!("{}/mint", fleet.url())).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["token"].clone()
    };
    let verify = async |token: &Value| {
        let call = client.post(format!("{}/verify", fleet.url())).json(&json!({"token": token}));
        call.send().await.unwrap().status().as_u16()
    };
    let token = mint().await;
    assert_eq!((verify(&token).await, verify(&token).await), (200, 200));
    assert_eq!(rate().await, json!(1.0));
    published.set(&["new"]);
    roll_out(&fleet);
    assert_eq!(verify(&token).await, 401);
    assert!(rate().await.as_f64().unwrap() < 1.0);
    let fresh = mint().await;
    assert_eq!(verify(&fresh).await, 200);
    fleet.script().clock().advance(DAY);
    assert_eq!(verify(&fresh).await, 401);

    let health = format!("{}/health", fleet.url());
    assert_eq!(client.get(&health).send().await.unwrap().status(), 200);
    fleet.script().add(Fault::status("GET /health", 500));
    assert_eq!(client.get(&health).send().await.unwrap().status(), 500);
    fleet.follow([]);
    assert_eq!(client.get(&health).send().await.unwrap().status(), 503);
}

#[test]
fn keys_are_read_in_the_order_of_the_code_that_signs_with_the_first() {
    let key = |text: &str| Some(text.to_owned());
    assert_eq!(keys_of_pair(key("new"), key("old")), ["new", "old"]);
    assert_eq!(keys_of_pair(None, key("old")), ["old"]);
    assert_eq!(keys_of_pair(key(""), key("old")), ["old"]);
    assert_eq!(keys_of_list(r#"["new", "old"]"#).unwrap(), ["new", "old"]);
    assert!(keys_of_list("new,old").is_err());
}
