//! What one rotation asks of the database, read from the server's log.
//!
//! The server logs every statement of the counting run with its session and its
//! parameters. Here they become transactions: which kinds of statement on which
//! tables, how often, and how large what is sent. Deliberately absent: what the
//! statements say.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

/// Lines of the server's log begin so: process, then application.
pub(crate) const LOG_LINE_PREFIX: &str = "%p|%a|";

/// The journal's sessions, as `pg_stat_activity` shows them.
const APPLICATION: &str = "rota";

/// What a statement does, as far as a table with a primary key can do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Select,
    Lock,
    Insert,
    Upsert,
    Update,
    Delete,
    Notify,
}

/// One statement of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Statement {
    pub(crate) kind: Kind,
    /// Without the schema; empty where there is none.
    pub(crate) table: String,
}

/// Transactions of one shape.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) times: u64,
    /// Bytes of parameters of each statement, over all times.
    bytes: Vec<u64>,
}

impl Seen {
    /// The usual size of what the statement at `index` sends, in bytes.
    pub(crate) fn bytes_of(&self, index: usize) -> usize {
        let all = self.bytes.get(index).copied().unwrap_or(0);
        usize::try_from(all.checked_div(self.times).unwrap_or(0)).unwrap_or(0)
    }
}

/// The shape of a transaction: whether it is between BEGIN and COMMIT, and its statements.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) explicit: bool,
    pub(crate) statements: Vec<Statement>,
}

/// Everything that was asked while `rotations` ran from their start to their end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    pub(crate) rotations: u64,
    pub(crate) shapes: BTreeMap<Shape, Seen>,
}

/// Numbers per rotation, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PerRotation {
    /// Transactions that end in a commit, those of one statement included.
    pub(crate) transactions: f64,
    /// Those that write, and so wait for the disk.
    pub(crate) writing: f64,
    pub(crate) statements: BTreeMap<String, f64>,
}

impl Trace {
    /// Reads the log of `rotations` whole rotations.
    ///
    /// # Errors
    /// A statement that is none of the kinds that are known here.
    pub(crate) fn read(log: &str, rotations: u64) -> Result<Self> {
        let mut trace = Self { rotations, ..Self::default() };
        let mut open: BTreeMap<&str, (Shape, Vec<u64>)> = BTreeMap::new();
        let mut entries = entries(log).peekable();
        while let Some(entry) = entries.next() {
            let Some(sql) = statement(entry.message) else { continue };
            let parameters = entries.next_if(|next| next.session == entry.session && is_detail(next.message));
            let bytes = parameters.map_or(0, |entry| parameter_bytes(entry.message));
            let word = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match word.trim_end_matches(';') {
                "BEGIN" => {
                    open.insert(
                        entry.session,
                        (Shape { explicit: true, statements: Vec::new() }, Vec::new()),
                    );
                }
                "COMMIT" => {
                    let (shape, bytes) = open.remove(entry.session).context("a COMMIT without a BEGIN")?;
                    trace.add(shape, &bytes);
                }
                "ROLLBACK" => drop(open.remove(entry.session)),
                _ if is_setup(sql) => {}
                _ => {
                    let statement = classify(sql)?;
                    match open.get_mut(entry.session) {
                        Some((shape, sizes)) => {
                            shape.statements.push(statement);
                            sizes.push(bytes);
                        }
                        None => {
                            trace.add(Shape { explicit: false, statements: vec![statement] }, &[bytes]);
                        }
                    }
                }
            }
        }
        Ok(trace)
    }

    fn add(&mut self, shape: Shape, bytes: &[u64]) {
        let seen = self.shapes.entry(shape).or_default();
        seen.times += 1;
        seen.bytes.resize(bytes.len(), 0);
        for (sum, bytes) in seen.bytes.iter_mut().zip(bytes) {
            *sum += bytes;
        }
    }

    /// How many transactions one rotation takes.
    pub(crate) fn transactions_per_rotation(&self) -> f64 {
        self.per_rotation(self.shapes.values().map(|seen| seen.times).sum())
    }

    fn per_rotation(&self, count: u64) -> f64 {
        // Exact far beyond any log.
        let exact = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        exact(count) / exact(self.rotations.max(1))
    }

    pub(crate) fn summary(&self) -> PerRotation {
        let mut statements: BTreeMap<String, u64> = BTreeMap::new();
        let mut writing = 0;
        for (shape, seen) in &self.shapes {
            if shape.statements.iter().any(|statement| !matches!(statement.kind, Kind::Select | Kind::Notify))
            {
                writing += seen.times;
            }
            for statement in &shape.statements {
                let name = format!("{:?} {}", statement.kind, statement.table).to_lowercase();
                *statements.entry(name.trim_end().to_owned()).or_default() += seen.times;
            }
        }
        PerRotation {
            transactions: self.transactions_per_rotation(),
            writing: self.per_rotation(writing),
            statements: statements
                .into_iter()
                .map(|(name, count)| (name, self.per_rotation(count)))
                .collect(),
        }
    }
}

impl fmt::Display for PerRotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: f64 = self.statements.values().sum();
        writeln!(
            f,
            "one rotation: {all:.1} statements in {:.1} transactions, of which {:.1} write",
            self.transactions, self.writing
        )?;
        let mut sorted: Vec<_> = self.statements.iter().collect();
        sorted.sort_by(|a, b| b.1.total_cmp(a.1));
        for (name, count) in sorted {
            writeln!(f, "  {count:6.2}  {name}")?;
        }
        Ok(())
    }
}

struct Entry<'l> {
    session: &'l str,
    message: &'l str,
}

