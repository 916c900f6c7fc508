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
    let due = status.secrets.iter().filter_map(|secret| Some((secret.next_due_at?, &secret.secret))).min();
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
