//! What a Vault server holds, and the way of a call through it: seal,
//! namespace, token, policies, mount.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;

use super::approle::AppRole;
use super::aws::{Aws, Principal};
use super::fields::Fields;
use super::kubernetes::Kubernetes;
use super::kv::KvMount;
use super::policy::{self, Policy};
use super::reply::{Outcome, Reply};
use super::token::{Token, Tokens};
use super::{Operation, sys};

/// Paths that need `sudo` beside the usual capability ("Root protected API endpoints").
const SUDO_PATHS: [&str; 3] =
    ["auth/token/accessors", "auth/token/create-orphan", "auth/token/revoke-orphan"];

/// A whole server.
#[derive(Debug)]
pub(super) struct State {
    pub(super) namespaces: BTreeMap<String, Namespace>,
    pub(super) principals: BTreeMap<String, Principal>,
    pub(super) sealed: bool,
    pub(super) standby: bool,
}

/// A namespace: mounts, auth methods, policies and tokens of its own.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) mounts: BTreeMap<String, KvMount>,
    pub(super) methods: BTreeMap<String, Method>,
    pub(super) policies: BTreeMap<String, Policy>,
    pub(super) tokens: Tokens,
}

/// A mounted auth method other than tokens.
#[derive(Debug)]
pub(super) enum Method {
    AppRole(AppRole),
    Kubernetes(Kubernetes),
    Aws(Aws),
}

/// A call, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) operation: Operation,
    /// Without `/v1/`.
    pub(super) path: String,
    pub(super) namespace: String,
    pub(super) token: Option<String>,
    pub(super) body: Fields,
    pub(super) version: Option<String>,
}

/// The clocks that a call is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// STS is another machine with its own clock.
    pub(super) sts: Timestamp,
}

impl Method {
    pub(super) fn of_kind(kind: &str) -> Option<Self> {
        match kind {
            "approle" => Some(Self::AppRole(AppRole::default())),
            "kubernetes" => Some(Self::Kubernetes(Kubernetes::default())),
            "aws" => Some(Self::Aws(Aws::default())),
            _ => None,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::AppRole(_) => "approle",
            Self::Kubernetes(_) => "kubernetes",
            Self::Aws(_) => "aws",
        }
    }
}

impl Namespace {
    /// KV at `secret/` and every auth method at its usual place; gives the root token.
    pub(super) fn new(now: Timestamp) -> (Self, String) {
        let default = Policy::parse(policy::DEFAULT).expect("the built-in policy is well-formed");
        let kinds = ["approle", "kubernetes", "aws"];
        let methods = kinds.iter().filter_map(|kind| Some((format!("{kind}/"), Method::of_kind(kind)?)));
        let mut tokens = Tokens::default();
        let root = tokens.add_root(now);
        let namespace = Self {
            mounts: [("secret/".to_owned(), KvMount::default())].into(),
            methods: methods.collect(),
            policies: [("default".to_owned(), default)].into(),
            tokens,
        };
        (namespace, root)
    }

    /// What a token may do on a path; a list is judged with and without the slash at its end.
    pub(super) fn capabilities(&self, token: &Token, path: &str) -> BTreeSet<String> {
        let policies: Vec<&Policy> =
            token.policies.iter().filter_map(|name| self.policies.get(name)).collect();
        policy::capabilities(&policies, path)
    }

    /// Whether any policy of the token speaks of something below a mount.
    pub(super) fn may_touch(&self, token: &Token, mount: &str) -> bool {
        let policies = token.policies.iter().filter_map(|name| self.policies.get(name));
        policies.into_iter().any(|policy| policy.speaks_of(mount))
    }

    fn authorise(&self, token: &Token, call: &Call) -> Result<(), Reply> {
        // Open to every token: the answer itself says what it may know.
        if token.is_root() || call.path.starts_with("sys/internal/ui/mounts/") {
            return Ok(());
        }
        let wanted = match call.operation {
            Operation::Read => "read",
            Operation::List => "list",
            Operation::Delete => "delete",
            Operation::Write if self.exists(&call.path) == Some(false) => "create",
            Operation::Write => "update",
        };
        let path = call.path.as_str();
        let mut granted = self.capabilities(token, path);
        if granted.is_empty() && call.operation == Operation::List {
            granted = self.capabilities(token, &format!("{}/", path.trim_end_matches('/')));
        }
        let needs_sudo = SUDO_PATHS.contains(&path.trim_end_matches('/'));
        if granted.contains(wanted) && (!needs_sudo || granted.contains("sudo")) {
            Ok(())
        } else {
            Err(Reply::denied())
        }
    }

    /// Whether a write would update something; None where Vault does not ask.
    fn exists(&self, path: &str) -> Option<bool> {
        if let Some(name) = path.strip_prefix("auth/token/roles/") {
            return Some(self.tokens.has_role(name));
        }
        if let Some((mount, below)) =
            split_mount(path.strip_prefix("auth/").unwrap_or_default(), &self.methods)
        {
            return match (&self.methods[mount], below.strip_prefix("role/")) {
                (Method::AppRole(method), Some(name)) if !name.contains('/') => Some(method.has_role(name)),
                _ => None,
            };
        }
        let (mount, below) = split_mount(path, &self.mounts)?;
        self.mounts[mount].exists(below)
    }

