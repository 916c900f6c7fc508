//! `rota plan`: what rotates next, when, why, and what gets in each other's way.
//!
//! Reads the dates that the state database keeps and goes on from there as the policy's
//! schedules say. Deliberately absent: a promise. Whoever promotes late moves what follows.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rota_core::policy::duration;
use rota_core::policy::model::{Policy, SecretPolicy};
use rota_core::schedule::{Schedule, Start};
use rota_postgres::SecretStatus;
use serde::Serialize;
use serde_json::json;

use super::{Context, when};
use crate::cli;
use crate::exit::{Exit, Outcome};
use crate::output::Tone;

/// A cadence of seconds over years would print millions of lines.
const MOST_LINES_OF_ONE: usize = 60;

/// One rotation that lies ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Ahead {
    secret: String,
    start: Timestamp,
    due: Timestamp,
    why: String,
    /// Secrets whose rotations share a consumer while this one runs: they share its rollouts.
    shares: Vec<String>,
    overdue: bool,
    note: Option<String>,
    #[serde(skip)]
    until: Timestamp,
    #[serde(skip)]
    consumers: Vec<String>,
}

pub(super) async fn run(context: &Context, plan: &cli::Plan) -> Outcome {
    let reports = context.reports("rota plan").await?;
    let policy = super::policy::accepted_or(context, &reports, plan.policy.source.as_ref()).await?;
    let now = reports.now().await?;
    let horizon = SignedDuration::from_hours(24 * i64::from(plan.days));
    let until = now.saturating_add(horizon).unwrap_or(Timestamp::MAX);
    let known: BTreeMap<String, SecretStatus> =
        reports.status(None).await?.into_iter().map(|status| (status.secret.clone(), status)).collect();
    let ahead = look_ahead(&policy, &known, now, until);
    let idle: Vec<String> = policy
        .secrets
        .keys()
        .filter(|id| known.get(id.as_str()).is_none_or(|status| status.next_due_at.is_none()))
        .map(ToString::to_string)
        .collect();
    let out = context.output;
    if out.json {
        out.document(&json!({ "now": now, "until": until, "rotations": ahead, "on_request": idle }))?;
        return Ok(Exit::Success);
    }
    if ahead.is_empty() {
        out.note(format!("nothing starts within {} days", plan.days));
    }
    let rows = ahead.iter().map(|ahead| {
        let due = when(ahead.due, now);
        [
            ahead.start.strftime("%Y-%m-%d %H:%M").to_string(),
            ahead.secret.clone(),
            if ahead.overdue { out.paint(Tone::Bad, &format!("{due}, overdue")) } else { due },
            ahead.why.clone(),
            ahead.shares.join(", "),
            ahead.note.clone().unwrap_or_default(),
        ]
    });
    out.table(&["starts (utc)", "secret", "due", "why", "shares rollouts with", "remark"], rows)?;
    if !idle.is_empty() {
        out.note(format!("only on order, or not accepted yet: {}", idle.join(", ")));
    }
    Ok(Exit::Success)
}

fn look_ahead(
    policy: &Policy,
    known: &BTreeMap<String, SecretStatus>,
    now: Timestamp,
    until: Timestamp,
) -> Vec<Ahead> {
    let mut all: Vec<Ahead> = policy
        .secrets
        .values()
        .filter_map(|secret| Some((secret, known.get(secret.id.as_str())?)))
        .flat_map(|(secret, status)| of_one(secret, status, now, until))
        .collect();
    all.sort_by(|a, b| (a.start, &a.secret).cmp(&(b.start, &b.secret)));
    let shares: Vec<Vec<String>> = all.iter().map(|ahead| clashes(ahead, &all)).collect();
    for (ahead, shares) in all.iter_mut().zip(shares) {
        ahead.shares = shares;
    }
    all
}

/// The dates of one secret, the stored one first.
fn of_one(secret: &SecretPolicy, status: &SecretStatus, now: Timestamp, until: Timestamp) -> Vec<Ahead> {
    let rule = Start { lead: secret.lead, window: secret.window.as_ref() };
    let stored = status.next_due_at.zip(status.next_start_at);
    let stored =
        stored.map(|(due, start)| (due, status.postponed_until.map_or(start, |later| start.max(later))));
    let next = |(due, _): &(Timestamp, Timestamp)| {
        let following = secret.schedule.next_due(*due, Some(*due), rule)?.at;
        (following > *due).then(|| (following, rule.of(following)))
    };
    std::iter::successors(stored, next)
        .take_while(|(_, start)| *start <= until)
        .take(MOST_LINES_OF_ONE)
        .enumerate()
        .map(|(nth, (due, start))| Ahead {
            secret: secret.id.to_string(),
            start,
            due,
            why: why(secret, status),
            shares: Vec::new(),
            overdue: due < now,
            note: if nth == 0 { note(status) } else { None },
            until: due.saturating_add(secret.kept_overlap()).unwrap_or(Timestamp::MAX),
            consumers: secret.consumers.names().iter().map(ToString::to_string).collect(),
        })
        .collect()
}

fn why(secret: &SecretPolicy, status: &SecretStatus) -> String {
    let age = if status.last_promoted_at.is_none() { ", age unknown" } else { "" };
    match &secret.schedule {
        Schedule::Cadence { every } => format!("every {}{age}", duration::show(*every)),
        Schedule::Calendar { dates, .. } => format!("calendar `{}` {}{age}", dates.cron(), dates.zone_name()),
        Schedule::OnRequest => "on order".to_owned(),
    }
}

fn note(status: &SecretStatus) -> Option<String> {
    if status.in_flight.is_some() {
        return Some("in flight now".to_owned());
    }
    status.blocked_by.as_ref().map(|why| format!("blocked: {why}")).or_else(|| status.postponed_why.clone())
}

/// The other secrets that roll out to one of this one's consumers in the same time.
fn clashes(ahead: &Ahead, all: &[Ahead]) -> Vec<String> {
    let mut names: Vec<String> = all
        .iter()
        .filter(|other| {
            other.secret != ahead.secret && other.start < ahead.until && ahead.start < other.until
        })
        .filter(|other| other.consumers.iter().any(|consumer| ahead.consumers.contains(consumer)))
        .map(|other| other.secret.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}
