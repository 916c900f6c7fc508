//! Service tokens: creation, expiry on the fake's clock, renewal, revocation
//! with all children ("Token auth method (API)", "Tokens").
//!
//! Deliberately absent: batch tokens, identity and CIDR binding.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fields::{self, Fields};
use super::reply::{Outcome, Reply};

/// The system's default and maximum lease: 32 days.
pub(super) const SYSTEM_TTL: SignedDuration = SignedDuration::from_hours(768);

/// The tokens of a namespace, by id.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    by_id: BTreeMap<String, Token>,
    roles: BTreeMap<String, Fields>,
}

/// A live token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) id: String,
    pub(super) accessor: String,
    pub(super) policies: Vec<String>,
    parent: Option<String>,
    display_name: String,
    meta: Value,
    issued: Timestamp,
    creation_ttl: SignedDuration,
    expires: Option<Timestamp>,
    explicit_max: SignedDuration,
    max_ttl: SignedDuration,
    period: SignedDuration,
    renewable: bool,
    uses_left: u64,
    path: String,
    role: Option<String>,
}

/// What a login or a create asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) policies: Vec<String>,
    pub(super) path: String,
    pub(super) display_name: String,
    pub(super) meta: Value,
    pub(super) ttl: SignedDuration,
    pub(super) max_ttl: SignedDuration,
    pub(super) explicit_max: SignedDuration,
    pub(super) period: SignedDuration,
    pub(super) renewable: bool,
    pub(super) uses: u64,
    pub(super) id: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) role: Option<String>,
}

impl Wanted {
    /// A renewable orphan with the system's TTL, as a login gives.
    pub(super) fn login(path: &str, policies: Vec<String>) -> Self {
        Self {
            policies,
            path: path.to_owned(),
            display_name: path.trim_end_matches("/login").rsplit('/').next().unwrap_or_default().to_owned(),
            meta: Value::Null,
            ttl: SignedDuration::ZERO,
            max_ttl: SignedDuration::ZERO,
            explicit_max: SignedDuration::ZERO,
            period: SignedDuration::ZERO,
            renewable: true,
            uses: 0,
            id: None,
            parent: None,
            role: None,
        }
    }

    /// Takes the `token_*` settings that every auth method's role has.
    pub(super) fn with_role_settings(mut self, role: &Fields) -> Result<Self, Reply> {
        self.ttl = fields::duration(role, "token_ttl")?.unwrap_or(self.ttl);
        self.max_ttl = fields::duration(role, "token_max_ttl")?.unwrap_or(self.max_ttl);
        self.explicit_max = fields::duration(role, "token_explicit_max_ttl")?.unwrap_or(self.explicit_max);
        self.period = fields::duration(role, "token_period")?.unwrap_or(self.period);
        self.uses = fields::number(role, "token_num_uses")?.unwrap_or(self.uses);
        if fields::flag(role, "token_no_default_policy").unwrap_or(false) {
            self.policies.retain(|policy| policy != "default");
        }
        Ok(self)
    }
}

/// The policies that a role of an auth method gives.
pub(super) fn role_policies(role: &Fields) -> Vec<String> {
    let named = fields::list(role, "token_policies").or_else(|| fields::list(role, "policies"));
    with_default(named.unwrap_or_default())
}

fn with_default(mut policies: Vec<String>) -> Vec<String> {
    if !policies.iter().any(|policy| policy == "root" || policy == "default") {
        policies.push("default".to_owned());
    }
    policies.sort();
    policies.dedup();
    policies
}

