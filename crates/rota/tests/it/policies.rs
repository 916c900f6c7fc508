//! The accepted policy: consent, refusal, and a source in S3.

use std::net::SocketAddr;

use rota_fakes::moto;

use crate::world::{Login, POLICY, World, http};

fn without_provider_key() -> &'static str {
    POLICY.split("[secret.PROVIDER_KEY]").next().unwrap()
}

#[tokio::test]
async fn losing_many_secrets_waits_for_a_persons_consent_to_exactly_that_policy() {
    let world = World::new().await;
    let daemon = world.daemon();
    world.write_policy(without_provider_key());
    let refused = daemon.wait_for("/readyz", "more than a fifth");
    assert!(refused.starts_with("HTTP/1.1 200") && refused.contains("version 1 goes on"), "{refused}");

    let diff = world.ok(&["policy", "diff", "--policy", "policy.toml"]).stdout;
    assert!(diff.starts_with("- PROVIDER_KEY\n"), "{diff}");
    let accept = ["policy", "accept", "--policy", "policy.toml"];
    let plain = world.run(Login::Operator, &[&accept[..], &["--yes", "--reason", "x"]].concat());
    assert!(plain.code == 5 && plain.stderr.contains("--accept-removals"), "{}", plain.stderr);
    let asked = world.run(Login::Operator, &[&accept[..], &["--accept-removals"]].concat());
    assert_eq!(asked.code, 8, "{}", asked.stderr);
    let auditor =
        world.run(Login::Auditor, &[&accept[..], &["--accept-removals", "--yes", "--reason", "x"]].concat());
    assert!(auditor.code == 5 && auditor.stderr.contains("GRANT rota_operator"), "{}", auditor.stderr);

    // Consent to one policy is none to another.
    world.write("other.toml", &world.read("policy.toml").replace("1h", "2h"));
    world.ok(&[
        "policy",
        "accept",
        "--policy",
        "other.toml",
        "--accept-removals",
        "--yes",
        "--reason",
        "not this",
    ]);
    world.ok(&[&accept[..], &["--accept-removals", "--yes", "--reason", "the provider is gone"]].concat());
    daemon.wait_for("/status.json", "\"version\":2");
    daemon.wait_for("/readyz", "\"troubles\":{}");
    let by = world.ask("SELECT accepted_by FROM rota.accepted_policy").await.unwrap();
    let person = format!("ann ({}): the provider is gone; taken by ", world.login(Login::Operator));
    assert!(by.starts_with(&person), "{by}");
    let consents = "SELECT count(*)::text FROM rota.history WHERE kind = 'policy.consented'";
    assert_eq!(world.ask(consents).await.unwrap(), "2");
    let notices = "SELECT count(*)::text FROM rota.outbox WHERE notice ->> 'kind' = 'policy_accepted'";
    assert_eq!(world.ask(notices).await.unwrap(), "2", "both versions were announced");

    let shown = world.run(Login::Auditor, &["policy", "show", "--accepted"]).json();
    assert_eq!(shown["secrets"].as_object().unwrap().len(), 2);
    assert_eq!(world.run(Login::Auditor, &["policy", "show", "PROVIDER_KEY", "--accepted"]).code, 6);
    let again = world.ok(&[&accept[..], &["--reason", "x"]].concat());
    assert!(again.stdout.contains("already, version 2"), "{}", again.stdout);
}

#[tokio::test]
async fn an_earlier_policy_comes_back_only_by_consent() {
    let world = World::new().await;
    let daemon = world.daemon();
    let first = world.read("policy.toml");
    world.write("policy.toml", &first.replace("1h", "2h"));
    daemon.wait_for("/status.json", "\"version\":2");
    drop(daemon);
    world.write("policy.toml", &first);
    let daemon = world.daemon();
    daemon.wait_for("/readyz", "an earlier policy than the accepted version 2");
    world.ok(&["policy", "accept", "--policy", "policy.toml", "--reason", "two hours were too long"]);
    daemon.wait_for("/status.json", "\"version\":3");
    daemon.wait_for("/readyz", "\"troubles\":{}");
}

#[tokio::test]
async fn a_login_of_the_daemon_accepts_at_once_and_a_first_policy_needs_one() {
    let world = World::new().await;
    let accept = ["policy", "accept", "--policy", "policy.toml", "--reason", "before the first start"];
    let operator = world.run(Login::Operator, &accept);
    assert!(operator.code == 6 && operator.stderr.contains("rota serve"), "{}", operator.stderr);
    let ran = world.run(Login::Daemon, &[&accept[..], &["--json"]].concat());
    assert_eq!(ran.json()["version"], 1, "{}", ran.stderr);
    let by = world.ask("SELECT accepted_by FROM rota.accepted_policy").await.unwrap();
    assert_eq!(by, format!("ann ({}): before the first start", world.login(Login::Daemon)));
    assert_eq!(
        world.run(Login::Daemon, &["policy", "accept", "--policy", "policy.toml"]).code,
        0,
        "no change"
    );
}

/// The emulator checks no signature; the header says which service is meant.
fn put(address: SocketAddr, path: &str, body: &str) {
    let answer = http(
        address,
        &format!(
            "PUT {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n{body}",
            body.len()
        ),
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_policy_in_s3_is_linted_served_reloaded_and_a_bad_one_changes_nothing() {
    let world = World::new().await;
    let endpoint = moto::shared().unwrap();
    let address: SocketAddr = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    let bucket = world.database.name().replace('_', "-");
    put(address, &format!("/{bucket}"), "");
    let object = format!("/{bucket}/acd/policy.toml");
    let good = world.read("policy.toml");
    put(address, &object, &good);
    let source = format!("s3://{bucket}/acd/policy.toml");
    let aws = |command: &mut std::process::Command| {
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "hunter2");
        command.env("ROTA__AWS__ENDPOINT", endpoint).env("ROTA__AWS__REGION", "us-east-1");
    };
    let lint = |source: &str| {
        let mut command = world.command(Login::Operator, &["policy", "lint", source]);
        aws(&mut command);
        crate::support::finish(command.output().unwrap())
    };
    assert_eq!(lint(&source).code, 0, "{}{}", lint(&source).stdout, lint(&source).stderr);
    let absent = lint(&format!("s3://{bucket}/absent.toml"));
    assert!(absent.code == 3 && absent.stderr.contains("does not exist"), "{}", absent.stderr);

    let daemon = world.daemon_with(|command| {
        aws(command);
        command.env("ROTA__POLICY__SOURCE", &source);
    });
    daemon.wait_for("/status.json", "\"version\":1");
    put(address, &object, &good.replace("1h", "2h"));
    daemon.wait_for("/status.json", "\"version\":2");
    put(address, &object, &good.replace("cadence = \"90d\"", "cadence = \"sometimes\""));
    let refused = daemon.wait_for("/readyz", "version 2 goes on");
    assert!(refused.contains(&source) && refused.starts_with("HTTP/1.1 200"), "{refused}");
    put(address, &object, &good.replace("1h", "3h"));
    daemon.wait_for("/status.json", "\"version\":3");
    assert!(!daemon.log().contains("hunter2"));
}
