//! Notices as Block Kit messages of at most eight lines.
//!
//! A message is two blocks: a section with what to know and do, and a context line
//! with where and when. Deliberately absent: coloured bars, because they exist only
//! for attachments, which Slack folds after a few lines and with them the command.

use std::collections::{BTreeMap, BTreeSet};

use rota_core::id::OwnerId;
use rota_core::policy::model::Priority;
use rota_engine::ports::{Notice, NoticeKind};
use serde_json::{Value, json};

use super::text;

/// More lines than this are not read on a telephone at night.
const MAX_LINES: usize = 8;

/// Slack refuses a section text over 3,000 characters (docs.slack.dev, "Section block").
const MAX_SECTION: usize = 3_000;

/// One part of a notice; four of them and a command stay under [`MAX_SECTION`].
const MAX_PART: usize = 500;

/// Two commands with the longest name in them have about 370 characters.
const MAX_COMMAND: usize = 400;

/// How many notices a storm's message shows one by one.
const MAX_LISTED: usize = 4;

/// What happened, in one line of a storm; [`MAX_LISTED`] of them fit a section.
const MAX_LISTED_WHAT: usize = 120;

/// What to run, in one line of a storm: two commands with a name of 40 characters each.
const MAX_LISTED_COMMAND: usize = 240;

/// One line of the digest; six of them fit a section.
const MAX_DIGEST_LINE: usize = 300;

/// The owners that one message calls, in characters: about twenty mentions.
const MAX_CALLED: usize = 400;

/// The notification's own text; telephones show less.
const MAX_FALLBACK: usize = 300;

/// Who is called for an owner of the policy.
pub trait Owners: Send + Sync {
    /// The Slack identifier of the owner, where the policy gives one.
    fn slack_mention(&self, owner: &OwnerId) -> Option<String>;

    /// Who is called beside the owner where it is urgent.
    fn slack_escalation(&self, owner: &OwnerId) -> Option<String>;
}

impl Owners for BTreeMap<OwnerId, rota_core::policy::model::Owner> {
    fn slack_mention(&self, owner: &OwnerId) -> Option<String> {
        self.get(owner).and_then(|owner| owner.slack_mention.clone())
    }

    fn slack_escalation(&self, owner: &OwnerId) -> Option<String> {
        self.get(owner).and_then(|owner| owner.slack_escalation.clone())
    }
}

/// The JSON that Slack is sent for `notices`: one as itself, several as a storm.
#[must_use]
pub(super) fn render(notices: &[Notice], origin: &Origin, owners: &dyn Owners) -> Value {
    match notices {
        [notice] => message(&one(notice, owners), &context(notice, origin), &summary(notice)),
        several => storm(several, origin, owners),
    }
}

/// Which installation speaks, and where its status page is.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) name: String,
    pub(super) status_url: Option<String>,
}

impl Origin {
    /// The parts of a context line, without what is said between.
    fn parts(&self) -> (Option<String>, Option<String>) {
        let name = text::line(&self.name, 200);
        let page = self.status_url.as_deref().and_then(|url| text::link(url, "status page"));
        ((!name.is_empty()).then_some(name), page)
    }
}

fn message(lines: &[String], context: &str, summary: &str) -> Value {
    let mut blocks = vec![section(&lines.join("\n"))];
    if !context.is_empty() {
        blocks.push(json!({ "type": "context", "elements": [mrkdwn(context)] }));
    }
    json!({ "text": summary, "blocks": blocks })
}

fn section(text: &str) -> Value {
    debug_assert!(text::length(text) <= MAX_SECTION, "{} characters", text::length(text));
    json!({ "type": "section", "text": mrkdwn(text) })
}

