//! The journal in memory under the suite.

use std::sync::Arc;

use async_trait::async_trait;
use rota_core::id::SecretId;

use super::super::{MemoryJournal, SimClock, Wire, run};
use super::{CASES, JournalSubject};
use crate::ports::{Journal, OrderId, OrderKind};

struct InMemory(MemoryJournal);

#[async_trait]
impl JournalSubject for InMemory {
    fn journal(&self) -> Arc<dyn Journal> {
        Arc::new(self.0.clone())
    }

    async fn order(&self, secret: &SecretId, kind: OrderKind) -> OrderId {
        self.0.order(secret, kind, "ann", "test")
    }

    async fn history(&self, secret: Option<&SecretId>) -> Vec<String> {
        let chain = secret.map(ToString::to_string).unwrap_or_default();
        self.0.look(|tables| {
            tables.history.iter().filter(|row| row.chain == chain).map(|row| row.entry.kind.clone()).collect()
        })
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "names the promise that was broken")]
fn the_journal_in_memory_keeps_every_promise() {
    for (name, case) in CASES {
        let clock = SimClock::new("2026-01-01T00:00:00Z".parse().unwrap());
        let subject = InMemory(MemoryJournal::new(Wire::new(clock.clone())));
        println!("{name}");
        run(&clock, case(&subject));
    }
}
