//! Cadence, overlap, lead, reminders, calendars and windows.

use jiff::SignedDuration;

use super::Subject;
use crate::policy::duration::show;
use crate::policy::model::{Class, Environment};
use crate::policy::raw::Cadence;
use crate::policy::resolve::shared::Shared;
use crate::policy::rules;
use crate::policy::source::{Finding, Findings, Span};
use crate::schedule::{Schedule, Window};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What a change of clocks leaves of a day: zones move by up to three hours, other than
/// over the date line.
const SHORTEST_DAY: SignedDuration = SignedDuration::from_hours(21);

/// What people mean by monthly, quarterly, twice a year and yearly.
const USUAL: [SignedDuration; 4] = [
    SignedDuration::from_hours(30 * 24),
    SignedDuration::from_hours(90 * 24),
    SignedDuration::from_hours(180 * 24),
    SignedDuration::from_hours(365 * 24),
];

pub(super) fn lint(subject: &Subject<'_>, findings: &mut Findings) {
    positive(subject, findings);
    if let Some(every) = subject.resolved.cadence.filter(|every| !every.is_zero()) {
        if matches!(subject.resolved.policy.schedule, Schedule::Cadence { .. }) {
            cadence(subject, every, findings);
        }
        between(subject, every, findings);
        lifetime(subject, every, findings);
        reminders(subject, every, findings);
    }
    tokens(subject, findings);
    if let Some(window) = &subject.resolved.policy.window {
        open(subject, window, findings);
    }
}

/// A value that ends by itself has to be accepted until the next one took over.
fn lifetime(subject: &Subject<'_>, every: SignedDuration, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let wanted = every.saturating_add(policy.kept_overlap());
    let Some(lifetime) = subject.resolved.facts.lifetime.filter(|lifetime| *lifetime < wanted) else {
        return;
    };
    let message = format!(
        "a value of `{}` ends after {}, and is used for {} and an overlap",
        policy.id,
        show(lifetime),
        show(every)
    );
    let help = format!("let it live for {} or more, or for ever while it is renewed", show(wanted));
    findings.push(Finding::new(&rules::ENDS_EARLY, due_span(subject), message).help(help));
}

/// Durations and numbers that cannot be nothing.
fn positive(subject: &Subject<'_>, findings: &mut Findings) {
    let layers = subject.layers;
    let healthy = layers.get(|t| &t.healthy).map(|at| &at.value);
    let cadence = layers.get(|t| &t.cadence).and_then(|at| match at.value {
        Cadence::Every(every) => Some(("cadence", every, at.span)),
        Cadence::OnRequest => None,
    });
    let overlap = layers.get(|t| &t.overlap).map(|at| ("overlap", at.value, at.span));
    let every = healthy.and_then(|h| h.every.as_ref()).map(|at| ("every", at.value, at.span));
    let steps = layers.all().flat_map(|layer| &layer.deadline).flat_map(|at| &at.value.0);
    let steps = steps.map(|(step, at)| (step.value.as_str(), at.value, at.span));
    for (key, _, span) in
        [cadence, overlap, every].into_iter().flatten().chain(steps).filter(|(_, d, _)| d.is_zero())
    {
        findings.push(nothing(key, span, "write a duration above zero, or leave the key out"));
    }
    let count = healthy.and_then(|h| h.count.as_ref()).map(|at| ("count", at));
    let failures = healthy.and_then(|h| h.failures.as_ref()).map(|at| ("failures", at));
    for (key, at) in [count, failures].into_iter().flatten().filter(|(_, at)| at.value == 0) {
        findings.push(nothing(key, at.span, "write 1 or more, or leave the key out"));
    }
}

fn nothing(key: &str, span: Span, help: &str) -> Finding {
    Finding::new(&rules::NOT_POSITIVE, span, format!("`{key}` is zero")).help(help)
}

