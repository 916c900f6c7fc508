//! Tokens, logins, policies, namespaces and the seal.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use rota_fakes::http::Listen;
use rota_fakes::tls::TestCa;
use rota_fakes::vault::{ServiceAccount, VaultFake};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Caller, error};

const APP: &str = r#"
path "secret/data/app/*" { capabilities = ["create", "read", "update"] }
path "secret/data/app/locked" { capabilities = ["deny"] }
path "secret/metadata/app/*" { capabilities = ["list"] }
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/create-orphan" { capabilities = ["update"] }
"#;

const DENIED: (u16, &str) = (403, "1 error occurred:\n\t* permission denied\n\n");
const INVALID_TOKEN: (u16, &str) = (403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n");

async fn vault_with_app() -> VaultFake {
    let vault = VaultFake::start(Listen::default()).unwrap();
    vault.policy("app", APP).await.unwrap();
    vault
}

fn data() -> Value {
    json!({"data": {"value": "x"}})
}

#[tokio::test]
async fn what_no_policy_allows_is_denied() {
    let vault = vault_with_app().await;
    let token = vault.token(json!({"policies": ["app"]})).await.unwrap();
    let app = Caller::new(&vault, &token);
    assert_eq!(app.post("secret/data/app/one", data()).await.0, 200);
    assert_eq!(app.get("secret/data/app/one").await.0, 200);
    assert_eq!(app.call("LIST", "secret/metadata/app/", Value::Null).await.0, 200);
    for (method, path) in [
        ("GET", "secret/data/other"),
        ("DELETE", "secret/data/app/one"),
        ("GET", "secret/data/app/locked"),
        ("GET", "secret/metadata/app/one"),
        ("GET", "secret/config"),
        ("PUT", "sys/policies/acl/app"),
        ("POST", "auth/token/create-orphan"),
        ("LIST", "auth/token/accessors"),
    ] {
        assert_eq!(error(&app.call(method, path, json!({})).await), DENIED, "{method} {path}");
    }
    let paths = json!({"paths": ["secret/data/app/one", "secret/data/other"]});
    let (_, answer) = app.post("sys/capabilities-self", paths).await;
    assert_eq!(answer["data"]["secret/data/app/one"], json!(["create", "read", "update"]));
    assert_eq!(answer["data"]["secret/data/other"], json!(["deny"]));

    assert_eq!(Caller::new(&vault, "").get("secret/data/app/one").await.0, 403);
    assert_eq!(error(&Caller::new(&vault, "hvs.unknown").get("secret/data/app/one").await), INVALID_TOKEN);
    let bad = json!({"policy": "path \"x\" { capabilities = [\"write\"] }"});
    assert_eq!(Caller::root(&vault).status("PUT", "sys/policies/acl/bad", bad).await, 400);
}

#[tokio::test]
async fn create_and_update_are_told_apart_by_what_exists() {
    let vault = VaultFake::start(Listen::default()).unwrap();
    vault.policy("maker", r#"path "secret/data/*" { capabilities = ["create"] }"#).await.unwrap();
    let token = vault.token(json!({"policies": ["maker"]})).await.unwrap();
    let maker = Caller::new(&vault, &token);
    assert_eq!(maker.post("secret/data/slot", data()).await.0, 200);
    assert_eq!(error(&maker.post("secret/data/slot", data()).await), DENIED);
}

#[tokio::test]
async fn a_token_ends_by_the_clock_unless_it_is_renewed_and_never_past_its_maximum() {
    let vault = vault_with_app().await;
    let clock = vault.script().clock();
    let settings = json!({"policies": ["app"], "ttl": "1h", "explicit_max_ttl": "90m"});
    let app = Caller::new(&vault, &vault.token(settings).await.unwrap());
    let (_, shown) = app.get("auth/token/lookup-self").await;
    assert_eq!((&shown["data"]["creation_ttl"], &shown["data"]["orphan"]), (&json!(3_600), &json!(true)));
    assert_eq!(shown["data"]["policies"], json!(["app", "default"]));

    clock.advance(SignedDuration::from_mins(50));
    let (status, renewed) = app.post("auth/token/renew-self", json!({})).await;
    let lease = renewed["auth"]["lease_duration"].as_i64().unwrap();
    assert!(status == 200 && (2_398..=2_400).contains(&lease), "capped at the maximum: {lease}");
    clock.advance(SignedDuration::from_mins(41));
    assert_eq!(error(&app.get("auth/token/lookup-self").await), INVALID_TOKEN);

    let short = vault.token(json!({"policies": ["app"], "ttl": "10m"})).await.unwrap();
    let (_, renewed) =
        Caller::new(&vault, &short).post("auth/token/renew-self", json!({"increment": "2h"})).await;
    assert!(renewed["auth"]["lease_duration"].as_i64().unwrap() > 7_190);
    let fixed = vault.token(json!({"policies": ["app"], "ttl": "10m", "renewable": false})).await.unwrap();
    let refused = Caller::new(&vault, &fixed).post("auth/token/renew-self", json!({})).await;
    assert_eq!(error(&refused), (400, "lease is not renewable"));
    let periodic = vault.token(json!({"policies": ["app"], "period": "24h"})).await.unwrap();
    let periodic = Caller::new(&vault, &periodic);
    for _ in 0..40 {
        clock.advance(SignedDuration::from_hours(23));
        assert_eq!(periodic.post("auth/token/renew-self", json!({})).await.0, 200);
    }
}

#[tokio::test]
async fn revoking_a_token_revokes_its_children_but_not_an_orphan() {
    let vault = vault_with_app().await;
    let parent = Caller::new(&vault, &vault.token(json!({"policies": ["app"]})).await.unwrap());
    let (_, child) = parent.post("auth/token/create", json!({"policies": ["app"], "ttl": "1h"})).await;
    let accessor = child["auth"]["accessor"].clone();
    let child = Caller::new(&vault, child["auth"]["client_token"].as_str().unwrap());
    assert_eq!(vault.children_of(&parent.token), 1);
    let root = Caller::root(&vault);
    let orphan = Caller::new(&vault, &vault.token(json!({"policies": ["app"]})).await.unwrap());
    assert_eq!(
        root.post("auth/token/lookup-accessor", json!({"accessor": accessor})).await.1["data"]["id"],
        ""
    );

    let more = parent.post("auth/token/create", json!({"policies": ["app", "other"]})).await;
    assert_eq!(error(&more), (400, "child policies must be subset of parent"));
    assert_eq!(parent.post("auth/token/create", json!({"no_parent": true})).await.0, 400);
    assert_eq!(parent.post("auth/token/create", json!({"period": "1h"})).await.0, 400);

    let (_, shown) = parent.get("auth/token/lookup-self").await;
    let by_accessor = json!({"accessor": shown["data"]["accessor"]});
    assert_eq!(root.status("POST", "auth/token/revoke-accessor", by_accessor.clone()).await, 204);
    assert_eq!(root.status("POST", "auth/token/revoke-accessor", by_accessor).await, 403);
    for gone in [&parent, &child] {
        assert_eq!(gone.get("auth/token/lookup-self").await.0, 403);
    }
    assert_eq!(orphan.get("auth/token/lookup-self").await.0, 200);
    assert_eq!(orphan.post("auth/token/revoke-self", json!({})).await.0, 204);
    assert_eq!(orphan.get("auth/token/lookup-self").await.0, 403);
}

#[tokio::test]
async fn a_token_role_makes_orphans_within_its_policies() {
    let vault = vault_with_app().await;
    let role = json!({"allowed_policies": ["app"], "orphan": true, "token_period": "24h", "renewable": true});
    vault.admin("POST", "auth/token/roles/apps", role).await.unwrap();
    let policy = r#"path "auth/token/create/apps" { capabilities = ["update"] }"#;
    vault.policy("issuer", policy).await.unwrap();
    let issuer = Caller::new(&vault, &vault.token(json!({"policies": ["issuer"]})).await.unwrap());
    let (status, made) = issuer.post("auth/token/create/apps", json!({"policies": ["app"]})).await;
    assert_eq!((status, &made["auth"]["orphan"]), (200, &json!(true)));
    assert_eq!(made["auth"]["lease_duration"], 86_400);
    assert_eq!(issuer.post("auth/token/create/apps", json!({"policies": ["root"]})).await.0, 400);
    assert_eq!(issuer.post("auth/token/create", json!({})).await.0, 403);
}

#[tokio::test]
async fn an_app_role_logs_in_and_its_secret_id_is_used_up_expires_and_can_be_destroyed() {
    let vault = vault_with_app().await;
    let settings =
        json!({"token_policies": "app", "token_ttl": "20m", "secret_id_num_uses": 2, "secret_id_ttl": "1h"});
    let login = vault.approle("backend", settings).await.unwrap();
    let anyone = Caller::new(&vault, "");
    let body = json!({"role_id": login.role_id, "secret_id": login.secret_id});
    let (status, answer) = anyone.post("auth/approle/login", body.clone()).await;
    assert_eq!((status, &answer["auth"]["lease_duration"]), (200, &json!(1_200)));
    assert_eq!(answer["auth"]["metadata"], json!({"role_name": "backend"}));
    let app = Caller::new(&vault, answer["auth"]["client_token"].as_str().unwrap());
    assert_eq!(app.post("secret/data/app/x", data()).await.0, 200);

    assert_eq!(anyone.post("auth/approle/login", body.clone()).await.0, 200);
    assert_eq!(error(&anyone.post("auth/approle/login", body).await), (400, "invalid role or secret ID"));
    let wrong = json!({"role_id": "none", "secret_id": "none"});
    assert_eq!(error(&anyone.post("auth/approle/login", wrong).await), (400, "invalid role or secret ID"));

    let root = Caller::root(&vault);
    for path in ["auth/approle/role/backend/secret-id", "auth/approle/role/backend/secret-id"] {
        let (_, made) = root.post(path, json!({})).await;
        let id = made["data"]["secret_id"].clone();
        let body = json!({"role_id": login.role_id, "secret_id": id});
        assert_eq!(anyone.post("auth/approle/login", body.clone()).await.0, 200);
        if vault.script().count("secret-id/destroy") == 0 {
            let destroy = json!({"secret_id": id});
            assert_eq!(root.post("auth/approle/role/backend/secret-id/destroy", destroy).await.0, 204);
        } else {
            vault.script().clock().advance(SignedDuration::from_mins(61));
        }
        assert_eq!(anyone.post("auth/approle/login", body).await.0, 400);
    }
}

#[tokio::test]
async fn a_service_account_logs_in_only_with_a_token_of_the_cluster_for_a_bound_role() {
    let vault = vault_with_app().await;
    let role = json!({
        "bound_service_account_names": ["rota"], "bound_service_account_namespaces": ["prod"],
        "audience": "vault", "token_policies": ["app"],
    });
    vault.admin("POST", "auth/kubernetes/role/rota", role).await.unwrap();
    let account = ServiceAccount { namespace: "prod", name: "rota", audience: "vault" };
    let hour = SignedDuration::from_hours(1);
    let anyone = Caller::new(&vault, "");
    let login =
        async |jwt: &str| anyone.post("auth/kubernetes/login", json!({"role": "rota", "jwt": jwt})).await;
    let good = vault.kubernetes_jwt(&account, hour);
    let (status, answer) = login(&good).await;
    assert_eq!((status, &answer["auth"]["metadata"]["service_account_name"]), (200, &json!("rota")));
    for (account, text) in [
        (ServiceAccount { name: "other", ..account }, "service account name not authorized"),
        (ServiceAccount { namespace: "dev", ..account }, "namespace not authorized"),
        (ServiceAccount { audience: "elsewhere", ..account }, "invalid audience (aud) claim"),
    ] {
        assert_eq!(error(&login(&vault.kubernetes_jwt(&account, hour)).await), (403, text));
    }
    let mut forged = good.clone();
    forged.truncate(good.len() - 2);
    assert_eq!(login(&forged).await.0, 403);
    vault.script().clock().advance(hour);
    assert_eq!(login(&good).await.0, 403);
    let unknown = json!({"role": "none", "jwt": good});
    assert_eq!(anyone.post("auth/kubernetes/login", unknown).await.0, 400);
}

/// What an AWS IAM login carries.
struct IamLogin<'a> {
    secret: &'a str,
    server_id: Option<&'a str>,
    at: Timestamp,
    body: &'a str,
}

impl IamLogin<'_> {
    /// Signed as "Create a signed AWS API request" says.
    fn sign(&self) -> Value {
        let moment = self.at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &moment[..8];
        let mut headers = vec![("host", "sts.amazonaws.com".to_owned()), ("x-amz-date", moment.clone())];
        headers.extend(self.server_id.map(|id| ("x-vault-aws-iam-server-id", id.to_owned())));
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let hash = hex::encode(Sha256::digest(self.body));
        let canonical = format!("POST\n/\n\n{lines}\n{names}\n{hash}");
        let scope = format!("{date}/us-east-1/sts/aws4_request");
        let canonical = hex::encode(Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{canonical}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [date, "us-east-1", "sts", "aws4_request", &to_sign] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAROTA/{scope}, SignedHeaders={names}, Signature={}",
            hex::encode(key)
        );
        headers.push(("Authorization", authorization));
        let headers: serde_json::Map<String, Value> =
            headers.into_iter().map(|(name, value)| (name.to_owned(), json!([value]))).collect();
        json!({
            "role": "rota",
            "iam_http_request_method": "POST",
            "iam_request_url": BASE64_STANDARD.encode("https://sts.amazonaws.com/"),
            "iam_request_body": BASE64_STANDARD.encode(self.body),
            "iam_request_headers": BASE64_STANDARD.encode(Value::Object(headers).to_string()),
        })
    }
}

