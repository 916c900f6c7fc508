//! Who uses a secret, who watches it, and who is told.

use super::Subject;
use crate::policy::model::{Consumers, Environment};
use crate::policy::raw::{ConsumerList, list_of};
use crate::policy::resolve::shared::Shared;
use crate::policy::rules;
use crate::policy::source::{Finding, Findings};
use crate::publication;
use crate::rotation::Source;

pub(super) fn lint(subject: &Subject<'_>, findings: &mut Findings) {
    named(subject, findings);
    proof(subject, findings);
    owner(subject, findings);
    static_key(subject, findings);
    own(subject, findings);
    if subject.resolved.facts.source == Source::Submitted {
        operator(subject, findings);
    } else if let Some(at) = subject.layers.get(|t| &t.inbox) {
        let message = format!("`inbox` means nothing to the kind `{}`", subject.resolved.policy.kind);
        findings.push(
            Finding::new(&rules::NOT_FOR_KIND, at.span, message)
                .help("remove it: only a value that a person supplies has an inbox"),
        );
    }
}

fn named(subject: &Subject<'_>, findings: &mut Findings) {
    let said = subject.layers.get(|t| &t.consumers);
    let nobody = match said.map(|at| &at.value) {
        None => true,
        Some(ConsumerList::None) => false,
        Some(ConsumerList::Named(names)) => names.is_empty(),
    };
    if nobody {
        let span = subject.layers.span(|t| &t.consumers);
        findings.push(
            Finding::new(
                &rules::NO_CONSUMERS,
                span,
                format!("`{}` does not say who uses it", subject.layers.name.value),
            )
            .help("add `consumers = [\"NAME\"]`, or `consumers = \"none\"` where nobody reads it"),
        );
    }
}

/// What would be believed to be done, and is not, is refused.
fn own(subject: &Subject<'_>, findings: &mut Findings) {
    if let Some(at) = subject.layers.get(|t| &t.own).filter(|at| at.value) {
        findings.push(
            Finding::new(&rules::NOT_BUILT, at.span, "Rota does not replace its own credentials yet")
                .help("remove `self`, and give the daemon its new credential by hand: docs/configuration.md"),
        );
    }
}

fn owner(subject: &Subject<'_>, findings: &mut Findings) {
    let production = subject.shared.environment() == Environment::Production;
    if production && subject.layers.get(|t| &t.owner).is_none() {
        let name = subject.layers.name;
        findings.push(
            Finding::new(
                &rules::NO_OWNER,
                name.span,
                format!("nobody is told by name about `{}`", name.value),
            )
            .help("add `owner = \"NAME\"` here or in `[defaults]`, and a table `[owner.NAME]`"),
        );
    }
}

/// How the AWS SDKs call the two halves of a key that does not expire.
const STATIC_KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// A role's credentials rotate by themselves.
fn static_key(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let name = subject.layers.name;
    let published = publication::names(policy);
    let mut names = published.iter().map(|name| name.as_str()).chain([name.value.as_str()]);
    if names.any(|name| STATIC_KEYS.iter().any(|key| name.to_ascii_uppercase().contains(key))) {
        let message = format!("`{}` is a key that does not expire", name.value);
        findings.push(
            Finding::new(&rules::STATIC_KEY, name.span, message).help(
                "where its consumers run on AWS, give them a role: its credentials rotate by themselves",
            ),
        );
    }
}

/// A proof uses one value, and the policy says which.
fn proof(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let values: Vec<&str> = policy
        .fields
        .iter()
        .filter(|(_, field)| field.template.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    match subject.layers.get(|t| &t.prove_with) {
        Some(at) if !values.contains(&at.value.0.as_str()) => findings.push(
            Finding::new(
                &rules::PROVE_WHICH,
                at.span,
                format!("`{}` is no value of `{}`", at.value.0, policy.id),
            )
            .help(format!("the values are {}", list_of(&values))),
        ),
        None if values.len() > 1 && subject.layers.get(|t| &t.prove).is_some() => findings.push(
            Finding::new(
                &rules::PROVE_WHICH,
                subject.layers.span(|t| &t.prove),
                format!(
                    "`{}` has {} values, and the proof does not say which it uses",
                    policy.id,
                    values.len()
                ),
            )
            .help(format!("add `prove_with`, one of {}", list_of(&values))),
        ),
        Some(_) | None => {}
    }
}

/// What a person who supplies a value should find.
fn operator(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let name = subject.layers.name;
    if policy.page.is_none() {
        findings.push(
            Finding::new(
                &rules::NO_PAGE,
                name.span,
                format!("where a person makes `{}` is not said", name.value),
            )
            .help("add `page = \"https://...\"`: it stands in every reminder"),
        );
    }
    if subject.layers.get(|t| &t.prove).is_none() {
        let teller = match policy.consumers {
            Consumers::Named { .. } => "only the checks of its consumers tell",
            Consumers::None => "nothing tells",
        };
        findings.push(
            Finding::new(
                &rules::NO_PROOF,
                name.span,
                format!("{teller} whether a new `{}` works", name.value),
            )
            .help("add `prove = { kind = ... }` where the provider can be asked"),
        );
    }
}

/// Every consumer is watched, or says why it is not.
pub(super) fn lint_all(shared: &Shared, findings: &mut Findings) {
    for (name, defined) in &shared.consumers {
        let Some(table) = &defined.table else { continue };
        let checks = table.checks.as_ref().map_or(0, |at| at.value.len());
        match (&table.unmonitored, checks) {
            (None, 0) => findings.push(
                Finding::new(
                    &rules::UNCHECKED,
                    defined.span,
                    format!("nothing tells whether `{name}` is well"),
                )
                .help("add `checks = [{ kind = ... }]`, or `unmonitored = \"the reason\"`"),
            ),
            (Some(at), 1..) => findings.push(
                Finding::new(&rules::CONFLICT, at.span, format!("`{name}` is unmonitored and has checks"))
                    .help("keep one of them"),
            ),
            (None, 1..) | (Some(_), 0) => {}
        }
        if let Some(at) = table.settle.as_ref().filter(|at| at.value.is_zero()) {
            findings.push(
                Finding::new(&rules::NOT_POSITIVE, at.span, "no value is everywhere at once")
                    .help("write how long a published value takes to be seen, at least \"1s\""),
            );
        }
        if let Some(at) = table.rollout.as_ref().and_then(|at| at.value.deadline.as_ref())
            && at.value.is_zero()
        {
            findings.push(
                Finding::new(&rules::NOT_POSITIVE, at.span, "a rollout takes some time")
                    .help("write how long it may take, or leave the key out"),
            );
        }
    }
}