fn cadence(subject: &Subject<'_>, every: SignedDuration, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let span = due_span(subject);
    let production = subject.shared.environment() == Environment::Production;
    if production && every < DAY {
        let message = format!("`{}` rotates every {} in production", policy.id, show(every));
        findings.push(
            Finding::new(&rules::CADENCE_TOO_SHORT, span, message)
                .help("write at least \"1d\"; shorter cadences are for staging and development"),
        );
    } else if production && !USUAL.contains(&every) && policy.cadence_basis.is_none() {
        let message = format!("every {} is not a usual cadence (30d, 90d, 180d, 365d)", show(every));
        findings.push(
            Finding::new(&rules::UNUSUAL_CADENCE, span, message)
                .help("add `cadence_basis = \"where it comes from\"`"),
        );
    }
}

/// Whether a rotation fits between two due dates.
fn between(subject: &Subject<'_>, every: SignedDuration, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let layers = subject.layers;
    let span = due_span(subject);
    if policy.overlap >= every {
        let message =
            format!("the overlap of {} is not below the cadence of {}", show(policy.overlap), show(every));
        let quarter = show(every / 4);
        findings.push(
            Finding::new(
                &rules::OVERLAP_TOO_LONG,
                layers.get(|t| &t.overlap).map_or(span, |at| at.span),
                message,
            )
            .label(span, "the cadence")
            .help(format!("write an overlap of at most a quarter of the cadence, such as \"{quarter}\"")),
        );
    } else {
        fits(subject, every, findings);
    }
}

/// Where it is said when the secret is due.
fn due_span(subject: &Subject<'_>) -> Span {
    let layer = subject.layers.all().find(|layer| layer.cadence.is_some() || layer.calendar.is_some());
    let cadence = layer.and_then(|layer| layer.cadence.as_ref()).map(|at| at.span);
    cadence
        .or(layer.and_then(|layer| layer.calendar.as_ref()).map(|at| at.span))
        .unwrap_or(subject.layers.name.span)
}

