//! `rota doctor`: looks at everything that a rotation needs, and says what to do about
//! what is missing.
//!
//! Deliberately absent: any change. Stores and checks are asked as a rotation asks them
//! before it begins.

mod looks;

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::Context;
use crate::cli::Doctor;
use crate::exit::{Exit, Outcome};
use crate::output::{Output, Tone};

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    what: String,
    state: State,
    /// What was seen.
    seen: String,
    /// What to do about it.
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Well,
    /// Works, but somebody should look.
    Doubtful,
    Broken,
}

impl Finding {
    fn well(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), state: State::Well, seen: seen.into(), fix: None }
    }

    fn doubtful(what: impl Into<String>, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), state: State::Doubtful, seen: seen.into(), fix: Some(fix.into()) }
    }

    fn broken(what: impl Into<String>, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), state: State::Broken, seen: seen.into(), fix: Some(fix.into()) }
    }
}

pub(super) async fn run(context: &Context, doctor: &Doctor) -> Outcome {
    let own = [("policy.source", doctor.policy.source.as_ref())];
    let configuration = Arc::new(context.configuration(&own)?);
    let out = context.output;
    let mut all: Vec<Finding> = Vec::new();
    let mut tell = |findings: Vec<Finding>| -> Outcome {
        for finding in findings {
            if !out.json {
                show(out, &finding)?;
            }
            all.push(finding);
        }
        Ok(Exit::Success)
    };
    // The order is the one in which things depend on each other.
    let (findings, pool) = looks::database(&configuration).await;
    tell(findings)?;
    if let Some(pool) = &pool {
        tell(looks::clock(pool).await)?;
    }
    let (findings, policy) = looks::policy(context, doctor.policy.source.as_ref()).await;
    tell(findings)?;
    if let Some(policy) = &policy {
        tell(looks::stores(&configuration, policy).await)?;
        tell(looks::checks(&configuration, policy).await)?;
        tell(looks::settings(&configuration, policy))?;
    }
    tell(looks::channels(&configuration))?;
    if let Some(pool) = &pool {
        tell(looks::deliveries(pool).await)?;
    }
    tell(vec![looks::daemon(&configuration).await])?;
    let broken = all.iter().filter(|finding| finding.state == State::Broken).count();
    if out.json {
        out.document(&json!({ "ok": broken == 0, "findings": all }))?;
    } else {
        let word = if broken == 0 { "nothing is broken".to_owned() } else { format!("{broken} broken") };
        out.line(out.paint(if broken == 0 { Tone::Good } else { Tone::Bad }, &word))?;
    }
    Ok(if broken == 0 { Exit::Success } else { Exit::Unhealthy })
}

fn show(out: Output, finding: &Finding) -> Outcome {
    let (mark, tone) = match finding.state {
        State::Well => ("ok  ", Tone::Good),
        State::Doubtful => ("look", Tone::Attention),
        State::Broken => ("BAD ", Tone::Bad),
    };
    out.line(format!("{} {}: {}", out.paint(tone, mark), finding.what, finding.seen))?;
    if let Some(fix) = &finding.fix {
        out.line(format!("     fix: {fix}"))?;
    }
    Ok(Exit::Success)
}
