//! The password of a user of Grafana, such as its administrator: a service whose calls are
//! known ("Admin HTTP API" and "User HTTP API" of Grafana's documentation), and otherwise
//! [`http_password`](super::http_password).
//!
//! Deliberately absent: service accounts, whose tokens may not change passwords, and users
//! whose password is kept elsewhere (LDAP, OAuth).

use std::sync::Arc;

use jiff::SignedDuration;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{Facts, KindContext, KindProblem, KindSpec, Port};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http_password::{
    CallSettings, FindSettings, HttpPasswordSettings, PasswordRotator, Verb, facts_of, user_problems,
};
use crate::catalog::RotatorKind;
use crate::checks::address_problem;
use crate::checks::http::Expect;
use crate::credential::Reference;
use crate::settings::{read, timeout_problem};

/// The name of the kind.
pub const NAME: &str = "grafana-admin";
/// The name of its table.
const TABLE: &str = "grafana";

/// The kind as policies see it.
pub const KIND: RotatorKind = RotatorKind {
    spec: KindSpec::new(Port::Rotator, NAME, "the password of a user of Grafana")
        .table::<GrafanaSettings>(TABLE)
        .lint(lint)
        .facts(facts),
    build: |policy, environment| {
        let settings: GrafanaSettings = read(NAME, &policy.settings)?;
        Ok(Arc::new(PasswordRotator::new(settings.calls(), environment)?))
    },
};

/// Whom Grafana makes when it first starts.
const DEFAULT_USER: &str = "admin";

/// Five wrong passwords within five minutes, and Grafana refuses the right one too.
const LOCKOUT: SignedDuration = SignedDuration::from_mins(5);

/// `grafana = { url = "https://grafana.internal", admin = "aws:prod/grafana-rota" }`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrafanaSettings {
    /// Where Grafana is reached, with the path that it is served below, if any.
    pub url: String,
    /// Whose password it is; `admin` without it.
    pub user: Option<String>,
    /// Where the login of another server administrator is kept (`store:path#field`): JSON with
    /// `username` and `password`, or a URL. Without it the user sets its own password.
    pub admin: Option<Reference>,
    /// How long one call may take; 10s without it, 25s at most.
    pub timeout: Option<DurationText>,
}

impl GrafanaSettings {
    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(DEFAULT_USER)
    }

    /// Grafana as a service of declared calls.
    fn calls(&self) -> HttpPasswordSettings {
        let base = self.url.trim_end_matches('/');
        let call = |method: Verb, path: &str, body: Option<Value>| CallSettings {
            method: Some(method),
            url: format!("{base}/api/{path}"),
            header: Default::default(),
            auth: None,
            body,
            expect: Expect::default(),
        };
        let (set, find) = match &self.admin {
            Some(_) => (
                call(Verb::Put, "admin/users/{id}/password", Some(json!({ "password": "{password}" }))),
                Some(FindSettings {
                    url: format!("{base}/api/users/lookup?loginOrEmail={{username:url}}"),
                    id: "$.id".to_owned(),
                    name: Some("$.login".to_owned()),
                }),
            ),
            None => {
                let body = json!({ "oldPassword": "{current}", "newPassword": "{password}" });
                (call(Verb::Put, "user/password", Some(body)), None)
            }
        };
        HttpPasswordSettings {
            user: self.user().to_owned(),
            admin: self.admin.clone(),
            set,
            login: call(Verb::Get, "user", None),
            find,
            refused: Some(Expect::One(401)),
            lockout: Some(DurationText(LOCKOUT)),
            timeout: self.timeout,
        }
    }
}

fn settings_of(settings: &Value) -> Option<GrafanaSettings> {
    GrafanaSettings::deserialize(settings).ok()
}

fn facts(settings: &Value) -> Facts {
    settings_of(settings).map(|settings| facts_of(&settings.calls())).unwrap_or_default()
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = settings_of(settings) else { return Vec::new() };
    let mut problems = user_problems("/user", settings.user(), settings.admin.as_ref(), context);
    if settings.url.contains(['{', '}', '?', '#']) {
        let message = "this is more than where Grafana is reached";
        problems.push(KindProblem::error(
            "address",
            "/url",
            message,
            "write https://name or https://name/path",
        ));
    } else {
        problems.extend(address_problem("/url", &settings.url));
    }
    problems.extend(timeout_problem("/timeout", settings.timeout));
    problems
}
