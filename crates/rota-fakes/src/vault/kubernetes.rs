//! Login with a service account's token ("Kubernetes auth method (API)").
//!
//! A real Vault lets the cluster review the token; here the fake is the
//! cluster as well: it signs tokens and accepts its own only.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::Sha256;

use super::Operation;
use super::fields::{self, Fields};
use super::reply::{Outcome, Reply};
use super::token::{Wanted, role_policies};

/// A mount of the method.
#[derive(Debug, Default)]
pub(super) struct Kubernetes {
    roles: BTreeMap<String, Fields>,
}

/// A service account of the pretended cluster.
#[derive(Clone, Debug)]
pub struct ServiceAccount<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The audience that its token is for.
    pub audience: &'a str,
}

/// The cluster's key; a test's cluster keeps no secrets.
const CLUSTER_KEY: &[u8] = b"the key of the pretended cluster";

/// A projected service account token that ends after `ttl`.
pub(super) fn sign(account: &ServiceAccount<'_>, ttl: SignedDuration, now: Timestamp) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let claims = json!({
        "aud": [account.audience],
        "exp": (now + ttl).as_second(),
        "iat": now.as_second(),
        "sub": format!("system:serviceaccount:{}:{}", account.namespace, account.name),
        "kubernetes.io": {"namespace": account.namespace, "serviceaccount": {"name": account.name}},
    });
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(mac(&signed).finalize().into_bytes());
    format!("{signed}.{signature}")
}

fn mac(message: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length, so this cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(CLUSTER_KEY).expect("a key of any length is accepted");
    mac.update(message.as_bytes());
    mac
}

fn verify(jwt: &str, now: Timestamp) -> Option<Value> {
    let (signed, signature) = jwt.rsplit_once('.')?;
    mac(signed).verify_slice(&BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    let (_, claims) = signed.split_once('.')?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    (now.as_second() < claims["exp"].as_i64()?).then_some(claims)
}

impl Kubernetes {
    pub(super) fn login(&self, body: &Fields, path: &str, now: Timestamp) -> Result<Wanted, Reply> {
        let name = fields::text(body, "role").ok_or_else(|| Reply::bad_request("missing role"))?;
        let jwt = fields::text(body, "jwt").ok_or_else(|| Reply::bad_request("missing jwt"))?;
        let role = self.roles.get(name);
        let role = role.ok_or_else(|| Reply::bad_request(format!("invalid role name {name:?}")))?;
        let claims = verify(jwt, now).ok_or_else(|| Reply::error(403, "permission denied"))?;
        let account = &claims["kubernetes.io"];
        let is_bound = |field: &str, value: &Value| {
            let bound = fields::list(role, field).unwrap_or_default();
            bound.iter().any(|bound| bound == "*" || Some(bound.as_str()) == value.as_str())
        };
        if !is_bound("bound_service_account_names", &account["serviceaccount"]["name"]) {
            return Err(Reply::error(403, "service account name not authorized"));
        }
        if !is_bound("bound_service_account_namespaces", &account["namespace"]) {
            return Err(Reply::error(403, "namespace not authorized"));
        }
        if let Some(audience) = fields::text(role, "audience")
            && claims["aud"][0].as_str() != Some(audience)
        {
            return Err(Reply::error(403, "invalid audience (aud) claim"));
        }
        let mut wanted = Wanted::login(path, role_policies(role)).with_role_settings(role)?;
        wanted.meta = json!({
            "role": name,
            "service_account_name": account["serviceaccount"]["name"],
            "service_account_namespace": account["namespace"],
        });
        Ok(wanted)
    }

    pub(super) fn call(&mut self, operation: Operation, path: &str, body: &Fields) -> Outcome {
        match (operation, path.split_once('/').unwrap_or((path, ""))) {
            (Operation::Write, ("config", "")) => Ok(Reply::no_content()),
            (Operation::Write, ("role", name)) if !name.is_empty() => {
                for field in ["bound_service_account_names", "bound_service_account_namespaces"] {
                    if fields::list(body, field).is_none_or(|list| list.is_empty()) {
                        return Err(Reply::bad_request(format!("{field:?} can not be empty")));
                    }
                }
                self.roles.insert(name.to_owned(), body.clone());
                Ok(Reply::no_content())
            }
            (Operation::Read, ("role", name)) => {
                self.roles.get(name).map(|role| Reply::data(json!(role))).ok_or_else(Reply::not_found)
            }
            (Operation::Delete, ("role", name)) => {
                self.roles.remove(name);
                Ok(Reply::no_content())
            }
            _ => Err(Reply::unsupported()),
        }
    }
}
