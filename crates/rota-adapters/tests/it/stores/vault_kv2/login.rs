//! The ways to a token, its renewal, and logging in again.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::time::TimeSource;
use jiff::{SignedDuration, Timestamp};
use rota_adapters::aws::AwsEnvironment;
use rota_adapters::http::HttpOptions;
use rota_adapters::stores::vault_kv2::VaultKv2Store;
use rota_adapters::vault::VaultLogin;
use rota_core::fault::Fault;
use rota_engine::ports::SecretStore;
use rota_engine::test_support::SimClock;
use rota_fakes::clock::FakeClock;
use rota_fakes::http::{Effect, Fault as Scripted, Listen};
use rota_fakes::vault::{ServiceAccount, VaultFake};
use serde_json::{Value, json};

use super::{constant, environment_with, server, store, store_with, token_login};
use crate::support::{fault, value};

const RIGHTS: &str = r#"path "secret/*" { capabilities = ["create", "read", "update"] }"#;

/// A fake and the clock of the store, which move together.
struct Bench {
    fake: VaultFake,
    clock: SimClock,
}

impl Bench {
    async fn new() -> Self {
        let fake = VaultFake::start(Listen::default()).unwrap();
        fake.policy("rota", RIGHTS).await.unwrap();
        Self { fake, clock: SimClock::new(Timestamp::UNIX_EPOCH) }
    }

    fn store(&self, login: VaultLogin) -> VaultKv2Store {
        store(&self.fake.url(), login, &self.clock)
    }

    fn pass(&self, time: SignedDuration) {
        self.fake.script().clock().advance(time);
        self.fake.sts_clock().advance(time);
        self.clock.advance_by(time);
    }

    fn count(&self, call: &str) -> usize {
        self.fake.script().count(call)
    }

    async fn approle(&self, settings: Value) -> VaultLogin {
        let made = self.fake.approle("rota", settings).await.unwrap();
        VaultLogin::AppRole {
            mount: "approle".to_owned(),
            role_id: made.role_id,
            secret_id: constant(&made.secret_id),
        }
    }
}

/// Reads, which needs a good token.
async fn works(store: &VaultKv2Store) {
    assert!(store.read("x").await.unwrap().is_none());
}

fn settings(ttl: &str, max: &str) -> Value {
    json!({ "token_policies": ["rota"], "token_ttl": ttl, "token_max_ttl": max })
}

#[tokio::test]
async fn an_approle_logs_in_once_and_is_renewed_after_two_thirds_of_its_life() {
    let bench = Bench::new().await;
    let store = bench.store(bench.approle(settings("30m", "24h")).await);
    for _ in 0..3 {
        works(&store).await;
    }
    assert_eq!((bench.count("approle/login"), bench.count("renew-self")), (1, 0));
    bench.pass(SignedDuration::from_mins(19));
    works(&store).await;
    assert_eq!(bench.count("renew-self"), 0);
    bench.pass(SignedDuration::from_mins(2));
    works(&store).await;
    for renewals in 2..=6 {
        bench.pass(SignedDuration::from_mins(21));
        works(&store).await;
        assert_eq!((bench.count("approle/login"), bench.count("renew-self")), (1, renewals));
    }
}

#[tokio::test]
async fn a_token_at_its_maximum_life_or_past_it_is_followed_by_a_login() {
    let bench = Bench::new().await;
    let store = bench.store(bench.approle(settings("30m", "60m")).await);
    works(&store).await;
    for _ in 0..10 {
        bench.pass(SignedDuration::from_mins(14));
        works(&store).await;
    }
    let logins = bench.count("approle/login");
    assert!((2..=5).contains(&logins), "{logins} logins in 140 minutes with 60 each at most");
    bench.pass(SignedDuration::from_hours(100));
    works(&store).await;
    assert_eq!(bench.count("approle/login"), logins + 1);
}

#[tokio::test]
async fn a_revoked_token_is_followed_by_a_login_and_the_call_succeeds() {
    let bench = Bench::new().await;
    let store = bench.store(bench.approle(settings("30m", "24h")).await);
    works(&store).await;
    // The fake's clock moves and ours does not: the token ends without our knowing.
    bench.fake.script().clock().advance(SignedDuration::from_hours(2));
    works(&store).await;
    assert_eq!(bench.count("approle/login"), 2);
}

