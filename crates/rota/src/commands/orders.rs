//! Orders to the daemon: rotate, confirm, hold, resume, roll back, abandon, adopt,
//! reconcile.
//!
//! Each is one call of a function in the database, which records who asked and why.
//! Deliberately absent: doing anything of it. The daemon does, and says what became of it.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rota_core::id::SecretId;
use rota_core::policy::model::PolicyEntry;
use rota_core::rotation::{Step, Suspect};
use rota_core::schedule::Start;
use rota_engine::ports::OrderKind;
use rota_postgres::{Adoption, Asked, Orders, Reports};
use serde_json::json;

use super::Context;
use super::policy::unknown_secret;
use crate::cli::{Adopt, Consent, Order, Reconcile, Rotate};
use crate::database::Right;
use crate::exit::{Exit, Failure, Outcome};
use crate::prompt;
use crate::view::Secret;

/// What `pg_stat_activity` shows.
const WHO: &str = "rota order";

/// An order looks first at how the secret is.
const NEEDS: [Right; 2] = [Right::Order, Right::Read];

/// A word for everything that leaked, instead of a version.
const BOTH: &str = "both";

/// A word for the value in use while no rotation is in flight, instead of its version.
const CURRENT: &str = "current";

pub(super) async fn rotate(context: &Context, order: &Rotate) -> Outcome {
    let (database, secret) = prepare(context, &order.name).await?;
    forbidden(&secret, order.emergency, &OrderKind::Rotate)?;
    let Some(suspect) = order.suspect.as_deref().filter(|_| order.emergency) else {
        let asked = asked(&order.consent, None)?;
        return give(context, &database, &order.name, &OrderKind::Rotate, &asked).await;
    };
    let current = super::status::current_version(&database.1, &secret, &order.name).await?;
    let suspect = suspected(&secret, current.as_deref(), suspect)?;
    let plan = emergency_plan(&secret, suspect);
    let asked = confirmed(&order.consent, &secret, &plan)?;
    give(context, &database, &order.name, &OrderKind::Emergency { suspect }, &asked).await
}

pub(super) async fn simple(context: &Context, kind: OrderKind, order: &Order) -> Outcome {
    let (database, secret) = prepare(context, &order.name).await?;
    forbidden(&secret, false, &kind)?;
    let asked = match danger(&kind, &secret) {
        Some(plan) => confirmed(&order.consent, &secret, &plan)?,
        None => asked(&order.consent, None)?,
    };
    give(context, &database, &order.name, &kind, &asked).await
}

/// Refuses what the daemon would refuse, while the person is still there to hear why.
/// The daemon judges again: the state may change meanwhile.
fn forbidden(secret: &Secret, emergency: bool, kind: &OrderKind) -> Result<(), Failure> {
    let name = &secret.secret;
    let refuse =
        |why: &str, hint: String| Err(Failure::new(Exit::Refused, format!("{name} {why}")).hint(hint));
    let look = || format!("`rota status {name}` says how it is");
    let in_flight = secret.phase.is_some();
    match kind {
        OrderKind::Rotate | OrderKind::Emergency { .. } if in_flight && emergency => Ok(()),
        OrderKind::Rotate | OrderKind::Emergency { .. } if in_flight => {
            refuse("has a rotation in flight already", look())
        }
        OrderKind::Rotate | OrderKind::Emergency { .. } if secret.blocked_by.is_some() => refuse(
            "is blocked: an earlier rotation left something alive",
            format!(
                "deal with what `rota status {name}` lists, then `rota reconcile {name} --reason \"what was alive is revoked\"`"
            ),
        ),
        OrderKind::Rotate | OrderKind::Emergency { .. } if secret.removed => {
            refuse("is no longer in the policy", "add it again, or leave it alone".to_owned())
        }
        OrderKind::Rotate | OrderKind::Emergency { .. } => Ok(()),
        _ if !in_flight => refuse("has no rotation in flight", look()),
        OrderKind::Hold if secret.held.is_some() => refuse("is held already", look()),
        OrderKind::Resume if secret.held.is_none() => refuse("is not held; it goes on by itself", look()),
        OrderKind::Rollback if !secret.can_undo => refuse(
            "can no longer go back: the old value may be gone",
            format!("`rota rotate {name} --emergency --suspect REF` replaces a bad new value"),
        ),
        OrderKind::Confirm if secret.step.as_deref() != Some(Step::Confirm.as_str()) => {
            refuse("does not wait for a confirmation", look())
        }
        OrderKind::Hold
        | OrderKind::Resume
        | OrderKind::Rollback
        | OrderKind::Abandon
        | OrderKind::Confirm
        | OrderKind::Submitted => Ok(()),
    }
}