    fn login(
        &mut self,
        call: &Call,
        principals: &BTreeMap<String, Principal>,
        moment: Moment,
    ) -> Option<Outcome> {
        let path = call.path.strip_prefix("auth/")?;
        let (mount, below) = split_mount(path, &self.methods)?;
        if below != "login" {
            return None;
        }
        if call.operation != Operation::Write {
            return Some(Err(Reply::unsupported()));
        }
        let mount = mount.to_owned();
        let wanted = match self.methods.get_mut(&mount)? {
            Method::AppRole(method) => method.login(&call.body, &call.path, moment.now),
            Method::Kubernetes(method) => method.login(&call.body, &call.path, moment.now),
            Method::Aws(method) => method.login(&call.body, &call.path, principals, moment.sts),
        };
        Some(wanted.map(|wanted| Reply::auth(self.tokens.issue(wanted, moment.now))))
    }

    fn route(&mut self, call: &Call, caller: &Token, now: Timestamp) -> Outcome {
        let path = call.path.as_str();
        if let Some(below) = path.strip_prefix("auth/token/") {
            let sudo = self.capabilities(caller, path).contains("sudo");
            return match call.operation {
                Operation::Read => self.tokens.read(below, caller, now),
                Operation::List => self.tokens.list(below, now),
                Operation::Delete => self.tokens.delete(below),
                Operation::Write => self.tokens.write(below, &call.body, caller, sudo, now),
            };
        }
        if let Some(below) = path.strip_prefix("sys/") {
            return self.sys(call.operation, below, &call.body, caller);
        }
        if let Some(below) = path.strip_prefix("auth/") {
            let (mount, below) = split_mount(below, &self.methods).ok_or_else(|| Reply::no_route(path))?;
            let (mount, below) = (mount.to_owned(), below.to_owned());
            return match self.methods.get_mut(&mount) {
                Some(Method::AppRole(method)) => method.call(call.operation, &below, &call.body, now),
                Some(Method::Kubernetes(method)) => method.call(call.operation, &below, &call.body),
                Some(Method::Aws(method)) => method.call(call.operation, &below, &call.body),
                None => Err(Reply::no_route(path)),
            };
        }
        let (mount, below) = split_mount(path, &self.mounts).ok_or_else(|| Reply::no_route(path))?;
        let (mount, below) = (mount.to_owned(), below.to_owned());
        match self.mounts.get_mut(&mount) {
            Some(kv) => kv.call(call.operation, &below, &call.body, call.version.as_deref(), now),
            None => Err(Reply::no_route(path)),
        }
    }
}

/// The longest mount that a path lies below, and the rest.
fn split_mount<'a, T>(path: &'a str, mounts: &BTreeMap<String, T>) -> Option<(&'a str, &'a str)> {
    let longest =
        mounts.keys().filter(|mount| path.starts_with(mount.as_str())).max_by_key(|mount| mount.len())?;
    Some(path.split_at(longest.len()))
}

impl State {
    /// Answers a call.
    pub(super) fn answer(&mut self, call: &Call, moment: Moment) -> Reply {
        self.try_answer(call, moment).unwrap_or_else(|error| error)
    }

    fn try_answer(&mut self, call: &Call, moment: Moment) -> Outcome {
        match call.path.as_str() {
            "sys/health" => return Ok(sys::health(self.sealed, self.standby, moment.now)),
            "sys/init" => return Ok(Reply::bare(200, json!({"initialized": true}))),
            "sys/seal-status" => return Ok(sys::seal_status(self.sealed)),
            _ => {}
        }
        if self.sealed {
            return Err(Reply::error(503, "Vault is sealed"));
        }
        let name = call.namespace.trim_matches('/');
        if !self.namespaces.contains_key(name) {
            return Err(Reply::error(404, "namespace not found"));
        }
        let over_all = if name.is_empty() { None } else { self.root_caller(call, moment.now) };
        let Some(namespace) = self.namespaces.get_mut(name) else { return Err(Reply::not_found()) };
        if let Some(outcome) = namespace.login(call, &self.principals, moment) {
            return outcome;
        }
        let id = call.token.as_deref().ok_or_else(|| Reply::error(403, "permission denied"))?;
        let caller = match over_all {
            Some(root) => root,
            None => namespace.tokens.authenticate(id, moment.now).ok_or_else(Reply::invalid_token)?,
        };
        namespace.authorise(&caller, call)?;
        namespace.route(call, &caller, moment.now)
    }

    /// The root namespace's root token may do everything in every namespace.
    fn root_caller(&mut self, call: &Call, now: Timestamp) -> Option<Token> {
        let token = self.namespaces.get_mut("")?.tokens.authenticate(call.token.as_deref()?, now)?;
        Some(token).filter(Token::is_root)
    }
}
