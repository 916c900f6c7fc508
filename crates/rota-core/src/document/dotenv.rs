//! `KEY=value` lines, as dotenv (Node, also inside pm2), docker compose and systemd's
//! `EnvironmentFile=` all read them.
//!
//! They differ in escapes, expansion, comments and lines that go on. So a value is
//! written plain where every character stands for itself everywhere, else in single
//! quotes, else in double quotes, and refused where no form is read alike:
//!
//! - dotenv 16 `lib/main.js`: a `#` ends a plain value; `\n` and `\r` are expanded in
//!   double quotes; `\'` goes on in single quotes.
//! - compose-go `dotenv/parser.go`: `$` expands in plain and double-quoted values and
//!   backslashes escape in double-quoted ones.
//! - systemd `src/basic/env-file.c`: a backslash escapes in plain and double-quoted
//!   values, in older versions in single-quoted ones, too, and joins lines at their end.
//!
//! `docker run --env-file` knows no quotes at all: for it choose a format that is
//! written plain (hex, base64, base62). Foreign lines are only followed as far as
//! needed to know where each ends.

use zeroize::Zeroizing;

use super::{Change, DocumentError, Piece, join};
use crate::value::SecretValue;

pub(super) fn get(text: &str, name: &str) -> Result<Option<SecretValue>, DocumentError> {
    check_name(name)?;
    let lines = lines(text)?;
    let Some(line) = find(&lines, name)? else { return Ok(None) };
    let value = read(line)?;
    if value.is_empty() { Ok(None) } else { Ok(Some(SecretValue::new(value.to_owned())?)) }
}

pub(super) fn merge(text: &str, changes: &[Change<'_>]) -> Result<SecretValue, DocumentError> {
    let lines = lines(text)?;
    for (name, _) in changes {
        check_name(name)?;
        find(&lines, name)?;
    }
    let mut pieces = Vec::new();
    for line in &lines {
        let change =
            changes.iter().find(|(name, _)| line.assignment.as_ref().is_some_and(|a| a.name == *name));
        match (change, &line.assignment) {
            (Some((_, None)), _) => {}
            (Some((name, Some(value))), Some(assignment)) => {
                pieces.push(Piece::Kept(assignment.before));
                pieces.push(Piece::Own(written(name, value)?));
                pieces.push(Piece::Kept(line.end));
            }
            (Some(_), None) | (None, _) => pieces.push(Piece::Kept(line.whole)),
        }
    }
    let ending = if lines.first().is_some_and(|line| line.end == "\r\n") { "\r\n" } else { "\n" };
    for (name, value) in changes {
        let Some(value) = value.filter(|_| !lines.iter().any(|line| line.sets(name))) else { continue };
        if pieces.last().is_some_and(|last| !last.as_str().ends_with('\n')) {
            pieces.push(Piece::Kept(ending));
        }
        pieces.push(Piece::Own(written(name, value)?));
        pieces.push(Piece::Kept(ending));
    }
    join(&pieces)
}

/// A variable's name (IEEE Std 1003.1-2017, section 3.235): what all readers take.
fn check_name(name: &str) -> Result<(), DocumentError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !name.is_empty() && name.bytes().all(legal) && !name.as_bytes()[0].is_ascii_digit() {
        Ok(())
    } else {
        Err(DocumentError::Name { name: name.to_owned() })
    }
}

/// `KEY=value`, with the quotes that the value needs, in one exact buffer.
fn written(name: &str, value: &SecretValue) -> Result<Zeroizing<String>, DocumentError> {
    let text = value.expose();
    let quote = quote_for(text).map_err(|what| DocumentError::Unwritable { name: name.to_owned(), what })?;
    let mut line = Zeroizing::new(String::with_capacity(name.len() + 1 + text.len() + 2 * quote.len()));
    for part in [name, "=", quote, text, quote] {
        line.push_str(part);
    }
    Ok(line)
}

/// True where the character stands for itself without quotes, for a shell, too.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:@%+=,-".contains(c)
}

fn quote_for(text: &str) -> Result<&'static str, &'static str> {
    if text.chars().all(is_plain) {
        return Ok("");
    }
    if let Some(what) = unreadable_anywhere(text) {
        return Err(what);
    }
    if !text.contains('\'') {
        return Ok("'");
    }
    if text.contains(['"', '$', '`']) {
        return Err("a single quote together with a double quote, `$` or a backtick");
    }
    Ok("\"")
}

/// What no form of quoting makes alike.
fn unreadable_anywhere(text: &str) -> Option<&'static str> {
    if text.contains(['\n', '\r', '\u{2028}', '\u{2029}']) {
        Some("a line end")
    } else if text.contains('\\') {
        Some("a backslash")
    } else if text.chars().any(char::is_control) {
        Some("a control character")
    } else {
        None
    }
}

/// One line, or several that a quoted value holds together.
struct Line<'a> {
    number: usize,
    /// All of it, with its end.
    whole: &'a str,
    assignment: Option<Assignment<'a>>,
    /// `\n`, `\r\n`, or nothing at the end of the text.
    end: &'a str,
}

impl Line<'_> {
    fn sets(&self, name: &str) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| assignment.name == name)
    }
}

struct Assignment<'a> {
    /// Blanks and `export`, and a byte-order mark.
    before: &'a str,
    name: &'a str,
    /// False for `KEY: value`, which systemd does not take.
    with_equals: bool,
    /// As written, without the blanks around it.
    value: &'a str,
}

const BLANKS: [char; 2] = [' ', '\t'];

