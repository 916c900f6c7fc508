//! The system backend as far as clients and operators of a key-value store
//! use it ("System backend").

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Operation;
use super::fields::{self, Fields};
use super::kv::KvMount;
use super::policy::Policy;
use super::reply::{Outcome, Reply};
use super::state::{Method, Namespace};
use super::token::Token;

/// `sys/health`: the status says in which state the server is.
pub(super) fn health(sealed: bool, standby: bool, now: jiff::Timestamp) -> Reply {
    let status = match (sealed, standby) {
        (true, _) => 503,
        (false, true) => 429,
        (false, false) => 200,
    };
    let body = json!({
        "initialized": true,
        "sealed": sealed,
        "standby": standby || sealed,
        "performance_standby": false,
        "replication_performance_mode": "disabled",
        "replication_dr_mode": "disabled",
        "server_time_utc": now.as_second(),
        "version": "1.20.0",
        "cluster_name": "fake",
        "cluster_id": "00000000-0000-4000-8000-000000000000",
    });
    Reply::bare(status, body)
}

/// `sys/seal-status`.
pub(super) fn seal_status(sealed: bool) -> Reply {
    let body = json!({
        "type": "shamir", "initialized": true, "sealed": sealed, "t": 1, "n": 1, "progress": 0,
        "nonce": "", "version": "1.20.0", "storage_type": "inmem",
    });
    Reply::bare(200, body)
}

impl Namespace {
    /// Authorised calls below `sys/`.
    pub(super) fn sys(&mut self, operation: Operation, path: &str, body: &Fields, caller: &Token) -> Outcome {
        if let Some(mount) = path.strip_prefix("internal/ui/mounts/") {
            return self.mount_of(mount, caller);
        }
        if let Some(name) = path.strip_prefix("policies/acl").or_else(|| path.strip_prefix("policy")) {
            return self.policies(operation, name.trim_matches('/'), body);
        }
        match (operation, path) {
            (Operation::Write, "capabilities-self") => self.capabilities_of(caller, body),
            (Operation::Read, "mounts") => Ok(Reply::data(self.show_mounts())),
            (Operation::Read, "auth") => Ok(Reply::data(self.show_methods())),
            _ => match (operation, path.split_once('/')) {
                (Operation::Write, Some(("mounts", mount))) => self.add_mount(mount, body),
                (Operation::Write, Some(("auth", mount))) => self.add_method(mount, body),
                _ => Err(Reply::unsupported()),
            },
        }
    }

    fn policies(&mut self, operation: Operation, name: &str, body: &Fields) -> Outcome {
        match (operation, name) {
            (Operation::List | Operation::Read, "") => {
                let keys: Vec<&str> = self.policies.keys().map(String::as_str).chain(["root"]).collect();
                Ok(Reply::data(json!({"keys": keys, "policies": keys})))
            }
            (Operation::Read, _) => {
                let policy = self.policies.get(name).ok_or_else(Reply::not_found)?;
                Ok(Reply::data(json!({"name": name, "policy": policy.text(), "rules": policy.text()})))
            }
            (Operation::Write, "root") | (Operation::Delete, "root" | "default") => {
                Err(Reply::bad_request(format!("cannot change {name} policy")))
            }
            (Operation::Write, _) => {
                let policy = Policy::parse(fields::required(body, "policy")?).map_err(Reply::bad_request)?;
                self.policies.insert(name.to_owned(), policy);
                Ok(Reply::no_content())
            }
            (Operation::Delete, _) => {
                self.policies.remove(name);
                Ok(Reply::no_content())
            }
            (Operation::List, _) => Err(Reply::unsupported()),
        }
    }

    fn capabilities_of(&self, token: &Token, body: &Fields) -> Outcome {
        let paths = fields::list(body, "paths").or_else(|| fields::list(body, "path")).unwrap_or_default();
        if paths.is_empty() {
            return Err(Reply::bad_request("paths must be supplied"));
        }
        let mut shown = Map::new();
        for path in &paths {
            let granted: Vec<String> = if token.is_root() {
                vec!["root".to_owned()]
            } else {
                self.capabilities(token, path).into_iter().collect()
            };
            let granted = if granted.is_empty() { vec!["deny".to_owned()] } else { granted };
            shown.insert(path.clone(), json!(granted));
        }
        if let [path] = paths.as_slice() {
            shown.insert("capabilities".to_owned(), shown[path].clone());
        }
        Ok(Reply::data(Value::Object(shown)))
    }

    /// The mount that serves a path; clients ask it to tell version 2 from 1.
    fn mount_of(&self, path: &str, caller: &Token) -> Outcome {
        let with_slash = format!("{}/", path.trim_end_matches('/'));
        let mount = self.mounts.keys().find(|mount| with_slash.starts_with(mount.as_str()));
        // Vault answers 403 for an unknown mount too, so that nothing can be found out.
        let mount = mount.filter(|mount| caller.is_root() || self.may_touch(caller, mount));
        let mount = mount.ok_or_else(|| {
            Reply::error(403, format!("preflight capability check returned 403, please ensure client's policies grant access to path \"{with_slash}\""))
        })?;
        let mut shown = kv_description();
        if let Value::Object(shown) = &mut shown {
            shown.insert("path".to_owned(), mount.as_str().into());
        }
        Ok(Reply::data(shown))
    }

    fn show_mounts(&self) -> Value {
        let mounts: BTreeMap<&String, Value> =
            self.mounts.keys().map(|mount| (mount, kv_description())).collect();
        json!(mounts)
    }

    fn show_methods(&self) -> Value {
        let kinds =
            self.methods.iter().map(|(mount, method)| (mount.as_str(), json!({"type": method.kind()})));
        let kinds: BTreeMap<&str, Value> = kinds.chain([("token/", json!({"type": "token"}))]).collect();
        json!(kinds)
    }

    fn add_mount(&mut self, mount: &str, body: &Fields) -> Outcome {
        let mount = format!("{}/", mount.trim_end_matches('/'));
        let version = body.get("options").and_then(|options| options.get("version"));
        let is_v2 =
            fields::text(body, "type") == Some("kv") && version.is_some_and(|v| v == "2" || *v == json!(2));
        if !is_v2 && fields::text(body, "type") != Some("kv-v2") {
            return Err(Reply::bad_request("only the kv engine, version 2, is served here"));
        }
        if self.mounts.contains_key(&mount) {
            return Err(Reply::bad_request(format!("path is already in use at {mount}")));
        }
        self.mounts.insert(mount, KvMount::default());
        Ok(Reply::no_content())
    }

    fn add_method(&mut self, mount: &str, body: &Fields) -> Outcome {
        let mount = format!("{}/", mount.trim_end_matches('/'));
        if self.methods.contains_key(&mount) {
            return Err(Reply::bad_request(format!("path is already in use at {mount}")));
        }
        let method = Method::of_kind(fields::required(body, "type")?);
        let method = method.ok_or_else(|| Reply::bad_request("plugin not found in the catalog"))?;
        self.methods.insert(mount, method);
        Ok(Reply::no_content())
    }
}

fn kv_description() -> Value {
    json!({"type": "kv", "options": {"version": "2"}, "description": "", "local": false, "seal_wrap": false})
}