#[tokio::test]
async fn a_missing_right_is_not_answered_with_logins() {
    let bench = Bench::new().await;
    let login = bench.approle(json!({ "token_policies": ["default"], "token_ttl": "30m" })).await;
    let store = bench.store(login);
    for _ in 0..3 {
        let Fault::Denied { message } = fault(store.read("x").await) else { panic!("another fault") };
        assert!(message.contains("read on `secret/data/x`"), "{message}");
    }
    assert_eq!(bench.count("approle/login"), 1);
}

#[tokio::test]
async fn a_renewal_that_passes_by_itself_leaves_the_token_in_use() {
    let bench = Bench::new().await;
    let store = bench.store(bench.approle(settings("30m", "24h")).await);
    works(&store).await;
    bench.pass(SignedDuration::from_mins(21));
    bench.fake.script().add(Scripted::status("renew-self", 500));
    works(&store).await;
    assert_eq!((bench.count("approle/login"), bench.count("renew-self")), (1, 1));
    works(&store).await;
    assert_eq!((bench.count("approle/login"), bench.count("renew-self")), (1, 2));
}

#[tokio::test]
async fn calls_at_one_moment_share_one_login() {
    let bench = Bench::new().await;
    let store = Arc::new(bench.store(bench.approle(settings("30m", "24h")).await));
    let reads = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { works(&store).await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    assert_eq!(bench.count("approle/login"), 1);
    bench.fake.script().clock().advance(SignedDuration::from_hours(2));
    let reads = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { works(&store).await })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    assert_eq!(bench.count("approle/login"), 2);
}

#[tokio::test]
async fn wrong_logins_are_denied_and_say_so() {
    let bench = Bench::new().await;
    let VaultLogin::AppRole { role_id, .. } = bench.approle(settings("30m", "24h")).await else { return };
    let approle = |mount: &str, role_id: &str| VaultLogin::AppRole {
        mount: mount.to_owned(),
        role_id: role_id.to_owned(),
        secret_id: constant("hunter2"),
    };
    for login in [approle("approle", &role_id), approle("approle", "nobody"), approle("nowhere", &role_id)] {
        let failed = fault(bench.store(login).read("x").await);
        assert!(matches!(failed, Fault::Denied { .. }), "{failed}");
        assert!(!failed.to_string().contains("hunter2"));
    }
    let missing: VaultLogin = VaultLogin::Token { token: Arc::new(|| Err(Fault::denied("no file"))) };
    assert_eq!(fault(bench.store(missing).read("x").await), Fault::denied("no file"));
}

#[tokio::test]
async fn a_login_that_gets_no_answer_is_tried_again_by_the_next_call() {
    let bench = Bench::new().await;
    let store = bench.store(bench.approle(settings("30m", "24h")).await);
    for effect in [Effect::CutBefore, Effect::CutAfter] {
        bench.fake.script().add(Scripted::next("approle/login", effect));
        assert!(matches!(fault(store.read("x").await), Fault::Transient { .. }));
    }
    works(&store).await;
}

#[tokio::test]
async fn a_token_that_others_renew_is_read_anew_when_vault_does_not_know_it() {
    let bench = Bench::new().await;
    let first = bench.fake.token(json!({ "policies": ["rota"], "ttl": "1h" })).await.unwrap();
    let file = Arc::new(Mutex::new(first));
    let login = VaultLogin::Token {
        token: Arc::new({
            let file = Arc::clone(&file);
            move || Ok(value(&format!("{}\n", file.lock().unwrap())))
        }),
    };
    let store = bench.store(login);
    works(&store).await;
    bench.fake.script().clock().advance(SignedDuration::from_hours(2));
    let Fault::Denied { message } = fault(store.read("x").await) else { panic!("another fault") };
    assert!(message.contains("not valid"), "{message}");
    *file.lock().unwrap() = bench.fake.token(json!({ "policies": ["rota"], "ttl": "1h" })).await.unwrap();
    works(&store).await;
}

#[tokio::test]
async fn a_given_token_is_renewed_too_and_used_to_its_end_where_that_is_not_allowed() {
    let bench = Bench::new().await;
    let renewable = json!({ "policies": ["rota"], "ttl": "1h", "renewable": true });
    let store = bench.store(token_login(&bench.fake.token(renewable).await.unwrap()));
    works(&store).await;
    for _ in 0..5 {
        bench.pass(SignedDuration::from_mins(45));
        works(&store).await;
    }
    let fixed = json!({ "policies": ["rota"], "ttl": "1h", "renewable": false });
    let store = bench.store(token_login(&bench.fake.token(fixed).await.unwrap()));
    works(&store).await;
    bench.pass(SignedDuration::from_mins(55));
    works(&store).await;
    bench.pass(SignedDuration::from_mins(10));
    assert!(matches!(fault(store.read("x").await), Fault::Denied { .. }));
}

