//! The hash chains of the history: what the bytes of a row are, how rows follow on each
//! other, what a checkpoint seals, and how all of it is checked.
//!
//! A row's bytes are kept as they were hashed, so that a check needs nothing but
//! SHA-256 and a JSON parser; `docs/auditing.md` describes them for people who write
//! such a program, and `scripts/verify-history.py` is one. Deliberately absent: where
//! rows are stored, and any signature (an anchor kept outside is what ties a history
//! to its time).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

mod verify;

pub use verify::{Broken, CheckpointProblem, RowProblem, Verified, Verifier, verify_chain};

use crate::value::push_json_string;

/// A SHA-256 (FIPS 180-4), written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the first row of a chain and the first checkpoint have before them.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of a row's or a checkpoint's bytes.
    #[must_use]
    pub fn of(canonical: &str) -> Self {
        Self(Sha256::digest(canonical.as_bytes()).into())
    }
}

/// A text that is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 lower-case hex digits")]
pub struct InvalidHash;

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let mut hash = [0; 32];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidHash);
        }
        hex::decode_to_slice(text, &mut hash).map_err(|_| InvalidHash)?;
        Ok(Self(hash))
    }
}

impl TryFrom<String> for Hash {
    type Error = InvalidHash;

    fn try_from(text: String) -> Result<Self, InvalidHash> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// The greatest integer that every JSON reader holds exactly (RFC 8259, section 6).
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Writes `value` in the one way that history knows: keys sorted by code point, no
/// blanks, no escapes but the necessary ones, and integers only. What other readers
/// might see differently is written as a text: fractions and integers beyond 2^53 - 1
/// as their digits, NUL (which Postgres cannot keep) as U+FFFD. Within these bounds
/// the same as RFC 8785, and as Python's
/// `json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`.
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    push_canonical(&mut text, value);
    text
}

fn push_canonical(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if size.is_some_and(|size| size <= MAX_SAFE_INTEGER) {
                out.push_str(&number.to_string());
            } else {
                push_text(out, &number.to_string());
            }
        }
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_canonical(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // Sorted here: whether the map is depends on a feature of another crate. And
            // as written: two names may differ in a NUL alone.
            let members: BTreeMap<_, _> =
                members.iter().map(|(name, value)| (without_nul(name), value)).collect();
            out.push('{');
            for (i, (name, value)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                push_text(out, &name);
                out.push(':');
                push_canonical(out, value);
            }
            out.push('}');
        }
    }
}

fn push_text(out: &mut String, text: &str) {
    push_json_string(out, &without_nul(text));
}

fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// One row of a chain, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `secret:NAME` or `system`.
    pub chain: String,
    /// Counts up from 1 in its chain.
    pub seq: i64,
    /// The bytes that were hashed.
    pub canonical: String,
    pub hash: Hash,
}

/// What the bytes of a row say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowContent {
    /// When the row was appended, by the journal's clock, in microseconds.
    pub at: String,
    pub chain: String,
    /// Who was logged in at the journal.
    pub db_user: String,
    /// What happened, as the daemon or an order says it.
    pub entry: Value,
    /// The hash of the row before; zeros for the first.
    pub prev: Hash,
    pub seq: i64,
}

impl Row {
    /// The row that follows `previous` (`None`: the first) in `chain`.
    #[must_use]
    pub fn append(previous: Option<&Self>, chain: &str, at: Timestamp, db_user: &str, entry: Value) -> Self {
        let content = RowContent {
            at: written(at),
            chain: chain.to_owned(),
            db_user: db_user.to_owned(),
            entry,
            prev: previous.map_or(Hash::ZERO, |row| row.hash),
            seq: previous.map_or(0, |row| row.seq) + 1,
        };
        let canonical = content.canonical();
        Self { chain: content.chain, seq: content.seq, hash: Hash::of(&canonical), canonical }
    }

    /// Reads the bytes; `None` where they are not those of a row, to the letter.
    #[must_use]
    pub fn content(&self) -> Option<RowContent> {
        let content: RowContent = serde_json::from_str(&self.canonical).ok()?;
        (content.canonical() == self.canonical).then_some(content)
    }