fn lines(text: &str) -> Result<Vec<Line<'_>>, DocumentError> {
    let mut lines = Vec::new();
    let (mut at, mut number) = (0, 1);
    while at < text.len() {
        let length = length_of_line(&text[at..], number)?;
        let whole = &text[at..at + length];
        let content = whole.strip_suffix('\n').unwrap_or(whole);
        let content = content.strip_suffix('\r').unwrap_or(content);
        let end = &whole[content.len()..];
        lines.push(Line { number, whole, assignment: assignment(content), end });
        number += whole.matches('\n').count();
        at += length;
    }
    Ok(lines)
}

/// How many bytes the first line takes, its end included: up to the line end after
/// the closing quote where its value is quoted.
fn length_of_line(text: &str, number: usize) -> Result<usize, DocumentError> {
    let ambiguous = |what| Err(DocumentError::Ambiguous { line: number, what });
    let line_end = |from: usize| text[from..].find('\n').map_or(text.len(), |end| from + end + 1);
    let content = |from: usize| text[from..line_end(from)].trim_end_matches(['\n', '\r']);
    if content(0).contains('\r') {
        return ambiguous("a carriage return inside");
    }
    let quoted = assignment(content(0)).filter(|found| found.value.starts_with(['"', '\'', '`']));
    let after = match &quoted {
        None => 0,
        Some(assignment) => {
            let open = assignment.value.as_ptr().addr() - text.as_ptr().addr();
            let after = open + closing_quote(&text[open..]).or_else(ambiguous)?;
            // Only dotenv knows backticks: over several lines the others see several lines.
            if text[open..].starts_with('`') && text[open..after].contains('\n') {
                return ambiguous("backticks over several lines");
            }
            if content(after).trim_start_matches(BLANKS).starts_with(['"', '\'', '`']) {
                return ambiguous("a second quoted value");
            }
            after
        }
    };
    if content(after).ends_with('\\') {
        return ambiguous("a backslash at the end");
    }
    Ok(line_end(after))
}

/// Where the quoted value at the start of `text` ends, its quote included, or why the
/// readers do not agree on that: all take `\"` in double quotes for a quote, and
/// nothing else that has a backslash and a quote.
fn closing_quote(text: &str) -> Result<usize, &'static str> {
    let quote = text.chars().next().unwrap_or_default();
    for (i, _) in text.match_indices(quote).skip(1) {
        let backslashes = text[..i].len() - text[..i].trim_end_matches('\\').len();
        if backslashes == 0 {
            return Ok(i + 1);
        }
        if quote != '"' || backslashes != 1 {
            return Err("a backslash before a quote");
        }
    }
    Err("a quote that is never closed")
}

/// Takes a line apart; `None` for comments, blank lines and what no reader takes.
fn assignment(content: &str) -> Option<Assignment<'_>> {
    let line = content.trim_start_matches(['\u{feff}', ' ', '\t']);
    let exported = line.strip_prefix("export").filter(|rest| rest.starts_with(BLANKS));
    let line = exported.map_or(line, |rest| rest.trim_start_matches(BLANKS));
    let length = line.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.' | '-'))?;
    let (name, rest) = line.split_at(length);
    let rest = rest.trim_start_matches(BLANKS);
    let (with_equals, value) = match rest.strip_prefix('=') {
        Some(value) => (true, value),
        None => {
            (false, rest.strip_prefix(':').filter(|value| value.is_empty() || value.starts_with(BLANKS))?)
        }
    };
    if name.is_empty() {
        return None;
    }
    let before = &content[..content.len() - line.len()];
    Some(Assignment { before, name, with_equals, value: value.trim_matches(BLANKS) })
}

fn find<'l, 'a>(lines: &'l [Line<'a>], name: &str) -> Result<Option<&'l Line<'a>>, DocumentError> {
    let mut found = lines.iter().filter(|line| line.sets(name));
    let first = found.next();
    match found.next() {
        Some(_) => Err(DocumentError::Duplicate { name: name.to_owned() }),
        None => Ok(first),
    }
}

/// The value of a line, where all readers agree on it.
fn read<'a>(line: &Line<'a>) -> Result<&'a str, DocumentError> {
    let ambiguous = |what| DocumentError::Ambiguous { line: line.number, what };
    let Some(Assignment { with_equals, value, .. }) = line.assignment.as_ref() else { return Ok("") };
    if !with_equals {
        return Err(ambiguous("a colon instead of `=`"));
    }
    let quoted = |quote: char| {
        let inner = value.strip_prefix(quote)?;
        let end = inner.find(quote)?;
        Some((&inner[..end], &inner[end + 1..]))
    };
    let (text, after) = match value.chars().next() {
        Some('\'') => quoted('\'').ok_or_else(|| ambiguous("a quote that is never closed"))?,
        Some('"') => {
            let (text, after) = quoted('"').ok_or_else(|| ambiguous("a quote that is never closed"))?;
            if text.contains(['$', '`']) {
                return Err(ambiguous("`$` or a backtick in double quotes"));
            }
            (text, after)
        }
        Some(_) | None => {
            let special = |c: char| "'\"`$#".contains(c) || (c.is_whitespace() && c != ' ');
            if value.contains(special) {
                return Err(ambiguous("a quote, a backtick, `$`, `#` or an odd blank without quotes around"));
            }
            (*value, "")
        }
    };
    if let Some(what) = unreadable_anywhere(text) {
        return Err(ambiguous(what));
    }
    if after.is_empty() { Ok(text) } else { Err(ambiguous("something after the closing quote")) }
}
