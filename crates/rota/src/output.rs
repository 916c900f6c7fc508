//! What commands print: text for people, one JSON document for programs.
//!
//! Deliberately absent: boxes, spinners and progress bars. Columns are separated by
//! spaces, one record a line, so that `grep` and `awk` work on what people see.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// The colours that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Attention,
    Bad,
    /// What can be skipped when reading.
    Faint,
}

impl Tone {
    /// The SGR parameter (ECMA-48, section 8.3.117).
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Attention => "33",
            Self::Bad => "31",
            Self::Faint => "2",
        }
    }
}

/// Where a command writes, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    colour: bool,
}

impl Output {
    /// Colour only where a person looks at it and nobody said no (<https://no-color.org>).
    pub(crate) fn new(json: bool, no_color: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = !json && !no_color && !dumb && !refused && std::io::stdout().is_terminal();
        Self { json, colour }
    }

    /// `text` in a colour, where colours are on.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_owned() }
    }

    /// One line on standard output.
    pub(crate) fn line(self, text: impl fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(std::io::stdout().lock(), "{text}")?)
    }

    /// Text as it stands, on standard output.
    pub(crate) fn raw(self, text: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(text)?;
        Ok(out.flush()?)
    }

    /// Something beside the result, on standard error; not with `--json`.
    pub(crate) fn note(self, text: impl fmt::Display) {
        if !self.json {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// The result as JSON, on standard output.
    pub(crate) fn document(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(Exit::Failure, format!("cannot write JSON: {error}")))?;
        self.line(text)
    }

    /// Columns with a header.
    pub(crate) fn table<R>(self, header: &[&str], rows: impl IntoIterator<Item = R>) -> Result<(), Failure>
    where
        R: IntoIterator<Item = String>,
    {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // On a terminal long cells wrap; into a pipe every record is one line.
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if !std::io::stdout().is_terminal() {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(header.iter().map(|title| title.to_uppercase()).collect::<Vec<_>>());
        for row in rows {
            table.add_row(row.into_iter().collect::<Vec<_>>());
        }
        let mut out = std::io::stdout().lock();
        for line in table.lines() {
            // A space before the first column is the style's, not ours.
            let line = line.trim_end();
            writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(line))?;
        }
        Ok(())
    }

    /// Says why a command did not succeed, on standard error.
    pub(crate) fn failure(self, failure: &Failure) {
        let mut err = std::io::stderr().lock();
        if self.json {
            let document = serde_json::json!({ "error": {
                "exit": failure.exit, "message": failure.message, "hint": failure.hint } });
            let _ = writeln!(err, "{document}");
            return;
        }
        let _ = writeln!(err, "rota: {}", failure.message);
        if let Some(hint) = &failure.hint {
            let _ = writeln!(err, "  {hint}");
        }
    }
}