impl Token {
    /// Whether it may do everything.
    pub(super) fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|at| now < at)
    }

    fn remaining(&self, now: Timestamp) -> i64 {
        self.expires.map_or(0, |at| at.duration_since(now).as_secs().max(0))
    }

    fn show_auth(&self, now: Timestamp) -> Value {
        json!({
            "client_token": self.id,
            "accessor": self.accessor,
            "policies": self.policies,
            "token_policies": self.policies,
            "metadata": self.meta,
            "lease_duration": self.remaining(now),
            "renewable": self.renewable,
            "entity_id": "",
            "token_type": "service",
            "orphan": self.parent.is_none(),
            "mfa_requirement": null,
            "num_uses": self.uses_left,
        })
    }

    fn show(&self, now: Timestamp, with_id: bool) -> Value {
        let mut shown = json!({
            "accessor": self.accessor,
            "creation_time": self.issued.as_second(),
            "creation_ttl": self.creation_ttl.as_secs(),
            "display_name": self.display_name,
            "entity_id": "",
            "expire_time": self.expires,
            "explicit_max_ttl": self.explicit_max.as_secs(),
            "id": if with_id { &self.id } else { "" },
            "issue_time": self.issued,
            "meta": self.meta,
            "num_uses": self.uses_left,
            "orphan": self.parent.is_none(),
            "path": self.path,
            "policies": self.policies,
            "renewable": self.renewable,
            "ttl": self.remaining(now),
            "type": "service",
        });
        if let Value::Object(shown) = &mut shown {
            if self.period.is_positive() {
                shown.insert("period".to_owned(), self.period.as_secs().into());
            }
            if let Some(role) = &self.role {
                shown.insert("role".to_owned(), role.as_str().into());
            }
        }
        shown
    }

    /// The end of a lease of `ttl` that begins now, no later than any maximum.
    fn end_of(&self, ttl: SignedDuration, now: Timestamp) -> Timestamp {
        let mut end = now + ttl;
        if self.explicit_max.is_positive() {
            end = end.min(self.issued + self.explicit_max);
        }
        if !self.period.is_positive() {
            let most = if self.max_ttl.is_positive() { self.max_ttl.min(SYSTEM_TTL) } else { SYSTEM_TTL };
            end = end.min(self.issued + most);
        }
        end
    }
}

impl Tokens {
    /// A token without an end that may do everything.
    pub(super) fn add_root(&mut self, now: Timestamp) -> String {
        let mut wanted = Wanted::login("auth/token/root", vec!["root".to_owned()]);
        wanted.renewable = false;
        let mut root = self.make(wanted, now);
        root.expires = None;
        root.creation_ttl = SignedDuration::ZERO;
        let id = root.id.clone();
        self.by_id.insert(id.clone(), root);
        id
    }

    /// Issues a token and gives the `auth` block.
    pub(super) fn issue(&mut self, wanted: Wanted, now: Timestamp) -> Value {
        let token = self.make(wanted, now);
        let shown = token.show_auth(now);
        self.by_id.insert(token.id.clone(), token);
        shown
    }

    fn make(&self, wanted: Wanted, now: Timestamp) -> Token {
        let ttl = [wanted.period, wanted.ttl, SYSTEM_TTL].into_iter().find(SignedDuration::is_positive);
        let ttl = ttl.unwrap_or(SYSTEM_TTL);
        let mut token = Token {
            id: wanted.id.unwrap_or_else(|| format!("hvs.{}", Uuid::new_v4().simple())),
            accessor: Uuid::new_v4().simple().to_string(),
            policies: wanted.policies,
            parent: wanted.parent,
            display_name: wanted.display_name,
            meta: wanted.meta,
            issued: now,
            creation_ttl: ttl,
            expires: None,
            explicit_max: wanted.explicit_max,
            max_ttl: wanted.max_ttl,
            period: wanted.period,
            renewable: wanted.renewable,
            uses_left: wanted.uses,
            path: wanted.path,
            role: wanted.role,
        };
        let end = token.end_of(ttl, now);
        token.creation_ttl = end.duration_since(now);
        token.expires = Some(end);
        token
    }

    /// The live token of this id; counts a use where uses are limited.
    pub(super) fn authenticate(&mut self, id: &str, now: Timestamp) -> Option<Token> {
        let token = self.by_id.get_mut(id).filter(|token| token.is_live(now))?;
        let shown = token.clone();
        match token.uses_left {
            0 => {}
            1 => self.revoke(id),
            _ => token.uses_left -= 1,
        }
        Some(shown)
    }

    /// Revokes a token and all that were made with it.
    fn revoke(&mut self, id: &str) {
        self.by_id.remove(id);
        let children: Vec<String> = self
            .by_id
            .values()
            .filter(|token| token.parent.as_deref() == Some(id))
            .map(|token| token.id.clone())
            .collect();
        for child in children {
            self.revoke(&child);
        }
    }

    /// How many live tokens were made with this one.
    pub(super) fn children(&self, id: &str, now: Timestamp) -> usize {
        let is_child = |token: &&Token| token.parent.as_deref() == Some(id) && token.is_live(now);
        self.by_id.values().filter(is_child).count()
    }

    fn id_of_accessor(&self, accessor: &str, now: Timestamp) -> Result<String, Reply> {
        let found = self.by_id.values().find(|token| token.accessor == accessor && token.is_live(now));
        found.map(|token| token.id.clone()).ok_or_else(|| Reply::error(403, "invalid accessor"))
    }

    fn live(&self, id: &str, now: Timestamp) -> Result<&Token, Reply> {
        self.by_id.get(id).filter(|token| token.is_live(now)).ok_or_else(|| Reply::error(403, "bad token"))
    }

