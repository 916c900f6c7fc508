//! The daily digest: one message about everything, whichever replica is first.
//!
//! Deliberately absent: its clock, which is the scheduler's (see [`super::wake`]).

use std::sync::Arc;

use jiff::tz::TimeZone;
use rota_core::audit::Anchor;
use rota_core::fault::Fault;
use rota_core::policy::model::Priority;
use rota_engine::ports::{Journal as _, Notice, NoticeKind};
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
    let anchor = journal.seal_history().await?;
    journal.notify(vec![notice(&status, anchor)]).await
}

/// At most eight lines, most urgent first.
fn notice(status: &Status, anchor: Anchor) -> Notice {
    let day = status.now.to_zoned(TimeZone::UTC).date();
    let in_flight: i64 = status.counts.rotations.values().sum();
    let lines = [
        named("held", status, |secret| secret.held.is_some()),
        named("overdue", status, |secret| secret.overdue),
        named("waiting for a person", status, |secret| secret.waits_for_person),
        named("blocked", status, |secret| secret.blocked_by.is_some()),
    ];
    let attention: Vec<String> = lines.into_iter().flatten().collect();
    let quiet = attention.is_empty();
    let dates = status.secrets.iter().filter_map(|secret| Some((secret.next_due_at?, &secret.secret)));
    // What is overdue stands above.
    let due = dates.filter(|(at, _)| *at >= status.now).min();
    let due = match due {
        Some((at, name)) => format!("{name} is due next, on {}", at.to_zoned(TimeZone::UTC).date()),
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

/// `2 held: A, B`; `None` where there is none.
fn named(word: &str, status: &Status, which: impl Fn(&Secret) -> bool) -> Option<String> {
    let names: Vec<&str> =
        status.secrets.iter().filter(|secret| which(secret)).map(|s| s.secret.as_str()).collect();
    let more = names.len().saturating_sub(NAMED);
    let shown = names.get(..NAMED).unwrap_or(&names).join(", ");
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| format!("{} {word}: {shown}{rest}", names.len()))
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
    fn the_most_urgent_comes_first_and_the_anchor_last() {
        let rotations = [("monitor".to_owned(), 3)].into();
        let status = Status {
            now: "2026-01-15T07:00:00Z".parse().unwrap(),
            counts: Counts { secrets: 42, rotations, ..Counts::default() },
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
