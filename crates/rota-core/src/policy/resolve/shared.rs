//! Everything in the policy that secrets refer to.

use std::cell::Cell;
use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::defaults;
use super::settings::Choosing;
use crate::format::{FillError, Template};
use crate::id::{ConsumerId, OwnerId, StoreId, check_name};
use crate::policy::kinds::{Facts, Kinds, Port};
use crate::policy::model::{ConsumerPolicy, Environment, Owner, RolloutPolicy, StorePolicy};
use crate::policy::raw::tables::{
    CalendarTable, ConsumerTable, NAMED, OwnerTable, RootTable, SecretTable, StoreTable, refuse_misplaced,
};
use crate::policy::raw::{Decode, Name, Reading, bad_name, list_of, nearest};
use crate::policy::rules::{self, Rule};
use crate::policy::source::{At, Finding, Findings, Span};
use crate::schedule::{Calendar, Gaps, InvalidCalendar};

/// The only version of the format so far.
const VERSION: u32 = 1;

/// A definition, with the place of its name. `None` where it could not be read:
/// whoever refers to it is then not told that it is missing.
#[derive(Debug)]
pub(in crate::policy) struct Defined<T> {
    pub(in crate::policy) span: Span,
    pub(in crate::policy) table: Option<T>,
    used: Cell<bool>,
}

/// The definitions of one kind of thing, by name.
pub(in crate::policy) type Definitions<T> = BTreeMap<String, Defined<T>>;

/// The policy without its secrets.
#[derive(Debug, Default)]
pub(in crate::policy) struct Shared {
    /// How many secrets all pieces have together.
    pub(in crate::policy) secrets: usize,
    pub(in crate::policy) root: RootTable,
    pub(in crate::policy) stores: Definitions<StoreTable>,
    pub(in crate::policy) owners: Definitions<OwnerTable>,
    pub(in crate::policy) calendars: Definitions<CalendarTable>,
    pub(in crate::policy) consumers: Definitions<ConsumerTable>,
    pub(in crate::policy) profiles: Definitions<SecretTable>,
    pub(in crate::policy) resolved_calendars: BTreeMap<String, (Calendar, Gaps)>,
    pub(in crate::policy) resolved_stores: BTreeMap<StoreId, StorePolicy>,
    pub(in crate::policy) resolved_owners: BTreeMap<OwnerId, Owner>,
    pub(in crate::policy) resolved_consumers: BTreeMap<ConsumerId, ConsumerPolicy>,
    pub(in crate::policy) store_facts: BTreeMap<StoreId, Facts>,
    pub(in crate::policy) rollout_facts: BTreeMap<ConsumerId, Facts>,
}

impl Shared {
    /// Where it is not said, the strictest.
    pub(in crate::policy) fn environment(&self) -> Environment {
        self.root.environment.as_ref().map_or(Environment::Production, |at| at.value)
    }

    pub(in crate::policy) fn defaults(&self) -> Option<&SecretTable> {
        self.root.defaults.as_ref().map(|at| &at.value)
    }

    /// Takes over what one piece defines.
    pub(in crate::policy) fn read(&mut self, tree: &DeTable<'_>, reading: &mut Reading<'_>) {
        let mut root = RootTable::read_but(tree, NAMED, reading);
        let known: Vec<&str> = RootTable::KEYS.iter().chain(NAMED).copied().collect();
        std::mem::take(&mut root.rest).refuse("a policy", &known, reading.findings);
        if let Some(DeValue::Table(table)) = tree.get("defaults").map(Spanned::get_ref) {
            refuse_misplaced(table, |key| SecretTable::DEFAULTS.contains(&key), "`[defaults]`", reading);
        }
        if let Some(at) = &root.defaults {
            at.value.rest.refuse("`[defaults]`", SecretTable::DEFAULTS, reading.findings);
        }
        self.merge_root(root, reading.findings);
        read_named(tree, "store", &mut self.stores, reading);
        read_named(tree, "owner", &mut self.owners, reading);
        read_named(tree, "calendar", &mut self.calendars, reading);
        read_named(tree, "consumer", &mut self.consumers, reading);
        read_named(tree, "profile", &mut self.profiles, reading);
        if let Some(DeValue::Table(profiles)) = tree.get("profile").map(Spanned::get_ref) {
            for (_, profile) in profiles {
                if let DeValue::Table(table) = profile.get_ref() {
                    refuse_misplaced(
                        table,
                        |key| !SecretTable::SECRET_ONLY.contains(&key),
                        "a profile",
                        reading,
                    );
                }
            }
        }
    }