/// What an order would do that cannot simply be taken back; `None` for the others.
fn danger(kind: &OrderKind, secret: &Secret) -> Option<String> {
    let reads = secret.published.as_deref().unwrap_or("[old]");
    match kind {
        OrderKind::Rollback => Some(format!(
            "Consumers read {reads} now. Everything goes back to the old value, each step rolled out to its end."
        )),
        OrderKind::Abandon => Some(format!(
            "Consumers read {reads} now, and stay so. What is alive stays alive, and the secret does not \
             rotate again before `rota reconcile {}`.",
            secret.secret
        )),
        OrderKind::Confirm => Some(
            "You say that the old key is revoked at the provider. If it is not, it stays usable and nobody looks."
                .to_owned(),
        ),
        OrderKind::Emergency { suspect } => Some(emergency_plan(secret, *suspect)),
        OrderKind::Rotate | OrderKind::Hold | OrderKind::Resume | OrderKind::Submitted => None,
    }
}

pub(super) async fn adopt(context: &Context, order: &Adopt) -> Outcome {
    let pool = context.connect(WHO, &NEEDS).await?;
    let reports = Reports::new(pool.clone());
    let policy = super::policy::accepted_or(context, &reports, order.policy.source.as_ref()).await?;
    let entry = policy.entry(&order.name).ok_or_else(|| unknown_secret(&order.name))?;
    let now = reports.now().await?;
    let adoption = adoption(&entry, order, now)?;
    let asked = asked(&order.consent, Some("adopted with the date of its last rotation"))?;
    Orders::new(pool.clone()).adopt(&order.name, &adoption, &asked).await?;
    let out = context.output;
    if out.json {
        out.document(&json!({ "secret": order.name, "next_due": adoption.next_due, "next_start": adoption.next_start }))?;
    } else {
        let due = adoption.next_due.map_or_else(|| "only on order".to_owned(), super::status::utc);
        out.line(format!("{} is adopted; due next: {due}", order.name))?;
        if adoption.next_start.is_some_and(|start| start <= now) {
            out.note("its rotation begins as soon as a window is open");
        }
    }
    Ok(Exit::Success)
}

/// The due date that was chosen, else the one that follows from the last rotation.
fn adoption(entry: &PolicyEntry, order: &Adopt, now: Timestamp) -> Result<Adoption, Failure> {
    let moment = |day: Option<Date>| {
        let zoned = day.map(|day| day.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()));
        zoned.transpose().map_err(|_| Failure::invalid("a date is out of range"))
    };
    let (rotated, chosen) = (moment(order.rotated_on)?, moment(order.due)?);
    let secret = &entry.secret;
    let start = Start { lead: secret.lead, window: secret.window.as_ref() };
    let due = secret.schedule.first_due(now, chosen, rotated, start).map(|due| due.at);
    Ok(Adoption { last_rotated: rotated, next_due: due, next_start: due.map(|due| start.of(due)) })
}

pub(super) async fn reconcile(context: &Context, order: &Reconcile) -> Outcome {
    let ((orders, reports), secret) = prepare(context, &order.name).await?;
    if secret.blocked_by.is_none() && secret.orphans == 0 {
        let why = format!("nothing of {} waits to be reconciled", order.name);
        return Err(Failure::new(Exit::Refused, why).hint(format!("see `rota status {}`", order.name)));
    }
    if let Some(number) = order.orphan
        && !reports.orphans(Some(&order.name)).await?.iter().any(|orphan| orphan.orphan == number)
    {
        let what = format!("nothing that is left of {} has the number {number}", order.name);
        return Err(Failure::new(Exit::NotFound, what).hint(format!("`rota status {}` lists it", order.name)));
    }
    let plan = "You say that what was left alive is dealt with: revoked at its target, and one value published \
                and rolled out. The secret may rotate again.";
    let asked = confirmed(&order.consent, &secret, plan)?;
    let resolved = orders.resolve_orphan(&order.name, order.orphan, &asked).await?;
    let after = look(&reports, &order.name).await?;
    let free = after.blocked_by.is_none();
    let out = context.output;
    if out.json {
        out.document(&json!({ "secret": order.name, "resolved": resolved, "may_rotate": free }))?;
    } else if free {
        out.line(format!("{} is reconciled and may rotate again", order.name))?;
    } else {
        out.line(format!("{}: {resolved} reconciled, {} left", order.name, after.orphans))?;
    }
    Ok(Exit::Success)
}

/// Connects, and looks whether the secret exists and how it is.
async fn prepare(context: &Context, name: &SecretId) -> Result<((Orders, Reports), Secret), Failure> {
    let pool = context.connect(WHO, &NEEDS).await?;
    let (orders, reports) = (Orders::new(pool.clone()), Reports::new(pool));
    let secret = look(&reports, name).await?;
    Ok(((orders, reports), secret))
}

