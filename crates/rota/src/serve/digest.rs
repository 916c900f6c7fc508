//! The daily digest: one message about everything, whichever replica is first.
//!
//! Deliberately absent: its clock, which is the scheduler's (see [`super::wake`]).

use std::sync::Arc;

use jiff::tz::TimeZone;
use rota_core::audit::Anchor;
use rota_core::fault::Fault;
use rota_core::policy::model::Priority;
use rota_engine::ports::{Notice, NoticeKind};
use rota_postgres::PgJournal;
use tokio::sync::Notify;

use super::status::{self, Status};
use super::work::Crew;
use crate::view::Secret;

/// Names in one line of the message; the rest is counted.
const NAMED: usize = 5;

pub(super) async fn keep(crew: Crew, journal: PgJournal, due: Arc<Notify>) {
    while !crew.stop.is_cancelled() {
        tokio::select! {
            () = due.notified() => {}
            () = crew.stop.cancelled() => return,
        }
        if let Err(fault) = tell(&crew, &journal).await {
            crew.after_fault(&fault).await;
        }
    }
}

async fn tell(crew: &Crew, journal: &PgJournal) -> Result<(), Fault> {
    let policy = crew.engine.refresh_policy().await?;
    let status = status::read(&journal.reports(), policy.as_deref()).await?;
    // The message is the anchor outside: what history held when it was sent.
    journal.seal_and_tell(|anchor| notice(&status, anchor)).await.map(|_| ())
}

/// At most eight lines, most urgent first.
fn notice(status: &Status, anchor: Anchor) -> Notice {
    let day = status.now.to_zoned(TimeZone::UTC).date();
    let in_flight: i64 = status.counts.rotations.values().sum();
    let counts = &status.counts;
    let held = counts.rotations.get("held").copied().unwrap_or(0);
    let waits = |secret: &Secret| secret.waits_for_person && secret.held.is_none();
    let lines = [
        named("held", held, status, |secret| secret.held.is_some()),
        named("overdue", counts.overdue.values().sum(), status, |secret| secret.overdue && !secret.removed),
        named("waiting for a person", counts.waiting_for_person, status, waits),
        named("blocked", counts.blocked, status, |secret| secret.blocked_by.is_some() && !secret.removed),
    ];
    let attention: Vec<String> = lines.into_iter().flatten().collect();
    let quiet = attention.is_empty();
    let dates = status.secrets.iter().filter_map(|secret| Some((secret.next_due_at?, &secret.secret)));
    // What is overdue stands above.
    let due = dates.filter(|(at, _)| *at >= status.now).min();
    let due = match due {
        Some((at, name)) => format!("{name} is due next, on {}", at.to_zoned(TimeZone::UTC).date()),
        // What is due next stands behind what is shown.
        None if usize::try_from(counts.secrets).is_ok_and(|all| all > status.secrets.len()) => {
            "`rota plan` shows what is due next".to_owned()
        }
        None => "nothing is scheduled".to_owned(),
    };
    Notice {
        // One digest a day, however many replicas and restarts there are.
        key: format!("digest:{day}"),
        kind: NoticeKind::Digest,
        secret: None,
        rotation: None,
        owner: None,
        priority: Priority::Low,
        what: format!("{day}: {} secrets, {in_flight} in flight", status.counts.secrets),
        impact: if quiet { "nothing needs anybody".to_owned() } else { attention.join("\n") },
        next: format!("{due}\n{anchor}"),
        command: Some(if quiet { "rota plan" } else { "rota status --attention" }.to_owned()),
        link: None,
        at: status.now,
    }
}