    fn merge_root(&mut self, root: RootTable, findings: &mut Findings) {
        let RootTable { version, application, environment, defaults, rules, rest: _ } = root;
        agree(&mut self.root.version, version, "version", findings);
        agree(&mut self.root.application, application, "application", findings);
        agree(&mut self.root.environment, environment, "environment", findings);
        once(&mut self.root.defaults, defaults, "[defaults]", findings);
        once(&mut self.root.rules, rules, "[rules]", findings);
    }

    /// Checks the head and resolves what does not depend on secrets.
    pub(in crate::policy) fn resolve(&mut self, kinds: &Kinds, findings: &mut Findings) {
        self.check_head(findings);
        self.resolve_calendars(findings);
        self.resolve_stores(kinds, findings);
        self.resolve_consumers(kinds, findings);
        for (name, defined) in &self.owners {
            if let (Ok(id), Some(table)) = (OwnerId::new(name), &defined.table) {
                let slack_mention = table.slack_mention.as_ref().map(|at| at.value.clone());
                let slack_escalation = table.slack_escalation.as_ref().map(|at| at.value.clone());
                self.resolved_owners.insert(id, Owner { slack_mention, slack_escalation });
            }
        }
        for profile in self.profiles.values().filter_map(|defined| defined.table.as_ref()) {
            let known: Vec<&str> = SecretTable::KEYS.to_vec();
            for entry in profile.rest.iter().filter(|e| kinds.rotator_with_key(&e.key.value).is_none()) {
                findings.push(crate::policy::raw::unknown_key(entry, "a profile", &known));
            }
        }
    }

    fn check_head(&self, findings: &mut Findings) {
        match &self.root.version {
            Some(at) if at.value != VERSION => findings.push(
                Finding::new(
                    &rules::VERSION,
                    at.span,
                    format!("version {} of the format is not known", at.value),
                )
                .help(format!("write `version = {VERSION}`, or run a newer program")),
            ),
            Some(_) => {}
            None => findings.push(missing_head("version", &format!("version = {VERSION}"))),
        }
        if self.root.application.is_none() {
            findings.push(missing_head("application", "application = \"acd\""));
        }
        if self.root.environment.is_none() {
            findings.push(missing_head("environment", "environment = \"production\""));
        }
    }

    fn resolve_calendars(&mut self, findings: &mut Findings) {
        for (name, defined) in &self.calendars {
            let Some(table) = &defined.table else { continue };
            let (Some(cron), Some(zone)) = (&table.cron, &table.zone) else {
                findings.push(
                    Finding::new(
                        &rules::MISSING,
                        defined.span,
                        format!("the calendar `{name}` needs `cron` and `zone`"),
                    )
                    .help("write `cron = \"0 10 15 1,4,7,10 *\"` and `zone = \"UTC\"`"),
                );
                continue;
            };
            match Calendar::new(&cron.value, &zone.value) {
                Ok(calendar) => {
                    let gaps = calendar.gaps();
                    self.resolved_calendars.insert(name.clone(), (calendar, gaps));
                }
                Err(error) => findings.push(bad_calendar(&error, cron.span, zone.span)),
            }
        }
    }

    fn resolve_stores(&mut self, kinds: &Kinds, findings: &mut Findings) {
        for (name, defined) in &self.stores {
            let (Ok(id), Some(table)) = (StoreId::new(name), &defined.table) else { continue };
            let raw = table.rest.clone().into_raw(defined.span);
            let choosing = Choosing::of(self, kinds);
            let Some(chosen) = choosing.inline(Port::Store, table.kind.as_ref(), raw, findings) else {
                continue;
            };
            let one_document =
                kinds.get(Port::Store, &chosen.kind).is_some_and(|kind| kind.spec.one_document);
            let Some(path) = store_path(name, defined.span, table, one_document, findings) else { continue };
            let policy = StorePolicy { id: id.clone(), kind: chosen.kind, settings: chosen.settings, path };
            self.store_facts.insert(id.clone(), chosen.facts);
            self.resolved_stores.insert(id, policy);
        }
    }