    /// The row as one line of an export.
    #[must_use]
    pub fn export_line(&self) -> String {
        let Self { chain, seq, canonical, hash } = self;
        canonical_json(&serde_json::json!({
            "row": { "canonical": canonical, "chain": chain, "hash": hash, "seq": seq }
        }))
    }
}

impl RowContent {
    fn canonical(&self) -> String {
        let Self { at, chain, db_user, entry, prev, seq } = self;
        canonical_json(&serde_json::json!({
            "at": at, "chain": chain, "db_user": db_user, "entry": entry, "prev": prev, "seq": seq
        }))
    }
}

/// RFC 3339 in UTC with six digits: what `timestamptz` keeps.
fn written(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The last row of a chain at the time of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub chain: String,
    pub seq: i64,
    pub hash: Hash,
}

/// Seals the heads of all chains at one time. Checkpoints are a chain themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    pub at: String,
    /// How many chains there were; a chain that is left out shows.
    pub chains: i64,
    /// Counts up from 1.
    #[serde(rename = "checkpoint")]
    pub number: i64,
    /// Sorted by chain, each once.
    pub heads: Vec<Head>,
    /// The hash of the checkpoint before; zeros for the first.
    pub prev: Hash,
    /// How many rows all chains had together.
    pub rows: i64,
}

/// A checkpoint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub number: i64,
    /// The bytes that were hashed.
    pub canonical: String,
    pub hash: Hash,
}

impl Sealed {
    /// The checkpoint that follows `previous` (`None`: the first) over the heads of
    /// all chains.
    #[must_use]
    pub fn next(previous: Option<&Self>, at: Timestamp, mut heads: Vec<Head>) -> Self {
        heads.sort_unstable();
        let checkpoint = Checkpoint {
            at: written(at),
            chains: i64::try_from(heads.len()).unwrap_or(i64::MAX),
            number: previous.map_or(0, |sealed| sealed.number) + 1,
            rows: heads.iter().map(|head| head.seq).sum(),
            heads,
            prev: previous.map_or(Hash::ZERO, |sealed| sealed.hash),
        };
        let canonical = checkpoint.canonical();
        Self { number: checkpoint.number, hash: Hash::of(&canonical), canonical }
    }

    /// Reads the bytes; `None` where they are not those of a checkpoint, to the letter.
    #[must_use]
    pub fn content(&self) -> Option<Checkpoint> {
        let checkpoint: Checkpoint = serde_json::from_str(&self.canonical).ok()?;
        (checkpoint.canonical() == self.canonical).then_some(checkpoint)
    }

    /// What is kept outside of the journal.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor { number: self.number, hash: self.hash }
    }

    /// The checkpoint as one line of an export.
    #[must_use]
    pub fn export_line(&self) -> String {
        let Self { number, canonical, hash } = self;
        canonical_json(&serde_json::json!({
            "checkpoint": { "canonical": canonical, "hash": hash, "number": number }
        }))
    }
}

impl Checkpoint {
    fn canonical(&self) -> String {
        let Self { at, chains, number, heads, prev, rows } = self;
        canonical_json(&serde_json::json!({
            "at": at, "chains": chains, "checkpoint": number, "heads": heads, "prev": prev, "rows": rows
        }))
    }
}

/// What somebody outside remembers of a checkpoint: a line in Slack, an object in a
/// bucket. Written `checkpoint 12 sha256:…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anchor {
    pub number: i64,
    pub hash: Hash,
}

/// A line without an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line has no anchor: it looks like `checkpoint 12 sha256:` and 64 hex digits")]
pub struct InvalidAnchor;

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint {} sha256:{}", self.number, self.hash)
    }
}

impl FromStr for Anchor {
    type Err = InvalidAnchor;

    /// Finds the anchor in a line that may say more around it.
    fn from_str(line: &str) -> Result<Self, InvalidAnchor> {
        let words: Vec<_> = line.split_whitespace().collect();
        let anchor = |words: &[&str]| {
            let [word, number, hash] = words else { return None };
            let number = number.parse().ok().filter(|number| *number > 0)?;
            let digits = hash.strip_prefix("sha256:")?.get(..64)?;
            (*word == "checkpoint").then_some(Self { number, hash: digits.parse().ok()? })
        };
        words.windows(3).find_map(anchor).ok_or(InvalidAnchor)
    }
}

#[cfg(test)]
mod tests;
