//! `rota policy`: what can be said about a policy without a database, and the accepted one.
//!
//! Whoever may read reports may look at the accepted policy. Accepting is the daemon's: an
//! operator consents to a policy by its digest, and a daemon takes it from its own source.
//! A login with the rights of `rota_daemon` accepts at once.

use std::sync::Arc;

use rota_core::id::SecretId;
use rota_core::policy::accept::{PolicyDiff, diff, removals_need_consent};
use rota_core::policy::diagnostic::{Diagnostic, Level, render_all};
use rota_core::policy::model::Policy as Accepted;
use rota_core::policy::schema::schema;
use rota_engine::ports::AcceptedPolicy;
use rota_postgres::{Orders, PgJournal, Reports};
use serde_json::json;

use super::Context;
use super::orders::asked;
use crate::cli::{Consent, Policy};
use crate::database::Right;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Tone;
use crate::policy_source::{Read, Unreadable};
use crate::{policy_notices, prompt, wiring};

/// What `pg_stat_activity` shows.
const WHO: &str = "rota policy";

pub(super) async fn run(context: &Context, command: &Policy) -> Outcome {
    match command {
        Policy::Lint { source, strict } => lint(context, source.as_ref(), *strict).await,
        Policy::Schema => print_schema(context),
        Policy::Show { name, policy, accepted: false } => {
            let (policy, _) = good(context, policy.source.as_ref()).await?;
            show(context, &policy, name.as_ref())
        }
        Policy::Show { name, accepted: true, .. } => {
            let accepted = context.reports(WHO).await?.accepted_policy().await?.ok_or_else(none_accepted)?;
            show(context, &accepted.policy.unpack(), name.as_ref())
        }
        Policy::Diff { policy } => compare(context, policy.source.as_ref()).await,
        Policy::Accept { policy, accept_removals, consent } => {
            accept(context, policy.source.as_ref(), *accept_removals, consent).await
        }
    }
}

/// The accepted policy, or the one that the command line names instead.
///
/// # Errors
/// Where none is accepted, and as [`good`].
pub(super) async fn accepted_or(
    context: &Context,
    reports: &Reports,
    source: Option<&String>,
) -> Result<Arc<Accepted>, Failure> {
    match source {
        Some(_) => Ok(Arc::new(good(context, source).await?.0)),
        None => {
            let accepted = reports.accepted_policy().await?.ok_or_else(none_accepted)?;
            Ok(Arc::new(accepted.policy.unpack()))
        }
    }
}

/// What to say where no daemon has accepted anything yet.
pub(super) fn none_accepted() -> Failure {
    Failure::new(Exit::NotFound, "no policy is accepted yet")
        .hint("`rota serve` accepts the first one by itself")
}

/// What the policy here would change.
async fn compare(context: &Context, source: Option<&String>) -> Outcome {
    let (policy, digest) = good(context, source).await?;
    let accepted = context.reports(WHO).await?.accepted_policy().await?.ok_or_else(none_accepted)?;
    let changes = diff(&accepted.policy.unpack(), &policy);
    let out = context.output;
    if out.json {
        out.document(&json!({
            "accepted": { "version": accepted.version, "digest": accepted.digest, "by": accepted.by, "at": accepted.at },
            "digest": digest, "changes": changes,
            "needs_consent": removals_need_consent(accepted.policy.ids(), &policy),
        }))?;
        return Ok(Exit::Success);
    }
    for line in change_lines(&changes) {
        out.line(line)?;
    }
    out.line(format!("against version {}, accepted by {}: {changes}", accepted.version, accepted.by))?;
    Ok(Exit::Success)
}

fn change_lines(changes: &PolicyDiff) -> Vec<String> {
    let added = changes.added.iter().map(|id| format!("+ {id}"));
    let removed = changes.removed.iter().map(|id| format!("- {id}"));
    let changed = changes.changed.iter().map(|(id, keys)| format!("~ {id}: {}", keys.join(", ")));
    let shared = changes.shared.iter().map(|name| format!("~ {name}"));
    added.chain(removed).chain(changed).chain(shared).collect()
}

