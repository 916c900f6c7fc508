//! Invariants that the journal's own rows must keep: 3, 7, 9.

use std::collections::BTreeSet;

use rota_engine::test_support::{HistoryRow, Scenario, Tables};

use super::{Checker, Violation};

impl Checker {
    /// Reads the new lines of history; true where there were any.
    pub(super) fn check_history(&mut self, scenario: &Scenario) -> Result<bool, Violation> {
        let seen = self.history_seen;
        let (fresh, last_epoch, rows) = scenario.journal.look(|tables| {
            let fresh: Vec<HistoryRow> = tables.history.get(seen..).unwrap_or_default().to_vec();
            let rows = if fresh.is_empty() { None } else { doubled(tables) };
            (fresh, tables.last_epoch, rows)
        });
        if last_epoch < self.last_epoch {
            return self.fails(scenario, 9, "the sequence of epochs went back".to_owned());
        }
        self.last_epoch = last_epoch;
        if let Some(what) = rows {
            return self.fails(scenario, 3, what);
        }
        self.history_seen += fresh.len();
        for row in &fresh {
            self.check_line(scenario, row)?;
        }
        Ok(!fresh.is_empty())
    }

    fn check_line(&mut self, scenario: &Scenario, row: &HistoryRow) -> Result<(), Violation> {
        let (Some(secret), Some(effect)) = (&row.entry.secret, row.entry.effect) else { return Ok(()) };
        let known = self.intended.entry(secret.clone()).or_default();
        if row.entry.kind == "step.intended" {
            if known.last().is_some_and(|last| *last >= effect) {
                let what = format!("{secret}: effect {} is intended after {:?}", effect.0, known.last());
                return self.fails(scenario, 9, what);
            }
            known.insert(effect);
        } else if !known.contains(&effect) {
            let what = format!("{secret}: {} of effect {} without its intent", row.entry.kind, effect.0);
            return self.fails(scenario, 7, what);
        }
        Ok(())
    }
}

/// Two rotations in flight that must not be.
fn doubled(tables: &Tables) -> Option<String> {
    let mut taken = BTreeSet::new();
    for row in tables.rotations.values().filter(|row| row.in_flight()) {
        if !taken.insert(row.rotation.secret.as_str()) {
            return Some(format!("two rotations of {} are in flight", row.rotation.secret));
        }
        for key in &row.exclusive {
            if !taken.insert(key) {
                return Some(format!("two rotations in flight use {key}"));
            }
        }
    }
    None
}
