//! One secret: its layers become a [`SecretPolicy`].

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::defaults;
use super::layers::Layers;
use super::settings::Choosing;
use super::shared::{Shared, refer};
use crate::format::Format;
use crate::id::{ConsumerId, FieldName, OwnerId, SecretId, StoreId};
use crate::policy::kinds::{Facts, Kind, Kinds, Port, SecretView, Shape};
use crate::policy::model::{Class, Consumers, FieldPolicy, Fields, Healthy, Hook, PublishForm, SecretPolicy};
use crate::policy::raw::tables::{PublishTable, SecretTable};
use crate::policy::raw::{Cadence, ConsumerList, Name, Raw, WindowForm, nearest};
use crate::policy::rules;
use crate::policy::source::{At, Finding, Findings};
use crate::rotation::{Source, Step};
use crate::schedule::{Schedule, Window};
use crate::value::MAX_VALUE_BYTES;

/// A secret with what its kind says about it.
pub(in crate::policy) struct Resolved {
    pub(in crate::policy) policy: SecretPolicy,
    pub(in crate::policy) facts: Facts,
    /// The shortest time between two due dates; `None` where nothing is due by itself.
    pub(in crate::policy) cadence: Option<SignedDuration>,
}

/// `None` where a finding stands in the way.
pub(in crate::policy) fn resolve(
    layers: &Layers<'_>,
    shared: &Shared,
    kinds: &Kinds,
    findings: &mut Findings,
) -> Option<Resolved> {
    let id = SecretId::new(&layers.name.value).ok()?;
    let class = layers.get(|t| &t.class).map(|at| at.value);
    let accept_gap = layers.get(|t| &t.accept_gap).is_some_and(|at| at.value);
    let fields = fields(layers, findings);
    let secret = SecretView { id: &id, class, accept_gap, fields: fields.as_ref() };
    let choosing = Choosing { secret: Some(secret), ..Choosing::of(shared, kinds) };

    let kind = choosing.kind(Port::Rotator, layers.get(|t| &t.kind), layers.name.span, findings);
    refuse_foreign_keys(layers, kind, kinds, findings);
    let chosen = kind.and_then(|kind| choosing.settings(kind, settings_of(layers, kind), findings));
    let timing = schedule(layers, shared, findings);
    let stores = stores(layers, shared, findings);
    let consumers = consumers(layers, shared, findings);
    let owner = layers.get(|t| &t.owner).and_then(|at| {
        refer("owner", at, &shared.owners, findings)?;
        OwnerId::new(&at.value.0).ok()
    });
    let hooks = hooks(layers, choosing, findings);
    let prove = layers.get(|t| &t.prove).and_then(|at| choosing.check(at, |_| "prove".to_owned(), findings));
    let publish = publish(layers, findings);
    let deadlines = deadlines(layers, findings);

    let chosen = chosen?;
    let (facts, (schedule, cadence), stores) = (chosen.facts, timing?, stores?);
    let format = format(layers, class, &facts);
    let window = layers.get(|t| &t.window).and_then(|at| match &at.value {
        WindowForm::Always => None,
        WindowForm::Weekly(window) => {
            // Found once for all secrets that share the line: clones keep the answer.
            let _ = window.longest_closed();
            Some(window.clone())
        }
    });
    let duration = |key: fn(&SecretTable) -> &Option<At<SignedDuration>>| layers.get(key).map(|at| at.value);
    let token_ttl = duration(|t| &t.token_ttl);
    let overlap = duration(|t| &t.overlap)
        .unwrap_or_else(|| defaults::overlap(cadence).max(token_ttl.unwrap_or(SignedDuration::ZERO)));
    let token_ttl =
        token_ttl.unwrap_or(if class == Some(Class::Signing) { overlap } else { SignedDuration::ZERO });
    let revoke_after = duration(|t| &t.revoke_after).unwrap_or_else(|| {
        if facts.disables { defaults::revoke_after(cadence) } else { SignedDuration::ZERO }
    });
    let inbox = inbox(layers, &id, &stores, &facts, shared);
    let policy = SecretPolicy {
        kind: chosen.kind,
        settings: chosen.settings,
        class,
        format,
        fields: fields.unwrap_or_else(|| own_field(&id)),
        stores,
        publish: publish.unwrap_or(PublishForm::Single),
        lead: lead(duration(|t| &t.lead), cadence, &schedule, window.as_ref()),
        schedule,
        overlap,
        token_ttl,
        revoke_after,
        window,
        healthy: healthy(layers, overlap),
        on_failure: layers.get(|t| &t.on_failure).map_or(defaults::ON_FAILURE, |at| at.value),
        deadlines,
        consumers,
        accept_gap,
        priority: layers.get(|t| &t.priority).map_or(defaults::PRIORITY, |at| at.value),
        owner,
        remind: remind(layers, cadence),
        page: layers.get(|t| &t.page).map(|at| at.value.clone()),
        prove,
        prove_with: layers.get(|t| &t.prove_with).and_then(|at| FieldName::new(&at.value.0).ok()),
        hooks,
        inbox,
        own: layers.get(|t| &t.own).is_some_and(|at| at.value),
        cadence_basis: layers.get(|t| &t.cadence_basis).map(|at| at.value.clone()),
        id,
    };
    Some(Resolved { policy, facts, cadence })
}

