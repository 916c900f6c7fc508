//! Documents that hold fields of several secrets: reading one field, and merging own
//! fields into a fresh copy.
//!
//! What is not ours stays as it is, byte for byte and in its order: members of other
//! secrets, numbers, blanks, comments. A document is a secret as a whole, so it comes
//! and goes as a [`SecretValue`], and nothing on the way keeps a copy. Deliberately
//! absent: creating or reading nested members, and any value that is not a text.

use zeroize::Zeroizing;

use crate::value::{InvalidValue, SecretValue};

mod dotenv;
mod json;

/// How a document with several fields is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentFormat {
    /// One JSON object (RFC 8259) of strings.
    Json,
    /// `KEY=value` lines.
    Dotenv,
}

/// Why a document cannot be read or changed. Says where, and never what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("the document is not one JSON object (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("`{name}` is in the document but is not a text; make it a JSON string or remove it")]
    NotText { name: String },
    #[error("`{name}` is in the document more than once; leave one")]
    Duplicate { name: String },
    #[error("`{name}` cannot be the name of a variable; write letters, digits and `_`, and no digit first")]
    Name { name: String },
    #[error(
        "the value of `{name}` has {what}, which dotenv, docker compose and systemd do not read alike; \
         choose a format without it, such as `base64` or `base62`"
    )]
    Unwritable { name: String, what: &'static str },
    #[error(
        "dotenv, docker compose and systemd read line {line} differently: it has {what}; \
         rewrite it so that they agree, a value for instance as KEY='value'"
    )]
    Ambiguous { line: usize, what: &'static str },
    #[error("the document cannot be stored: {0}")]
    Value(#[from] InvalidValue),
}

/// Reads one own field; `None` where it is missing or empty.
///
/// # Errors
/// Where the document cannot be read, or the field is not one text.
pub fn get(
    document: &SecretValue,
    format: DocumentFormat,
    name: &str,
) -> Result<Option<SecretValue>, DocumentError> {
    match format {
        DocumentFormat::Json => json::get(document.expose(), name),
        DocumentFormat::Dotenv => dotenv::get(document.expose(), name),
    }
}

/// Writes own fields into `document` (`None`: there is none yet): a value sets the
/// field where it stands or adds it at the end, `None` removes it. The last change of
/// a name counts. Merging the same changes again changes nothing.
///
/// # Errors
/// Where the document cannot be read, one of the fields stands in it twice, or a
/// value cannot be written in this format. Nothing is half done.
pub fn merge(
    document: Option<&SecretValue>,
    format: DocumentFormat,
    changes: &[(&str, Option<&SecretValue>)],
) -> Result<SecretValue, DocumentError> {
    let changes = last_of_each(changes);
    match format {
        DocumentFormat::Json => json::merge(document.map_or("", SecretValue::expose), &changes),
        DocumentFormat::Dotenv => dotenv::merge(document.map_or("", SecretValue::expose), &changes),
    }
}

type Change<'a> = (&'a str, Option<&'a SecretValue>);

fn last_of_each<'a>(changes: &[Change<'a>]) -> Vec<Change<'a>> {
    let later = |i: usize, name: &str| changes[i + 1..].iter().any(|(other, _)| *other == name);
    changes.iter().enumerate().filter(|(i, (name, _))| !later(*i, name)).map(|(_, change)| *change).collect()
}

/// A piece of the new document.
enum Piece<'a> {
    /// As it stands in the old one.
    Kept(&'a str),
    Own(Zeroizing<String>),
}

impl Piece<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Kept(text) => text,
            Self::Own(text) => text,
        }
    }
}

/// Puts a document together, in one buffer that never grows.
fn join(pieces: &[Piece<'_>]) -> Result<SecretValue, DocumentError> {
    let length = pieces.iter().map(|piece| piece.as_str().len()).sum();
    let mut text = Zeroizing::new(String::with_capacity(length));
    for piece in pieces {
        text.push_str(piece.as_str());
    }
    Ok(SecretValue::new(std::mem::take(&mut *text))?)
}

#[cfg(test)]
mod tests;
