//! `rota history`: what happened, whether it is whole, and its export.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rota_core::audit::Anchor;
use rota_core::id::RotationId;
use rota_postgres::{HistoryFilter, HistoryLine, NotWhole, Reports, RotationSummary, ServedRollout};
use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use super::policy::unknown_secret;
use super::status::utc;
use crate::cli::{History, HistoryCommand, HistoryFormat, HistoryList};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Tone;
use crate::wiring;

/// What stands in a line of the runbooks for what happened.
const ROTATED: &str = "ROTATED";

pub(super) async fn run(context: &Context, history: &History) -> Outcome {
    let reports = context.reports("rota history").await?;
    if let Some(name) = &history.list.name
        && reports.status(Some(name)).await?.is_empty()
    {
        return Err(unknown_secret(name));
    }
    match &history.command {
        None if history.list.rollouts => rollouts(context, &reports, &history.list).await,
        None if history.list.events => events(context, &reports, &history.list).await,
        None => rotations(context, &reports, &history.list).await,
        Some(HistoryCommand::Verify { anchor, anchors }) => {
            let mut known = anchor.clone();
            if let Some(path) = anchors {
                known.extend(read_anchors(path)?);
            }
            verify(context, &reports, &known).await
        }
        Some(HistoryCommand::Export { output }) => export(context, &reports, output.as_deref()).await,
    }
}

fn format_of(context: &Context, list: &HistoryList) -> HistoryFormat {
    if context.output.json {
        HistoryFormat::Json
    } else if list.csv {
        HistoryFormat::Csv
    } else {
        list.format
    }
}

fn start_of(day: Option<Date>) -> Result<Option<Timestamp>, Failure> {
    let zoned = day.map(|day| day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()));
    zoned.transpose().map_err(|_| Failure::invalid("a date is out of range"))
}

/// A rotation with the rollouts that served it.
#[derive(Serialize)]
struct Rotated {
    #[serde(flatten)]
    summary: RotationSummary,
    rollouts: Vec<ServedRollout>,
}

impl Rotated {
    /// `3 finished, 1 failed`; empty where no consumer had to follow.
    fn rollouts_in_short(&self) -> String {
        let mut states: Vec<(&str, usize)> = Vec::new();
        for rollout in &self.rollouts {
            match states.iter_mut().find(|(state, _)| *state == rollout.state) {
                Some((_, count)) => *count += 1,
                None => states.push((&rollout.state, 1)),
            }
        }
        states.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
    }
}

/// The newest rotations of the list, oldest first.
async fn rotated(reports: &Reports, list: &HistoryList) -> Result<Vec<Rotated>, Failure> {
    let since = start_of(list.since)?;
    let mut rotations = reports.rotations(list.name.as_ref(), list.limit).await?;
    rotations.retain(|rotation| {
        since.is_none_or(|since| rotation.ended_at.unwrap_or(rotation.opened_at) >= since)
    });
    rotations.reverse();
    let ids: Vec<RotationId> = rotations.iter().map(|rotation| RotationId(rotation.rotation)).collect();
    let mut rollouts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for rollout in reports.rollouts_of(&ids).await? {
        rollouts.entry(rollout.rotation).or_default().push(rollout);
    }
    let with_rollouts = |summary: RotationSummary| {
        let rollouts = rollouts.remove(&summary.rotation).unwrap_or_default();
        Rotated { summary, rollouts }
    };
    Ok(rotations.into_iter().map(with_rollouts).collect())
}