/// `2 held: A, B`; `None` where there is none. `count` is of all secrets, the names are of
/// the foremost.
fn named(word: &str, count: i64, status: &Status, which: impl Fn(&Secret) -> bool) -> Option<String> {
    let foremost = status.secrets.iter().filter(|secret| which(secret));
    let names: Vec<&str> = foremost.take(NAMED).map(|secret| secret.secret.as_str()).collect();
    let more = usize::try_from(count).unwrap_or(0).saturating_sub(names.len());
    let shown = match (names.join(", "), more) {
        (names, _) if names.is_empty() => String::new(),
        (names, 0) => format!(": {names}"),
        (names, more) => format!(": {names} and {more} more"),
    };
    (count > 0).then(|| format!("{count} {word}{shown}"))
}

#[cfg(test)]
mod tests {
    use rota_core::audit::Hash;
    use rota_postgres::{Counts, SecretStatus};

    use super::*;

    fn secret(name: &str, due: &str, overdue: bool) -> Secret {
        let status = SecretStatus {
            secret: name.to_owned(),
            priority: "high".to_owned(),
            kind: "generated".to_owned(),
            owner: None,
            last_promoted_at: None,
            next_due_at: Some(due.parse().unwrap()),
            next_start_at: None,
            overdue,
            postponed_until: None,
            postponed_why: None,
            blocked_by: None,
            orphans: 0,
            published: None,
            removed_at: None,
            in_flight: None,
        };
        Secret::from(status)
    }

    #[test]
    fn what_is_not_among_the_foremost_is_counted_all_the_same() {
        let names = |n: usize| secret(&format!("S{n}"), "2026-01-12T00:00:00Z", true);
        let rotations = [("held".to_owned(), 2), ("monitor".to_owned(), 300)].into();
        let overdue = [("critical".to_owned(), 200), ("low".to_owned(), 400)].into();
        let status = Status {
            now: "2026-01-15T07:00:00Z".parse().unwrap(),
            counts: Counts { secrets: 1_000, blocked: 7, rotations, overdue, ..Counts::default() },
            secrets: (0..300).map(names).collect(),
            ..Status::default()
        };
        let notice = notice(&status, Anchor { number: 1, hash: Hash([0; 32]) });
        assert_eq!(notice.impact, "2 held\n600 overdue: S0, S1, S2, S3, S4 and 595 more\n7 blocked");
        assert!(notice.next.starts_with("`rota plan` shows what is due next\n"), "{}", notice.next);
    }

    #[test]
    fn the_most_urgent_comes_first_and_the_anchor_last() {
        let rotations = [("monitor".to_owned(), 3)].into();
        let overdue = [("high".to_owned(), 1)].into();
        let status = Status {
            now: "2026-01-15T07:00:00Z".parse().unwrap(),
            counts: Counts { secrets: 42, rotations, overdue, waiting_for_person: 1, ..Counts::default() },
            secrets: vec![
                secret("JWT_SECRET", "2026-01-22T00:00:00Z", false),
                secret("SENTRY_DSN", "2026-01-12T00:00:00Z", true),
                Secret {
                    waits_for_person: true,
                    ..secret("ANTHROPIC_API_KEY", "2026-02-01T00:00:00Z", false)
                },
            ],
            ..Status::default()
        };
        let notice = notice(&status, Anchor { number: 12, hash: Hash([7; 32]) });
        assert_eq!(notice.key, "digest:2026-01-15");
        assert_eq!(notice.what, "2026-01-15: 42 secrets, 3 in flight");
        assert_eq!(notice.impact, "1 overdue: SENTRY_DSN\n1 waiting for a person: ANTHROPIC_API_KEY");
        let next = "JWT_SECRET is due next, on 2026-01-22\ncheckpoint 12 sha256:0707";
        assert!(notice.next.starts_with(next), "{}", notice.next);
        assert_eq!(notice.command.as_deref(), Some("rota status --attention"));
        let quiet = super::notice(&Status::default(), Anchor { number: 1, hash: Hash([0; 32]) });
        assert_eq!(
            (quiet.impact.as_str(), quiet.command.as_deref()),
            ("nothing needs anybody", Some("rota plan"))
        );
    }
}
