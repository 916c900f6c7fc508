//! What a policy says about a database user.

use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::address::{authorities_problem, host_and_port, is_no_host};
use crate::checks::reference_problem;
use crate::credential::Reference;
use crate::login::{Constants, PARTS, fields_problem};

/// Where a server listens that says nothing else.
pub(crate) const DEFAULT_PORT: u16 = 5432;

/// The longest name of a role (NAMEDATALEN - 1 in a server as it is distributed).
const LONGEST_NAME: usize = 63;

/// The longest `user` of the mode `new-user`: an underscore and twelve digits follow.
pub(super) const LONGEST_PREFIX: usize = LONGEST_NAME - 13;

/// What to add where consumers would not read what changes.
const FIELDS: &str =
    "add `fields = { DATABASE_URL = \"postgresql://{username}:{password:url}@{host}:{port}/{database}\" }`";

/// How a new credential stands beside the old one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Two users with the same rights take turns.
    #[default]
    TwoUsers,
    /// Each rotation makes a user with the rights of the one before, which is dropped later.
    NewUser,
    /// One user gets another password: the old one is refused at once.
    OneUser,
}

/// `postgres = { host = "db.internal", database = "acd", admin = "aws:prod/db-admin", users = ["acd_a", "acd_b"] }`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSettings {
    /// The server, by the name that consumers use; its certificate must hold it.
    pub host: String,
    /// 5432 without it.
    pub port: Option<u16>,
    /// The database that consumers log in to.
    pub database: String,
    /// Where the administrator's login is kept (`store:path#field`): a JSON document
    /// with `username` and `password`, or a connection URL.
    pub admin: Reference,
    /// `two-users` (without it), `new-user` or `one-user`.
    #[serde(default)]
    pub mode: Mode,
    /// `two-users`: the two that take turns.
    pub users: Option<Vec<String>>,
    /// `one-user`: the user. `new-user`: how the names of new users begin.
    pub user: Option<String>,
    /// `two-users`: the role that owns what both create, which both set at login.
    pub role: Option<String>,
    /// Standbys whose sessions count too, `host` or `host:port`.
    #[serde(default)]
    pub standbys: Vec<String>,
    /// Certificate authorities that may sign the server's certificate, PEM.
    pub ca: Option<String>,
}

impl PostgresSettings {
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }

    /// The parts that no rotation changes.
    pub(super) fn constants(&self) -> Constants {
        [("host", self.host.clone()), ("port", self.port().to_string()), ("database", self.database.clone())]
    }

    /// The standbys with their ports.
    pub(super) fn standbys(&self) -> impl Iterator<Item = (String, u16)> {
        self.standbys.iter().map(|address| host_and_port(address, self.port()))
    }

    /// The roles whose passwords are changed; `new-user` has only the beginning of their names.
    pub(super) fn roles(&self) -> Vec<&str> {
        let of_two = self.users.iter().flatten().filter(|_| self.mode == Mode::TwoUsers);
        let of_one = self.user.iter().filter(|_| self.mode != Mode::TwoUsers);
        of_two.chain(of_one).map(String::as_str).collect()
    }
}

fn read(settings: &Value) -> Option<PostgresSettings> {
    PostgresSettings::deserialize(settings).ok()
}

pub(super) fn facts(settings: &Value) -> Facts {
    let Some(settings) = read(settings) else { return Facts::default() };
    let overlaps = settings.mode != Mode::OneUser;
    Facts { overlaps, disables: overlaps, targets: targets(&settings), ..Facts::default() }
}

/// Every role that the rotation touches, with its server.
pub(super) fn targets(settings: &PostgresSettings) -> Vec<String> {
    let server = format!("{}:{}", settings.host.to_ascii_lowercase(), settings.port());
    let new = if settings.mode == Mode::NewUser { "_*" } else { "" };
    settings.roles().iter().map(|role| format!("role {role}{new} on {server}")).collect()
}

/// What the fence in the target stands around: the roles, whatever the server is called.
pub(super) fn fenced(settings: &PostgresSettings) -> String {
    let mut roles = settings.roles();
    roles.sort_unstable();
    let new = if settings.mode == Mode::NewUser { "_*" } else { "" };
    format!("role {}{new}", roles.join(" and "))
}

