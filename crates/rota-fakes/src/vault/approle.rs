//! Login with a role id and a secret id ("AppRole auth method (API)").
//!
//! Deliberately absent: CIDR binding.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Operation;
use super::fields::{self, Fields};
use super::reply::{Outcome, Reply};
use super::token::{Wanted, role_policies};

/// A mount of the method.
#[derive(Debug, Default)]
pub(super) struct AppRole {
    roles: BTreeMap<String, Role>,
}

#[derive(Debug)]
struct Role {
    settings: Fields,
    role_id: String,
    secret_ids: BTreeMap<String, SecretId>,
}

#[derive(Debug)]
struct SecretId {
    accessor: String,
    created: Timestamp,
    ttl: SignedDuration,
    uses_left: u64,
    uses: u64,
}

impl SecretId {
    fn is_live(&self, now: Timestamp) -> bool {
        !self.ttl.is_positive() || now < self.created + self.ttl
    }

    fn show(&self) -> Value {
        json!({
            "secret_id_accessor": self.accessor,
            "creation_time": self.created,
            "secret_id_ttl": self.ttl.as_secs(),
            "secret_id_num_uses": self.uses,
            "metadata": {},
            "cidr_list": [],
        })
    }
}

impl AppRole {
    pub(super) fn has_role(&self, name: &str) -> bool {
        self.roles.contains_key(name)
    }

    pub(super) fn login(&mut self, body: &Fields, path: &str, now: Timestamp) -> Result<Wanted, Reply> {
        // One text for every reason, so that nothing can be found out by trying.
        let refused = || Reply::bad_request("invalid role or secret ID");
        let role_id = fields::text(body, "role_id").ok_or_else(|| Reply::bad_request("missing role_id"))?;
        let found = self.roles.iter_mut().find(|(_, role)| role.role_id == role_id);
        let (name, role) = found.ok_or_else(refused)?;
        if fields::flag(&role.settings, "bind_secret_id").unwrap_or(true) {
            let id =
                fields::text(body, "secret_id").ok_or_else(|| Reply::bad_request("missing secret_id"))?;
            let secret =
                role.secret_ids.get_mut(id).filter(|secret| secret.is_live(now)).ok_or_else(refused)?;
            if secret.uses > 0 {
                secret.uses_left -= 1;
                if secret.uses_left == 0 {
                    role.secret_ids.remove(id);
                }
            }
        }
        let mut wanted =
            Wanted::login(path, role_policies(&role.settings)).with_role_settings(&role.settings)?;
        wanted.meta = json!({"role_name": name});
        Ok(wanted)
    }

    pub(super) fn call(
        &mut self,
        operation: Operation,
        path: &str,
        body: &Fields,
        now: Timestamp,
    ) -> Outcome {
        let rest = path.strip_prefix("role").filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let rest = rest.ok_or_else(|| Reply::no_route(path))?.trim_matches('/');
        let (name, below) = rest.split_once('/').unwrap_or((rest, ""));
        match (operation, name, below) {
            (Operation::List, "", "") if self.roles.is_empty() => Err(Reply::not_found()),
            (Operation::List, "", "") => {
                Ok(Reply::data(json!({"keys": self.roles.keys().collect::<Vec<_>>()})))
            }
            (_, "", _) => Err(Reply::unsupported()),
            (Operation::Write, _, "") => {
                let new = || Role {
                    settings: Fields::new(),
                    role_id: Uuid::new_v4().to_string(),
                    secret_ids: BTreeMap::new(),
                };
                let role = self.roles.entry(name.to_owned()).or_insert_with(new);
                role.settings.extend(body.clone());
                Ok(Reply::no_content())
            }
            (Operation::Delete, _, "") => {
                self.roles.remove(name);
                Ok(Reply::no_content())
            }
            _ => {
                let role = self.roles.get_mut(name);
                let unknown = || match operation {
                    Operation::Read => Reply::not_found(),
                    _ => Reply::bad_request(format!("role {name:?} does not exist")),
                };
                role.ok_or_else(unknown)?.call(operation, below, body, now)
            }
        }
    }
}

impl Role {
    fn call(&mut self, operation: Operation, path: &str, body: &Fields, now: Timestamp) -> Outcome {
        match (operation, path) {
            (Operation::Read, "") => Ok(Reply::data(json!(self.settings))),
            (Operation::Read, "role-id") => Ok(Reply::data(json!({"role_id": self.role_id}))),
            (Operation::Write, "role-id") => {
                self.role_id = fields::required(body, "role_id")?.to_owned();
                Ok(Reply::no_content())
            }
            (Operation::Write, "secret-id") => self.add(Uuid::new_v4().to_string(), now),
            (Operation::Write, "custom-secret-id") => {
                self.add(fields::required(body, "secret_id")?.to_owned(), now)
            }
            (Operation::List, "secret-id") => {
                let keys: Vec<&String> = self.secret_ids.values().map(|secret| &secret.accessor).collect();
                if keys.is_empty() { Err(Reply::not_found()) } else { Ok(Reply::data(json!({"keys": keys}))) }
            }
            (Operation::Write, "secret-id/lookup") => {
                let found = self.secret_ids.get(fields::required(body, "secret_id")?);
                Ok(found.map_or_else(Reply::no_content, |secret| Reply::data(secret.show())))
            }
            (Operation::Write, "secret-id/destroy") => {
                let removed = self.secret_ids.remove(fields::required(body, "secret_id")?);
                removed.map(|_| Reply::no_content()).ok_or_else(|| Reply::bad_request("invalid secret id"))
            }
            (Operation::Write, "secret-id-accessor/lookup") => {
                let accessor = fields::required(body, "secret_id_accessor")?;
                let found = self.secret_ids.values().find(|secret| secret.accessor == accessor);
                found.map(|secret| Reply::data(secret.show())).ok_or_else(Reply::not_found)
            }
            (Operation::Write, "secret-id-accessor/destroy") => {
                let accessor = fields::required(body, "secret_id_accessor")?;
                let before = self.secret_ids.len();
                self.secret_ids.retain(|_, secret| secret.accessor != accessor);
                if self.secret_ids.len() < before { Ok(Reply::no_content()) } else { Err(Reply::not_found()) }
            }
            _ => Err(Reply::unsupported()),
        }
    }

    fn add(&mut self, id: String, now: Timestamp) -> Outcome {
        let uses = fields::number(&self.settings, "secret_id_num_uses")?.unwrap_or(0);
        let ttl = fields::duration(&self.settings, "secret_id_ttl")?.unwrap_or_default();
        let accessor = Uuid::new_v4().to_string();
        let shown = json!({
            "secret_id": id,
            "secret_id_accessor": accessor,
            "secret_id_num_uses": uses,
            "secret_id_ttl": ttl.as_secs(),
        });
        self.secret_ids.insert(id, SecretId { accessor, created: now, ttl, uses_left: uses, uses });
        Ok(Reply::data(shown))
    }
}