#[tokio::test]
async fn an_aws_login_needs_a_fresh_signature_over_the_server_id_by_a_bound_principal() {
    let vault = vault_with_app().await;
    let client = json!({"iam_server_id_header_value": "vault.example.com"});
    vault.admin("POST", "auth/aws/config/client", client).await.unwrap();
    let arn = "arn:aws:iam::123456789012:role/rota";
    let role = json!({"auth_type": "iam", "bound_iam_principal_arn": [arn], "token_policies": ["app"]});
    vault.admin("POST", "auth/aws/role/rota", role).await.unwrap();
    vault.add_aws_key("AKIAROTA", "the secret", arn);
    let anyone = Caller::new(&vault, "");
    let now = vault.sts_clock().now();
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let good = IamLogin { secret: "the secret", server_id: Some("vault.example.com"), at: now, body };
    let login = async |login: &IamLogin<'_>| anyone.post("auth/aws/login", login.sign()).await;

    let (status, answer) = login(&good).await;
    assert_eq!((status, &answer["auth"]["metadata"]["canonical_arn"]), (200, &json!(arn)));
    let missing = login(&IamLogin { server_id: None, ..good }).await;
    assert!(error(&missing).1.contains("missing header \"X-Vault-AWS-IAM-Server-ID\""), "{missing:?}");
    assert_eq!(login(&IamLogin { server_id: Some("elsewhere"), ..good }).await.0, 400);
    assert_eq!(login(&IamLogin { secret: "another", ..good }).await.0, 400);
    assert_eq!(login(&IamLogin { at: now - SignedDuration::from_mins(16), ..good }).await.0, 400);
    assert_eq!(login(&IamLogin { body: "Action=DeleteUser", ..good }).await.0, 400);

    // The same request once more, ten seconds later.
    vault.sts_clock().advance(SignedDuration::from_secs(10));
    let replayed = login(&good).await;
    assert!(error(&replayed).1.contains("was sent before"), "{replayed:?}");
    let fresh = IamLogin { at: now + SignedDuration::from_secs(10), ..good };
    assert_eq!(login(&fresh).await.0, 200);

    vault.add_aws_key("AKIAROTA", "the secret", "arn:aws:iam::123456789012:role/other");
    assert!(error(&login(&fresh).await).1.contains("does not belong to the role"));
}

