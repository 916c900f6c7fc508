//! Statuses, refusals, and what the look ahead finds.

use jiff::Timestamp;
use rota_adapters::aws::AwsEnvironment;
use rota_adapters::http::{HttpOptions, Trust};
use rota_adapters::stores::vault_kv2::VaultKv2Store;
use rota_adapters::vault::VaultServer;
use rota_core::fault::Fault;
use rota_engine::ports::SecretStore;
use rota_engine::test_support::SimClock;
use rota_fakes::http::{Effect, Fault as Scripted, Listen};
use rota_fakes::tls::TestCa;
use rota_fakes::vault::VaultFake;
use serde_json::{Value, json};

use super::{environment_with, fresh_path, server, slot, store, store_with, token_login};
use crate::support::{environment, fault, token, value};

fn clock() -> SimClock {
    SimClock::new(Timestamp::UNIX_EPOCH)
}

fn fake() -> VaultFake {
    VaultFake::start(Listen::default()).unwrap()
}

/// With every right.
fn root(fake: &VaultFake) -> VaultKv2Store {
    store(&fake.url(), token_login(fake.root_token()), &clock())
}

/// With these rights only.
async fn limited(fake: &VaultFake, policy: &str) -> VaultKv2Store {
    fake.policy("limited", policy).await.unwrap();
    let token = fake.token(json!({ "policies": ["limited"] })).await.unwrap();
    store(&fake.url(), token_login(&token), &clock())
}

fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Transient { .. } => "transient",
        Fault::RateLimited { .. } => "rate limited",
        Fault::Denied { .. } => "denied",
        Fault::Conflict { .. } => "conflict",
        Fault::Invalid { .. } => "invalid",
    }
}

#[tokio::test]
async fn each_documented_status_becomes_the_fault_that_says_what_to_do_next() {
    let fake = fake();
    let vault = root(&fake);
    let path = fresh_path();
    let base = vault.write(&path, &value("1"), None, &token()).await.unwrap();
    let statuses = [
        (400, "invalid"),
        (403, "denied"),
        (405, "invalid"),
        (412, "transient"),
        (413, "invalid"),
        (429, "rate limited"),
        (500, "transient"),
        (502, "transient"),
        (503, "transient"),
        (307, "invalid"),
        (418, "invalid"),
    ];
    for (status, wanted) in statuses {
        for call in ["GET /v1/secret/data/", "POST /v1/secret/data/", "POST /v1/secret/destroy/"] {
            let body = json!({ "errors": ["hunter2"] }).to_string();
            let headers = vec![("location".to_owned(), "http://127.0.0.1:1/".to_owned())];
            fake.script().add(Scripted::next(call, Effect::Answer { status, headers, body }));
            let failed = match call {
                "GET /v1/secret/data/" => fault(vault.read(&path).await),
                "POST /v1/secret/data/" => {
                    fault(vault.write(&path, &value("2"), Some(&base), &token()).await)
                }
                _ => {
                    let slot = slot(&path);
                    vault.stage(&slot, &value("candidate")).await.unwrap();
                    fault(vault.purge(&slot).await)
                }
            };
            assert_eq!(kind(&failed), wanted, "{call} {status}: {failed}");
            assert!(!failed.to_string().contains("hunter2"), "{failed}");
            assert_eq!(fake.script().pending(), 0, "{call} was not made");
        }
    }
}

#[tokio::test]
async fn a_rate_limit_and_a_standby_that_is_behind_pass_by_themselves() {
    let fake = fake();
    fake.rate_limit("/v1/secret/data/", 1, 1);
    assert!(matches!(fault(root(&fake).read(&fresh_path()).await), Fault::RateLimited { .. }));
    fake.behind("/v1/secret/data/", 1);
    assert!(matches!(fault(root(&fake).read(&fresh_path()).await), Fault::Transient { .. }));
}

#[tokio::test]
async fn a_sealed_vault_is_told_and_works_again_once_it_is_unsealed() {
    let fake = fake();
    let (vault, path) = (root(&fake), fresh_path());
    fake.seal();
    let Fault::Transient { message } = fault(vault.read(&path).await) else { panic!("another fault") };
    assert!(message.contains("sealed"), "{message}");
    fake.unseal();
    assert!(vault.read(&path).await.unwrap().is_none());
}

#[tokio::test]
async fn a_wrong_address_is_never_taken_for_an_empty_vault() {
    let nobody = store("http://127.0.0.1:1", token_login("hvs.x"), &clock());
    assert!(matches!(fault(nobody.read("x").await), Fault::Transient { .. }));

    let web = fake();
    for status in [200, 404] {
        for body in ["", "<html></html>", "{}"] {
            let answer = Effect::Answer { status, headers: Vec::new(), body: body.to_owned() };
            web.script().add(Scripted::next("/v1/secret/data/", answer));
            let failed = fault(root(&web).read("x").await);
            assert!(matches!(failed, Fault::Invalid { .. }), "{status} {body}: {failed}");
        }
    }
}