/// Accepts the policy in a person's name: also one that was replaced, or one that loses
/// many secrets.
async fn accept(
    context: &Context,
    source: Option<&String>,
    accept_removals: bool,
    consent: &Consent,
) -> Outcome {
    let (policy, digest) = good(context, source).await?;
    let pool = context.connect(WHO, &[Right::Read]).await?;
    let reports = Reports::new(pool.clone());
    let before = reports.accepted_policy().await?;
    let out = context.output;
    if let Some(before) = before.as_ref().filter(|before| before.digest == digest) {
        if out.json {
            out.document(
                &json!({ "version": before.version, "digest": digest, "changes": PolicyDiff::default() }),
            )?;
        } else {
            out.line(format!("it is the accepted policy already, version {}", before.version))?;
        }
        return Ok(Exit::Success);
    }
    let changes = before.as_ref().map(|before| diff(&before.policy.unpack(), &policy)).unwrap_or_default();
    if let Some(before) = before.as_ref().filter(|before| removals_need_consent(before.policy.ids(), &policy))
    {
        if !accept_removals {
            let count = changes.removed.len();
            let message = format!("{count} of {} secrets would be removed", before.policy.len());
            return Err(Failure::new(Exit::Refused, message)
                .hint("look at `rota policy diff`; where it is meant, add --accept-removals"));
        }
        if !consent.yes {
            let plan = format!("{}\n{changes}", change_lines(&changes).join("\n"));
            prompt::confirm(&policy.application, &plan)?;
        }
    }
    let asked = asked(consent, None)?;
    if reports.rights().await?.get("rota_daemon") == Some(&true) {
        let by = format!("{} ({}): {}", asked.given_name, reports.login().await?, asked.reason);
        let journal = PgJournal::new(pool);
        let said = if before.is_some() { changes.to_string() } else { count_of(&policy) };
        let tell = |accepted: &AcceptedPolicy| policy_notices::accepted(accepted, &said);
        let accepted = journal.accept_and_tell(&policy, &digest, &by, tell).await?;
        if out.json {
            out.document(&json!({ "version": accepted.version, "digest": digest, "changes": changes }))?;
        } else {
            out.line(format!("version {} is accepted: {said}", accepted.version))?;
        }
        return Ok(Exit::Success);
    }
    let replaces = before.ok_or_else(none_accepted)?.version;
    let pool = context.connect(WHO, &[Right::Read, Right::Order]).await?;
    let number = Orders::new(pool).accept_policy(&digest, replaces, accept_removals, &asked).await?;
    if out.json {
        out.document(
            &json!({ "consent": number, "digest": digest, "replaces": replaces, "changes": changes }),
        )?;
    } else {
        out.line(format!("consent {number} given to replacing version {replaces}: {changes}"))?;
        out.note("a daemon takes this policy when its own source holds it; `rota policy show --accepted` shows it then");
    }
    Ok(Exit::Success)
}

/// How large a first policy is.
pub(crate) fn count_of(policy: &Accepted) -> String {
    format!("{} secrets", policy.secrets.len())
}

/// Reads the policy that the command line or the configuration names.
///
/// # Errors
/// Where there is nothing that could be judged.
pub(super) async fn read(context: &Context, source: Option<&String>) -> Result<Read, Failure> {
    let configuration = context.configuration(&[("policy.source", source)])?;
    let source = wiring::policy_source(&configuration).await?;
    match source.place.load(&wiring::kinds()?, source.objects.as_deref()).await {
        Ok(read) => Ok(read),
        Err(Unreadable::Refused(diagnostic)) => Ok(Read::refused(*diagnostic)),
        Err(Unreadable::Failed(failure)) => Err(failure),
    }
}

/// The policy, or everything that is wrong with it.
///
/// # Errors
/// As [`read`], and where the policy has errors.
pub(super) async fn good(context: &Context, source: Option<&String>) -> Result<(Accepted, String), Failure> {
    let read = read(context, source).await?;
    match (read.loaded.policy, read.digest) {
        (Some(policy), Some(digest)) => Ok((policy, digest)),
        _ => Err(refused(&read.loaded.diagnostics)),
    }
}

fn refused(diagnostics: &[Diagnostic]) -> Failure {
    Failure::invalid(format!("the policy has errors\n\n{}", render_all(diagnostics).trim_end()))
}

async fn lint(context: &Context, source: Option<&String>, strict: bool) -> Outcome {
    let read = read(context, source).await?;
    let findings = &read.loaded.diagnostics;
    let count = |level| read.loaded.of(level).count();
    let bad = count(Level::Error) > 0 || (strict && count(Level::Warning) > 0);
    let out = context.output;
    if out.json {
        out.document(&json!({ "ok": !bad, "digest": read.digest, "findings": findings }))?;
    } else {
        let text = render_all(findings);
        let tone = if bad { Tone::Bad } else { Tone::Good };
        let (body, summary) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
        if !body.is_empty() {
            out.line(body)?;
        }
        out.line(out.paint(tone, summary))?;
    }
    Ok(if bad { Exit::Invalid } else { Exit::Success })
}

fn print_schema(context: &Context) -> Outcome {
    context.output.document(&schema(&wiring::kinds()?))?;
    Ok(Exit::Success)
}

/// The accepted form, which is JSON by nature: every default filled in.
fn show(context: &Context, policy: &Accepted, name: Option<&SecretId>) -> Outcome {
    let Some(name) = name else {
        context.output.document(policy)?;
        return Ok(Exit::Success);
    };
    let entry = policy.entry(name).ok_or_else(|| unknown_secret(name))?;
    context.output.document(&entry)?;
    Ok(Exit::Success)
}

/// What to say where a name is nobody's.
pub(super) fn unknown_secret(name: &SecretId) -> Failure {
    Failure::new(Exit::NotFound, format!("no secret is called `{name}`")).hint("`rota status` lists them all")
}