#[tokio::test]
async fn a_namespace_has_tokens_policies_and_secrets_of_its_own() {
    let vault = vault_with_app().await;
    let team_root = vault.add_namespace("team");
    let team = Caller { namespace: Some("team/".to_owned()), ..Caller::new(&vault, &team_root) };
    assert_eq!(team.post("secret/data/app/x", data()).await.0, 200);
    assert_eq!(Caller::root(&vault).get("secret/data/app/x").await.0, 404);
    assert_eq!(Caller::new(&vault, &team_root).get("secret/data/app/x").await.0, 403);
    let token = vault.token(json!({"policies": ["app"]})).await.unwrap();
    let stranger = Caller { namespace: Some("team".to_owned()), ..Caller::new(&vault, &token) };
    assert_eq!(stranger.get("secret/data/app/x").await.0, 403);
    let over_all = Caller { namespace: Some("team".to_owned()), ..Caller::root(&vault) };
    assert_eq!(over_all.get("secret/data/app/x").await.0, 200);
    vault.admin_in("team", "POST", "secret/data/app/y", data()).await.unwrap();
    let nowhere = Caller { namespace: Some("absent".to_owned()), ..Caller::root(&vault) };
    assert_eq!(nowhere.get("secret/data/app/x").await.0, 404);
}

