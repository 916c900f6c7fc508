//! `rota status`: every secret, one in full, or changes as they happen.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rota_core::id::{RotationId, SecretId};
use rota_postgres::{OrderLine, Orphan, Reports};
use serde_json::json;

use super::policy::unknown_secret;
use super::{Context, when};
use crate::cli::Status;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Tone;
use crate::view::Secret;

/// How often `--watch` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Orders shown of one secret, the newest.
const ORDERS: u32 = 3;

/// Observations shown of one rotation.
const OBSERVATIONS: u32 = 8;

pub(super) async fn run(context: &Context, status: &Status) -> Outcome {
    let reports = context.reports("rota status").await?;
    if status.watch {
        return watch(context, &reports, status.name.as_ref()).await;
    }
    match &status.name {
        Some(name) => one(context, &reports, name).await,
        None => all(context, &reports, status.attention).await,
    }
}

async fn read(reports: &Reports, name: Option<&SecretId>) -> Result<Vec<Secret>, Failure> {
    Ok(reports.status(name).await?.into_iter().map(Secret::from).collect())
}

async fn all(context: &Context, reports: &Reports, attention: bool) -> Outcome {
    let now = reports.now().await?;
    let counts = reports.counts().await?;
    let mut secrets = read(reports, None).await?;
    secrets.retain(|secret| !secret.removed || secret.phase.is_some());
    secrets.retain(|secret| !attention || secret.needs_attention());
    let out = context.output;
    if out.json {
        out.document(&json!({ "now": now, "counts": counts, "secrets": secrets }))?;
        return Ok(Exit::Success);
    }
    if secrets.is_empty() {
        out.note(if attention {
            "nothing needs anybody"
        } else {
            "no policy is accepted yet; `rota serve` accepts one"
        });
        return Ok(Exit::Success);
    }
    let rows = secrets.iter().map(|secret| {
        [
            secret.secret.clone(),
            out.paint(tone(secret), &secret.place()),
            secret.published.clone().unwrap_or_default(),
            secret.last_promoted_at.map_or_else(|| "unknown".to_owned(), |at| when(at, now)),
            secret.next_due_at.map_or_else(String::new, |at| when(at, now)),
            secret.remark(),
        ]
    });
    out.table(&["secret", "phase", "consumers read", "promoted", "due", "remark"], rows)?;
    Ok(Exit::Success)
}

fn tone(secret: &Secret) -> Tone {
    match secret.phase.as_deref() {
        Some("held") => Tone::Bad,
        Some("rolling_back") => Tone::Attention,
        Some(_) if secret.emergency => Tone::Bad,
        Some(_) => Tone::Good,
        None if secret.needs_attention() => Tone::Attention,
        None => Tone::Faint,
    }
}

/// One secret, as `KEY: value` lines. Ends unhealthy where it is held, overdue or blocked,
/// so that scripts can ask.
async fn one(context: &Context, reports: &Reports, name: &SecretId) -> Outcome {
    let now = reports.now().await?;
    let secret = read(reports, Some(name)).await?.pop().ok_or_else(|| unknown_secret(name))?;
    let orphans = reports.orphans(Some(name)).await?;
    let orders = reports.orders(Some(name), ORDERS).await?;
    let current = current_version(reports, &secret, name).await?;
    let rotation = secret.rotation.as_deref().and_then(|id| id.parse().ok()).map(RotationId);
    let observations = match rotation {
        Some(rotation) => reports.observations(rotation, OBSERVATIONS).await?,
        None => Vec::new(),
    };
    let exit = if secret.held.is_some() || secret.overdue || secret.blocked_by.is_some() {
        Exit::Unhealthy
    } else {
        Exit::Success
    };
    let out = context.output;
    if out.json {
        let document = json!({ "now": now, "secret": secret, "current_version": current, "orphans": orphans, "orders": orders, "observations": observations });
        out.document(&document)?;
        return Ok(exit);
    }
    for (key, value) in lines(&secret, &orphans, now) {
        out.line(format!("{:14} {value}", out.paint(Tone::Faint, key)))?;
    }
    if let Some(current) = &current {
        out.line(format!("{:14} {current}", out.paint(Tone::Faint, "version")))?;
    }
    for order in &orders {
        out.line(format!("{:14} {}", out.paint(Tone::Faint, "order"), order_line(order, now)))?;
    }
    for seen in &observations {
        let consumer = seen.consumer.as_deref().unwrap_or("-");
        out.line(format!(
            "{:14} {} {consumer}/{} {}: {}",
            "seen",
            when(seen.at, now),
            seen.name,
            seen.verdict,
            seen.detail
        ))?;
    }
    Ok(exit)
}