/// The settings of `kind` from the secret, and what is missing there from its profile.
fn settings_of(layers: &Layers<'_>, kind: &Kind) -> Raw {
    let mut raw = Raw::empty(layers.get(|t| &t.kind).map_or(layers.name.span, |at| at.span));
    for layer in [Some(layers.own), layers.profile].into_iter().flatten() {
        match kind.spec.shape {
            Shape::Nothing => {}
            Shape::Table(name) => {
                if let Some(entry) = layer.rest.get(name) {
                    if raw.value.as_object().is_some_and(serde_json::Map::is_empty) {
                        raw = entry.raw.clone();
                    } else {
                        raw.fill_from(&entry.raw);
                    }
                }
            }
            Shape::Inline => {
                let own = layer.rest.only(|key| kind.keys().any(|known| known == key));
                raw.fill_from(&own.into_raw(raw.span));
            }
        }
    }
    raw
}

/// Keys of the secret that are neither the core's nor its kind's. Of a kind that is
/// not known, any rotator's keys may be meant.
fn refuse_foreign_keys(layers: &Layers<'_>, kind: Option<&Kind>, kinds: &Kinds, findings: &mut Findings) {
    let own_keys: Vec<&str> = match kind.map(|kind| (kind, kind.spec.shape)) {
        None | Some((_, Shape::Nothing)) => Vec::new(),
        Some((_, Shape::Table(name))) => vec![name],
        Some((kind, Shape::Inline)) => kind.keys().collect(),
    };
    for entry in layers.own.rest.iter().filter(|entry| !own_keys.contains(&entry.key.value.as_str())) {
        let key = &entry.key.value;
        match (kinds.rotator_with_key(key), kind) {
            (Some(_), None) => {}
            (Some(other), Some(kind)) => {
                let (other, kind) = (other.spec.name, kind.spec.name);
                let message =
                    format!("`{key}` belongs to the kind `{other}`, and this secret is of kind `{kind}`");
                findings.push(
                    Finding::new(&rules::NOT_FOR_KIND, entry.key.span, message)
                        .help(format!("write `kind = \"{other}\"`, or remove `{key}`")),
                );
            }
            (None, _) => {
                let known: Vec<&str> =
                    SecretTable::KEYS.iter().copied().chain(own_keys.iter().copied()).collect();
                findings.push(crate::policy::raw::unknown_key(entry, "a secret", &known));
            }
        }
    }
}

/// Cadence or calendar, from the nearest layer that says either, with the shortest
/// time between two due dates.
fn schedule(
    layers: &Layers<'_>,
    shared: &Shared,
    findings: &mut Findings,
) -> Option<(Schedule, Option<SignedDuration>)> {
    let Some(layer) = layers.all().find(|layer| layer.cadence.is_some() || layer.calendar.is_some()) else {
        findings.push(
            Finding::new(
                &rules::MISSING,
                layers.name.span,
                format!("`{}` does not say when it is due", layers.name.value),
            )
            .help("add `cadence = \"90d\"`, `calendar = ...`, or `cadence = \"on-request\"`"),
        );
        return None;
    };
    match (&layer.cadence, &layer.calendar) {
        (Some(cadence), Some(calendar)) => {
            findings.push(
                Finding::new(&rules::CONFLICT, calendar.span, "a calendar and a cadence at once")
                    .label(cadence.span, "the cadence")
                    .help("keep one; the age that a calendar promises is its `max_age`"),
            );
            None
        }
        (Some(cadence), None) => Some(match cadence.value {
            Cadence::Every(every) => (Schedule::Cadence { every }, Some(every)),
            Cadence::OnRequest => (Schedule::OnRequest, None),
        }),
        (None, Some(name)) => {
            let table = refer("calendar", name, &shared.calendars, findings)?.table.as_ref()?;
            let (dates, gaps) = shared.resolved_calendars.get(&name.value.0)?;
            let max_age = table.max_age.as_ref().map(|at| at.value);
            Some((Schedule::Calendar { dates: dates.clone(), max_age }, Some(gaps.shortest)))
        }
        (None, None) => None,
    }
}

