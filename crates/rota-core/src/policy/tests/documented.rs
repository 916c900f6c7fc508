//! `docs/policy.md` names every key and every rule.

use crate::policy::diagnostic::Level;
use crate::policy::raw::tables::{
    CalendarTable, ConsumerTable, HealthyTable, NAMED, OwnerTable, PublishTable, RootTable, RulesTable,
    SecretTable, StoreTable,
};
use crate::policy::rules;

const PAGE: &str = include_str!("../../../../../docs/policy.md");

#[test]
fn every_rule_is_documented_with_its_level() {
    for rule in rules::ALL {
        let row = format!("| {} | {} |", rule.code, rule.level);
        assert_eq!(PAGE.matches(&row).count(), 1, "{row}");
    }
    let rows = PAGE.lines().filter(|line| line.starts_with("| P")).count();
    assert_eq!(rows, rules::ALL.len());
    assert!(rules::ALL.iter().any(|rule| rule.level == Level::Hint));
}

#[test]
fn every_key_is_documented() {
    for key in SecretTable::KEYS {
        let mark = match (SecretTable::DEFAULTS.contains(key), SecretTable::SECRET_ONLY.contains(key)) {
            (true, _) => " D",
            (false, true) => " S",
            (false, false) => "",
        };
        let row = format!("| `{key}`{mark} |");
        assert!(PAGE.contains(&row), "{row}");
    }
    let others = [
        RootTable::KEYS,
        NAMED,
        StoreTable::KEYS,
        ConsumerTable::KEYS,
        CalendarTable::KEYS,
        OwnerTable::KEYS,
        RulesTable::KEYS,
        PublishTable::KEYS,
        HealthyTable::KEYS,
    ];
    for key in others.into_iter().flatten() {
        let said = [format!("`{key}`"), format!("`[{key}"), format!("{key} =")];
        assert!(said.iter().any(|text| PAGE.contains(text)), "{key}");
    }
}