pub(super) fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    problems.extend(reference_problem("/admin", &settings.admin.to_string(), context));
    problems.extend(of_mode(&settings));
    problems.extend(of_names(&settings));
    problems.extend(ca_problem(settings.ca.as_ref()));
    let changing = settings.mode != Mode::OneUser;
    problems.extend(context.secret.and_then(|secret| fields_problem(&secret, &PARTS, changing, FIELDS)));
    problems
}

/// `users`, `user` and `role` belong to modes.
fn of_mode(settings: &PostgresSettings) -> Option<KindProblem> {
    let wrong =
        |pointer: &str, message: &str, help: &str| Some(KindProblem::error("mode", pointer, message, help));
    let PostgresSettings { mode, users, user, role, .. } = settings;
    match mode {
        Mode::TwoUsers => match users.as_deref() {
            _ if user.is_some() => wrong(
                "/user",
                "two users take turns, and this names one",
                "write `users = [\"acd_a\", \"acd_b\"]`",
            ),
            Some([one, other]) if one != other => None,
            _ => wrong(
                "",
                "two users take turns, and they are not named",
                "add `users = [\"acd_a\", \"acd_b\"]`",
            ),
        },
        Mode::NewUser | Mode::OneUser if users.is_some() => wrong(
            "/users",
            "only the mode `two-users` has two",
            "write `user = \"acd\"`, or leave `mode` out",
        ),
        Mode::NewUser | Mode::OneUser if user.is_none() => {
            wrong("", "no user is named", "add `user = \"acd\"`")
        }
        Mode::NewUser | Mode::OneUser if role.is_some() => {
            wrong("/role", "only two users need a role that owns what both create", "remove `role`")
        }
        Mode::NewUser if user.as_ref().is_some_and(|user| user.len() > LONGEST_PREFIX) => wrong(
            "/user",
            "the names of new users would be longer than a role's name may be",
            "write at most 50 bytes: an underscore and twelve digits follow",
        ),
        Mode::NewUser | Mode::OneUser => None,
    }
}

fn of_names(settings: &PostgresSettings) -> Vec<KindProblem> {
    let roles = settings.roles().into_iter().map(|role| ("/user", role));
    let pointer =
        |pointer| if settings.mode == Mode::TwoUsers && pointer == "/user" { "/users" } else { pointer };
    let mut named: Vec<(&str, &str)> = roles.collect();
    named.extend(settings.role.as_deref().map(|role| ("/role", role)));
    named.push(("/database", &settings.database));
    let bad = |name: &str| name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control);
    let mut problems: Vec<KindProblem> = named
        .into_iter()
        .filter(|(_, name)| bad(name))
        .map(|(at, _)| {
            let message =
                format!("a name in Postgres has 1 to {LONGEST_NAME} bytes and no control characters");
            KindProblem::error("name", pointer(at), message, "write the name as `\\du` and `\\l` show it")
        })
        .collect();
    let standbys = settings.standbys.iter().map(|host| ("/standbys", host.as_str()));
    let hosts = std::iter::once(("/host", settings.host.as_str())).chain(standbys);
    problems.extend(hosts.filter_map(|(at, host)| host_problem(at, host)));
    problems
}

/// What is wrong with the name of a server.
pub(crate) fn host_problem(pointer: &str, host: &str) -> Option<KindProblem> {
    let help = "write a name such as `db.internal`; a socket's folder is no host here";
    is_no_host(host).then(|| KindProblem::error("host", pointer, "this is not a server's name", help))
}