/// What is stated, else the only store that there is.
fn stores(layers: &Layers<'_>, shared: &Shared, findings: &mut Findings) -> Option<Vec<StoreId>> {
    let Some(at) = layers.get(|t| &t.stores) else {
        let mut defined = shared.stores.keys();
        if let (Some(name), None) = (defined.next(), defined.next()) {
            let span = layers.name.span;
            refer("store", &At { value: Name(name.clone()), span }, &shared.stores, findings);
            return StoreId::new(name).ok().map(|id| vec![id]);
        }
        findings.push(
            Finding::new(
                &rules::MISSING,
                layers.name.span,
                format!("`{}` does not say where it is kept", layers.name.value),
            )
            .help("add `stores = [\"NAME\"]` here or in `[defaults]`, and a table `[store.NAME]`"),
        );
        return None;
    };
    let mut ids: Vec<StoreId> = Vec::with_capacity(at.value.len());
    for name in &at.value {
        if refer("store", name, &shared.stores, findings).is_none() {
            continue;
        }
        let Ok(id) = StoreId::new(&name.value.0) else { continue };
        if ids.contains(&id) {
            findings.push(
                Finding::new(&rules::DUPLICATE, name.span, format!("store `{id}` is named twice"))
                    .help("name it once"),
            );
            continue;
        }
        ids.push(id);
    }
    if at.value.is_empty() {
        findings.push(
            Finding::new(&rules::MISSING, at.span, "a secret without a store")
                .help("name the store that consumers read"),
        );
    }
    (!ids.is_empty()).then_some(ids)
}

/// A missing list is the linter's business.
fn consumers(layers: &Layers<'_>, shared: &Shared, findings: &mut Findings) -> Consumers {
    let Some(ConsumerList::Named(list)) = layers.get(|t| &t.consumers).map(|at| &at.value) else {
        return Consumers::None;
    };
    let mut names: Vec<ConsumerId> = Vec::with_capacity(list.len());
    for name in list {
        refer("consumer", name, &shared.consumers, findings);
        if let Ok(id) = ConsumerId::new(&name.value.0)
            && !names.contains(&id)
        {
            names.push(id);
        }
    }
    Consumers::Named { names }
}

fn hooks(layers: &Layers<'_>, choosing: Choosing<'_>, findings: &mut Findings) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for hook in layers.get(|t| &t.hooks).map(|at| at.value.as_slice()).unwrap_or_default() {
        let Some(at) = &hook.value.at else {
            findings.push(
                Finding::new(&rules::MISSING, hook.span, "the hook does not say when it runs")
                    .help("add `at = \"before-promote\"` or another point"),
            );
            continue;
        };
        let raw = hook.value.rest.clone().into_raw(hook.span);
        if let Some(chosen) = choosing.inline(Port::Hook, hook.value.kind.as_ref(), raw, findings) {
            hooks.push(Hook { at: at.value, kind: chosen.kind, settings: chosen.settings });
        }
    }
    hooks
}

fn publish(layers: &Layers<'_>, findings: &mut Findings) -> Option<PublishForm> {
    let at = layers.get(|t| &t.publish)?;
    let PublishTable { first, second, pinned, list, document, whole: _, rest: _ } = &at.value;
    let field = |at: &At<Name>| FieldName::new(&at.value.0).ok();
    let mut wrong = |message: &str, help: &str| {
        findings.push(Finding::new(&rules::CONFLICT, at.span, message).help(help))
    };
    let inner = match (first, second, list) {
        (Some(first), Some(second), None) => {
            if first.value == second.value {
                wrong(
                    "the two names of a pair are the same",
                    "give the second value a name of its own, such as `X_OLD`",
                );
            }
            let pinned = pinned.as_ref().is_some_and(|at| at.value);
            PublishForm::Pair { first: field(first)?, second: field(second)?, pinned }
        }
        (None, None, Some(name)) => PublishForm::List { name: field(name)? },
        (None, None, None) => PublishForm::Single,
        (Some(_), None, None) | (None, Some(_), None) => {
            wrong("a pair has two names", "write `publish = { first = \"X\", second = \"X_OLD\" }`");
            return None;
        }
        (_, _, Some(_)) => {
            wrong("a pair and a list at once", "keep `first` and `second`, or `list`");
            return None;
        }
    };
    if pinned.is_some() && !matches!(inner, PublishForm::Pair { .. }) {
        wrong("only a pair can be pinned", "remove `pinned`");
    }
    Some(match document {
        Some(path) => PublishForm::Document { path: path.value.0.clone(), inner: Box::new(inner) },
        None => inner,
    })
}