/// One line for each rotation, oldest first.
async fn rotations(context: &Context, reports: &Reports, list: &HistoryList) -> Outcome {
    let rotations = rotated(reports, list).await?;
    let out = context.output;
    match format_of(context, list) {
        HistoryFormat::Json => out.document(&json!({ "rotations": rotations }))?,
        HistoryFormat::Csv => {
            out.line(csv(&SUMMARY_COLUMNS.map(str::to_owned)))?;
            for rotation in &rotations {
                out.line(csv(&summary_row(rotation)))?;
            }
        }
        HistoryFormat::Runbook => {
            let accepted = reports.accepted_policy().await?;
            let environment = accepted
                .map_or("-", |accepted| wiring::environment_word(accepted.policy.shared().environment));
            let summaries = rotations.iter().map(|rotation| &rotation.summary);
            for rotation in summaries.filter(|rotation| rotation.ended_at.is_some()) {
                out.line(runbook_line(rotation, environment))?;
            }
        }
        HistoryFormat::Table => {
            let rows = rotations.iter().map(|rotated| {
                let rotation = &rotated.summary;
                let tone = match rotation.phase.as_str() {
                    "completed" => Tone::Good,
                    "held" | "abandoned" => Tone::Bad,
                    _ => Tone::Attention,
                };
                [
                    utc(rotation.opened_at),
                    rotation.secret.clone(),
                    out.paint(tone, &rotation.phase),
                    rotation.promoted_at.map(utc).unwrap_or_default(),
                    rotated.rollouts_in_short(),
                    rotation.ended_at.map(utc).unwrap_or_default(),
                    who(rotation).to_owned(),
                    rotation.reason.clone().unwrap_or_default(),
                ]
            });
            let columns = ["started", "secret", "state", "promoted", "rollouts", "ended", "by", "why"];
            out.table(&columns, rows)?;
        }
    }
    Ok(Exit::Success)
}

fn who(rotation: &RotationSummary) -> &str {
    rotation.requested_by.as_deref().unwrap_or("schedule")
}

/// `2026-01-15 10:00:00 UTC | JWT_SECRET | ROTATED | user | prod | SUCCESS`, as teams kept
/// it by hand.
fn runbook_line(rotation: &RotationSummary, environment: &str) -> String {
    let (what, how) = match rotation.outcome.as_deref() {
        Some("completed") => (ROTATED, "SUCCESS"),
        Some("rolled_back") => ("ROLLED BACK", "FAILED"),
        Some("abandoned") => ("ABANDONED", "FAILED"),
        _ => ("SUPERSEDED", "FAILED"),
    };
    let at = rotation.ended_at.unwrap_or(rotation.opened_at);
    // A separator inside a name would make two columns of one.
    let person = who(rotation).replace('|', "/");
    format!("{} | {} | {what} | {person} | {environment} | {how}", utc(at), rotation.secret)
}

const SUMMARY_COLUMNS: [&str; 13] = [
    "secret",
    "rotation",
    "state",
    "cause",
    "by",
    "reason",
    "emergency",
    "due",
    "started",
    "promoted",
    "ended",
    "old_value_refused",
    "rollouts",
];

