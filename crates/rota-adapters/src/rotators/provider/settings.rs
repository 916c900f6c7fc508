//! What a policy says about a key at a provider.

use std::collections::BTreeMap;

use rota_core::policy::kinds::{Facts, KindContext, KindProblem, SecretView};
use rota_core::rotation::Source;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::catalogue::{Provider, Providers};
use super::lint::ID;
use crate::checks::reference_problem;
use crate::credential::Reference;
use crate::login::{holes_of, unknown_hole};

/// How long the id of a rotation is in a key's name.
const ROTATION_LENGTH: usize = 32;

/// `provider = { name = "resend", label = "acd-prod", admin = "aws:prod/rota/resend" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// A provider of the catalogue, or of a file in the daemon's own folder.
    pub name: String,
    /// What this secret's keys are called before the rotation's id. Nobody else's keys may be
    /// called so.
    pub label: String,
    /// Where Rota's own login at the provider is kept (`store:path#field`).
    pub admin: Reference,
    /// What the provider asks for: an account, a project, what keys may do.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
    /// Another base address that the provider names.
    pub region: Option<String>,
}

impl ProviderSettings {
    /// What fills the provider's templates: what the policy says, else the defaults.
    pub(super) fn filled<'s>(&'s self, provider: &'s Provider) -> BTreeMap<&'s str, &'s str> {
        let settings = provider.file.settings.iter();
        let defaults =
            settings.filter_map(|(name, setting)| Some((name.as_str(), setting.default.as_deref()?)));
        let said = self.with.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        defaults.chain(said).collect()
    }

    /// Names are unique in an account; which account it is, `with` says.
    pub(super) fn target(&self) -> String {
        let with: Vec<String> = self.with.iter().map(|(name, text)| format!("{name} {text}")).collect();
        let region = self.region.iter().map(|region| format!("region {region}"));
        let place: Vec<String> = with.into_iter().chain(region).collect();
        let of = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
        format!("keys `{}-...` at `{}`{of}", self.label, self.name)
    }
}

fn read(settings: &Value) -> Option<ProviderSettings> {
    ProviderSettings::deserialize(settings).ok()
}

pub(super) fn facts(settings: &Value) -> Facts {
    let Some(settings) = read(settings) else { return Facts::default() };
    let shipped = Providers::shipped().ok();
    let provider = shipped.as_ref().and_then(|shipped| shipped.get(&settings.name));
    Facts {
        // Of a provider of the daemon's own folder nothing is known here; the rotator refuses
        // to begin where the policy does not fit it.
        overlaps: provider.is_none_or(|provider| provider.file.limits.overlap),
        disables: provider.is_some_and(|provider| provider.reversible()),
        source: Source::Created,
        targets: vec![settings.target()],
        ..Facts::default()
    }
}

pub(super) fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let admin = reference_problem("/admin", &settings.admin.to_string(), context);
    let mut found: Vec<KindProblem> = admin.into_iter().collect();
    let Ok(shipped) = Providers::shipped() else { return found };
    match shipped.get(&settings.name) {
        Some(provider) => found.extend(problems(&settings, provider, context.secret.as_ref())),
        None => {
            let message = format!("`{}` is no provider of this version", settings.name);
            let help = format!(
                "the daemon needs its file in `providers.folder`; this version has {}",
                shipped.names()
            );
            found.push(KindProblem::error("provider", "/name", message, help).hint());
        }
    }
    found
}

/// What does not fit the provider.
pub(super) fn problems(
    settings: &ProviderSettings,
    provider: &Provider,
    secret: Option<&SecretView<'_>>,
) -> Vec<KindProblem> {
    let mut problems = with_problems(settings, provider);
    problems.extend(label_problem(settings, provider));
    if let Some(region) = &settings.region
        && !provider.file.regions.contains_key(region)
    {
        let names: Vec<&str> = provider.file.regions.keys().map(String::as_str).collect();
        let help = match names.as_slice() {
            [] => "leave it out, this provider has one address".to_owned(),
            names => format!("write one of {}", names.join(", ")),
        };
        problems.push(KindProblem::error("region", "/region", "the provider has no such region", help));
    }
    problems.extend(secret.and_then(|secret| fields_problem(provider, secret)));
    problems
}

fn with_problems(settings: &ProviderSettings, provider: &Provider) -> Vec<KindProblem> {
    let known = &provider.file.settings;
    let mut problems = Vec::new();
    for (name, text) in &settings.with {
        let pointer = format!("/with/{name}");
        let Some(setting) = known.get(name) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let help = format!("`{}` takes {}", settings.name, names.join(", "));
            let message = format!("`{name}` is nothing that this provider asks for");
            problems.push(KindProblem::error("with", pointer, message, help).on_key());
            continue;
        };
        if text.is_empty() || (!setting.values.is_empty() && !setting.values.contains(text)) {
            let help = match setting.values.as_slice() {
                [] => format!("write {}", setting.about),
                values => format!("write one of {}", values.join(", ")),
            };
            problems.push(KindProblem::error("with", pointer, "this does not fit", help));
        }
    }
    for (name, setting) in known {
        if !settings.with.contains_key(name) && setting.default.is_none() && !setting.optional {
            let message = format!("`{}` asks for {}", settings.name, setting.about);
            let help = format!("add `with = {{ {name} = \"...\" }}`");
            problems.push(KindProblem::error("with", "", message, help));
        }
    }
    problems
}

fn label_problem(settings: &ProviderSettings, provider: &Provider) -> Option<KindProblem> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let label = &settings.label;
    if label.is_empty() || !label.chars().all(legal) {
        let help = "write letters, digits, `.`, `_` and `-`: `label = \"acd-prod\"`";
        return Some(KindProblem::error("label", "/label", "this cannot begin a key's name", help));
    }
    let filled = provider.key_name.fill_text(&BTreeMap::from([
        ("label", label.as_str()),
        ("rotation", "0".repeat(ROTATION_LENGTH).as_str()),
    ]));
    let most = provider.file.limits.name_length;
    let over = filled.map_or(0, |name| name.chars().count().saturating_sub(most));
    (over > 0).then(|| {
        let message =
            format!("a key's name would have over {most} characters, the most that the provider takes");
        let help = format!("write a label of at most {} characters", label.len().saturating_sub(over));
        KindProblem::error("label", "/label", message, help)
    })
}

/// Consumers have to read the whole key, and Rota has to find its id there again.
fn fields_problem(provider: &Provider, secret: &SecretView<'_>) -> Option<KindProblem> {
    let parts = provider.parts();
    let holes = holes_of(secret);
    if let Some(unknown) = unknown_hole(&holes, &parts) {
        return Some(unknown);
    }
    let create = &provider.file.create;
    let names_the_key =
        holes.contains(ID) || create.id_in.as_ref().is_some_and(|id_in| holes.contains(id_in.part.as_str()));
    let any_part = parts.iter().any(|part| *part != ID && holes.contains(part));
    if names_the_key && any_part {
        return None;
    }
    let example: Vec<String> =
        parts.iter().map(|part| format!("KEY_{} = \"{{{part}}}\"", part.to_uppercase())).collect();
    let help = format!("add `fields = {{ {} }}`", example.join(", "));
    let message =
        "what is published has to hold the key and the provider's own name of it, by which it is ended";
    Some(KindProblem::error("fields", "", message, help))
}
