//! The starters of real servers other than Postgres.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::Client;
use rota_fakes::moto::{self, MotoServer};
use rota_fakes::prometheus::{MetricsPage, PrometheusServer};
use rota_fakes::redis::RedisServer;
use rota_fakes::wait;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// A connection that speaks Redis's inline commands; only one-line answers.
struct Redis(BufReader<TcpStream>);

impl Redis {
    fn connect(server: &RedisServer) -> Self {
        Self(BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).unwrap()))
    }

    fn say(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

#[test]
fn redis_refuses_wrong_passwords_and_forgets_users_that_were_not_saved() {
    let mut server = RedisServer::start().unwrap();
    let mut admin = Redis::connect(&server);
    assert!(admin.say("AUTH wrong").starts_with("-WRONGPASS"));
    assert_eq!(admin.say(&format!("AUTH {}", server.password())), "+OK");
    assert_eq!(admin.say("ACL SETUSER kept on >one +ping"), "+OK");
    assert_eq!(admin.say("ACL SAVE"), "+OK");
    assert_eq!(admin.say("ACL SETUSER lost on >two +ping"), "+OK");
    assert!(server.saved_users().unwrap().contains("user kept on"));

    server.restart().unwrap();
    let mut client = Redis::connect(&server);
    assert!(client.say("AUTH lost two").starts_with("-WRONGPASS"));
    assert_eq!(client.say("AUTH kept one"), "+OK");
    assert!(server.start_again().is_err(), "a running server is not started twice");
}

#[test]
fn a_redis_replica_follows_its_primary_but_has_users_of_its_own() {
    let primary = RedisServer::start().unwrap();
    let replica = RedisServer::replica_of(&primary).unwrap();
    let (mut first, mut second) = (Redis::connect(&primary), Redis::connect(&replica));
    for (connection, server) in [(&mut first, &primary), (&mut second, &replica)] {
        assert_eq!(connection.say(&format!("AUTH {}", server.password())), "+OK");
    }
    assert_eq!(first.say("ACL SETUSER app on >one +ping"), "+OK");
    wait::blocking(SOON, "replication", || Ok((first.say("WAIT 1 100") == ":1").then_some(()))).unwrap();
    assert!(Redis::connect(&replica).say("AUTH app one").starts_with("-WRONGPASS"));
}

#[tokio::test]
async fn prometheus_scrapes_the_page_that_a_test_sets() {
    let page = MetricsPage::start().unwrap();
    page.set("checks_ok 0.995\n");
    let server = PrometheusServer::start(&[page.target()]).unwrap();
    let url = format!("{}/api/v1/query?query=checks_ok", server.url());
    let sample = wait::until(SOON, "the first sample", async || {
        let answer: Value = Client::new().get(&url).send().await?.json().await?;
        Ok(answer["data"]["result"][0]["value"][1].as_str().map(ToOwned::to_owned))
    });
    assert_eq!(sample.await.unwrap(), "0.995");
}

#[tokio::test]
async fn the_aws_emulator_checks_signatures_once_it_is_told_to() {
    let server = MotoServer::start(&[]).unwrap();
    let list = async || {
        let header = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/secretsmanager/\
                      aws4_request, SignedHeaders=host, Signature=0";
        let request = Client::new()
            .post(server.url())
            .header("authorization", header)
            .header("x-amz-target", "secretsmanager.ListSecrets")
            .header("content-type", "application/x-amz-json-1.1")
            .body("{}");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(list().await, 200);
    let key = server.require_auth().await.unwrap();
    assert!(key.id.starts_with("AKIA") && key.secret.len() == 40);
    assert_eq!(list().await, 403);
}

#[tokio::test]
async fn the_shared_aws_emulator_is_the_same_for_every_caller() {
    let url = moto::shared().unwrap();
    assert_eq!(url, moto::shared().unwrap());
    let page = Client::new().get(format!("{url}/moto-api/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
}