fn moment(at: Option<Timestamp>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

fn summary_row(rotated: &Rotated) -> [String; 13] {
    let rotation = &rotated.summary;
    [
        rotation.secret.clone(),
        rotation.rotation.to_string(),
        rotation.phase.clone(),
        rotation.cause.clone(),
        who(rotation).to_owned(),
        rotation.reason.clone().unwrap_or_default(),
        rotation.emergency.to_string(),
        moment(rotation.due_at),
        rotation.opened_at.to_string(),
        moment(rotation.promoted_at),
        moment(rotation.ended_at),
        rotation.refusal_evidence.clone().unwrap_or_default(),
        rotated.rollouts_in_short(),
    ]
}

/// One line for each rollout, as the rotation that it served asked for it, oldest first.
async fn rollouts(context: &Context, reports: &Reports, list: &HistoryList) -> Outcome {
    let rotations = rotated(reports, list).await?;
    let rollouts: Vec<&ServedRollout> = rotations.iter().flat_map(|rotation| &rotation.rollouts).collect();
    let out = context.output;
    match format_of(context, list) {
        HistoryFormat::Json => out.document(&json!({ "rollouts": rollouts }))?,
        HistoryFormat::Csv => {
            out.line(csv(&ROLLOUT_COLUMNS.map(str::to_owned)))?;
            for rollout in rollouts {
                out.line(csv(&rollout_row(rollout)))?;
            }
        }
        HistoryFormat::Runbook => return Err(only_rotations("--rollouts")),
        HistoryFormat::Table => {
            let rows = rollouts.iter().map(|rollout| {
                let tone = match rollout.state.as_str() {
                    "finished" => Tone::Good,
                    "failed" => Tone::Bad,
                    _ => Tone::Attention,
                };
                [
                    utc(rollout.asked_at),
                    rollout.secret.clone(),
                    rollout.step.clone().unwrap_or_default(),
                    format!("{} {}", rollout.consumer, rollout.generation),
                    out.paint(tone, &rollout.state),
                    rollout.begun_at.map(utc).unwrap_or_default(),
                    rollout.ended_at.map(utc).unwrap_or_default(),
                    rollout.detail.clone().unwrap_or_default(),
                ]
            });
            out.table(&["asked", "secret", "step", "rollout", "state", "began", "ended", "why"], rows)?;
        }
    }
    Ok(Exit::Success)
}

const ROLLOUT_COLUMNS: [&str; 11] = [
    "secret",
    "rotation",
    "step",
    "asked",
    "consumer",
    "generation",
    "state",
    "began",
    "ended",
    "failures",
    "detail",
];

fn rollout_row(rollout: &ServedRollout) -> [String; 11] {
    [
        rollout.secret.clone(),
        rollout.rotation.to_string(),
        rollout.step.clone().unwrap_or_default(),
        rollout.asked_at.to_string(),
        rollout.consumer.clone(),
        rollout.generation.to_string(),
        rollout.state.clone(),
        moment(rollout.begun_at),
        moment(rollout.ended_at),
        rollout.failures.to_string(),
        rollout.detail.clone().unwrap_or_default(),
    ]
}

/// The runbooks' format knows nothing else.
fn only_rotations(option: &str) -> Failure {
    Failure::new(Exit::Usage, "the runbooks' format has one line for each rotation")
        .hint(format!("leave {option} out"))
}

/// Every recorded event, oldest first.
async fn events(context: &Context, reports: &Reports, list: &HistoryList) -> Outcome {
    let filter = HistoryFilter {
        secret: list.name.clone(),
        since: start_of(list.since)?,
        limit: Some(list.limit),
        ..HistoryFilter::default()
    };
    let events = reports.history(&filter).await?;
    let out = context.output;
    match format_of(context, list) {
        HistoryFormat::Json => out.document(&json!({ "events": events }))?,
        HistoryFormat::Csv => {
            out.line(csv(&EVENT_COLUMNS.map(str::to_owned)))?;
            for event in &events {
                out.line(csv(&event_row(event)))?;
            }
        }
        HistoryFormat::Runbook => return Err(only_rotations("--events")),
        HistoryFormat::Table => {
            let rows = events.iter().map(|event| {
                [
                    utc(event.at),
                    event.secret.clone().unwrap_or_default(),
                    event.kind.clone(),
                    event.step.clone().unwrap_or_default(),
                    event.actor.clone().unwrap_or_default(),
                    brief(&event.detail),
                ]
            });
            out.table(&["at", "secret", "event", "step", "by", "detail"], rows)?;
        }
    }
    Ok(Exit::Success)
}

const EVENT_COLUMNS: [&str; 9] =
    ["chain", "seq", "at", "event", "secret", "rotation", "step", "by", "detail"];

fn event_row(event: &HistoryLine) -> [String; 9] {
    [
        event.chain.clone(),
        event.seq.to_string(),
        event.at.to_string(),
        event.kind.clone(),
        event.secret.clone().unwrap_or_default(),
        event.rotation.map(|id| id.to_string()).unwrap_or_default(),
        event.step.clone().unwrap_or_default(),
        event.actor.clone().unwrap_or_default(),
        event.detail.to_string(),
    ]
}

/// Longer details are for `--json`.
const BRIEF_CHARS: usize = 90;

fn brief(detail: &Value) -> String {
    if detail.is_null() {
        return String::new();
    }
    let text = detail.to_string();
    match text.char_indices().nth(BRIEF_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// One record (RFC 4180, section 2). A cell that a spreadsheet would take for a formula
/// is kept from it by a quote in front.
fn csv(cells: &[String]) -> String {
    let cell = |text: &String| {
        let text = match text.chars().next() {
            Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("'{text}"),
            _ => text.clone(),
        };
        if text.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text
        }
    };
    cells.iter().map(cell).collect::<Vec<_>>().join(",")
}

/// Lines that hold an anchor; the others (a whole Slack export) say nothing.
fn read_anchors(path: &Path) -> Result<Vec<Anchor>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::invalid(format!("cannot read {}: {error}", path.display())))?;
    let anchors: Vec<Anchor> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if anchors.is_empty() {
        return Err(Failure::invalid(format!("{} holds no checkpoint", path.display()))
            .hint("a line looks like `checkpoint 12 sha256:` and 64 hex digits"));
    }
    Ok(anchors)
}