/// The journal's entries. What goes on in a next line begins with a tab there.
fn entries(log: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = log;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            end += rest[end..].find('\n').map_or(rest.len() - end, |at| at + 1);
            if !rest[end..].starts_with('\t') {
                break;
            }
        }
        let (entry, after) = rest.split_at(end);
        rest = after;
        Some(entry)
    })
    .filter_map(|entry| {
        let mut parts = entry.splitn(3, '|');
        let (session, application, message) = (parts.next()?, parts.next()?, parts.next()?);
        (application == APPLICATION).then_some(Entry { session, message })
    })
}

/// The SQL of a line that tells of a statement.
fn statement(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("LOG:  ")?;
    if let Some(sql) = rest.strip_prefix("statement: ") {
        return Some(sql);
    }
    let (_, sql) = rest.strip_prefix("execute ")?.split_once(": ")?;
    Some(sql)
}

fn is_detail(message: &str) -> bool {
    message.starts_with("DETAIL:")
}

/// About how many bytes the parameters have: their names and quotes are not counted.
fn parameter_bytes(message: &str) -> u64 {
    let text = message.split_once(": $").map_or("", |(_, text)| text);
    let around = text.matches(", $").count() * ", $1 = ''".len();
    u64::try_from(text.len().saturating_sub(around)).unwrap_or(0)
}

/// What happens once, when a connection is made or a channel is seen first.
fn is_setup(sql: &str) -> bool {
    let once = ["SET ", "LISTEN ", "LOCK TABLE ", "/*"];
    sql.contains("set_config(") || once.iter().any(|start| sql.starts_with(start))
}

fn classify(sql: &str) -> Result<Statement> {
    let upper = sql.to_ascii_uppercase();
    let table_after = |word: &str| {
        let at = upper.find(&format!("{word} ROTA."))? + word.len() + " ROTA.".len();
        Some(sql[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?.to_owned())
    };
    let found = |kind, table: Option<String>| Statement { kind, table: table.unwrap_or_default() };
    // A write stands last in a statement that begins with WITH.
    Ok(if sql.contains("rota.append_history(") {
        found(Kind::Insert, Some("rotation_history".to_owned()))
    } else if sql.contains("pg_notify(") {
        found(Kind::Notify, None)
    } else if upper.contains("INSERT INTO ROTA.") {
        let kind = if upper.contains("DO UPDATE") { Kind::Upsert } else { Kind::Insert };
        found(kind, table_after("INSERT INTO"))
    } else if upper.contains("DELETE FROM ROTA.") {
        found(Kind::Delete, table_after("DELETE FROM"))
    } else if upper.contains("UPDATE ROTA.") {
        found(Kind::Update, table_after("UPDATE"))
    } else if upper.contains("FOR UPDATE") {
        found(Kind::Lock, table_after("FROM"))
    } else if upper.starts_with("SELECT") || upper.starts_with("WITH ") {
        found(Kind::Select, table_after("FROM"))
    } else {
        bail!("the log has a statement of no known kind: {}", sql.lines().next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "7|rota|LOG:  statement: BEGIN\n\
        9|psql|LOG:  statement: SELECT 1\n\
        7|rota|LOG:  execute sqlx_s_1: UPDATE rota.rotations\n\t    SET step = $1\n\
        7|rota|DETAIL:  parameters: $1 = '{\"a\": 1}', $2 = '12'\n\
        8|rota|LOG:  execute sqlx_s_2: SELECT clock_timestamp()\n\
        7|rota|LOG:  execute sqlx_s_3: SELECT rota.append_history($1::text[]::jsonb[])\n\
        7|rota|DETAIL:  parameters: $1 = '{}'\n\
        7|rota|LOG:  statement: COMMIT\n\
        8|rota|LOG:  statement: BEGIN\n\
        8|rota|LOG:  statement: ROLLBACK\n";

    #[test]
    fn statements_become_the_transactions_that_they_were_sent_in() {
        let trace = Trace::read(LOG, 1).unwrap();
        let update = Statement { kind: Kind::Update, table: "rotations".to_owned() };
        let append = Statement { kind: Kind::Insert, table: "rotation_history".to_owned() };
        let look = Statement { kind: Kind::Select, table: String::new() };
        let record = Shape { explicit: true, statements: vec![update, append] };
        assert_eq!(trace.shapes.len(), 2);
        assert_eq!(trace.shapes[&Shape { explicit: false, statements: vec![look] }].times, 1);
        let seen = &trace.shapes[&record];
        assert_eq!(seen.times, 1);
        assert!((10..30).contains(&seen.bytes_of(0)), "{}", seen.bytes_of(0));
        let summary = trace.summary();
        assert_eq!((summary.transactions, summary.writing), (2.0, 1.0));
        assert_eq!(summary.statements["update rotations"], 1.0);
    }

    #[test]
    fn every_kind_is_told_from_the_others() {
        for (sql, kind, table) in [
            (
                "WITH a AS (SELECT 1 FROM rota.x FOR UPDATE)\n\tUPDATE rota.rotations r SET b",
                Kind::Update,
                "rotations",
            ),
            (
                "INSERT INTO rota.publications (a) VALUES (1) ON CONFLICT DO UPDATE SET a = 1",
                Kind::Upsert,
                "publications",
            ),
            ("DELETE FROM rota.exclusive_claims WHERE rotation = $1", Kind::Delete, "exclusive_claims"),
            ("SELECT id FROM rota.consumers FOR UPDATE", Kind::Lock, "consumers"),
            ("SELECT id FROM rota.orders WHERE secret = $1", Kind::Select, "orders"),
            ("SELECT pg_notify($1, $2)", Kind::Notify, ""),
        ] {
            assert_eq!(classify(sql).unwrap(), Statement { kind, table: table.to_owned() }, "{sql}");
        }
        assert!(classify("VACUUM").is_err());
    }
}
