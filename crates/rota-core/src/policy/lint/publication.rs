//! Whether old and new can stand side by side, and how consumers see them.

use super::Subject;
use crate::id::StoreId;
use crate::policy::model::{Class, PublishForm};
use crate::policy::rules;
use crate::policy::source::{Finding, Findings};

pub(super) fn lint(subject: &Subject<'_>, findings: &mut Findings) {
    overlap(subject, findings);
    encryption(subject, findings);
    whole(subject, findings);
    match inner(&subject.resolved.policy.publish) {
        PublishForm::Pair { pinned, .. } => {
            several_fields(subject, findings);
            pair(subject, *pinned, findings);
        }
        PublishForm::List { .. } => several_fields(subject, findings),
        PublishForm::Single | PublishForm::Document { .. } => single(subject, findings),
    }
}

/// The form of the names, wherever they stand.
fn inner(form: &PublishForm) -> &PublishForm {
    match form {
        PublishForm::Document { inner: form, .. } => inner(form),
        PublishForm::Single | PublishForm::Pair { .. } | PublishForm::List { .. } => form,
    }
}

/// Consumers verify each other with this value.
fn verified_by_consumers(subject: &Subject<'_>) -> bool {
    let source = subject.resolved.facts.source;
    subject.resolved.policy.class.is_some_and(|class| class.consumers_verify_each_other(source))
}

/// Consumers read all names of this secret in one request: they say so, or the kind
/// of every store knows nothing else.
fn read_whole(subject: &Subject<'_>) -> bool {
    let said =
        subject.layers.get(|t| &t.publish).and_then(|at| at.value.whole.as_ref()).is_some_and(|at| at.value);
    let file =
        |store: &StoreId| subject.shared.store_facts.get(store).is_some_and(|facts| facts.one_document);
    said || subject.resolved.policy.stores.iter().all(file)
}

/// Every name is a field of a document.
fn in_documents(subject: &Subject<'_>) -> bool {
    let policy = &subject.resolved.policy;
    let shared = |store: &StoreId| {
        subject.shared.resolved_stores.get(store).is_some_and(|store| !store.path.holes().contains("name"))
    };
    matches!(policy.publish, PublishForm::Document { .. }) || policy.stores.iter().all(shared)
}

fn whole(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(publish) = subject.layers.get(|t| &t.publish) else { return };
    let Some(at) = publish.value.whole.as_ref().filter(|at| at.value) else { return };
    if !in_documents(subject) {
        let message =
            format!("`{}` stands in no document that could be read whole", subject.resolved.policy.id);
        findings.push(
            Finding::new(&rules::CONFLICT, at.span, message)
                .help("add `document = \"PATH\"`, or remove `whole`"),
        );
    }
}

fn overlap(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    if subject.resolved.facts.overlaps || policy.accept_gap {
        return;
    }
    let message = format!("`{}` cannot take two values at once, so `{}` has a gap", policy.kind, policy.id);
    findings.push(Finding::new(&rules::NO_OVERLAP, subject.layers.span(|t| &t.kind), message).help(
        "add `accept_gap = true` where the gap is acceptable (it is measured), or choose another kind",
    ));
}

fn pair(subject: &Subject<'_>, pinned: bool, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let span = subject.layers.span(|t| &t.publish);
    if verified_by_consumers(subject) && !pinned && !policy.accept_gap && !read_whole(subject) {
        let message = format!(
            "`{}` stands under two names, and an instance that starts between two writes misses one",
            policy.id
        );
        findings.push(
            Finding::new(&rules::PAIR_TEARS, span, message)
                .help(
                    "add `pinned = true`, or `whole = true` for a document that is read in one request, or publish one \
                     value with `list`, or say `accept_gap = true`",
                ),
        );
    }
    if !pinned {
        return;
    }
    for consumer in policy.consumers.names() {
        let Some(facts) = subject.shared.rollout_facts.get(consumer) else { continue };
        if !facts.pins_versions {
            let message =
                format!("`{}` is pinned, and the rollout of `{consumer}` cannot pin versions", policy.id);
            findings.push(
                Finding::new(&rules::CANNOT_PIN, span, message)
                    .label(
                        subject.shared.consumers.get(consumer.as_str()).map(|defined| defined.span),
                        "the consumer",
                    )
                    .help("publish one value with `list`, or say `accept_gap = true` in place of `pinned`"),
            );
        }
    }
}

fn several_fields(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    if policy.fields.len() > 1 {
        let message = format!(
            "`{}` has {} fields, and a pair or a list holds one value",
            policy.id,
            policy.fields.len()
        );
        findings.push(
            Finding::new(&rules::PAIR_OF_MANY, subject.layers.span(|t| &t.publish), message)
                .help("publish them as one document: `publish = { document = \"PATH\", whole = true }`"),
        );
    }
}

fn single(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    if verified_by_consumers(subject) && !policy.accept_gap {
        let message = format!(
            "consumers see one value of `{}`, so what the old one signed fails at the switch",
            policy.id
        );
        let help = format!(
            "publish both: `publish = {{ list = \"{}S\" }}`, or a pinned pair; or say `accept_gap = true`",
            policy.id
        );
        let span = subject.layers.span(|t| &t.publish);
        findings.push(Finding::new(&rules::SINGLE_SIGNING, span, message).help(help));
    }
    if policy.fields.len() > 1 && !read_whole(subject) {
        let message = format!(
            "the {} fields of `{}` are read one by one, and can be of two versions",
            policy.fields.len(),
            policy.id
        );
        let help = if in_documents(subject) {
            "add `whole = true` to `publish` where consumers read the document in one request"
        } else {
            "where consumers can read a document in one request: `publish = { document = \"PATH\", whole = true }`"
        };
        findings
            .push(Finding::new(&rules::FIELDS_TEAR, subject.layers.span(|t| &t.fields), message).help(help));
    }
}

/// Data outlives keys.
fn encryption(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    if policy.class == Some(Class::Encryption) && !subject.resolved.facts.keeps_data_readable {
        let message = format!("what `{}` encrypted cannot be read once the old value is gone", policy.id);
        findings.push(
            Finding::new(&rules::DATA_UNREADABLE, subject.layers.span(|t| &t.class), message)
                .help("use a kind that re-encrypts (`reencrypt = ...`) or archives (`archive = true`)"),
        );
    }
}
