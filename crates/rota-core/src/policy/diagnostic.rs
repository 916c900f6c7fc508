//! What the loader has to say about a policy, and how it is printed.
//!
//! A [`Diagnostic`] carries the line that it speaks of, so that it can be printed
//! where the file is no longer at hand. Deliberately absent: colour, terminals
//! and anything that depends on where it is read.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// A longer line is shown in part: this many characters around the mistake.
const EXCERPT_CHARS: usize = 140;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The policy is not accepted.
    Error,
    /// Accepted, but somebody should look.
    Warning,
    /// A better way exists.
    Hint,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        })
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// `P031`, or `kind:rule` where a kind of store, rotator, rollout, check or hook speaks.
    pub code: String,
    pub level: Level,
    /// What is wrong: lower-case, no full stop.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The name of the piece; empty where the finding is about the policy as a whole.
    pub file: String,
    /// Where in the piece, in bytes.
    pub span: Option<Range<usize>>,
    /// The same for people.
    pub place: Option<Place>,
    /// Other places that belong to it.
    pub labels: Vec<Label>,
}

/// A place in a piece, with the line that it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line, or the part of it around the column.
    pub text: String,
    /// Where in `text` the mark begins, in characters from 0.
    pub mark_from: usize,
    /// How many characters of `text` are marked; at least 1.
    pub mark_len: usize,
}

/// Another place that belongs to a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub text: String,
}

impl Diagnostic {
    /// The first line alone, without anything from the file.
    #[must_use]
    pub fn headline(&self) -> String {
        format!("{}[{}]: {}", self.level, self.code, self.message)
    }

    /// The finding with the line that it speaks of, the mistake underlined and the fix.
    #[must_use]
    pub fn render(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        let width = self.place.as_ref().map_or(1, |place| place.line.to_string().len());
        match &self.place {
            Some(place) => {
                writeln!(f, "{:width$}--> {}:{}:{}", "", self.file, place.line, place.column)?;
                writeln!(f, "{:width$} |", "")?;
                writeln!(f, "{} | {}", place.line, place.text)?;
                writeln!(
                    f,
                    "{:width$} | {:from$}{}",
                    "",
                    "",
                    "^".repeat(place.mark_len),
                    from = place.mark_from
                )?;
            }
            None if !self.file.is_empty() => writeln!(f, "{:width$}--> {}", "", self.file)?,
            None => {}
        }
        for label in &self.labels {
            writeln!(f, "{:width$} = {}:{}:{}: {}", "", label.file, label.line, label.column, label.text)?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "{:width$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// All findings one after the other, worst first as they stand, and a line that counts them.
#[must_use]
pub fn render_all(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&diagnostic.render());
        text.push('\n');
    }
    text.push_str(&summary(diagnostics));
    text.push('\n');
    text
}

/// `2 errors, 1 warning`, or `no findings`.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |level: Level| diagnostics.iter().filter(|d| d.level == level).count();
    let parts: Vec<String> = [Level::Error, Level::Warning, Level::Hint]
        .into_iter()
        .map(|level| (count(level), level))
        .filter(|(number, _)| *number > 0)
        .map(|(number, level)| format!("{number} {level}{}", if number == 1 { "" } else { "s" }))
        .collect();
    if parts.is_empty() { "no findings".to_owned() } else { parts.join(", ") }
}

/// Finds lines and columns in one text; asked in any order.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(crate) fn position(&self, byte: usize) -> (usize, usize) {
        let byte = self.boundary(byte);
        let line = self.starts.partition_point(|start| *start <= byte).max(1) - 1;
        (line + 1, self.text[self.starts[line]..byte].chars().count() + 1)
    }

    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        let (line, column) = self.position(span.start);
        let from = self.starts[line - 1];
        let whole = self.text[from..].split(['\n', '\r']).next().unwrap_or_default();
        let end = self.boundary(span.end).min(from + whole.len());
        let start = self.boundary(span.start).min(from + whole.len());
        let marked = self.text[start..end.max(start)].chars().count().max(1);
        let skipped = (column - 1).saturating_sub(EXCERPT_CHARS / 4);
        let skipped = if whole.chars().count() > EXCERPT_CHARS { skipped } else { 0 };
        let text: String = whole.chars().skip(skipped).take(EXCERPT_CHARS).map(printable).collect();
        let mark_from = (column - 1 - skipped).min(text.chars().count());
        let mark_len = marked.min(text.chars().count().saturating_sub(mark_from).max(1));
        Place { line, column, text: text.trim_end().to_owned(), mark_from, mark_len }
    }

    /// The nearest character boundary at or before `byte`.
    fn boundary(&self, byte: usize) -> usize {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }
}

/// Control characters could move the cursor of whoever reads the message.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, span: Range<usize>) -> Diagnostic {
        Diagnostic {
            code: "P011".to_owned(),
            level: Level::Error,
            message: "not a duration".to_owned(),
            help: Some("write `7d`".to_owned()),
            file: "acd.toml".to_owned(),
            place: Some(Lines::new(text).place(&span)),
            span: Some(span),
            labels: vec![Label {
                file: "acd.toml".to_owned(),
                line: 1,
                column: 1,
                text: "the table".to_owned(),
            }],
        }
    }

    #[test]
    fn a_finding_shows_the_line_with_the_mistake_underlined_and_the_fix() {
        let text = "[secret.A]\noverlap = \"7days\"\n";
        insta::assert_snapshot!(at(text, 21..28).render(), @r#"
        error[P011]: not a duration
         --> acd.toml:2:11
          |
        2 | overlap = "7days"
          |           ^^^^^^^
          = acd.toml:1:1: the table
          = help: write `7d`
        "#);
    }

    #[test]
    fn columns_count_characters_and_a_mark_never_leaves_its_line() {
        let text = "é = \"ü\r\nx";
        let place = Lines::new(text).place(&(5..text.len()));
        assert_eq!((place.line, place.column, place.mark_len), (1, 5, 2));
        assert_eq!(place.text, "é = \"ü");
        let place = Lines::new(text).place(&(text.len()..text.len()));
        assert_eq!((place.line, place.column, place.mark_len), (2, 2, 1));
    }

    #[test]
    fn a_long_line_is_shown_around_the_mistake() {
        let text = format!("x = \"{}bad{}\"", "a".repeat(5000), "b".repeat(5000));
        let place = Lines::new(&text).place(&(5005..5008));
        assert_eq!(place.column, 5006);
        assert!(place.text.chars().count() <= EXCERPT_CHARS);
        let marked: String = place.text.chars().skip(place.mark_from).take(place.mark_len).collect();
        assert_eq!(marked, "bad");
    }

    #[test]
    fn control_characters_are_not_printed() {
        let text = "a\u{1b}[2J\tb";
        assert_eq!(Lines::new(text).place(&(0..1)).text, "a\u{fffd}[2J b");
    }
}
