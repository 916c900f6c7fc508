//! The Slack sink against Slack's documented answers and limits.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Client;
use rota_fakes::http::{Fault, Listen};
use rota_fakes::slack::{SlackFake, Standing};
use serde_json::{Value, json};

async fn post(url: &str, payload: &Value) -> (u16, String) {
    let answer = Client::new().post(url).json(payload).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn with_blocks(blocks: Value) -> Value {
    json!({"text": "something happened", "blocks": blocks})
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
}

#[tokio::test]
async fn a_good_message_is_answered_with_plain_ok_and_kept() {
    let slack = SlackFake::start(Listen::default()).unwrap();
    let payload = with_blocks(json!([
        {"type": "header", "text": {"type": "plain_text", "text": "JWT_SECRET rotated"}},
        section("<!subteam^S012AB3CD> <@U012AB3CD> a &lt;b&gt; &amp; <https://example.com/a?b=c|the page>"),
        {"type": "section", "fields": [{"type": "mrkdwn", "text": "*Impact*\nnone"}]},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "`rota status`"}]},
        {"type": "actions", "elements": [
            {"type": "button", "text": {"type": "plain_text", "text": "Open"}, "url": "https://example.com"}]},
        {"type": "divider"},
    ]));
    assert_eq!(post(&slack.url(), &payload).await, (200, "ok".to_owned()));
    assert!(slack.refused().is_empty(), "{:?}", slack.refused());
    let message = &slack.received()[0];
    assert_eq!((message.webhook.as_str(), message.text.as_str()), ("first", "something happened"));
    assert!(message.whole().contains("JWT_SECRET rotated"));
}

#[tokio::test]
async fn what_slack_would_refuse_cut_or_show_wrongly_is_refused() {
    let slack = SlackFake::start(Listen::default()).unwrap();
    let many = |count: usize| Value::from(vec![json!({"type": "divider"}); count]);
    let header = |text: &str| json!([{"type": "header", "text": {"type": "plain_text", "text": text}}]);
    let fields = |count: usize, length: usize| {
        let field = json!({"type": "mrkdwn", "text": "x".repeat(length)});
        json!([{"type": "section", "fields": vec![field; count]}])
    };
    let button = |url: &str| {
        let text = json!({"type": "plain_text", "text": "Open"});
        json!([{"type": "actions", "elements": [{"type": "button", "text": text, "url": url}]}])
    };
    let cases = [
        (json!({"blocks": [section("x")]}), "no_text"),
        (json!({"text": "  "}), "no_text"),
        (json!({"text": "a & b"}), "invalid_payload"),
        (json!({"text": "a <b> c"}), "invalid_payload"),
        (json!({"text": "<@nobody>"}), "invalid_payload"),
        (json!({"text": "a > b"}), "invalid_payload"),
        (json!({"text": "x", "channel": "#general"}), "invalid_payload"),
        (json!({"text": "x".repeat(40_001)}), "invalid_payload"),
        (json!("text"), "invalid_payload"),
        (with_blocks(json!({})), "invalid_blocks_format"),
        (with_blocks(many(0)), "invalid_blocks"),
        (with_blocks(many(51)), "invalid_blocks"),
        (with_blocks(header("")), "invalid_blocks"),
        (with_blocks(header(&"x".repeat(151))), "invalid_blocks"),
        (with_blocks(json!([section(&"x".repeat(3_001))])), "invalid_blocks"),
        (with_blocks(json!([section("a < b")])), "invalid_payload"),
        (with_blocks(fields(11, 1)), "invalid_blocks"),
        (with_blocks(fields(1, 2_001)), "invalid_blocks"),
        (with_blocks(json!([{"type": "section"}])), "invalid_blocks"),
        (with_blocks(json!([{"type": "divider", "color": "red"}])), "invalid_blocks"),
        (with_blocks(json!([{"type": "video"}])), "invalid_blocks"),
        (with_blocks(button("http://example.com")), "invalid_blocks"),
        (
            with_blocks(json!([{"type": "divider", "block_id": "a"}, {"type": "divider", "block_id": "a"}])),
            "invalid_blocks",
        ),
        (with_blocks(json!(vec![section(&"x".repeat(2_900)); 5])), "msg_blocks_too_long"),
    ];
    let expected = cases.len();
    for (payload, word) in cases {
        assert_eq!(post(&slack.url(), &payload).await, (400, word.to_owned()), "{payload}");
    }
    assert_eq!((slack.received().len(), slack.refused().len()), (0, expected));

    let form = Client::new().post(slack.url()).body("payload={}").send().await.unwrap();
    assert_eq!(form.status(), 400);
}

