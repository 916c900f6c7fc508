//! The signed webhook sink.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::SignedDuration;
use reqwest::Client;
use rota_fakes::http::Listen;
use rota_fakes::webhook::WebhookFake;
use sha2::Sha256;

const KEY: &[u8] = b"a webhook signing key";

fn sign(key: &[u8], timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("v1:{timestamp}:{body}").as_bytes());
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

struct Sender<'a> {
    sink: &'a WebhookFake,
    key: &'a [u8],
}

impl Sender<'_> {
    async fn deliver(&self, id: &str, timestamp: i64, body: &str) -> (u16, String) {
        self.deliver_signed(id, timestamp, body, &sign(self.key, timestamp, body)).await
    }

    async fn deliver_signed(&self, id: &str, timestamp: i64, body: &str, signature: &str) -> (u16, String) {
        let answer = Client::new()
            .post(self.sink.url())
            .header("rota-delivery", id)
            .header("rota-timestamp", timestamp)
            .header("rota-signature", signature)
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test]
async fn a_signed_delivery_is_accepted_once_and_its_repeat_is_recognised() {
    let sink = WebhookFake::start(&[KEY], Listen::default()).unwrap();
    let sender = Sender { sink: &sink, key: KEY };
    let now = sink.script().clock().now().as_second();
    assert_eq!(sender.deliver("d1", now, r#"{"event":"completed"}"#).await, (200, "accepted".to_owned()));
    assert_eq!(sender.deliver("d1", now + 1, r#"{"event":"completed"}"#).await, (200, "repeated".to_owned()));
    assert_eq!(sender.deliver("d1", now, r#"{"event":"held"}"#).await.0, 409);
    assert_eq!((sink.received().len(), sink.repeats()), (1, vec!["d1".to_owned()]));
    assert_eq!(sink.received()[0].body["event"], "completed");
    sink.wait_for(|delivery| delivery.signed_at == now, std::time::Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn what_is_not_signed_as_documented_is_refused() {
    let sink = WebhookFake::start(&[KEY], Listen::default()).unwrap();
    let sender = Sender { sink: &sink, key: KEY };
    let now = sink.script().clock().now().as_second();
    let good = sign(KEY, now, "{}");
    assert_eq!(Sender { key: b"other", ..sender }.deliver("d", now, "{}").await.0, 401);
    assert_eq!(sender.deliver_signed("d", now, "[]", &good).await, (401, "wrong signature".to_owned()));
    assert_eq!(sender.deliver_signed("d", now + 1, "{}", &good).await.0, 401);
    assert_eq!(sender.deliver_signed("d", now, "{}", good.trim_start_matches("v1=")).await.0, 400);
    assert_eq!(sender.deliver("d", now - 301, "{}").await, (401, "stale timestamp".to_owned()));
    assert_eq!(sender.deliver("d", now + 400, "{}").await.0, 401);
    assert_eq!(sender.deliver("d", now, "no json").await.0, 400);
    assert_eq!(Client::new().post(sink.url()).body("{}").send().await.unwrap().status(), 400);
    assert_eq!((sink.received().len(), sink.refused().len()), (0, 8));
}

#[tokio::test]
async fn a_receiver_that_rotates_its_key_accepts_both_and_then_the_new_one() {
    let sink = WebhookFake::start(&[KEY, b"next"], Listen::default()).unwrap();
    let (old, new) = (Sender { sink: &sink, key: KEY }, Sender { sink: &sink, key: b"next" });
    let now = sink.script().clock().now().as_second();
    assert_eq!(old.deliver("d1", now, "{}").await.0, 200);
    assert_eq!(new.deliver("d2", now, "{}").await.0, 200);
    sink.set_keys(&[b"next"]);
    assert_eq!(old.deliver("d3", now, "{}").await.0, 401);
    // A captured delivery, played back an hour later.
    sink.script().clock().advance(SignedDuration::from_hours(1));
    assert_eq!(new.deliver("d2", now, "{}").await, (401, "stale timestamp".to_owned()));
}
