//! Each rule with the message that a person reads.

mod consumers;
mod keys;
mod publication;
mod references;
mod text;
mod time;
mod unique;
mod values;

use super::{HEAD, SESSION, load};
use crate::policy::diagnostic::{Level, render_all};
use crate::policy::{Loaded, rules};

/// What the rule `code` says about a policy; the other rules may speak, too.
fn rule(code: &str, text: &str) -> String {
    heard(code, &load(text))
}

fn heard(code: &str, loaded: &Loaded) -> String {
    let known = rules::ALL.iter().find(|rule| rule.code == code).expect("a known code");
    let found: Vec<_> = loaded.diagnostics.iter().filter(|d| d.code == code).collect();
    assert!(!found.is_empty(), "{code} is silent:\n{}", render_all(&loaded.diagnostics));
    assert!(found.iter().all(|d| d.level == known.level));
    assert_eq!(loaded.policy.is_none(), loaded.of(Level::Error).next().is_some());
    found.into_iter().map(|d| d.render()).collect::<Vec<_>>().join("\n")
}

/// The usual policy with one thing changed.
fn edited(from: &str, to: &str) -> String {
    let text = format!("{HEAD}{SESSION}");
    assert_eq!(text.matches(from).count(), 1, "{from:?} stands once");
    text.replace(from, to)
}

/// The usual policy and more.
fn added(more: &str) -> String {
    format!("{HEAD}{SESSION}{more}")
}

#[test]
fn every_rule_has_a_test_with_its_message() {
    let tests = [
        include_str!("consumers.rs"),
        include_str!("keys.rs"),
        include_str!("publication.rs"),
        include_str!("references.rs"),
        include_str!("text.rs"),
        include_str!("time.rs"),
        include_str!("unique.rs"),
        include_str!("values.rs"),
    ];
    for rule in rules::ALL {
        let call = format!("(\"{}\", ", rule.code);
        assert!(tests.iter().any(|text| text.contains(&call)), "no test of {} ({})", rule.code, rule.title);
    }
}

#[test]
fn the_usual_policy_breaks_no_rule() {
    assert_eq!(load(&format!("{HEAD}{SESSION}")).diagnostics, []);
}
