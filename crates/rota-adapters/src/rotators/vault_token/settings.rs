//! What a policy says about a token of Vault.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use rota_core::rotation::Source;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::login::{holes_of, unknown_hole};
use crate::vault::is_path;

pub(super) const TOKEN: &str = "token";
pub(super) const ACCESSOR: &str = "accessor";

/// What a template may be filled with.
const PARTS: [&str; 2] = [TOKEN, ACCESSOR];

/// `vault = { role = "jobswipe", period = "72h" }`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultTokenSettings {
    /// The token role that makes it (`orphan=true`).
    pub role: Option<String>,
    /// Its policies; with a role, some of those that the role allows.
    #[serde(default)]
    pub policies: Vec<String>,
    /// It lives on while it is renewed within this time; with a role, the role's `token_period`.
    pub period: Option<DurationText>,
    /// It ends after this time, however often it is renewed. One of `period` and `ttl` is said.
    pub ttl: Option<DurationText>,
    /// What its tokens are called in Vault, each time the same and nobody else's; the secret's
    /// name without it.
    pub label: Option<String>,
    /// Leaves out the policy `default`.
    #[serde(default)]
    pub no_default_policy: bool,
}

fn read(settings: &Value) -> Option<VaultTokenSettings> {
    VaultTokenSettings::deserialize(settings).ok()
}

pub(super) fn facts(settings: &Value) -> Facts {
    let Some(settings) = read(settings) else { return Facts::default() };
    Facts {
        overlaps: true,
        source: Source::Created,
        lifetime: settings.ttl.map(|ttl| ttl.0),
        targets: settings.label.as_deref().map(target).into_iter().collect(),
        ..Facts::default()
    }
}

/// What no other secret may rotate.
pub(super) fn target(label: &str) -> String {
    format!("tokens of Vault called {label}")
}

pub(super) fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> = of_life(&settings).into_iter().collect();
    problems.extend(of_rights(&settings));
    let Some(holes) = context.secret.as_ref().map(holes_of) else { return problems };
    problems.extend(of_fields(&holes));
    problems
}

fn of_life(settings: &VaultTokenSettings) -> Option<KindProblem> {
    let problem =
        |pointer: &str, message: &str, help: &str| Some(KindProblem::error("life", pointer, message, help));
    const ONE: &str = "write `period = \"72h\"` where consumers renew it, else `ttl = \"2400h\"`";
    match (settings.period, settings.ttl) {
        (None, None) => problem("", "nothing says how long the token lives", ONE),
        (Some(_), Some(_)) => problem("/ttl", "a token has a period or an end", ONE),
        (Some(life), None) | (None, Some(life)) if life.0 < SignedDuration::from_mins(1) => {
            let pointer = if settings.period.is_some() { "/period" } else { "/ttl" };
            problem(pointer, "a rotation takes longer than this token lives", ONE)
        }
        (Some(_), None) | (None, Some(_)) => None,
    }
}

fn of_rights(settings: &VaultTokenSettings) -> Option<KindProblem> {
    let problem =
        |pointer: &str, message: &str, help: &str| Some(KindProblem::error("rights", pointer, message, help));
    if settings.role.as_deref().is_some_and(|role| !is_path(role) || role.contains('/')) {
        return problem(
            "/role",
            "this is not the name of a role",
            "write it as `vault list auth/token/roles` shows it",
        );
    }
    if settings.policies.iter().any(|policy| policy == "root") {
        return problem("/policies", "consumers do not get the root policy", "name a policy of their own");
    }
    (settings.role.is_none() && settings.policies.is_empty()).then(|| {
        let message = "neither a role nor policies say what the token may do";
        KindProblem::error("rights", "", message, "write `role = \"acd\"`, or `policies = [\"acd\"]`")
    })
}

fn of_fields(holes: &BTreeSet<&str>) -> Option<KindProblem> {
    if let Some(unknown) = unknown_hole(holes, &PARTS) {
        return Some(unknown);
    }
    let help = "add `fields = { VAULT_TOKEN = \"{token}\", VAULT_TOKEN_ACCESSOR = \"{accessor}\" }`";
    let problem = |message: &str| Some(KindProblem::error("fields", "", message, help));
    if !holes.contains(TOKEN) {
        return problem("consumers would read no token");
    }
    if !holes.contains(ACCESSOR) {
        return problem("nothing published names the token, which is revoked by its accessor");
    }
    None
}
