//! What a policy says about a credential that a program rotates.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use rota_core::rotation::Source;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checks::reference_problem;
use crate::child;
use crate::credential::Reference;
use crate::login::{holes_of, unknown_hole};
use crate::settings::timeout_problem;

/// What the target calls the credential.
pub(super) const USERNAME: &str = "username";
/// The part that Rota generates.
pub(super) const PASSWORD: &str = "password";

/// Who makes a new value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// Rota; the program sets it.
    #[default]
    FromRota,
    /// The target; the program hands it over once.
    FromTarget,
}

/// `command = { program = ["/usr/local/lib/rota/proxy-users"], target = "proxy.internal", users = ["acd_a", "acd_b"] }`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// The program and its arguments, to which the verb is added; no shell reads them.
    pub program: Vec<String>,
    /// What the program rotates, in a word: no two secrets may rotate the same users there.
    pub target: String,
    /// `from-rota` (without it) or `from-target`.
    #[serde(default)]
    pub values: Values,
    /// The only user.
    pub user: Option<String>,
    /// The two users that take turns.
    pub users: Option<Vec<String>>,
    /// The target accepts old and new at once; without it only where `users` take turns or
    /// values come from the target.
    pub overlaps: Option<bool>,
    /// The program knows `disable` and `enable`.
    #[serde(default)]
    pub disables: bool,
    /// The program refuses an effect whose fence is not greater than the last one.
    #[serde(default)]
    pub fenced: bool,
    /// How long after the promotion the old credential counts as unused, where the program
    /// does not say `in_use`.
    pub quiet: Option<DurationText>,
    /// Where the program's own login is kept (`store:path#field`); it gets it with the values.
    pub admin: Option<Reference>,
    /// Given to the program with each question; no secrets.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The folder that it runs in; the daemon's own where nothing is said.
    pub directory: Option<PathBuf>,
    /// Names of the daemon's environment that it gets beside PATH, HOME and the like.
    #[serde(default)]
    pub environment: Vec<String>,
    /// How long it may run; 20s where nothing is said, 25s at most.
    pub timeout: Option<DurationText>,
}

impl CommandSettings {
    pub(super) fn overlaps(&self) -> bool {
        self.overlaps.unwrap_or(self.users.is_some() || self.values == Values::FromTarget)
    }

    pub(super) fn source(&self) -> Source {
        match self.values {
            Values::FromRota => Source::Generated,
            Values::FromTarget => Source::Created,
        }
    }

    /// Every user of the target that a rotation touches, or the target as a whole.
    pub(super) fn targets(&self) -> Vec<String> {
        let target = &self.target;
        let names: Vec<&String> = self.users.iter().flatten().chain(&self.user).collect();
        if names.is_empty() {
            return vec![format!("what a program rotates at {target}")];
        }
        names.into_iter().map(|name| format!("user {name} that a program rotates at {target}")).collect()
    }
}

fn read(settings: &Value) -> Option<CommandSettings> {
    CommandSettings::deserialize(settings).ok()
}

pub(super) fn facts(settings: &Value) -> Facts {
    let Some(settings) = read(settings) else { return Facts::default() };
    Facts {
        overlaps: settings.overlaps(),
        disables: settings.disables,
        source: settings.source(),
        targets: settings.targets(),
        ..Facts::default()
    }
}

pub(super) fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> = child::problems("/program", &settings.program).into_iter().collect();
    problems.extend(child::environment_problem("/environment", &settings.environment));
    problems.extend(timeout_problem("/timeout", settings.timeout));
    if settings.target.trim().is_empty() {
        let help = "write what the program rotates: `target = \"proxy.internal\"`";
        problems.push(KindProblem::error("target", "/target", "the target has no name", help));
    }
    problems.extend(
        settings.admin.as_ref().and_then(|admin| reference_problem("/admin", &admin.to_string(), context)),
    );
    problems.extend(of_users(&settings));
    if let Some(secret) = &context.secret {
        problems.extend(of_fields(&settings, &holes_of(secret)));
    }
    problems
}

fn of_users(settings: &CommandSettings) -> Option<KindProblem> {
    let wrong =
        |pointer: &str, message: &str, help: &str| Some(KindProblem::error("users", pointer, message, help));
    match (settings.values, &settings.user, settings.users.as_deref()) {
        (Values::FromTarget, None, None) => None,
        (Values::FromTarget, _, _) => wrong(
            "/values",
            "what the target makes has the name that the target gives it",
            "remove `user` and `users`, or write `values = \"from-rota\"`",
        ),
        (Values::FromRota, Some(_), Some(_)) => {
            wrong("/user", "two users take turns, and this names one more", "remove `user` or `users`")
        }
        (Values::FromRota, _, None) => None,
        (Values::FromRota, None, Some([one, other])) if one != other => None,
        (Values::FromRota, None, Some(_)) => wrong(
            "/users",
            "two users take turns, and these are not two",
            "write `users = [\"acd_a\", \"acd_b\"]`",
        ),
    }
}

/// Consumers read everything that changes.
fn of_fields(settings: &CommandSettings, holes: &std::collections::BTreeSet<&str>) -> Option<KindProblem> {
    let wrong = |message: &str, help: &str| Some(KindProblem::error("fields", "", message, help));
    const FIELDS: &str = "add `fields = { PROXY_USER = \"{username}\", PROXY_PASSWORD = \"{password}\" }`";
    match settings.values {
        Values::FromRota => {
            let named = settings.user.is_some() || settings.users.is_some();
            let parts: &[&str] = if named { &[USERNAME, PASSWORD] } else { &[PASSWORD] };
            if let Some(unknown) = unknown_hole(holes, parts) {
                return Some(unknown);
            }
            if !holes.contains(PASSWORD) {
                return wrong("consumers would read no password", FIELDS);
            }
            if settings.users.is_some() && !holes.contains(USERNAME) {
                return wrong(
                    "the user changes with each rotation, and consumers would not read its name",
                    FIELDS,
                );
            }
            None
        }
        Values::FromTarget if !holes.contains(USERNAME) || holes.len() < 2 => wrong(
            "consumers would not read a whole credential, whose name changes with each rotation",
            "add `fields = { API_KEY = \"{username}:{key}\" }`: `username` is what the target calls it, the \
             other parts are named by the program",
        ),
        Values::FromTarget => None,
    }
}