    fn resolve_consumers(&mut self, kinds: &Kinds, findings: &mut Findings) {
        for (name, defined) in &self.consumers {
            let (Ok(id), Some(table)) = (ConsumerId::new(name), &defined.table) else { continue };
            let choosing = Choosing::of(self, kinds);
            let Some(rollout) = &table.rollout else {
                findings.push(
                    Finding::new(
                        &rules::MISSING,
                        defined.span,
                        format!("`{name}` does not say how it is made to read anew"),
                    )
                    .help(format!(
                        "add `rollout = {{ kind = ... }}`, one of {}",
                        list_of(&kinds.names(Port::Rollout))
                    )),
                );
                continue;
            };
            let raw = rollout.value.rest.clone().into_raw(rollout.span);
            let chosen = choosing.inline(Port::Rollout, rollout.value.kind.as_ref(), raw, findings);
            let checks = resolve_checks(table, choosing, findings);
            let Some(chosen) = chosen else { continue };
            let deadline = rollout.value.deadline.as_ref().map_or(defaults::ROLLOUT_DEADLINE, |at| at.value);
            let policy = ConsumerPolicy {
                id: id.clone(),
                rollout: RolloutPolicy { kind: chosen.kind, settings: chosen.settings, deadline },
                checks,
                unmonitored: table.unmonitored.as_ref().map(|at| at.value.clone()),
                settle: table.settle.as_ref().map_or(defaults::SETTLE, |at| at.value),
            };
            self.rollout_facts.insert(id.clone(), chosen.facts);
            self.resolved_consumers.insert(id, policy);
        }
    }
}

/// Where names live. A hole other than `{name}` could never be filled.
fn store_path(
    name: &str,
    span: Span,
    table: &StoreTable,
    one_document: bool,
    findings: &mut Findings,
) -> Option<Template> {
    let Some(at) = &table.path else {
        if !one_document {
            return defaults::PATH.parse().ok();
        }
        findings.push(
            Finding::new(&rules::MISSING, span, format!("`{name}` does not say where its file is"))
                .help("add `path = ...`, the path of one file"),
        );
        return None;
    };
    let holes = at.value.holes();
    if let Some(other) = holes.iter().find(|hole| **hole != "name") {
        let message = format!("the path of store `{name}` has a hole `{{{other}}}`");
        findings
            .push(Finding::new(&rules::BAD_TEMPLATE, at.span, message).help("a path knows `{name}` only"));
    } else if one_document && !holes.is_empty() {
        let message = format!("one file of `{name}` holds all names, and its path has a hole `{{name}}`");
        findings
            .push(Finding::new(&rules::BAD_TEMPLATE, at.span, message).help("write the path of one file"));
    } else if one_document && !at.value.to_string().starts_with('/') {
        let message = format!("the path of store `{name}` does not begin at the root");
        findings.push(
            Finding::new(&rules::BAD_TEMPLATE, at.span, message)
                .help("write all of it, such as `/srv/acd/.env`: the daemon's folder is not yours"),
        );
    } else if let Err(error) = at.value.fill_path(&BTreeMap::from([("name", "NAME")])) {
        let why = match error {
            FillError::Path(why) => why.to_owned(),
            FillError::Missing { .. } | FillError::Value(_) => error.to_string(),
        };
        let message = format!("the path of store `{name}` is not one: {why}");
        findings.push(
            Finding::new(&rules::BAD_TEMPLATE, at.span, message)
                .help("write it without blanks, backslashes and empty or dot segments"),
        );
    }
    Some(at.value.clone())
}

fn resolve_checks(
    table: &ConsumerTable,
    choosing: Choosing<'_>,
    findings: &mut Findings,
) -> Vec<crate::policy::model::CheckPolicy> {
    let tables = table.checks.as_ref().map(|at| at.value.as_slice()).unwrap_or_default();
    let kind_of = |check: &At<crate::policy::raw::tables::CheckTable>| {
        check.value.kind.as_ref().map(|at| at.value.clone())
    };
    let mut checks: Vec<crate::policy::model::CheckPolicy> = Vec::with_capacity(tables.len());
    for (index, check) in tables.iter().enumerate() {
        let alike = tables.iter().filter(|other| kind_of(other) == kind_of(check)).count();
        let nth = tables[..=index].iter().filter(|other| kind_of(other) == kind_of(check)).count();
        let fallback = |kind: &str| if alike == 1 { kind.to_owned() } else { format!("{kind}-{nth}") };
        let Some(policy) = choosing.check(check, fallback, findings) else { continue };
        if checks.iter().any(|other| other.name == policy.name) {
            findings.push(
                Finding::new(
                    &rules::DUPLICATE,
                    check.span,
                    format!("two checks of one consumer are called `{}`", policy.name),
                )
                .help("give each a `name` of its own"),
            );
        }
        checks.push(policy);
    }
    checks
}

