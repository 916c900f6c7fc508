//! The texts that a policy is read from, and where in them something stands.
//!
//! Deliberately absent: files. Whoever reads a file, a folder or an object hands
//! in its bytes as a [`Piece`].

use std::collections::HashSet;
use std::ops::Range;

use super::diagnostic::{Diagnostic, Label, Level, Lines};
use super::rules::{self, Rule};

/// The largest piece: what a person can still review, and what bounds a parse.
pub const MAX_PIECE_BYTES: usize = 1024 * 1024;

/// The most secrets that one policy may hold, over all its pieces.
pub const MAX_SECRETS: usize = 100_000;

/// The most pieces; a folder with more files is some other folder.
pub const MAX_PIECES: usize = 10_000;

/// The most findings that are kept; the rest are counted. A mistake in a profile
/// can otherwise be found in a hundred thousand secrets.
const MAX_FINDINGS: usize = 500;

/// One text of a policy: a file, or one of the files of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How messages call it: the path as the user gave it.
    pub name: String,
    pub text: String,
}

impl Piece {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Takes what was read from a file or an object.
    ///
    /// # Errors
    /// More than [`MAX_PIECE_BYTES`], or not UTF-8.
    pub fn from_bytes(name: impl Into<String>, bytes: Vec<u8>) -> Result<Self, Box<Diagnostic>> {
        let name = name.into();
        if bytes.len() > MAX_PIECE_BYTES {
            return Err(Box::new(too_large(&name, bytes.len())));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                Err(Box::new(bare(
                    &rules::NOT_TEXT,
                    &name,
                    format!("not a text file: byte {at} is not UTF-8"),
                    "a policy is a TOML file in UTF-8; check which file was given",
                )))
            }
        }
    }
}

pub(super) fn too_large(name: &str, bytes: usize) -> Diagnostic {
    bare(
        &rules::PIECE_TOO_LARGE,
        name,
        format!("the file has {bytes} bytes, over the limit of {MAX_PIECE_BYTES}"),
        "split it into several files in a folder",
    )
}

/// A finding about a piece as a whole.
fn bare(rule: &Rule, file: &str, message: String, help: &str) -> Diagnostic {
    Diagnostic {
        code: rule.code.to_owned(),
        level: rule.level,
        message,
        help: Some(help.to_owned()),
        file: file.to_owned(),
        span: None,
        place: None,
        labels: Vec::new(),
    }
}

/// Bytes of one piece. Small, because every decoded key has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// Pieces are at most a mebibyte and there are fewer than 2^32 of them, so nothing is cut off.
    pub(crate) fn new(file: u32, range: Range<usize>) -> Self {
        let cut = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { file, start: cut(range.start), end: cut(range.end) }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// A finding before its line is looked up.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) code: String,
    pub(crate) level: Level,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) span: Option<Span>,
    pub(crate) labels: Vec<(Span, String)>,
}