async fn look(reports: &Reports, name: &SecretId) -> Result<Secret, Failure> {
    let status = reports.status(Some(name)).await?.pop();
    Ok(status.ok_or_else(|| unknown_secret(name))?.into())
}

/// Who asks and why. Without a reason on the command line it is asked for.
pub(super) fn asked(consent: &Consent, default: Option<&str>) -> Result<Asked, Failure> {
    let reason = consent
        .reason
        .clone()
        .or_else(|| default.map(str::to_owned))
        .or_else(|| prompt::line("Why (kept in the history)"))
        .ok_or_else(|| Failure::new(Exit::Usage, "a reason is needed").hint("give --reason \"...\""))?;
    Ok(Asked { given_name: given_name(consent.by.name.as_deref())?, reason })
}

/// The name for the history; the database adds its own of the session.
pub(super) fn given_name(given: Option<&str>) -> Result<String, Failure> {
    let login = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
    let name = given.map(str::to_owned).or_else(login).filter(|name| !name.trim().is_empty());
    name.ok_or_else(|| {
        Failure::new(Exit::Usage, "the history wants to know who asks")
            .hint("give --as NAME, or set ROTA_OPERATOR")
    })
}

/// As [`asked`], after the person typed the secret's name.
fn confirmed(consent: &Consent, secret: &Secret, plan: &str) -> Result<Asked, Failure> {
    if !consent.yes {
        let place = format!("{} is in {}.", secret.secret, secret.place());
        prompt::confirm(&secret.secret, &format!("{place}\n{plan}"))?;
    }
    asked(consent, None)
}

/// Which of the two values leaked; `None` is both. `current` is the version of a secret at rest.
fn suspected(secret: &Secret, current: Option<&str>, text: &str) -> Result<Option<Suspect>, Failure> {
    if text == BOTH {
        return Ok(None);
    }
    let is = |version: &Option<String>| version.as_deref() == Some(text);
    if is(&secret.old_version) {
        return Ok(Some(Suspect::Older));
    }
    if is(&secret.new_version) {
        return Ok(Some(Suspect::Newer));
    }
    // Without a rotation in flight there is one value: the one in use.
    if secret.phase.is_none() && (text == CURRENT || current == Some(text)) {
        return Ok(Some(Suspect::Older));
    }
    let known: Vec<&str> =
        [&secret.old_version, &secret.new_version].into_iter().flatten().map(String::as_str).collect();
    let hint = match (secret.phase.is_some(), known.as_slice()) {
        (false, _) => {
            "no rotation is in flight: write --suspect current for the value in use, or both".to_owned()
        }
        (true, []) => "nothing is stored yet: write --suspect both".to_owned(),
        (true, known) => format!("write one of {}, or both", known.join(", ")),
    };
    Err(Failure::invalid(format!("`{text}` is no version of {}", secret.secret)).hint(hint))
}

fn emergency_plan(secret: &Secret, suspect: Option<Suspect>) -> String {
    let what = match (suspect, secret.phase.is_some()) {
        (Some(Suspect::Older), true) => {
            "The running rotation goes on without waits. The old value is revoked before every instance is new."
        }
        (Some(Suspect::Older), false) => {
            "A rotation starts without waits. The value in use is revoked before every instance is new."
        }
        (Some(Suspect::Newer), _) => "The new value is undone without waits, then a fresh rotation starts.",
        (None, _) => "A third value replaces both. Both are revoked before every instance is new.",
    };
    format!(
        "EMERGENCY. {what} Instances that still use what leaked fail until they are restarted; there is no way back."
    )
}

/// Said where nobody is there to carry something out.
pub(super) const NO_DAEMON: &str =
    "but no daemon is connected to the state database now: start one with `rota serve`";

/// Whether any daemon has a session at the state database.
pub(super) async fn daemon_connected(reports: &Reports) -> Result<bool, Failure> {
    Ok(reports.sessions(crate::serve::WHO).await? > 0)
}

async fn give(
    context: &Context,
    (orders, reports): &(Orders, Reports),
    name: &SecretId,
    kind: &OrderKind,
    asked: &Asked,
) -> Outcome {
    let order = orders.give(name, kind, asked).await?;
    let connected = daemon_connected(reports).await?;
    let out = context.output;
    if out.json {
        out.document(&json!({
            "order": order, "secret": name, "kind": kind, "by": asked.given_name, "daemon_connected": connected,
        }))?;
        return Ok(Exit::Success);
    }
    out.line(format!("order {} given; the daemon carries it out", order.0))?;
    if connected {
        out.note(format!("follow it with `rota status {name} --watch`"));
    } else {
        out.note(NO_DAEMON);
    }
    Ok(Exit::Success)
}
