//! Invariants that the journal's own rows must keep: 3, 7, 9.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use rota_core::rotation::{Phase, Step};
use rota_engine::ports::NoticeKind;
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
            self.check_orders_first(scenario, row)?;
            self.check_window(scenario, row)?;
            self.check_alert(scenario, row)?;
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

/// Between a decision and its record the window may close.
const DECIDED_WITHIN: SignedDuration = SignedDuration::from_mins(15);

impl Checker {
    /// Windows gate what is withdrawn, but in an emergency.
    fn check_window(&self, scenario: &Scenario, row: &HistoryRow) -> Result<(), Violation> {
        let (Some(secret), Some(id), Some(Step::Withdraw)) =
            (&row.entry.secret, row.entry.rotation, row.entry.step)
        else {
            return Ok(());
        };
        let first = row.entry.kind == "step.intended"
            && row.entry.detail.get("attempt").and_then(serde_json::Value::as_u64) == Some(0);
        let hasty = scenario
            .journal
            .look(|tables| tables.rotations.get(&id).is_some_and(|row| row.rotation.is_emergency()));
        let Some(window) = scenario.policy.secrets.get(secret).and_then(|secret| secret.window.as_ref())
        else {
            return Ok(());
        };
        let decided = row.at.saturating_sub(DECIDED_WITHIN).unwrap_or(row.at);
        if first && !hasty && !window.is_open(row.at) && !window.is_open(decided) {
            return self.fails(scenario, 2, format!("{secret}: withdrawn while its window is closed"));
        }
        Ok(())
    }

    /// Invariant 9: an order and a holder's next intent cannot both stand.
    fn check_orders_first(&self, scenario: &Scenario, row: &HistoryRow) -> Result<(), Violation> {
        let Some(secret) = row.entry.secret.as_ref().filter(|_| row.entry.kind == "step.intended") else {
            return Ok(());
        };
        let open = scenario.journal.look(|tables| {
            tables.orders.values().any(|row| row.answer.is_none() && row.order.secret == *secret)
        });
        if open {
            let what = format!("{secret}: an intent was recorded over an order that nobody had read");
            return self.fails(scenario, 9, what);
        }
        Ok(())
    }

    /// Invariant 11: whoever is held tells somebody.
    fn check_alert(&self, scenario: &Scenario, row: &HistoryRow) -> Result<(), Violation> {
        let Some(id) = row.entry.rotation else { return Ok(()) };
        let silent = scenario.journal.look(|tables| {
            let held = tables.rotations.get(&id).is_some_and(|row| row.rotation.phase() == Phase::Held);
            held && !tables
                .outbox
                .iter()
                .any(|row| row.notice.rotation == Some(id) && row.notice.kind == NoticeKind::Held)
        });
        if silent {
            self.fails(scenario, 11, format!("rotation {id} is held and nobody was told"))
        } else {
            Ok(())
        }
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