impl Finding {
    pub(crate) fn new(rule: &Rule, span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self {
            code: rule.code.to_owned(),
            level: rule.level,
            message: message.into(),
            help: None,
            span: span.into(),
            labels: Vec::new(),
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn label(mut self, span: impl Into<Option<Span>>, text: impl Into<String>) -> Self {
        if let Some(span) = span.into() {
            self.labels.push((span, text.into()));
        }
        self
    }
}

/// Collects findings: each rule once per place, and no more than [`MAX_FINDINGS`].
#[derive(Debug, Default)]
pub(crate) struct Findings {
    kept: Vec<Finding>,
    seen: HashSet<(String, Option<Span>)>,
    errors: usize,
    syntax: bool,
    dropped: usize,
}

impl Findings {
    pub(crate) fn push(&mut self, finding: Finding) {
        // Without a place of its own a finding is told apart by its message.
        let key = match finding.span {
            Some(span) => (finding.code.clone(), Some(span)),
            None => (format!("{}{}", finding.code, finding.message), None),
        };
        let error = finding.level == Level::Error;
        if self.seen.contains(&key) {
            return;
        }
        self.errors += usize::from(error);
        if self.kept.len() >= MAX_FINDINGS {
            self.dropped += 1;
            // An error must not drown in the warnings before it.
            match self.kept.iter().rposition(|kept| kept.level != Level::Error).filter(|_| error) {
                Some(victim) => drop(self.kept.swap_remove(victim)),
                None => return,
            }
        }
        self.seen.insert(key);
        self.kept.push(finding);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Some piece could not be parsed.
    pub(crate) fn has_syntax_errors(&self) -> bool {
        self.syntax
    }

    /// Records what the parser says.
    pub(crate) fn push_syntax(&mut self, finding: Finding) {
        self.syntax = true;
        self.push(finding);
    }

    /// Looks the lines up; the order is by file and place.
    pub(crate) fn finish(mut self, pieces: &[Piece]) -> Vec<Diagnostic> {
        self.kept.sort_by(|a, b| (a.span, &a.code, &a.message).cmp(&(b.span, &b.code, &b.message)));
        let mut lines: Option<(u32, Lines<'_>)> = None;
        let mut out = Vec::with_capacity(self.kept.len());
        for finding in self.kept {
            let place = finding.span.and_then(|span| {
                let piece = pieces.get(span.file as usize)?;
                if lines.as_ref().is_none_or(|(file, _)| *file != span.file) {
                    lines = Some((span.file, Lines::new(&piece.text)));
                }
                lines.as_ref().map(|(_, lines)| lines.place(&span.range()))
            });
            let name =
                |span: Span| pieces.get(span.file as usize).map(|p| p.name.clone()).unwrap_or_default();
            let labels = finding
                .labels
                .into_iter()
                .filter_map(|(span, text)| {
                    let piece = pieces.get(span.file as usize)?;
                    let (line, column) = Lines::new(&piece.text).position(span.range().start);
                    Some(Label { file: piece.name.clone(), line, column, text })
                })
                .collect();
            out.push(Diagnostic {
                code: finding.code,
                level: finding.level,
                message: finding.message,
                help: finding.help,
                file: finding.span.map(name).unwrap_or_default(),
                span: finding.span.map(Span::range),
                place,
                labels,
            });
        }
        if self.dropped > 0 {
            out.push(bare(
                &rules::MORE_FINDINGS,
                "",
                format!("{} more findings are not shown", self.dropped),
                "mend the ones above first",
            ));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rule: &Rule, start: u32) -> Finding {
        Finding::new(rule, Span { file: 0, start, end: start + 1 }, "m")
    }

    #[test]
    fn a_rule_speaks_once_about_one_place() {
        let mut findings = Findings::default();
        for start in [3, 3, 4] {
            findings.push(finding(&rules::BAD_VALUE, start));
        }
        assert_eq!(findings.finish(&[Piece::new("a", "abcdefgh")]).len(), 2);
    }

    #[test]
    fn an_error_is_kept_where_warnings_fill_the_list() {
        let mut findings = Findings::default();
        let text = "x".repeat(MAX_FINDINGS + 10);
        for start in 0..u32::try_from(MAX_FINDINGS + 5).unwrap() {
            findings.push(finding(&rules::UNUSED, start));
        }
        assert!(!findings.has_errors());
        findings.push(finding(&rules::BAD_VALUE, 1));
        assert!(findings.has_errors());
        let diagnostics = findings.finish(&[Piece::new("a", text)]);
        assert_eq!(diagnostics.len(), MAX_FINDINGS + 1);
        assert!(diagnostics.iter().any(|d| d.level == Level::Error));
        assert_eq!(diagnostics.last().unwrap().message, "6 more findings are not shown");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_by_name() {
        let error = Piece::from_bytes("a.toml", vec![b'a', 0xff]).unwrap_err();
        insta::assert_snapshot!(error.render(), @r"
        error[P003]: not a text file: byte 1 is not UTF-8
         --> a.toml
          = help: a policy is a TOML file in UTF-8; check which file was given
        ");
        let error = Piece::from_bytes("a.toml", vec![b'a'; MAX_PIECE_BYTES + 1]).unwrap_err();
        assert_eq!(error.code, "P004");
    }
}