fn bad_calendar(error: &InvalidCalendar, cron: Span, zone: Span) -> Finding {
    let text = error.to_string();
    let (message, advice) = text.split_once(": write ").map_or((text.as_str(), ""), |(m, a)| (m, a));
    match error {
        InvalidCalendar::Never(_) => {
            Finding::new(&rules::NEVER, cron, message).help("write days that some month has")
        }
        InvalidCalendar::Zone(_) => {
            Finding::new(&rules::BAD_VALUE, zone, message).help(format!("write {advice}"))
        }
        InvalidCalendar::Form(_) | InvalidCalendar::Field { .. } => {
            Finding::new(&rules::BAD_VALUE, cron, message).help(format!("write {advice}"))
        }
    }
}

fn missing_head(key: &str, example: &str) -> Finding {
    Finding::new(&rules::MISSING, None, format!("`{key}` is missing"))
        .help(format!("add `{example}` at the top"))
}

/// A key that several pieces may state, all alike.
fn agree<T: PartialEq>(kept: &mut Option<At<T>>, found: Option<At<T>>, key: &str, findings: &mut Findings) {
    match (kept.as_ref(), found) {
        (_, None) => {}
        (None, found) => *kept = found,
        (Some(first), Some(second)) => {
            if first.value != second.value {
                findings.push(
                    Finding::new(
                        &rules::DISAGREE,
                        second.span,
                        format!("another `{key}` than in another file of this policy"),
                    )
                    .label(first.span, "the other one")
                    .help("files of one folder are one policy: state it once, or alike"),
                );
            }
        }
    }
}

/// A table that only one piece may have.
fn once<T>(kept: &mut Option<At<T>>, found: Option<At<T>>, table: &str, findings: &mut Findings) {
    match (kept.as_ref(), found) {
        (_, None) => {}
        (None, found) => *kept = found,
        (Some(first), Some(second)) => findings.push(
            Finding::new(
                &rules::DUPLICATE,
                second.span,
                format!("`{table}` stands in two files of one policy"),
            )
            .label(first.span, "the other one")
            .help("keep it in one of them"),
        ),
    }
}

/// Takes over the definitions under one key of the top level.
fn read_named<T: Decode>(
    tree: &DeTable<'_>,
    key: &str,
    definitions: &mut Definitions<T>,
    reading: &mut Reading<'_>,
) {
    let Some(value) = tree.get(key) else { return };
    let Some(table) = reading.table(value, &format!("tables `[{key}.NAME]`")) else { return };
    for (name, value) in table {
        let span = reading.span(name);
        if let Err(error) = check_name(name.get_ref()) {
            reading.findings.push(bad_name(span, &error));
        }
        if let Some(first) = definitions.get(name.get_ref().as_ref()) {
            reading.findings.push(duplicate(key, name.get_ref(), span, first.span));
            continue;
        }
        let table = T::decode(value, reading);
        definitions.insert(name.get_ref().to_string(), Defined { span, table, used: Cell::new(false) });
    }
}

pub(in crate::policy) fn duplicate(key: &str, name: &str, span: Span, first: Span) -> Finding {
    Finding::new(&rules::DUPLICATE, span, format!("{key} `{name}` is defined twice"))
        .label(first, "first here")
        .help("rename or remove one of them")
}

/// The definition that a name refers to, marked as used.
pub(in crate::policy) fn refer<'a, T>(
    what: &str,
    name: &At<Name>,
    definitions: &'a Definitions<T>,
    findings: &mut Findings,
) -> Option<&'a Defined<T>> {
    let Name(text) = &name.value;
    if let Some(defined) = definitions.get(text) {
        defined.used.set(true);
        return Some(defined);
    }
    let known: Vec<&str> = definitions.keys().map(String::as_str).collect();
    let help = match nearest(text, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("add a table `[{what}.{text}]`"),
        None => format!("the {what}s are {}; or add `[{what}.{text}]`", list_of(&known)),
    };
    findings
        .push(Finding::new(&rules::UNDEFINED, name.span, format!("there is no {what} `{text}`")).help(help));
    None
}

/// Tells about definitions that nothing refers to.
pub(in crate::policy) fn unused<T>(
    what: &str,
    definitions: &Definitions<T>,
    rule: &Rule,
    findings: &mut Findings,
) {
    for (name, defined) in definitions.iter().filter(|(_, defined)| !defined.used.get()) {
        findings.push(
            Finding::new(rule, defined.span, format!("nothing uses the {what} `{name}`"))
                .help("remove it, or refer to it"),
        );
    }
}