/// Lead, rollouts, overlap and waits have to fit between two promotions.
fn fits(subject: &Subject<'_>, every: SignedDuration, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let rollout = policy
        .consumers
        .names()
        .iter()
        .filter_map(|name| subject.shared.resolved_consumers.get(name))
        .map(|consumer| consumer.rollout.deadline.saturating_add(consumer.settle))
        .max()
        .unwrap_or(SignedDuration::ZERO);
    // Promotion always; introduction and withdrawal where consumers see a second value.
    let rollouts = if policy.publish.shows_a_second() { 3 } else { 1 };
    let closed = policy.window.as_ref().map_or(SignedDuration::ZERO, Window::longest_closed);
    let watched = policy.healthy.every.checked_mul(i32::try_from(policy.healthy.count).unwrap_or(i32::MAX));
    let watch = watched.unwrap_or(SignedDuration::MAX).max(policy.kept_overlap());
    let total = policy
        .lead
        .saturating_add(rollout * rollouts)
        .saturating_add(watch)
        .saturating_add(policy.revoke_after)
        .saturating_add(closed);
    // Cadences of seconds are for watching, with deadlines that were meant for real ones.
    if total < every || subject.shared.environment() == Environment::Development {
        return;
    }
    let message = format!(
        "a rotation of `{}` can take {}, and the next one is due after {}",
        policy.id,
        show(total),
        show(every)
    );
    let parts = [
        (policy.lead, format!("the lead ({})", show(policy.lead))),
        (rollout, format!("the rollouts ({rollouts} times up to {})", show(rollout))),
        (
            watch,
            format!(
                "the {} ({})",
                if watch > policy.kept_overlap() { "healthy observations" } else { "overlap" },
                show(watch)
            ),
        ),
        (policy.revoke_after, format!("revoke_after ({})", show(policy.revoke_after))),
        (closed, format!("the closed window ({})", show(closed))),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter(|(time, _)| !time.is_zero()).map(|(_, text)| text).collect();
    let help = format!("shorten one of these: {}", parts.join(", "));
    findings.push(Finding::new(&rules::DOES_NOT_FIT, due_span(subject), message).help(help));
}

fn reminders(subject: &Subject<'_>, every: SignedDuration, findings: &mut Findings) {
    let Some(at) = subject.layers.stated(|t| &t.remind) else { return };
    let Some(longest) = at.value.0.iter().find(|before| **before >= every) else { return };
    let message = format!("a reminder {} ahead never rests: the cadence is {}", show(*longest), show(every));
    findings.push(
        Finding::new(&rules::REMINDER_TOO_LONG, at.span, message).help("remind less than a cadence ahead"),
    );
}

fn tokens(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let layers = subject.layers;
    let (ttl, overlap) = (show(policy.token_ttl), show(policy.overlap));
    match layers.get(|t| &t.token_ttl) {
        Some(at) if policy.overlap < policy.token_ttl => {
            let message = format!(
                "what `{}` signed is accepted for {ttl}, and the overlap is only {overlap}",
                policy.id
            );
            findings.push(
                Finding::new(&rules::OVERLAP_UNDER_TOKEN_TTL, at.span, message)
                    .label(layers.get(|t| &t.overlap).map(|at| at.span), "the overlap")
                    .help(format!("write `overlap = \"{ttl}\"` or more")),
            );
        }
        None if policy.class == Some(Class::Signing) => {
            let message = format!(
                "how long what `{}` signed is accepted is not said; taken as the overlap, {overlap}",
                policy.id
            );
            findings.push(
                Finding::new(&rules::TOKEN_TTL_UNSAID, layers.name.span, message)
                    .help("add `token_ttl`: the longest life of a token, cookie or state that it signs"),
            );
        }
        Some(_) | None => {}
    }
}

fn open(subject: &Subject<'_>, window: &Window, findings: &mut Findings) {
    let layers = subject.layers;
    let closed = window.longest_closed();
    let Some(at) = layers.get(|t| &t.lead).filter(|at| at.value < closed) else { return };
    let (stated, closed) = (show(at.value), show(closed));
    findings.push(
        Finding::new(
            &rules::LEAD_TOO_SHORT,
            at.span,
            format!("a lead of {stated} can fall into a closed window; taken as {closed}"),
        )
        .label(layers.get(|t| &t.window).map(|at| at.span), "the window")
        .help(format!("write `lead = \"{closed}\"`, or widen the window")),
    );
}

/// Dates that lie further apart than promised, or than people expect.
pub(super) fn lint_calendars(shared: &Shared, findings: &mut Findings) {
    for (name, (_, gaps)) in &shared.resolved_calendars {
        let Some(table) = shared.calendars.get(name).and_then(|defined| defined.table.as_ref()) else {
            continue;
        };
        let Some(cron) = &table.cron else { continue };
        let days = days_up(gaps.longest);
        if shared.environment() == Environment::Production && gaps.shortest < SHORTEST_DAY {
            let message = format!("dates of `{name}` are only {} apart in production", show(gaps.shortest));
            findings.push(
                Finding::new(&rules::CADENCE_TOO_SHORT, cron.span, message)
                    .help("write one date a day at most; shorter cadences are for staging and development"),
            );
        }
        if let Some(at) = &table.max_age {
            if at.value.is_zero() {
                findings.push(nothing("max_age", at.span, "write the age that is promised, such as \"93d\""));
            } else if at.value < gaps.longest {
                let message = format!(
                    "dates of `{name}` are up to {days} days apart, over the {} that it promises",
                    show(at.value)
                );
                findings.push(
                    Finding::new(&rules::CALENDAR_TOO_FAR_APART, at.span, message)
                        .label(cron.span, "the dates")
                        .help(format!("write `max_age = \"{days}d\"`, or dates that are closer together")),
                );
            }
            continue;
        }
        let over =
            USUAL.iter().rev().find(|usual| gaps.longest >= **usual).filter(|usual| gaps.longest > **usual);
        if let Some(usual) = over {
            let message =
                format!("dates of `{name}` are up to {days} days apart, over the usual {}", show(*usual));
            findings.push(Finding::new(&rules::CALENDAR_WITHOUT_MAX_AGE, cron.span, message).help(format!(
                "add `max_age = \"{days}d\"` to promise that, or `cadence = \"{}\"` in its place",
                show(*usual)
            )));
        }
    }
}

fn days_up(duration: SignedDuration) -> i64 {
    let seconds = duration.as_secs();
    seconds / 86_400 + i64::from(seconds % 86_400 > 0)
}