async fn verify(context: &Context, reports: &Reports, anchors: &[Anchor]) -> Outcome {
    let out = context.output;
    match reports.verify_history(anchors).await {
        Ok(verified) => {
            if out.json {
                out.document(&json!({
                    "whole": true, "rows": verified.rows, "chains": verified.chains,
                    "checkpoints": verified.checkpoints, "not_anchored": verified.not_anchored,
                }))?;
            } else {
                out.line(out.paint(Tone::Good, &verified.to_string()))?;
            }
            Ok(Exit::Success)
        }
        Err(NotWhole::Fault(fault)) => Err(fault.into()),
        Err(broken) => Err(Failure::new(Exit::Unhealthy, format!("history is not whole: {broken}"))
            .hint("keep the database as it is and export it (`rota history export`); see docs/auditing.md")),
    }
}

async fn export(context: &Context, reports: &Reports, output: Option<&Path>) -> Outcome {
    let exported = match output {
        None => {
            let mut out = std::io::BufWriter::new(std::io::stdout());
            let exported = reports.export_history(|line| writeln!(out, "{line}")).await;
            out.flush()?;
            exported
        }
        Some(path) => {
            let refuse =
                |error: std::io::Error| Failure::invalid(format!("cannot write {}: {error}", path.display()));
            let mut file = std::io::BufWriter::new(std::fs::File::create(path).map_err(refuse)?);
            let exported = reports.export_history(|line| writeln!(file, "{line}")).await;
            file.into_inner().map_err(|error| refuse(error.into_error()))?.sync_all().map_err(refuse)?;
            exported
        }
    };
    let exported = exported.map_err(|error| match error {
        NotWhole::Fault(fault) => fault.into(),
        NotWhole::Write(error) => error.into(),
        broken @ (NotWhole::Broken(_) | NotWhole::Filed { .. }) => {
            Failure::new(Exit::Unhealthy, broken.to_string())
        }
    })?;
    let out = context.output;
    match output {
        // The lines themselves are JSON, and a document after them would be one line too many.
        Some(path) if out.json => out.document(&json!({
            "file": path, "rows": exported.rows, "checkpoints": exported.checkpoints,
        }))?,
        _ => out.note(format!("{} rows and {} checkpoints", exported.rows, exported.checkpoints)),
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_where_it_has_to_be_and_never_a_formula() {
        let cells = ["plain", "a,b", "say \"no\"", "=1+1", "two\nlines"].map(str::to_owned);
        assert_eq!(csv(&cells), "plain,\"a,b\",\"say \"\"no\"\"\",'=1+1,\"two\nlines\"");
    }

    #[test]
    fn long_details_are_cut_at_a_character() {
        let detail = json!("ä".repeat(200));
        assert_eq!(brief(&detail).chars().count(), BRIEF_CHARS + 1);
        assert_eq!(brief(&Value::Null), "");
    }
}