    /// Whether a role of this name exists, for the choice of `create` or `update`.
    pub(super) fn has_role(&self, name: &str) -> bool {
        self.roles.contains_key(name)
    }

    /// Reading calls below `auth/token/`.
    pub(super) fn read(&self, path: &str, caller: &Token, now: Timestamp) -> Outcome {
        match path.split_once('/').unwrap_or((path, "")) {
            ("lookup-self", "") => Ok(Reply::data(self.live(&caller.id, now)?.show(now, true))),
            ("roles", name) if !name.is_empty() => {
                self.roles.get(name).map(|role| Reply::data(json!(role))).ok_or_else(Reply::not_found)
            }
            _ => Err(Reply::unsupported()),
        }
    }

    /// Listing calls below `auth/token/`.
    pub(super) fn list(&self, path: &str, now: Timestamp) -> Outcome {
        let keys: Vec<&String> = match path.trim_end_matches('/') {
            "roles" => self.roles.keys().collect(),
            "accessors" => {
                self.by_id.values().filter(|token| token.is_live(now)).map(|token| &token.accessor).collect()
            }
            _ => return Err(Reply::unsupported()),
        };
        if keys.is_empty() { Err(Reply::not_found()) } else { Ok(Reply::data(json!({"keys": keys}))) }
    }

    /// Deletes a role.
    pub(super) fn delete(&mut self, path: &str) -> Outcome {
        let name = path.strip_prefix("roles/").ok_or_else(Reply::unsupported)?;
        self.roles.remove(name);
        Ok(Reply::no_content())
    }

    /// Writing calls below `auth/token/`. `sudo` tells whether the caller's
    /// policies grant it on this path.
    pub(super) fn write(
        &mut self,
        path: &str,
        body: &Fields,
        caller: &Token,
        sudo: bool,
        now: Timestamp,
    ) -> Outcome {
        let sudo = sudo || caller.is_root();
        match path.split_once('/').unwrap_or((path, "")) {
            ("create", "") => self.create(body, caller, sudo, now),
            ("create", role) => self.create_by_role(role, body, caller, now),
            ("create-orphan", "") => {
                let mut body = body.clone();
                body.insert("no_parent".to_owned(), true.into());
                self.create(&body, caller, sudo, now)
            }
            ("roles", name) if !name.is_empty() => {
                self.roles.entry(name.to_owned()).or_default().extend(body.clone());
                Ok(Reply::no_content())
            }
            ("lookup", "") => {
                let id = fields::required(body, "token")?;
                Ok(Reply::data(self.live(id, now)?.show(now, true)))
            }
            ("lookup-self", "") => Ok(Reply::data(self.live(&caller.id, now)?.show(now, true))),
            ("lookup-accessor", "") => {
                let id = self.id_of_accessor(fields::required(body, "accessor")?, now)?;
                Ok(Reply::data(self.live(&id, now)?.show(now, false)))
            }
            ("renew-self", "") => self.renew(&caller.id, body, now),
            ("renew", "") => {
                let id = fields::required(body, "token")?.to_owned();
                self.renew(&id, body, now)
            }
            ("renew-accessor", "") => {
                let id = self.id_of_accessor(fields::required(body, "accessor")?, now)?;
                self.renew(&id, body, now)
            }
            ("revoke-self", "") => {
                self.revoke(&caller.id);
                Ok(Reply::no_content())
            }
            ("revoke", "") => {
                let id = fields::required(body, "token")?;
                self.revoke(id);
                Ok(Reply::no_content())
            }
            ("revoke-accessor", "") => {
                let id = self.id_of_accessor(fields::required(body, "accessor")?, now)?;
                self.revoke(&id);
                Ok(Reply::no_content())
            }
            ("revoke-orphan", "") => {
                let id = fields::required(body, "token")?;
                for child in self.by_id.values_mut().filter(|token| token.parent.as_deref() == Some(id)) {
                    child.parent = None;
                }
                self.revoke(id);
                Ok(Reply::no_content())
            }
            _ => Err(Reply::unsupported()),
        }
    }