#[tokio::test]
async fn a_sealed_server_answers_503_and_health_tells_the_state() {
    let vault = vault_with_app().await;
    let root = Caller::root(&vault);
    assert_eq!(root.get("sys/health").await.0, 200);
    vault.set_standby(true);
    assert_eq!(root.get("sys/health").await.0, 429);
    vault.seal();
    assert_eq!(root.get("sys/health").await.0, 503);
    assert_eq!(root.get("sys/seal-status").await.1["sealed"], true);
    assert_eq!(error(&root.get("secret/data/app/x").await), (503, "Vault is sealed"));
    let login = root.post("auth/approle/login", json!({"role_id": "x", "secret_id": "y"})).await;
    assert_eq!(error(&login), (503, "Vault is sealed"));
    vault.unseal();
    assert_eq!(root.get("secret/data/app/x").await.0, 404);
}

#[tokio::test]
async fn it_is_served_with_a_private_authority() {
    let ca = TestCa::new().unwrap();
    let tls = ca.issue(&["localhost"]).unwrap().server_config().unwrap();
    let vault = VaultFake::start(Listen { tls: Some(tls), ..Listen::default() }).unwrap();
    assert!(vault.url().starts_with("https://localhost:"));
    let authority = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let answer = client.get(format!("{}/v1/sys/health", vault.url())).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn it_runs_as_a_process_with_a_clock_that_is_moved_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let mut process = Command::new(env!("CARGO_BIN_EXE_rota-fakes"))
        .args(["vault", "--until-eof", "--tls-ca"])
        .arg(&ca)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let [_, url, token] = [(); 3].map(|()| lines.next().unwrap().unwrap());
    let authority = reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let root = Caller { client, url, token, namespace: None };
    let (_, made) = root.post("auth/token/create", json!({"ttl": "1h", "policies": ["default"]})).await;
    let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    let short = Caller { token, client: root.client.clone(), url: root.url.clone(), namespace: None };
    assert_eq!(short.get("auth/token/lookup-self").await.0, 200);
    let clock = root.client.post(format!("{}/_fake/clock", root.url)).json(&json!({"seconds": 3_600}));
    assert_eq!(clock.send().await.unwrap().status(), 204);
    assert_eq!(short.get("auth/token/lookup-self").await.0, 403);
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}