#[test]
fn an_address_that_would_send_the_token_in_the_clear_is_refused() {
    let aws = || AwsEnvironment::new(None).unwrap();
    let with = |address: &str| {
        environment_with(server(address, token_login("x")), &HttpOptions::default(), aws(), &clock())
            .map(|_| ())
    };
    for good in ["https://vault.internal:8200", "https://10.0.0.7:8200/", "http://127.0.0.1:8200"] {
        with(good).unwrap();
    }
    for bad in [
        "http://vault.internal:8200",
        "http://10.0.0.7:8200",
        "https://169.254.169.254",
        "https://u:p@vault.internal",
        "https://vault.internal/?x",
        "vault.internal",
    ] {
        assert!(matches!(fault(with(bad)), Fault::Invalid { .. }), "{bad}");
    }
    let no_namespace =
        VaultServer { namespace: Some("a b".to_owned()), ..server("https://v", token_login("x")) };
    let refused = environment_with(no_namespace, &HttpOptions::default(), aws(), &clock()).map(|_| ());
    assert!(matches!(fault(refused), Fault::Invalid { .. }));
}

#[tokio::test]
async fn a_private_authority_is_trusted_and_no_other() {
    let (ours, other) = (TestCa::new().unwrap(), TestCa::new().unwrap());
    let tls = ours.issue(&["localhost"]).unwrap().server_config().unwrap();
    let fake = VaultFake::start(Listen { tls: Some(tls), ..Listen::default() }).unwrap();
    let trusting = |authority: Option<&str>| {
        let login = token_login(fake.root_token());
        let authority = authority.map(|pem| pem.as_bytes().to_vec());
        let server = VaultServer { authority, ..server(&fake.url(), login) };
        let aws = AwsEnvironment::new(None).unwrap();
        let http = HttpOptions { trust: Trust::System, ..HttpOptions::default() };
        store_with(&environment_with(server, &http, aws, &clock()).unwrap(), json!({ "mount": "secret" }))
            .unwrap()
    };
    assert!(trusting(Some(ours.pem())).read("x").await.unwrap().is_none());
    for authority in [None, Some(other.pem())] {
        let Fault::Transient { message } = fault(trusting(authority).read("x").await) else {
            panic!("a stranger's certificate was taken")
        };
        assert!(message.contains("not trusted"), "{message}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_though_its_authority_is_trusted() {
    let ours = TestCa::new().unwrap();
    let tls = ours.issue(&["vault.elsewhere.internal"]).unwrap().server_config().unwrap();
    let fake = VaultFake::start(Listen { tls: Some(tls), ..Listen::default() }).unwrap();
    let authority = Some(ours.pem().as_bytes().to_vec());
    let server = VaultServer { authority, ..server(&fake.url(), token_login(fake.root_token())) };
    let aws = AwsEnvironment::new(None).unwrap();
    let environment = environment_with(server, &HttpOptions::default(), aws, &clock()).unwrap();
    let store = store_with(&environment, json!({ "mount": "secret" })).unwrap();
    assert!(matches!(fault(store.read("x").await), Fault::Transient { .. }));
    assert!(fake.script().seen().is_empty(), "no token was sent");
}

#[tokio::test]
async fn a_namespace_is_a_vault_of_its_own() {
    let fake = fake();
    let root = fake.add_namespace("team");
    let at = |namespace: Option<&str>| {
        let namespace = namespace.map(str::to_owned);
        let server = VaultServer { namespace, ..server(&fake.url(), token_login(&root)) };
        let aws = AwsEnvironment::new(None).unwrap();
        let environment = environment_with(server, &HttpOptions::default(), aws, &clock()).unwrap();
        store_with(&environment, json!({ "mount": "secret" })).unwrap()
    };
    at(Some("team")).write("x", &value("1"), None, &token()).await.unwrap();
    let found = fake.admin_in("team", "GET", "secret/data/x", json!({})).await.unwrap();
    assert_eq!(found["data"]["data"]["value"], "1");
    assert!(matches!(fault(at(None).read("x").await), Fault::Denied { .. }));
    let Fault::Invalid { message } = fault(at(Some("nobody")).read("x").await) else {
        panic!("another fault")
    };
    assert!(message.contains("namespace"), "{message}");
}

#[tokio::test]
async fn looking_ahead_names_the_right_that_is_missing() {
    let rules = [
        (
            r#"path "secret/data/acd/*" { capabilities = ["create", "read", "update"] }"#,
            "`create` on `secret/data/acd/JWT",
        ),
        (
            r#"path "secret/data/rota-slots/*" { capabilities = ["create", "read"] }"#,
            "`create` on `secret/data/rota-slots/",
        ),
        (
            r#"path "secret/destroy/rota-slots/*" { capabilities = ["update"] }"#,
            "`update` on `secret/destroy/rota-slots/",
        ),
        (r#"path "secret/config" { capabilities = ["read"] }"#, "read on `secret/config`"),
        (r#"path "secret/metadata/acd/*" { capabilities = ["read"] }"#, "read on `secret/metadata/acd/JWT"),
    ];
    let all: Vec<&str> = rules.iter().map(|(rule, _)| *rule).collect();
    let fake = fake();
    limited(&fake, &all.join("\n")).await.preflight("acd/JWT").await.unwrap();
    for (index, (_, missing)) in rules.iter().enumerate() {
        let mut others = all.clone();
        others.remove(index);
        let vault = limited(&fake, &others.join("\n")).await;
        let Fault::Denied { message } = fault(vault.preflight("acd/JWT").await) else { panic!("{missing}") };
        assert!(message.contains(missing), "{missing} in {message}");
    }
}

/// Looks ahead after the mount or the path was set up like this.
async fn preflight_after(path: &str, settings: Value) -> Result<(), Fault> {
    let fake = fake();
    fake.admin("POST", path, settings).await.unwrap();
    root(&fake).preflight("acd/JWT").await
}

#[tokio::test]
async fn a_mount_that_would_lose_versions_is_refused() {
    for at in ["secret/config", "secret/metadata/acd/JWT"] {
        let one = preflight_after(at, json!({ "max_versions": 1 })).await;
        assert!(matches!(fault(one), Fault::Invalid { .. }), "{at}");
        let Fault::Invalid { message } =
            fault(preflight_after(at, json!({ "delete_version_after": "720h" })).await)
        else {
            panic!("{at}")
        };
        assert!(message.contains("delete_version_after"), "{message}");
        for fine in
            [json!({ "max_versions": 2 }), json!({ "cas_required": true }), json!({ "max_versions": 0 })]
        {
            preflight_after(at, fine).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_mount_that_does_not_exist_or_is_no_kv_version_2_is_refused() {
    let fake = fake();
    let aws = AwsEnvironment::new(None).unwrap();
    let login = token_login(fake.root_token());
    let environment =
        environment_with(server(&fake.url(), login), &HttpOptions::default(), aws, &clock()).unwrap();
    let elsewhere = store_with(&environment, json!({ "mount": "kv" })).unwrap();
    assert!(matches!(fault(elsewhere.preflight("x").await), Fault::Denied { .. }));
    for description in [
        json!({ "type": "kv", "options": { "version": "1" } }),
        json!({ "type": "kv", "options": null }),
        json!({ "type": "transit", "options": {} }),
    ] {
        let mut body = json!({
            "request_id": "", "lease_id": "", "renewable": false, "lease_duration": 0,
            "wrap_info": null, "warnings": null, "auth": null,
        });
        body["data"] = description;
        let answer = Effect::Answer { status: 200, headers: Vec::new(), body: body.to_string() };
        fake.script().add(Scripted::next("/v1/sys/internal/ui/mounts/", answer));
        let Fault::Invalid { message } = fault(root(&fake).preflight("x").await) else {
            panic!("it was taken")
        };
        assert!(message.contains("version 2"), "{message}");
    }
}

#[tokio::test]
async fn a_mount_that_requires_check_and_set_is_written_like_any_other() {
    let fake = fake();
    fake.admin("POST", "secret/config", json!({ "cas_required": true })).await.unwrap();
    let (vault, path) = (root(&fake), fresh_path());
    let first = vault.write(&path, &value("1"), None, &token()).await.unwrap();
    vault.write(&path, &value("2"), Some(&first), &token()).await.unwrap();
    vault.stage(&slot(&path), &value("candidate")).await.unwrap();
}

#[tokio::test]
async fn paths_that_are_none_are_refused_by_every_call() {
    let fake = fake();
    let vault = root(&fake);
    for path in ["", "/x", "x/", "a//b", "a/../b", "a?version=1", "a%2fb", "a b", "rota-slots/x"] {
        assert!(matches!(fault(vault.preflight(path).await), Fault::Invalid { .. }), "{path}");
    }
    for path in ["a/../b", "a?b"] {
        for failed in [
            fault(vault.read(path).await),
            fault(vault.write(path, &value("1"), None, &token()).await),
            fault(vault.stage(&slot(path), &value("1")).await),
            fault(vault.empty_inbox(path).await),
        ] {
            assert!(matches!(failed, Fault::Invalid { .. }), "{path}: {failed}");
        }
    }
    assert_eq!(fake.script().count("secret"), 0);
}

#[test]
fn a_store_without_a_server_or_with_impossible_settings_is_refused() {
    assert!(matches!(fault(store_with(&environment(), json!({ "mount": "secret" }))), Fault::Invalid { .. }));
    let aws = AwsEnvironment::new(None).unwrap();
    let server = server("https://vault.internal", token_login("x"));
    let environment = environment_with(server, &HttpOptions::default(), aws, &clock()).unwrap();
    for settings in [json!({}), json!({ "mount": "a b" }), json!({ "mount": "secret", "slots": "" })] {
        assert!(matches!(fault(store_with(&environment, settings)), Fault::Invalid { .. }));
    }
}
