//! Tables that name a kind: looks the kind up, examines its settings, takes them over.

use serde_json::Value;

use super::shared::Shared;
use crate::id::StoreId;
use crate::policy::kinds::{Facts, Kind, KindContext, Kinds, Port, SecretView, Shape};
use crate::policy::model::{CheckPolicy, Environment, StorePolicy};
use crate::policy::raw::tables::CheckTable;
use crate::policy::raw::{Raw, list_of, nearest};
use crate::policy::rules;
use crate::policy::source::{At, Finding, Findings, Span};
use std::collections::BTreeMap;

/// A kind with settings that it takes.
pub(in crate::policy) struct Chosen {
    pub(in crate::policy) kind: String,
    pub(in crate::policy) settings: Value,
    pub(in crate::policy) facts: Facts,
}

/// What choosing a kind needs to know.
#[derive(Clone, Copy)]
pub(in crate::policy) struct Choosing<'a> {
    pub(in crate::policy) kinds: &'a Kinds,
    pub(in crate::policy) environment: Environment,
    pub(in crate::policy) stores: &'a BTreeMap<StoreId, StorePolicy>,
    pub(in crate::policy) secret: Option<SecretView<'a>>,
}

impl<'a> Choosing<'a> {
    /// Without stores, for the stores themselves.
    pub(in crate::policy) fn of(shared: &'a Shared, kinds: &'a Kinds) -> Self {
        Self { kinds, environment: shared.environment(), stores: &shared.resolved_stores, secret: None }
    }

    /// The kind that a table names, or a finding. `table` is where a missing key is told.
    pub(in crate::policy) fn kind(
        self,
        port: Port,
        name: Option<&At<String>>,
        table: Span,
        findings: &mut Findings,
    ) -> Option<&'a Kind> {
        let known = self.kinds.names(port);
        let Some(name) = name else {
            findings.push(
                Finding::new(&rules::MISSING, table, format!("this {} does not say its kind", port.table()))
                    .help(format!("add `kind = ...`, one of {}", list_of(&known))),
            );
            return None;
        };
        let kind = self.kinds.get(port, &name.value);
        if kind.is_none() {
            let help = match nearest(&name.value, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the kinds of {port} are {}", list_of(&known)),
            };
            findings.push(
                Finding::new(
                    &rules::UNKNOWN_KIND,
                    name.span,
                    format!("there is no kind `{}` of {port}", name.value),
                )
                .help(help),
            );
        }
        kind
    }

    /// Examines `raw` as settings of `kind`.
    pub(in crate::policy) fn settings(
        self,
        kind: &Kind,
        raw: Raw,
        findings: &mut Findings,
    ) -> Option<Chosen> {
        let context = KindContext { environment: self.environment, stores: self.stores, secret: self.secret };
        let mut structure_fits = true;
        for problem in kind.examine(&raw.value, &context) {
            let structural = problem.rule == crate::policy::kinds::STRUCTURE_RULE;
            structure_fits &= !structural;
            let message = format!("{} `{}`: {}", kind.spec.port, kind.spec.name, problem.message);
            let span = if problem.on_key { raw.key(&problem.pointer) } else { raw.place(&problem.pointer) };
            let mut finding = Finding::new(&rules::KIND_TABLE, span, message).help(problem.help);
            if !structural {
                finding.code = format!("{}:{}", kind.spec.name, problem.rule);
                finding.level = problem.level;
            }
            findings.push(finding);
        }
        structure_fits.then(|| {
            let facts = kind.facts(&raw.value);
            let settings = if kind.spec.shape == Shape::Nothing { Value::Null } else { raw.value };
            Chosen { kind: kind.spec.name.to_owned(), settings, facts }
        })
    }

    /// A table whose settings stand beside `kind`.
    pub(in crate::policy) fn inline(
        self,
        port: Port,
        name: Option<&At<String>>,
        raw: Raw,
        findings: &mut Findings,
    ) -> Option<Chosen> {
        let kind = self.kind(port, name, raw.span, findings)?;
        self.settings(kind, raw, findings)
    }

    /// A check; `fallback` is its name where it has none of its own.
    pub(in crate::policy) fn check(
        self,
        at: &At<CheckTable>,
        fallback: impl FnOnce(&str) -> String,
        findings: &mut Findings,
    ) -> Option<CheckPolicy> {
        let table = &at.value;
        let raw = table.rest.clone().into_raw(at.span);
        let chosen = self.inline(Port::Check, table.kind.as_ref(), raw, findings)?;
        let name = table.name.as_ref().map_or_else(|| fallback(&chosen.kind), |name| name.value.0.clone());
        Some(CheckPolicy { name, kind: chosen.kind, settings: chosen.settings })
    }
}