/// The version that consumers of a secret at rest read: the one that its last rotation
/// left. `None` while a rotation is in flight, and where none was completed yet.
pub(super) async fn current_version(
    reports: &Reports,
    secret: &Secret,
    name: &SecretId,
) -> Result<Option<String>, Failure> {
    if secret.phase.is_some() {
        return Ok(None);
    }
    let last = reports.rotations(Some(name), 1).await?.pop();
    Ok(last.and_then(|last| match last.outcome.as_deref() {
        Some("completed") => last.new_version,
        Some("rolled_back") => last.old_version,
        // What was abandoned is settled by a person.
        _ => None,
    }))
}

/// Who asked for what, and what became of it.
fn order_line(order: &OrderLine, now: Timestamp) -> String {
    let became = order.outcome.clone().or_else(|| Some(format!("waits: {}", order.waiting.as_ref()?)));
    format!(
        "#{} {} by {} ({}) {}: {}",
        order.order,
        order.name,
        order.given_name,
        order.db_user,
        when(order.at, now),
        became.as_deref().unwrap_or("not looked at yet")
    )
}

fn lines(secret: &Secret, orphans: &[Orphan], now: Timestamp) -> Vec<(&'static str, String)> {
    let moment = |at: Option<Timestamp>| at.map(|at| format!("{} ({})", utc(at), when(at, now)));
    let mut lines = vec![
        ("secret", secret.secret.clone()),
        ("kind", format!("{}, {}", secret.kind, secret.priority)),
        ("phase", secret.place()),
    ];
    let mut push = |key, value: Option<String>| lines.extend(value.map(|value| (key, value)));
    push("emergency", secret.emergency.then(|| "yes".to_owned()));
    push("rotation", secret.rotation.clone());
    push("since", moment(secret.since));
    push("waiting for", secret.waiting_for.clone());
    push("held", secret.held.as_ref().map(|held| held.why.clone()));
    push("way out", secret.held.as_ref().map(|held| held.way_out.clone()));
    push("consumers read", secret.published.clone());
    push("old version", secret.old_version.clone());
    push("new version", secret.new_version.clone());
    push("promoted", moment(secret.last_promoted_at).or_else(|| Some("unknown".to_owned())));
    push(
        "due",
        moment(secret.next_due_at).map(|due| if secret.overdue { format!("{due}, OVERDUE") } else { due }),
    );
    push("starts", moment(secret.next_start_at));
    push("postponed", secret.postponed.clone());
    push("blocked", secret.blocked_by.clone());
    push("owner", secret.owner.clone());
    for orphan in orphans {
        push("left alive", Some(format!("#{} {}", orphan.orphan, orphan.what)));
    }
    lines
}

/// Seconds are enough for people.
pub(super) fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Prints a line for each change, until interrupted.
async fn watch(context: &Context, reports: &Reports, name: Option<&SecretId>) -> Outcome {
    let mut shown: BTreeMap<String, (String, String)> = BTreeMap::new();
    let out = context.output;
    loop {
        let now = reports.now().await?;
        let secrets = read(reports, name).await?;
        if let Some(name) = name.filter(|_| secrets.is_empty()) {
            return Err(unknown_secret(name));
        }
        for secret in secrets {
            let state = (secret.place(), secret.remark());
            if shown.get(&secret.secret) == Some(&state) {
                continue;
            }
            if out.json {
                // One line a change: a stream has no end to close a list with.
                out.line(json!({ "now": now, "secret": secret }))?;
            } else {
                let place = out.paint(tone(&secret), &format!("{:28}", state.0));
                let time = out.paint(Tone::Faint, &now.strftime("%H:%M:%S").to_string());
                out.line(format!("{time}  {:24} {place} {}", secret.secret, state.1).trim_end())?;
            }
            shown.insert(secret.secret, state);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            // Watching ends when the person has seen enough; that is no failure.
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Success),
        }
    }
}
