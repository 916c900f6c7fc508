//! Login with a signed `GetCallerIdentity` request ("AWS auth method (API)",
//! type `iam`).
//!
//! A real Vault hands the request on to STS; here the fake is STS as well and
//! computes the signature anew. Stricter than the real one: a request that was
//! signed before and is sent again later is refused, because a client has to
//! sign a fresh one for every login.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Operation;
use super::fields::{self, Fields};
use super::reply::{Outcome, Reply};
use super::token::{Wanted, role_policies};
use crate::sigv4::{Claim, Request};

/// The only body that Vault hands on.
const BODY: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";

/// Guards against a login at one Vault being used at another.
const SERVER_ID_HEADER: &str = "x-vault-aws-iam-server-id";

/// Two logins within one second have the same signature without being replays.
const SAME_MOMENT: SignedDuration = SignedDuration::from_secs(5);

/// A mount of the method.
#[derive(Debug, Default)]
pub(super) struct Aws {
    server_id: Option<String>,
    roles: BTreeMap<String, Fields>,
    seen: BTreeMap<String, Timestamp>,
}

/// A key that the pretended STS knows.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    pub(super) secret: String,
    pub(super) arn: String,
}

impl Aws {
    pub(super) fn login(
        &mut self,
        body: &Fields,
        path: &str,
        principals: &BTreeMap<String, Principal>,
        sts_now: Timestamp,
    ) -> Result<Wanted, Reply> {
        let name = fields::text(body, "role").ok_or_else(|| Reply::bad_request("missing role"))?;
        let role = self.roles.get(name).cloned();
        let role = role.ok_or_else(|| Reply::bad_request(format!("entry for role {name:?} not found")))?;
        if fields::text(body, "iam_http_request_method") != Some("POST") {
            return Err(Reply::bad_request(
                "invalid iam_http_request_method; currently only 'POST' is supported",
            ));
        }
        let url = String::from_utf8(decoded(body, "iam_request_url")?).unwrap_or_default();
        let host = sts_host(&url).ok_or_else(|| Reply::bad_request("invalid iam_request_url"))?;
        if decoded(body, "iam_request_body")? != BODY {
            return Err(Reply::bad_request("invalid iam_request_body"));
        }
        let headers = headers(&decoded(body, "iam_request_headers")?)?;
        if headers.get("host") != Some(&host) {
            return Err(Reply::bad_request("the signed host is not the host of iam_request_url"));
        }
        let request = Request { method: "POST", path: "/", query: "", headers: &headers, body: BODY };
        let refused = |code: &str| {
            Reply::bad_request(format!(
                "error making upstream request: received error code 403 from STS: {code}"
            ))
        };
        let claim = Claim::read(&request).map_err(|error| refused(error.code()))?;
        self.check_server_id(&headers, &claim)?;
        let principal = principals.get(&claim.key_id).ok_or_else(|| refused("InvalidClientTokenId"))?;
        claim.verify(&request, &principal.secret, sts_now).map_err(|error| refused(error.code()))?;
        let first = *self.seen.entry(claim.signature.clone()).or_insert(sts_now);
        if sts_now.duration_since(first) > SAME_MOMENT {
            return Err(refused("this signed request was sent before, sign a fresh one"));
        }
        let bound = fields::list(&role, "bound_iam_principal_arn").unwrap_or_default();
        let is_bound = |bound: &String| match bound.strip_suffix('*') {
            Some(start) => principal.arn.starts_with(start),
            None => *bound == principal.arn,
        };
        if !bound.iter().any(is_bound) {
            let text = format!("IAM Principal {:?} does not belong to the role {name:?}", principal.arn);
            return Err(Reply::bad_request(text));
        }
        let mut wanted = Wanted::login(path, role_policies(&role)).with_role_settings(&role)?;
        wanted.meta = json!({"role": name, "canonical_arn": principal.arn, "auth_type": "iam"});
        Ok(wanted)
    }

    fn check_server_id(&self, headers: &BTreeMap<String, String>, claim: &Claim) -> Result<(), Reply> {
        let Some(expected) = &self.server_id else { return Ok(()) };
        let wrong = |reason: &str| {
            Reply::bad_request(format!("error validating X-Vault-AWS-IAM-Server-ID header: {reason}"))
        };
        let sent = headers.get(SERVER_ID_HEADER);
        let sent = sent.ok_or_else(|| wrong("missing header \"X-Vault-AWS-IAM-Server-ID\""))?;
        if sent != expected {
            return Err(wrong(&format!("expected {expected:?} but got {sent:?}")));
        }
        if claim.signed_headers.iter().any(|name| name == SERVER_ID_HEADER) {
            Ok(())
        } else {
            Err(wrong("header wasn't signed"))
        }
    }

    pub(super) fn call(&mut self, operation: Operation, path: &str, body: &Fields) -> Outcome {
        match (operation, path.split_once('/').unwrap_or((path, ""))) {
            (Operation::Write, ("config", "client")) => {
                if let Some(id) = fields::text(body, "iam_server_id_header_value") {
                    self.server_id = Some(id.to_owned()).filter(|id| !id.is_empty());
                }
                Ok(Reply::no_content())
            }
            (Operation::Write, ("role", name)) if !name.is_empty() => {
                if fields::text(body, "auth_type").is_some_and(|kind| kind != "iam") {
                    return Err(Reply::bad_request("only auth_type iam is served here"));
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

fn decoded(body: &Fields, name: &str) -> Result<Vec<u8>, Reply> {
    let text = fields::text(body, name).ok_or_else(|| Reply::bad_request(format!("missing {name}")))?;
    BASE64_STANDARD.decode(text).map_err(|_| Reply::bad_request(format!("failed to base64 decode {name}")))
}

/// The host of an STS endpoint's URL: the global one or a region's.
fn sts_host(url: &str) -> Option<String> {
    let host = url.strip_prefix("https://")?.trim_end_matches('/');
    let is_sts =
        host == "sts.amazonaws.com" || (host.starts_with("sts.") && host.ends_with(".amazonaws.com"));
    is_sts.then(|| host.to_owned())
}

/// JSON of names to a value or a list with one value.
fn headers(json: &[u8]) -> Result<BTreeMap<String, String>, Reply> {
    let wrong = || Reply::bad_request("error parsing iam_request_headers");
    let object: BTreeMap<String, Value> = serde_json::from_slice(json).map_err(|_| wrong())?;
    let mut headers = BTreeMap::new();
    for (name, value) in object {
        let text = match &value {
            Value::Array(values) if values.len() == 1 => values[0].as_str(),
            other => other.as_str(),
        };
        headers.insert(name.to_lowercase(), text.ok_or_else(wrong)?.to_owned());
    }
    Ok(headers)
}
