//! Text as Slack's mrkdwn wants it.
//!
//! Slack gives meaning to `&`, `<` and `>` only, so these three are escaped
//! everywhere (docs.slack.dev, "Formatting message text"); control characters and
//! those that turn the reading direction would let a text pretend to be another.

use jiff::Timestamp;

/// Ends a text that was cut.
const ELLIPSIS: char = '…';

/// A longer link would push the rest out of the message.
const MAX_LINK: usize = 500;

/// `text` on one line, escaped, with at most `max` characters of the result.
#[must_use]
pub(super) fn line(text: &str, max: usize) -> String {
    clip(&one_line(text), max)
}

/// A command in a code span, or a sentence whose commands stand between backticks
/// with a code span each; nothing where it is empty. What does not fit is left out
/// whole: half a command is worse than none.
#[must_use]
pub(super) fn command(text: &str, max: usize) -> Option<String> {
    let text = one_line(text);
    let escaped: String = text.chars().map(escape).collect();
    let shown = if is_sentence(&text) {
        escaped
    } else {
        // Nothing escapes a backtick inside a code span.
        format!("`{}`", escaped.replace('`', "'"))
    };
    (!text.is_empty() && length(&shown) <= max).then_some(shown)
}

/// True where commands stand between backticks, each with its end and none of them empty.
pub(super) fn is_sentence(text: &str) -> bool {
    let pieces: Vec<&str> = text.split('`').collect();
    pieces.len() >= 3
        && pieces.len() % 2 == 1
        && pieces.iter().skip(1).step_by(2).all(|code| !code.trim().is_empty())
}

/// A link with a label; nothing where `url` is not one that a browser should open.
#[must_use]
pub(super) fn link(url: &str, label: &str) -> Option<String> {
    let web = url.starts_with("https://") || url.starts_with("http://");
    let plain = url.chars().all(|c| c.is_ascii_graphic());
    let url = url.replace('&', "&amp;").replace('<', "%3C").replace('>', "%3E").replace('|', "%7C");
    (web && plain && url.len() <= MAX_LINK).then(|| format!("<{url}|{}>", line(label, 100)))
}

/// An owner's mention from the identifier that the policy gives: a person (`U`,
/// `W`) or a group (`S`); nothing where it is neither.
#[must_use]
pub(super) fn mention(id: &str) -> Option<String> {
    let legal = id.len() > 1 && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    match id.chars().next() {
        Some('U' | 'W') if legal => Some(format!("<@{id}>")),
        Some('S') if legal => Some(format!("<!subteam^{id}>")),
        _ => None,
    }
}

/// A time in the reader's own zone, with UTC for clients that cannot.
#[must_use]
pub(super) fn time(at: Timestamp) -> String {
    let fallback = at.strftime("%Y-%m-%d %H:%M UTC");
    format!("<!date^{}^{{date_short_pretty}} {{time}}|{fallback}>", at.as_second())
}

/// How long Slack may count a text: in UTF-16 units, never less than in characters.
#[must_use]
pub(super) fn length(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Every run of white space and control characters becomes one space.
fn one_line(text: &str) -> String {
    let visible: String = text.chars().map(|c| if is_visible(c) { c } else { ' ' }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_visible(c: char) -> bool {
    let separator = matches!(c, '\u{2028}' | '\u{2029}');
    let direction =
        matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let nothing = matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}');
    !(c.is_control() || separator || direction || nothing)
}

/// Escapes as far as the result fits, and says where it was cut. An entity is
/// never cut in two.
fn clip(text: &str, max: usize) -> String {
    let whole: String = text.chars().map(escape).collect();
    if length(&whole) <= max {
        return whole;
    }
    let mut clipped = String::new();
    let mut room = max.saturating_sub(1);
    for c in text.chars() {
        let piece = escape(c);
        let Some(left) = room.checked_sub(length(&piece)) else { break };
        room = left;
        clipped.push_str(&piece);
    }
    clipped.push(ELLIPSIS);
    clipped
}

fn escape(c: char) -> String {
    match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        c => c.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slack_gives_meaning_to_is_escaped_and_what_nobody_sees_is_dropped() {
        assert_eq!(line("<!channel> a&b", 100), "&lt;!channel&gt; a&amp;b");
        assert_eq!(line("a\n\n b\u{1b}[31m\u{202e}c\u{200b}", 100), "a b [31m c");
        assert_eq!(line("", 100), "");
    }

    #[test]
    fn a_cut_never_splits_an_entity_and_never_exceeds_the_limit() {
        assert_eq!(line("ab<<<<", 8), "ab&lt;…");
        assert_eq!(line("ab<<", 10), "ab&lt;&lt;");
        for max in 1..40 {
            let cut = line("😀 a < b & c > d 😀😀", max);
            assert!(length(&cut) <= max, "{cut} is longer than {max}");
        }
    }

    #[test]
    fn a_command_cannot_leave_its_code_span_and_is_never_cut() {
        assert_eq!(command("rota status <!here>", 100).unwrap(), "`rota status &lt;!here&gt;`");
        assert_eq!(command("rota `status", 100).unwrap(), "`rota 'status`");
        assert_eq!(command("rota `` status", 100).unwrap(), "`rota '' status`");
        assert_eq!(command("rota status", 5), None);
        assert_eq!(command("\n", 5), None);
    }

    #[test]
    fn a_sentence_keeps_the_code_spans_of_its_commands() {
        let sentence = "fix it, then `rota resume A`, or `rota rollback A` <!here>";
        assert_eq!(command(sentence, 100).unwrap(), sentence.replace('<', "&lt;").replace('>', "&gt;"));
        assert!(is_sentence(sentence) && !is_sentence("rota status"));
    }

    #[test]
    fn only_web_links_become_links() {
        assert_eq!(
            link("https://a.example/k?x=1&y=<2>|3", "Open").unwrap(),
            "<https://a.example/k?x=1&amp;y=%3C2%3E%7C3|Open>"
        );
        for bad in ["javascript:alert(1)", "/relative", "https://a b", "https://ä.example", ""] {
            assert_eq!(link(bad, "Open"), None, "{bad}");
        }
    }

    #[test]
    fn only_people_and_groups_are_mentioned() {
        assert_eq!(mention("U012AB3CD").unwrap(), "<@U012AB3CD>");
        assert_eq!(mention("W012AB3CD").unwrap(), "<@W012AB3CD>");
        assert_eq!(mention("S012AB3CD").unwrap(), "<!subteam^S012AB3CD>");
        for bad in ["", "S", "channel", "@u", "C012AB3CD", "U0> <!here", "s012"] {
            assert_eq!(mention(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_reads_in_the_readers_zone() {
        let at: Timestamp = "2026-01-15T10:00:00Z".parse().unwrap();
        assert_eq!(time(at), "<!date^1768471200^{date_short_pretty} {time}|2026-01-15 10:00 UTC>");
    }
}