fn deadlines(layers: &Layers<'_>, findings: &mut Findings) -> BTreeMap<String, SignedDuration> {
    let mut deadlines = BTreeMap::new();
    for layer in layers.all() {
        for (step, limit) in layer.deadline.iter().flat_map(|at| &at.value.0) {
            if Step::parse(&step.value).is_none() {
                let known: Vec<String> = Step::ALL.iter().map(|step| step.as_str().to_owned()).collect();
                let help = match nearest(&step.value, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the steps are {}", crate::policy::raw::list_of(&known)),
                };
                findings.push(
                    Finding::new(&rules::BAD_VALUE, step.span, format!("no step is called `{}`", step.value))
                        .help(help),
                );
            }
            deadlines.entry(step.value.clone()).or_insert(limit.value);
        }
    }
    deadlines
}

fn fields(layers: &Layers<'_>, findings: &mut Findings) -> Option<Fields> {
    let at = layers.own.fields.as_ref()?;
    let mut fields = Vec::with_capacity(at.value.0.len());
    for (name, form) in &at.value.0 {
        match FieldName::new(&name.value) {
            Ok(id) => {
                let template = form.value.template.as_ref().map(|at| at.value.clone());
                let format = form.value.format.as_ref().map(|at| at.value.clone());
                fields.push((id, FieldPolicy { template, format }));
            }
            Err(error) => findings.push(crate::policy::raw::bad_name(name.span, &error)),
        }
    }
    if fields.is_empty() {
        findings.push(
            Finding::new(&rules::MISSING, at.span, "`fields` without a field")
                .help("name what consumers read, or leave `fields` out"),
        );
    }
    Some(fields.into_iter().collect())
}

/// A secret without fields has one, named like itself, that is the value.
fn own_field(id: &SecretId) -> Fields {
    let name = FieldName::new(id.as_str()).ok();
    name.map(|name| (name, FieldPolicy { template: None, format: None })).into_iter().collect()
}

/// What is stated; for a value that a person supplies, at least a length.
fn format(layers: &Layers<'_>, class: Option<Class>, facts: &Facts) -> Option<Format> {
    if let Some(at) = layers.get(|t| &t.format) {
        return Some(at.value.clone());
    }
    if facts.source != Source::Submitted {
        return None;
    }
    let min = layers.get(|t| &t.minimum).map(|at| at.value).unwrap_or_else(|| {
        class.map_or(defaults::SUPPLIED_CHARS, crate::policy::lint::values::supplied_chars)
    });
    Some(Format::Text { min, max: u32::try_from(MAX_VALUE_BYTES).unwrap_or(u32::MAX) })
}

fn lead(
    stated: Option<SignedDuration>,
    cadence: Option<SignedDuration>,
    schedule: &Schedule,
    window: Option<&Window>,
) -> SignedDuration {
    if *schedule == Schedule::OnRequest {
        return SignedDuration::ZERO;
    }
    let closed = window.map_or(SignedDuration::ZERO, Window::longest_closed);
    stated.unwrap_or_else(|| defaults::lead(cadence)).max(closed)
}

fn healthy(layers: &Layers<'_>, overlap: SignedDuration) -> Healthy {
    let mut healthy = defaults::healthy(overlap);
    if let Some(at) = layers.get(|t| &t.healthy) {
        let count = at.value.count.as_ref().map(|at| at.value);
        let every = at.value.every.as_ref().map(|at| at.value);
        let failures = at.value.failures.as_ref().map(|at| at.value);
        healthy.count = count.unwrap_or(healthy.count);
        healthy.every = every.unwrap_or(healthy.every);
        healthy.failures = failures.unwrap_or(healthy.failures);
    }
    healthy
}

/// What the secret states stands; from defaults only what lies within the cadence.
fn remind(layers: &Layers<'_>, cadence: Option<SignedDuration>) -> Vec<SignedDuration> {
    if let Some(at) = layers.stated(|t| &t.remind) {
        return at.value.0.clone();
    }
    let usual = layers.get(|t| &t.remind).map_or_else(|| defaults::REMIND.to_vec(), |at| at.value.0.clone());
    usual.into_iter().filter(|before| cadence.is_none_or(|cadence| *before < cadence)).collect()
}

/// Only values that a person supplies have an inbox: the secret's, else its primary store's.
fn inbox(
    layers: &Layers<'_>,
    id: &SecretId,
    stores: &[StoreId],
    facts: &Facts,
    shared: &Shared,
) -> Option<String> {
    if facts.source != Source::Submitted {
        return None;
    }
    if let Some(at) = layers.get(|t| &t.inbox) {
        return Some(at.value.clone());
    }
    let table = shared.stores.get(stores.first()?.as_str())?.table.as_ref()?;
    table.inbox.as_ref().map(|at| at.value.as_str().replace("{name}", id.as_str()))
}