    fn create(&mut self, body: &Fields, caller: &Token, sudo: bool, now: Timestamp) -> Outcome {
        let only_root =
            |what: &str| Reply::bad_request(format!("root or sudo privileges required to {what}"));
        let mut policies = fields::list(body, "policies").unwrap_or_else(|| caller.policies.clone());
        if !fields::flag(body, "no_default_policy").unwrap_or(false) {
            policies = with_default(policies);
        }
        let is_known = |policy: &String| policy == "default" || caller.policies.contains(policy);
        if !sudo && !policies.iter().all(is_known) {
            return Err(Reply::bad_request("child policies must be subset of parent"));
        }
        if policies.iter().any(|policy| policy == "root") && !caller.is_root() {
            return Err(Reply::bad_request("root tokens may not be created without parent token being root"));
        }
        let mut wanted = self.wanted(body, policies)?;
        wanted.path = "auth/token/create".to_owned();
        if wanted.id.is_some() && !sudo {
            return Err(only_root("specify token id"));
        }
        if wanted.period.is_positive() && !sudo {
            return Err(only_root("create periodic token"));
        }
        let no_parent = fields::flag(body, "no_parent").unwrap_or(false);
        if no_parent && !sudo {
            return Err(only_root("create orphan token"));
        }
        wanted.parent = if no_parent { None } else { Some(caller.id.clone()) };
        Ok(Reply::auth(self.issue(wanted, now)))
    }

    fn create_by_role(&mut self, name: &str, body: &Fields, caller: &Token, now: Timestamp) -> Outcome {
        let role = self.roles.get(name).cloned();
        let role = role.ok_or_else(|| Reply::bad_request(format!("unknown role {name}")))?;
        let allowed = fields::list(&role, "allowed_policies").unwrap_or_default();
        let refused = fields::list(&role, "disallowed_policies").unwrap_or_default();
        let asked = fields::list(body, "policies").unwrap_or_else(|| allowed.clone());
        let outside = |policy: &String| policy != "default" && !allowed.contains(policy);
        if !allowed.is_empty() && asked.iter().any(outside) {
            let text = format!(
                "token policies ({asked:?}) must be subset of the role's allowed policies ({allowed:?})"
            );
            return Err(Reply::bad_request(text));
        }
        if allowed.is_empty()
            && asked.iter().any(|policy| !caller.policies.contains(policy) && !caller.is_root())
        {
            return Err(Reply::bad_request("child policies must be subset of parent"));
        }
        if let Some(policy) = asked.iter().find(|policy| refused.contains(policy)) {
            return Err(Reply::bad_request(format!("token policy {policy:?} is disallowed by this role")));
        }
        let wanted = self.wanted(body, with_default(asked))?;
        let mut wanted = wanted.with_role_settings(&role)?;
        wanted.path = format!("auth/token/create/{name}");
        wanted.renewable &= fields::flag(&role, "renewable").unwrap_or(true);
        let orphan = fields::flag(&role, "orphan").unwrap_or(false);
        wanted.parent = if orphan { None } else { Some(caller.id.clone()) };
        wanted.role = Some(name.to_owned());
        wanted.id = None;
        Ok(Reply::auth(self.issue(wanted, now)))
    }

    fn wanted(&self, body: &Fields, policies: Vec<String>) -> Result<Wanted, Reply> {
        if fields::text(body, "type").is_some_and(|kind| kind != "service") {
            return Err(Reply::bad_request("only service tokens are served here"));
        }
        let mut wanted = Wanted::login("auth/token/create", policies);
        let name = fields::text(body, "display_name");
        wanted.display_name = name.map_or_else(|| "token".to_owned(), |name| format!("token-{name}"));
        wanted.meta = body.get("meta").cloned().unwrap_or(Value::Null);
        wanted.ttl = fields::duration(body, "ttl")?.unwrap_or_default();
        wanted.explicit_max = fields::duration(body, "explicit_max_ttl")?.unwrap_or_default();
        wanted.period = fields::duration(body, "period")?.unwrap_or_default();
        wanted.renewable = fields::flag(body, "renewable").unwrap_or(true);
        wanted.uses = fields::number(body, "num_uses")?.unwrap_or(0);
        wanted.id = fields::text(body, "id").map(ToOwned::to_owned);
        if let Some(id) = wanted.id.as_deref().filter(|id| self.by_id.contains_key(*id)) {
            return Err(Reply::bad_request(format!(
                "cannot create a token with a duplicate ID {}",
                id.len()
            )));
        }
        Ok(wanted)
    }

    fn renew(&mut self, id: &str, body: &Fields, now: Timestamp) -> Outcome {
        let increment = fields::duration(body, "increment")?.filter(SignedDuration::is_positive);
        self.live(id, now)?;
        let token = self.by_id.get_mut(id).ok_or_else(Reply::invalid_token)?;
        if !token.renewable {
            return Err(Reply::bad_request("lease is not renewable"));
        }
        let ttl =
            if token.period.is_positive() { token.period } else { increment.unwrap_or(token.creation_ttl) };
        token.expires = Some(token.end_of(ttl, now));
        Ok(Reply::auth(token.show_auth(now)))
    }
}
