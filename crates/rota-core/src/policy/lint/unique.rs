//! What must not be there twice: names, targets, places.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Subject;
use crate::policy::load::Names;
use crate::policy::resolve::shared::{Definitions, Shared};
use crate::policy::rules;
use crate::policy::source::{Finding, Findings, Span};
use crate::publication;

/// What secrets occupy so far.
#[derive(Default)]
pub(in crate::policy) struct Crowd {
    targets: HashMap<String, Holder>,
    /// Whole paths, and the documents at paths.
    paths: HashMap<String, Holder>,
    /// Fields of documents.
    fields: HashMap<String, Holder>,
}

struct Holder {
    secret: Box<str>,
    span: Span,
    /// A document that secrets share; anything else has its path to itself.
    document: bool,
}

impl Crowd {
    /// Compares a secret with those before it.
    pub(super) fn meet(&mut self, subject: &Subject<'_>, findings: &mut Findings) {
        self.target(subject, findings);
        self.places(subject, findings);
    }

    fn target(&mut self, subject: &Subject<'_>, findings: &mut Findings) {
        let (id, span) = (&subject.resolved.policy.id, subject.layers.name.span);
        let targets = &subject.resolved.facts.targets;
        if let Some((target, first)) = targets.iter().find_map(|t| Some((t, self.targets.get(t)?))) {
            let message = format!("`{id}` and `{}` are one credential: {target}", first.secret);
            findings.push(
                Finding::new(&rules::SAME_TARGET, span, message)
                    .label(first.span, "the other one")
                    .help("make them one secret with several `fields`; two rotations would undo each other"),
            );
            return;
        }
        let holder = || Holder { secret: id.as_str().into(), span, document: false };
        self.targets.extend(targets.iter().map(|target| (target.clone(), holder())));
    }

    fn places(&mut self, subject: &Subject<'_>, findings: &mut Findings) {
        let policy = &subject.resolved.policy;
        for store_id in &policy.stores {
            let Some(store) = subject.shared.resolved_stores.get(store_id) else { continue };
            let identity =
                subject.shared.store_facts.get(store_id).and_then(|facts| facts.identity.as_deref());
            let identity = identity.unwrap_or(store_id.as_str());
            for name in publication::names(policy) {
                let place = publication::place(policy, store, &name);
                let shown = match &place.field {
                    Some(field) => format!("field `{field}` of `{}` in store `{store_id}`", place.path),
                    None => format!("`{}` in store `{store_id}`", place.path),
                };
                if let Some(first) = self.occupy(subject, identity, &place) {
                    findings.push(crowded(subject, first, &shown));
                }
            }
        }
    }

    /// Takes `place`, or says who holds it.
    fn occupy(
        &mut self,
        subject: &Subject<'_>,
        identity: &str,
        place: &publication::Place,
    ) -> Option<&Holder> {
        let path = format!("{identity}\0{}", place.path);
        let document = place.field.is_some();
        let holder = || Holder {
            secret: subject.resolved.policy.id.as_str().into(),
            span: subject.layers.name.span,
            document,
        };
        if self.paths.get(&path).is_some_and(|first| !(document && first.document)) {
            return self.paths.get(&path);
        }
        if let Some(field) = &place.field {
            let field = format!("{path}\0{field}");
            if self.fields.contains_key(&field) {
                return self.fields.get(&field);
            }
            self.fields.insert(field, holder());
        }
        self.paths.entry(path).or_insert_with(holder);
        None
    }
}

fn crowded(subject: &Subject<'_>, first: &Holder, shown: &str) -> Finding {
    let id = &subject.resolved.policy.id;
    let span = subject.layers.name.span;
    if *first.secret == *id.as_str() {
        return Finding::new(&rules::SAME_PLACE, span, format!("`{id}` is written to {shown} twice"))
            .help("two of its stores are one place, or two of its names are one path: keep one");
    }
    Finding::new(
        &rules::SAME_PLACE,
        span,
        format!("`{id}` and `{}` are both written to {shown}", first.secret),
    )
    .label(first.span, "the other one")
    .help("give one of them another name in `publish` or `fields`, or another store")
}

/// Names that differ only in case, or in characters that look alike (`O0`, `l1I`).
pub(super) fn look_alikes(shared: &Shared, names: &Names, findings: &mut Findings) {
    compare("secret", names.iter().map(|(id, span)| (id.as_str(), *span)), findings);
    compare("store", of(&shared.stores), findings);
    compare("owner", of(&shared.owners), findings);
    compare("calendar", of(&shared.calendars), findings);
    compare("consumer", of(&shared.consumers), findings);
    compare("profile", of(&shared.profiles), findings);
}

fn of<T>(definitions: &Definitions<T>) -> impl Iterator<Item = (&str, Span)> {
    definitions.iter().map(|(name, defined)| (name.as_str(), defined.span))
}

fn compare<'a>(what: &str, names: impl Iterator<Item = (&'a str, Span)>, findings: &mut Findings) {
    let mut names: Vec<(&str, Span)> = names.collect();
    names.sort_by_key(|(_, span)| *span);
    let mut seen: HashMap<String, (&str, Span)> = HashMap::with_capacity(names.len() * 2);
    for (name, span) in names {
        // Case first, since `I` and `i` are one letter to whoever reads aloud; then
        // as written, since `I` and `l` are one shape to whoever reads.
        let keys = [skeleton(&name.to_ascii_lowercase()), skeleton(name) + "\0"];
        if let Some((first, at)) = keys.iter().find_map(|key| seen.get(key)) {
            findings.push(
                Finding::new(
                    &rules::LOOK_ALIKE,
                    span,
                    format!("the {what}s `{first}` and `{name}` look alike"),
                )
                .label(*at, "the other one")
                .help("rename one of them: people take orders by name"),
            );
            continue;
        }
        seen.extend(keys.map(|key| (key, (name, span))));
    }
}

/// What the name looks like: confusable characters made one (Unicode TR 39,
/// section 4), in one case.
fn skeleton(name: &str) -> String {
    static ASCII: OnceLock<Vec<String>> = OnceLock::new();
    // Names are ASCII; looking each character up in the whole table takes longer
    // than everything else about a secret.
    let table = ASCII.get_or_init(|| {
        (0u8..128).map(|byte| unicode_security::skeleton(&char::from(byte).to_string()).collect()).collect()
    });
    let mut shape = String::with_capacity(name.len() + 4);
    for byte in name.bytes() {
        match table.get(usize::from(byte)) {
            Some(shown) => shape.push_str(shown),
            None => shape.push(char::from(byte)),
        }
    }
    shape.make_ascii_lowercase();
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(a: &str, b: &str) -> bool {
        let mut findings = Findings::default();
        let at = |start| Span { file: 0, start, end: start + 1 };
        compare("secret", [(a, at(0)), (b, at(1))].into_iter(), &mut findings);
        findings.has_errors()
    }

    #[test]
    fn names_that_a_person_confuses_look_alike_and_others_do_not() {
        let confusing = [
            ("JWT", "jwt"),
            ("KEY_O", "KEY_0"),
            ("key_1", "key_l"),
            ("AI", "Al"),
            ("A1", "AI"),
            ("o", "0"),
            ("Key_O", "KEY_0"),
        ];
        for (a, b) in confusing {
            assert!(alike(a, b), "{a} {b}");
        }
        for (a, b) in [("JWT_SECRET", "JWT_SECRETS"), ("KEY_1", "KEY_2"), ("DB_A", "DB_B"), ("A", "B")] {
            assert!(!alike(a, b), "{a} {b}");
        }
    }
}
