//! What a policy says about a password that is set by one call.

use std::borrow::Cow;

use jiff::SignedDuration;
use reqwest::Url;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::call::{Auth, CallSettings};
use crate::checks::http::Expect;
use crate::checks::{path_problem, reference_problem, status_problem};
use crate::credential::Reference;
use crate::login::fields_problem;
use crate::settings::timeout_problem;

/// What a template of the secret may be filled with.
pub(super) const PARTS: [&str; 2] = ["username", "password"];

/// What to add where consumers would not read the password.
const FIELDS: &str = "add `fields = { NAME = \"{password}\" }`";

/// A login that is refused is answered with these where the policy does not say.
const REFUSED: [u16; 2] = [401, 403];

/// `http = { user = "ci", admin = "aws:prod/registry-admin", set = { ... }, login = { ... } }`
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpPasswordSettings {
    /// Whose password it is.
    pub user: String,
    /// Where the login is kept with which the password is set (`store:path#field`): JSON with
    /// `username` and `password`, or a URL; with `auth = "bearer"` a token. Without it the user
    /// sets its own.
    pub admin: Option<Reference>,
    /// The call that sets the password.
    pub set: CallSettings,
    /// The call that only the right password makes.
    pub login: CallSettings,
    /// The call that tells the user's id, for `{id}` in the address of `set`.
    pub find: Option<FindSettings>,
    /// The status or statuses of `login` that say: a wrong password; 401 and 403 without it.
    pub refused: Option<Expect>,
    /// For how long the service refuses the right password too after too many wrong ones.
    pub lockout: Option<DurationText>,
    /// How long one call may take; 10s without it, 25s at most.
    pub timeout: Option<DurationText>,
}

/// `{ url = "https://grafana.internal/api/users/lookup?loginOrEmail={username:url}", id = "$.id" }`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindSettings {
    /// What to GET, with the login of `set`. May hold `{username:url}`.
    pub url: String,
    /// A JSONPath (RFC 9535) to the id, a number or a text.
    pub id: String,
    /// A JSONPath to the name that has to be the user's.
    pub name: Option<String>,
}

impl HttpPasswordSettings {
    pub(super) fn refused(&self) -> Cow<'_, [u16]> {
        match &self.refused {
            Some(refused) => Cow::Borrowed(refused.statuses()),
            None => Cow::Borrowed(&REFUSED),
        }
    }

    /// A login with a body shows the password there.
    pub(super) fn login_auth(&self) -> Auth {
        let usual = if self.login.body.is_some() { Auth::None } else { Auth::Basic };
        self.login.auth.unwrap_or(usual)
    }

    pub(super) fn lockout(&self) -> Option<SignedDuration> {
        self.lockout.map(|lockout| lockout.0)
    }

    /// Scheme, host and port of the service, for messages.
    pub(super) fn origin(&self) -> String {
        let url = self.set.url.replace(['{', '}'], "_");
        Url::parse(&url).map_or_else(|_| "the service".to_owned(), |url| url.origin().ascii_serialization())
    }

    /// The password, wherever it is named.
    pub(super) fn target(&self) -> String {
        format!("password of {} at {}", self.user, self.origin())
    }
}

fn read(settings: &Value) -> Option<HttpPasswordSettings> {
    HttpPasswordSettings::deserialize(settings).ok()
}

pub(super) fn facts(settings: &Value) -> Facts {
    read(settings).map(|settings| facts_of(&settings)).unwrap_or_default()
}

/// One password: the old one is refused at once.
pub(crate) fn facts_of(settings: &HttpPasswordSettings) -> Facts {
    Facts { overlaps: false, targets: vec![settings.target()], ..Facts::default() }
}

pub(super) fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let mut problems = user_problems("/user", &settings.user, settings.admin.as_ref(), context);
    problems.extend(settings.set.problems("/set", &["username", "password", "current", "id"]));
    problems.extend(settings.login.problems("/login", &["username", "password"]));
    problems.extend(of_login(&settings));
    problems.extend(of_find(&settings));
    problems.extend(settings.refused.as_ref().and_then(|refused| status_problem("/refused", refused)));
    problems.extend(of_statuses(&settings));
    problems.extend(timeout_problem("/timeout", settings.timeout));
    problems
}

/// What is wrong with the user, the administrator, and what consumers read.
pub(crate) fn user_problems(
    pointer: &str,
    user: &str,
    admin: Option<&Reference>,
    context: &KindContext<'_>,
) -> Vec<KindProblem> {
    let mut problems = Vec::new();
    // RFC 7617, section 2: a colon would end the name.
    if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
        let message = "a user's name is not empty, and has no colon and no control characters";
        problems.push(KindProblem::error("name", pointer, message, "write the name as the login has it"));
    }
    problems.extend(admin.and_then(|admin| reference_problem("/admin", &admin.to_string(), context)));
    problems.extend(context.secret.and_then(|secret| fields_problem(&secret, &PARTS, false, FIELDS)));
    problems
}

/// A call that anybody can make proves nothing.
fn of_login(settings: &HttpPasswordSettings) -> Option<KindProblem> {
    let says = |call: &CallSettings, part: &str| {
        call.body.as_ref().is_some_and(|body| body.to_string().contains(&format!("{{{part}")))
    };
    let HttpPasswordSettings { set, login, admin, .. } = settings;
    let wrong =
        |pointer: &str, message: &str, help: &str| Some(KindProblem::error("login", pointer, message, help));
    match (settings.login_auth(), set.auth()) {
        (Auth::Bearer, _) => wrong("/login/auth", "a password is no bearer token", "write `basic` or `none`"),
        (Auth::None, _) if !says(login, "password") => wrong(
            "/login",
            "this call does not show the password, so it proves nothing",
            "leave `auth` out, or put `{password}` into `body`",
        ),
        (_, Auth::Bearer) if admin.is_none() => {
            wrong("/set/auth", "no token is kept anywhere", "add `admin = \"store:path\"`")
        }
        _ if !says(set, "password") => {
            wrong("/set", "this call does not hold the new password", "put `{password}` into `body`")
        }
        _ => None,
    }
}

fn of_find(settings: &HttpPasswordSettings) -> Vec<KindProblem> {
    let Some(find) = &settings.find else {
        let wants_id = settings.set.url.contains("{id");
        let message = "no call tells the user's id";
        let help = "add `find = { url = \"https://name/users?name={username:url}\", id = \"$.id\" }`";
        return wants_id.then(|| KindProblem::error("find", "/set/url", message, help)).into_iter().collect();
    };
    let call = find.call();
    let mut problems = call.problems("/find", &[]);
    let paths = [("/find/id", Some(&find.id)), ("/find/name", find.name.as_ref())];
    let bad = paths.into_iter().filter(|(_, path)| path.is_some_and(|path| JsonPath::parse(path).is_err()));
    problems.extend(bad.map(|(pointer, _)| path_problem(pointer)));
    problems
}

impl FindSettings {
    pub(super) fn call(&self) -> CallSettings {
        CallSettings {
            method: None,
            url: self.url.clone(),
            header: Default::default(),
            auth: None,
            body: None,
            expect: Expect::default(),
        }
    }
}

/// One status cannot say both that a password is right and that it is wrong.
fn of_statuses(settings: &HttpPasswordSettings) -> Option<KindProblem> {
    let refused = settings.refused();
    let both = settings.login.expect.statuses().iter().find(|status| refused.contains(status))?;
    Some(KindProblem::error(
        "status",
        "/login/expect",
        format!("{both} would say that a password is right, and that it is wrong"),
        "name the statuses of a wrong password in `refused`",
    ))
}