fn mrkdwn(text: &str) -> Value {
    // Verbatim: names with dots or slashes are not turned into links.
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// The lines of one notice, without the context line.
fn one(notice: &Notice, owners: &dyn Owners) -> Vec<String> {
    let command = notice.command.as_deref().and_then(|written| {
        let label = if text::is_sentence(written) { "Do" } else { "Run" };
        text::command(written, MAX_COMMAND).map(|command| format!("*{label}:* {command}"))
    });
    let link = notice.link.as_deref().and_then(|url| text::link(url, "Open the page"));
    let owner = notice.owner.as_ref().map(|owner| {
        let beside =
            escalation(notice, owners).map_or_else(String::new, |who| format!(", escalated to {who}"));
        format!("*Owner:* {}{beside}", call(owner, owners))
    });
    let last: Vec<String> = [command, link, owner].into_iter().flatten().collect();
    let mut lines = vec![headline(notice)];
    let room = MAX_LINES - 1 - lines.len() - last.len();
    lines.extend(if notice.kind == NoticeKind::Digest { listing(notice, room) } else { parts(notice) });
    lines.extend(last);
    lines
}

fn parts(notice: &Notice) -> Vec<String> {
    [("", &notice.what), ("*Now:* ", &notice.impact), ("*Next:* ", &notice.next)]
        .into_iter()
        .map(|(label, part)| (label, text::line(part, MAX_PART)))
        .filter(|(_, part)| !part.is_empty())
        .map(|(label, part)| format!("{label}{part}"))
        .collect()
}

/// The digest keeps its own lines, as many as there is room for.
fn listing(notice: &Notice, room: usize) -> Vec<String> {
    let all: Vec<String> = [&notice.what, &notice.impact, &notice.next]
        .into_iter()
        .flat_map(|part| part.lines())
        .map(|line| text::line(line, MAX_DIGEST_LINE))
        .filter(|line| !line.is_empty())
        .collect();
    shorten(all, room)
}

fn shorten(mut lines: Vec<String>, room: usize) -> Vec<String> {
    if lines.len() > room {
        let left_out = lines.len() + 1 - room;
        lines.truncate(room - 1);
        lines.push(format!("… and {left_out} more"));
    }
    lines
}

fn headline(notice: &Notice) -> String {
    let kind = Look::of(notice.kind);
    let mut line = format!("{} *{}*", kind.emoji, kind.title);
    if let Some(secret) = &notice.secret {
        line.push_str(&format!(" `{secret}`"));
    }
    line
}

/// What the notification and screen readers say.
fn summary(notice: &Notice) -> String {
    let title = Look::of(notice.kind).title;
    let name = notice.secret.as_ref().map(|secret| format!(" {secret}")).unwrap_or_default();
    let first = notice.what.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let what = text::line(first, MAX_FALLBACK);
    if what.is_empty() { format!("{title}{name}") } else { format!("{title}{name}: {what}") }
}

fn context(notice: &Notice, origin: &Origin) -> String {
    let priority = match notice.priority {
        Priority::Critical => Some("critical"),
        Priority::High => Some("high priority"),
        Priority::Medium | Priority::Low => None,
    };
    let (name, page) = origin.parts();
    let time = Some(text::time(notice.at));
    let parts = [name, priority.filter(|_| notice.secret.is_some()).map(ToOwned::to_owned), time, page];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn call(owner: &OwnerId, owners: &dyn Owners) -> String {
    let mention = owners.slack_mention(owner).and_then(|id| text::mention(&id));
    mention.unwrap_or_else(|| owner.to_string())
}

/// Who is called beside the owner: where a person is needed and the priority is high, be it
/// the secret's own or one that an overdue date raised.
fn escalation(notice: &Notice, owners: &dyn Owners) -> Option<String> {
    let needs_a_person = matches!(
        notice.kind,
        NoticeKind::Emergency | NoticeKind::Held | NoticeKind::Overdue | NoticeKind::Abandoned
    );
    let urgent = notice.priority <= Priority::High;
    let owner = notice.owner.as_ref().filter(|_| needs_a_person && urgent)?;
    owners.slack_escalation(owner).and_then(|id| text::mention(&id))
}

/// Many notices in one message: how many of each, the most urgent one by one.
fn storm(notices: &[Notice], origin: &Origin, owners: &dyn Owners) -> Value {
    let mut urgent: Vec<&Notice> = notices.iter().collect();
    urgent.sort_by_key(|notice| (Look::of(notice.kind).rank, notice.priority, notice.at));
    let summary = counts(&urgent);
    let mut lines = vec![format!(":ocean: *{summary}*")];
    lines.extend(urgent.iter().take(MAX_LISTED).map(|notice| listed(notice)));
    if urgent.len() > MAX_LISTED {
        lines.push(format!("… and {} more: `rota status`", urgent.len() - MAX_LISTED));
    }
    let called = called(&urgent, owners);
    if !called.is_empty() {
        lines.push(format!("*Owners:* {called}"));
    }
    let latest = notices.iter().map(|notice| notice.at).max();
    let (name, page) = origin.parts();
    let context = [name, latest.map(text::time), page];
    message(&lines, &context.into_iter().flatten().collect::<Vec<_>>().join(" · "), &summary)
}

/// Each owner once, those of the most urgent notices first.
fn called(urgent: &[&Notice], owners: &dyn Owners) -> String {
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    let of = |notice: &&Notice| {
        let owner = notice.owner.as_ref().map(|owner| call(owner, owners));
        owner.into_iter().chain(escalation(notice, owners)).collect::<Vec<_>>()
    };
    for call in urgent.iter().flat_map(of) {
        if !seen.insert(call.clone()) {
            continue;
        }
        if text::length(&text) + text::length(&call) + 2 > MAX_CALLED {
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&call);
    }
    text
}

/// `14 notices: 2 emergency, 3 held, 9 overdue`, most urgent first.
fn counts(urgent: &[&Notice]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for notice in urgent {
        let title = Look::of(notice.kind).title;
        match counted.iter_mut().find(|(seen, _)| *seen == title) {
            Some((_, count)) => *count += 1,
            None => counted.push((title, 1)),
        }
    }
    let counted: Vec<String> =
        counted.iter().map(|(title, count)| format!("{count} {}", title.to_lowercase())).collect();
    format!("{} notices: {}", urgent.len(), counted.join(", "))
}

fn listed(notice: &Notice) -> String {
    let mut line = format!("• {}", headline(notice));
    let first = notice.what.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let what = text::line(first, MAX_LISTED_WHAT);
    if !what.is_empty() {
        line.push_str(&format!(": {what}"));
    }
    if let Some(command) = notice.command.as_deref().and_then(|c| text::command(c, MAX_LISTED_COMMAND)) {
        line.push_str(&format!(" → {command}"));
    }
    line
}

/// How a kind of notice looks; the rank orders a storm, most urgent first.
struct Look {
    rank: u8,
    emoji: &'static str,
    title: &'static str,
}

impl Look {
    const fn of(kind: NoticeKind) -> Self {
        let (rank, emoji, title) = match kind {
            NoticeKind::Emergency => (0, ":rotating_light:", "Emergency"),
            NoticeKind::Held => (1, ":octagonal_sign:", "Held"),
            NoticeKind::CheckFailed => (2, ":x:", "Check failed"),
            NoticeKind::RolledBack => (3, ":leftwards_arrow_with_hook:", "Rolled back"),
            NoticeKind::Overdue => (4, ":alarm_clock:", "Overdue"),
            NoticeKind::WaitingForPerson => (5, ":raised_hand:", "Waiting for a person"),
            NoticeKind::Abandoned => (6, ":no_entry:", "Abandoned"),
            NoticeKind::PolicyRejected => (7, ":warning:", "Policy rejected"),
            NoticeKind::DueSoon => (8, ":calendar:", "Due soon"),
            NoticeKind::Started => (9, ":arrows_counterclockwise:", "Started"),
            NoticeKind::Completed => (10, ":white_check_mark:", "Completed"),
            NoticeKind::PolicyAccepted => (11, ":page_facing_up:", "Policy accepted"),
            NoticeKind::Digest => (12, ":newspaper:", "Daily digest"),
            NoticeKind::Test => (13, ":bell:", "Test"),
        };
        Self { rank, emoji, title }
    }
}

#[cfg(test)]
mod tests;
