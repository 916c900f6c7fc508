//! What a policy says about a Redis user.

use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checks::reference_problem;
use crate::credential::Reference;
use crate::login::{Constants, PARTS, fields_problem};
use crate::redis_nodes::{Servers, endpoint, servers_problems};

/// The user whose password `requirepass` is.
pub(super) const DEFAULT_USER: &str = "default";

/// What to add where consumers would not read what changes.
const FIELDS: &str =
    "add `fields = { REDIS_URL = \"rediss://{username}:{password:url}@{host}:{port}/{database}\" }`";

/// How a new password stands beside the old one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One user accepts two passwords meanwhile.
    #[default]
    TwoPasswords,
    /// Two users with the same rights take turns.
    TwoUsers,
}

/// `redis = { url = "rediss://cache.internal", user = "backend", admin = "aws:prod/acd/redis-admin" }`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// What consumers connect to, without a login: `rediss://host:port/database`.
    pub url: String,
    /// Every node, `host` or `host:port`, replicas too: each has users of its own. Only the
    /// host of `url` without it.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Where the administrator's login is kept (`store:path#field`): JSON with `username` and
    /// `password`, or a URL. Without it `requirepass` is rotated, with which Rota logs in.
    pub admin: Option<Reference>,
    /// `two-passwords` (without it) or `two-users`.
    #[serde(default)]
    pub mode: Mode,
    /// `two-passwords`: the user.
    pub user: Option<String>,
    /// `two-users`: the two that take turns.
    pub users: Option<Vec<String>>,
    /// Certificate authorities that may sign the nodes' certificates, PEM.
    pub ca: Option<String>,
}

impl RedisSettings {
    pub(super) fn servers(&self) -> Servers<'_> {
        Servers { url: &self.url, nodes: &self.nodes, ca: self.ca.as_ref() }
    }

    /// The users whose passwords are changed.
    pub(super) fn names(&self) -> Vec<&str> {
        match self.mode {
            Mode::TwoPasswords => vec![self.user.as_deref().unwrap_or(DEFAULT_USER)],
            Mode::TwoUsers => self.users.iter().flatten().map(String::as_str).collect(),
        }
    }

    /// The user of one that has two passwords; consumers need not read its name.
    pub(super) fn usual(&self) -> Option<&str> {
        (self.mode == Mode::TwoPasswords).then(|| self.user.as_deref().unwrap_or(DEFAULT_USER))
    }

    /// The parts that no rotation changes.
    pub(super) fn constants(&self) -> Constants {
        let at = endpoint(&self.url);
        let (host, port, database) =
            at.map(|at| (at.host, at.port.to_string(), at.database)).unwrap_or_default();
        [("host", host), ("port", port), ("database", database)]
    }
}

fn read(settings: &Value) -> Option<RedisSettings> {
    RedisSettings::deserialize(settings).ok()
}

pub(super) fn facts(settings: &Value) -> Facts {
    let Some(settings) = read(settings) else { return Facts::default() };
    Facts { overlaps: true, disables: true, targets: targets(&settings), ..Facts::default() }
}

/// Every user that the rotation touches, on each node.
pub(super) fn targets(settings: &RedisSettings) -> Vec<String> {
    let of = |(host, port): (String, u16)| {
        let node = format!("{}:{port}", host.to_ascii_lowercase());
        settings.names().into_iter().map(move |name| format!("redis user {name} on {node}"))
    };
    settings.servers().addresses().into_iter().flat_map(of).collect()
}

pub(super) fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let mut problems = servers_problems(&settings.servers());
    problems.extend(
        settings.admin.as_ref().and_then(|admin| reference_problem("/admin", &admin.to_string(), context)),
    );
    problems.extend(of_mode(&settings));
    problems.extend(of_names(&settings));
    let changing = settings.mode == Mode::TwoUsers;
    problems.extend(context.secret.and_then(|secret| fields_problem(&secret, &PARTS, changing, FIELDS)));
    problems
}

/// `user`, `users` and `admin` belong to modes.
fn of_mode(settings: &RedisSettings) -> Option<KindProblem> {
    let wrong =
        |pointer: &str, message: &str, help: &str| Some(KindProblem::error("mode", pointer, message, help));
    const BOTH: &str = "write `users = [\"acd_a\", \"acd_b\"]`";
    let RedisSettings { mode, user, users, admin, .. } = settings;
    match mode {
        Mode::TwoPasswords if users.is_some() => wrong(
            "/users",
            "only the mode `two-users` has two",
            "add `mode = \"two-users\"`, or write `user`",
        ),
        Mode::TwoPasswords if user.is_none() && admin.is_some() => wrong(
            "",
            "no user is named",
            "add `user = \"acd\"`; `default` is whose password `requirepass` is",
        ),
        Mode::TwoPasswords if user.is_some() && admin.is_none() => wrong(
            "/user",
            "without an administrator only `requirepass` can be rotated",
            "add `admin = \"store:path\"`, or remove `user`",
        ),
        Mode::TwoPasswords => None,
        Mode::TwoUsers if admin.is_none() => {
            wrong("", "two users need an administrator", "add `admin = \"store:path\"`")
        }
        Mode::TwoUsers if user.is_some() => wrong("/user", "two users take turns, and this names one", BOTH),
        Mode::TwoUsers => match users.as_deref() {
            Some([one, other]) if one != other => None,
            _ => wrong("", "two users take turns, and they are not named", BOTH),
        },
    }
}

/// Redis refuses names with spaces; a file of users cannot hold a line break.
fn of_names(settings: &RedisSettings) -> Option<KindProblem> {
    let bad = |name: &str| name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control());
    let pointer = if settings.mode == Mode::TwoUsers { "/users" } else { "/user" };
    settings.names().into_iter().any(bad).then(|| {
        let message = "a user's name in Redis has no spaces and no control characters";
        KindProblem::error("name", pointer, message, "write the name as `ACL LIST` shows it")
    })
}