#[tokio::test]
async fn what_is_exactly_at_a_limit_is_accepted() {
    let slack = SlackFake::start(Listen::default()).unwrap();
    let longest = with_blocks(json!([section(&"é".repeat(3_000))]));
    assert_eq!(post(&slack.url(), &longest).await.0, 200);
    let most = with_blocks(Value::from(vec![json!({"type": "divider"}); 50]));
    assert_eq!(post(&slack.url(), &most).await.0, 200);
}

#[tokio::test]
async fn a_dead_webhook_answers_with_slacks_own_words_while_the_fallback_lives() {
    let slack = SlackFake::start(Listen::default()).unwrap();
    let fallback = slack.add_webhook("fallback");
    let hello = json!({"text": "hello"});
    for (standing, answer) in [
        (Standing::InvalidToken, (403, "invalid_token")),
        (Standing::NoService, (404, "no_service")),
        (Standing::ChannelIsArchived, (410, "channel_is_archived")),
        (Standing::Active, (200, "ok")),
    ] {
        slack.set_standing("first", standing);
        assert_eq!(post(&slack.url(), &hello).await, (answer.0, answer.1.to_owned()));
        assert_eq!(post(&fallback, &hello).await.0, 200);
    }
    let unknown = slack.url().replace("B00000000", "B99999999");
    assert_eq!(post(&unknown, &hello).await, (404, "no_service".to_owned()));
    assert_eq!(slack.received().iter().filter(|message| message.webhook == "first").count(), 1);
}

#[tokio::test]
async fn rate_limits_and_errors_are_scripted_and_a_test_waits_for_the_message() {
    let slack = SlackFake::start(Listen::default()).unwrap();
    slack.rate_limit(1, 30);
    slack.script().add(Fault::status("POST /services/", 500));
    let limited = Client::new().post(slack.url()).json(&json!({"text": "x"})).send().await.unwrap();
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].as_bytes()), (429, &b"30"[..]));
    assert_eq!(post(&slack.url(), &json!({"text": "x"})).await.0, 500);

    let url = slack.url();
    let sender = tokio::spawn(async move { post(&url, &json!({"text": "at last"})).await });
    let message = slack.wait_for(|message| message.text == "at last", Duration::from_secs(10)).await.unwrap();
    assert_eq!(message.payload, json!({"text": "at last"}));
    sender.await.unwrap();
    let never = slack.wait_for(|_| false, Duration::from_millis(50)).await.unwrap_err();
    assert!(never.to_string().starts_with("1 came"), "{never}");
}

#[tokio::test]
async fn the_sink_runs_as_a_process_that_says_where_it_listens_and_ends_with_its_input() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_rota-fakes"))
        .args(["slack", "--listen", "127.0.0.1:0", "--until-eof"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = lines.next().unwrap().unwrap();
    let url = lines.next().unwrap().unwrap();
    assert_eq!(post(&url, &json!({"text": "hello"})).await.0, 200);
    let received = Client::new().get(format!("http://{address}/_fake/received")).send().await.unwrap();
    assert_eq!(received.json::<Value>().await.unwrap()[0]["text"], "hello");
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}