/// What is wrong with authorities.
pub(crate) fn ca_problem(ca: Option<&String>) -> Option<KindProblem> {
    authorities_problem(ca, ", such as the one of your RDS region,")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rota_core::id::{FieldName, SecretId, StoreId};
    use rota_core::policy::kinds::SecretView;
    use rota_core::policy::model::{Environment, FieldPolicy, Fields, StorePolicy};
    use serde_json::json;

    use super::*;

    const URL: &str = "postgresql://{username}:{password:url}@{host}:{port}/{database}";

    fn found(settings: Value, template: Option<&str>) -> Vec<(&'static str, String)> {
        let store = StorePolicy {
            id: StoreId::new("aws").unwrap(),
            kind: "aws-secrets-manager".to_owned(),
            settings: Value::Null,
            path: "prod/{name}".parse().unwrap(),
        };
        let stores = BTreeMap::from([(store.id.clone(), store)]);
        let id = SecretId::new("DATABASE_URL").unwrap();
        let fields = template.map(|template| {
            let field = FieldPolicy { template: Some(template.parse().unwrap()), format: None };
            Fields::from_iter([(FieldName::new("DATABASE_URL").unwrap(), field)])
        });
        let secret = SecretView { id: &id, class: None, accept_gap: true, fields: fields.as_ref() };
        let context =
            KindContext { environment: Environment::Production, stores: &stores, secret: Some(secret) };
        lint(&settings, &context).into_iter().map(|problem| (problem.rule, problem.pointer)).collect()
    }

    fn with(more: Value) -> Value {
        let mut settings = json!({ "host": "db.internal", "database": "acd", "admin": "aws:prod/db-admin" });
        let more = more.as_object().unwrap().clone();
        settings.as_object_mut().unwrap().extend(more);
        settings
    }

    #[test]
    fn each_mode_takes_its_own_names_and_no_others() {
        for good in [
            json!({ "users": ["acd_a", "acd_b"], "role": "acd_owner" }),
            json!({ "mode": "new-user", "user": "acd" }),
            json!({ "mode": "one-user", "user": "a\"b é" }),
        ] {
            assert_eq!(found(with(good.clone()), Some(URL)), [], "{good}");
        }
        for (bad, pointer) in [
            (json!({}), ""),
            (json!({ "users": ["a", "a"] }), ""),
            (json!({ "users": ["a"] }), ""),
            (json!({ "users": ["a", "b"], "user": "c" }), "/user"),
            (json!({ "mode": "new-user" }), ""),
            (json!({ "mode": "one-user", "users": ["a", "b"] }), "/users"),
            (json!({ "mode": "new-user", "user": "a", "role": "b" }), "/role"),
            (json!({ "mode": "new-user", "user": "a".repeat(51) }), "/user"),
        ] {
            assert_eq!(found(with(bad.clone()), Some(URL)), [("mode", pointer.to_owned())], "{bad}");
        }
    }

    #[test]
    fn names_hosts_authorities_and_references_are_judged() {
        let two = json!({ "users": ["acd_a", "acd_b"] });
        for (key, bad, rule) in [
            ("host", json!("/run/postgresql"), "host"),
            ("standbys", json!(["a b"]), "host"),
            ("database", json!("a\u{7}b"), "name"),
            ("role", json!(""), "name"),
            ("ca", json!("MIIB"), "ca"),
            ("admin", json!("vault:db"), "reference"),
        ] {
            let mut settings = with(two.clone());
            settings[key] = bad;
            assert_eq!(found(settings, Some(URL)), [(rule, format!("/{key}"))]);
        }
    }

    #[test]
    fn what_consumers_read_has_the_parts_that_change() {
        let two = with(json!({ "users": ["acd_a", "acd_b"] }));
        let one = with(json!({ "mode": "one-user", "user": "acd" }));
        let fields = vec![("fields", String::new())];
        for template in [None, Some("{username}"), Some("{password}"), Some("{username}:{password}@{dbname}")]
        {
            assert_eq!(found(two.clone(), template), fields, "{template:?}");
        }
        assert_eq!(found(one, Some("{password}")), []);
    }

    #[test]
    fn a_role_is_one_target_wherever_it_is_named() {
        let of = |more: Value| facts(&with(more)).targets;
        let two = of(json!({ "users": ["acd_a", "acd_b"] }));
        assert_eq!(two, ["role acd_a on db.internal:5432", "role acd_b on db.internal:5432"]);
        assert!(two.contains(&of(json!({ "mode": "one-user", "user": "acd_b" }))[0]));
        assert_eq!(of(json!({ "host": "DB.internal", "users": ["acd_a", "acd_b"] })), two);
    }
}