#[tokio::test]
async fn a_token_with_a_line_break_inside_is_refused_and_not_sent() {
    let bench = Bench::new().await;
    for bad in ["hvs.a\nhvs.b", "hvs.\u{e9}", " \n"] {
        let failed = fault(bench.store(token_login(bad)).read("x").await);
        assert!(matches!(failed, Fault::Invalid { .. }), "{failed}");
    }
    assert_eq!(bench.count("/v1/"), 0);
}

#[tokio::test]
async fn a_service_account_logs_in_with_the_token_that_its_file_holds_now() {
    let bench = Bench::new().await;
    let role = json!({
        "bound_service_account_names": ["rota"], "bound_service_account_namespaces": ["infra"],
        "audience": "vault", "token_policies": ["rota"], "token_ttl": "30m", "token_max_ttl": "30m",
    });
    bench.fake.admin("POST", "auth/kubernetes/role/rota", role).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let jwt_file = folder.path().join("token");
    let project = |name: &str| {
        let account = ServiceAccount { namespace: "infra", name, audience: "vault" };
        std::fs::write(&jwt_file, bench.fake.kubernetes_jwt(&account, SignedDuration::from_hours(1)))
            .unwrap();
    };
    let login = VaultLogin::Kubernetes {
        mount: "kubernetes".to_owned(),
        role: "rota".to_owned(),
        jwt_file: jwt_file.clone(),
    };
    let store = bench.store(login);
    assert!(matches!(fault(store.read("x").await), Fault::Denied { .. }), "there is no file");
    project("somebody-else");
    assert!(matches!(fault(store.read("x").await), Fault::Denied { .. }));
    project("rota");
    works(&store).await;
    bench.pass(SignedDuration::from_hours(2));
    assert!(matches!(fault(store.read("x").await), Fault::Denied { .. }), "the file's token has ended");
    project("rota");
    works(&store).await;
}

#[tokio::test]
async fn aws_credentials_log_in_with_a_fresh_signature_every_time() {
    let bench = Bench::new().await;
    let (id, key) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    let arn = "arn:aws:iam::123456789012:role/rota";
    bench.fake.add_aws_key(id, key, arn);
    let role = json!({
        "auth_type": "iam", "bound_iam_principal_arn": [arn], "token_policies": ["rota"],
        "token_ttl": "30m", "token_max_ttl": "30m",
    });
    bench.fake.admin("POST", "auth/aws/role/rota", role).await.unwrap();
    let config = json!({ "iam_server_id_header_value": "vault.internal" });
    bench.fake.admin("POST", "auth/aws/config/client", config).await.unwrap();

    let store = async |key: &str, server_id: Option<&str>, sts_region: Option<&str>| {
        let sdk = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                id, key, None, None, "test",
            )))
            .time_source(Moved(bench.fake.sts_clock().clone()))
            .load()
            .await;
        let login = VaultLogin::AwsIam {
            mount: "aws".to_owned(),
            role: "rota".to_owned(),
            sts_region: sts_region.map(str::to_owned),
            server_id: server_id.map(str::to_owned),
        };
        let aws = AwsEnvironment::with_config(sdk, None).unwrap();
        let server = server(&bench.fake.url(), login);
        let environment = environment_with(server, &HttpOptions::default(), aws, &bench.clock).unwrap();
        store_with(&environment, json!({ "mount": "secret" })).unwrap()
    };
    for region in [None, Some("eu-central-1")] {
        works(&store(key, Some("vault.internal"), region).await).await;
    }
    let wrong_key = store("another", Some("vault.internal"), None).await;
    assert!(matches!(fault(wrong_key.read("x").await), Fault::Denied { .. }));
    for server_id in [None, Some("another.vault")] {
        let elsewhere = store(key, server_id, None).await;
        assert!(matches!(fault(elsewhere.read("x").await), Fault::Denied { .. }));
    }

    let lasting = store(key, Some("vault.internal"), None).await;
    works(&lasting).await;
    let before = bench.count("aws/login");
    for logins in 1..=3 {
        bench.pass(SignedDuration::from_hours(1));
        works(&lasting).await;
        assert_eq!(bench.count("aws/login"), before + logins);
    }
}

/// The clock by which the SDK signs.
#[derive(Debug)]
struct Moved(FakeClock);

impl TimeSource for Moved {
    fn now(&self) -> SystemTime {
        self.0.now().into()
    }
}
