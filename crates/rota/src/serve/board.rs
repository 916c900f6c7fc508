//! What the daemon shows of itself: filled by its loops, read over HTTP.
//!
//! Deliberately absent: anything that could be changed from outside, and values. The
//! page and `/status.json` are read by people without a login on a private network.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

use super::status::Status;

/// How many delivered notices the page remembers.
const NOTICES_KEPT: usize = 30;

/// Shared by all loops.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Why each part is not well; a part that is well is absent.
    troubles: BTreeMap<String, Trouble>,
    status: Option<Arc<Status>>,
    notices: VecDeque<Shown>,
    stopping: bool,
}

/// Why something is not well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Trouble {
    pub(super) message: String,
    /// Without it the daemon cannot do its work at all.
    pub(super) blocks: bool,
}

/// A notice as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Shown {
    pub(super) at: Timestamp,
    pub(super) kind: &'static str,
    pub(super) secret: Option<String>,
    pub(super) what: String,
    pub(super) channel: String,
}

impl Board {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A part says that it is well, or why not. Returns whether that is news.
    pub(super) fn report(&self, part: &str, trouble: Option<Trouble>) -> bool {
        self.with(|inner| match trouble {
            Some(trouble) => inner.troubles.insert(part.to_owned(), trouble.clone()) != Some(trouble),
            None => inner.troubles.remove(part).is_some(),
        })
    }

    pub(super) fn show(&self, status: Status) {
        self.with(|inner| inner.status = Some(Arc::new(status)));
    }

    pub(super) fn status(&self) -> Option<Arc<Status>> {
        self.with(|inner| inner.status.clone())
    }

    pub(super) fn delivered(&self, notices: impl IntoIterator<Item = Shown>) {
        self.with(|inner| {
            inner.notices.extend(notices);
            let extra = inner.notices.len().saturating_sub(NOTICES_KEPT);
            inner.notices.drain(..extra);
        });
    }

    /// The newest first.
    pub(super) fn notices(&self) -> Vec<Shown> {
        self.with(|inner| inner.notices.iter().rev().cloned().collect())
    }

    pub(super) fn stop(&self) {
        self.with(|inner| inner.stopping = true);
    }

    /// Everything that is not well, and whether work can be done.
    pub(super) fn health(&self) -> Health {
        self.with(|inner| Health {
            ready: !inner.stopping && inner.status.is_some() && !inner.troubles.values().any(|t| t.blocks),
            stopping: inner.stopping,
            troubles: inner.troubles.clone(),
        })
    }
}

/// The daemon's own state, as `/readyz` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Health {
    pub(super) ready: bool,
    pub(super) stopping: bool,
    pub(super) troubles: BTreeMap<String, Trouble>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(message: &str, blocks: bool) -> Option<Trouble> {
        Some(Trouble { message: message.to_owned(), blocks })
    }

    #[test]
    fn only_a_blocking_trouble_makes_the_daemon_unready() {
        let board = Board::default();
        assert!(!board.health().ready, "nothing was read yet");
        board.show(Status::default());
        assert!(board.health().ready);
        assert!(board.report("policy", trouble("the new policy has errors", false)));
        assert!(!board.report("policy", trouble("the new policy has errors", false)), "told once");
        assert!(board.health().ready);
        board.report("database", trouble("unreachable", true));
        assert!(!board.health().ready);
        assert!(board.report("database", None));
        assert!(board.health().ready);
        board.stop();
        assert!(!board.health().ready);
    }

    #[test]
    fn only_the_newest_notices_are_kept() {
        let board = Board::default();
        let shown = |n: usize| Shown {
            at: Timestamp::UNIX_EPOCH,
            kind: "started",
            secret: None,
            what: n.to_string(),
            channel: "slack".to_owned(),
        };
        board.delivered((0..NOTICES_KEPT + 5).map(shown));
        let kept = board.notices();
        assert_eq!(kept.len(), NOTICES_KEPT);
        assert_eq!(kept[0].what, (NOTICES_KEPT + 4).to_string());
    }
}
