//! The same load without Rota: what `pgbench` gets from this server for transactions
//! of the same shapes in the same proportions.
//!
//! Each table of the journal that the trace names becomes two with nothing but a
//! primary key: one with rows of the same size to read and change, one to add to. Each
//! shape of transaction becomes a script with as many statements of the same kind and
//! as many bytes sent, weighted by how often it was seen. Deliberately absent: what makes
//! the journal's statements dearer than that (secondary indexes, triggers, hashing).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use rota_fakes::postgres::TestDatabase;
use sqlx::{Connection as _, PgConnection};

use crate::server::Server;
use crate::trace::{Kind, Shape, Trace};

/// Rows to read and change in each table.
const ROWS: usize = 5_000;

/// Sizes are rounded up to this, so that there are few texts and no empty one.
const STEP: usize = 32;

/// What is beyond stands outside of the row (TOAST_TUPLE_THRESHOLD), and the journal's
/// statements do not read it: a policy of thousands of secrets is one row.
const IN_THE_ROW: usize = 2_000;

/// `pgbench` takes no more scripts (MAX_SCRIPTS in pgbench.c).
const MAX_SCRIPTS: usize = 128;

/// Sizes of the journal's rows, in bytes.
type Sizes = BTreeMap<String, usize>;

/// The load, ready to run on any database.
pub(crate) struct Load {
    setup: String,
    scripts: Vec<(String, u64)>,
    /// Variables that hold texts: their sizes.
    texts: BTreeSet<usize>,
    per_rotation: f64,
}

/// How large the rows of the journal's tables are on average.
///
/// # Errors
/// Where the server refuses.
pub(crate) async fn row_sizes(database: &TestDatabase) -> Result<Sizes> {
    let mut connection = PgConnection::connect(database.url()).await?;
    let sql =
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'rota'::regnamespace AND relkind = 'r'";
    let tables: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await?;
    let mut sizes = Sizes::new();
    for table in tables {
        let sql = format!(
            "SELECT coalesce(avg(pg_column_size(t.*)), 0)::bigint FROM (SELECT * FROM rota.{table} LIMIT 1000) t"
        );
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        let size: i64 = query.fetch_one(&mut connection).await?;
        sizes.insert(table, usize::try_from(size)?);
    }
    connection.close().await?;
    Ok(sizes)
}

impl Load {
    /// # Errors
    /// More shapes than `pgbench` takes.
    pub(crate) fn of(trace: &Trace, sizes: &Sizes) -> Result<Self> {
        ensure!(trace.shapes.len() <= MAX_SCRIPTS, "{} shapes are too many for pgbench", trace.shapes.len());
        let mut load = Self {
            setup: "CREATE SCHEMA bench;\n".to_owned(),
            scripts: Vec::new(),
            texts: BTreeSet::new(),
            per_rotation: trace.transactions_per_rotation(),
        };
        let mut bodies: BTreeMap<String, usize> = BTreeMap::new();
        for (shape, seen) in &trace.shapes {
            for (index, statement) in shape.statements.iter().enumerate() {
                let body = bodies.entry(table(&statement.table)).or_default();
                if matches!(statement.kind, Kind::Update | Kind::Upsert) {
                    *body = (*body).max(rounded(seen.bytes_of(index)));
                }
            }
        }
        for (name, body) in &bodies {
            load.add_table(name, *body, sizes.get(name).copied().unwrap_or(0));
        }
        for (shape, seen) in &trace.shapes {
            let bytes: Vec<usize> = (0..shape.statements.len()).map(|index| seen.bytes_of(index)).collect();
            let script = load.script(shape, &bytes, &bodies, sizes)?;
            load.scripts.push((script, seen.times));
        }
        Ok(load)
    }

    fn add_table(&mut self, name: &str, body: usize, row: usize) {
        let rest = row.saturating_sub(body).min(IN_THE_ROW);
        // A text that does not shrink to nothing where the server compresses it.
        let _ = write!(
            self.setup,
            "CREATE TABLE bench.{name} (id bigint PRIMARY KEY, touched text, body text NOT NULL, rest text NOT NULL);\n\
             INSERT INTO bench.{name} SELECT n, NULL, \
                (SELECT coalesce(left(string_agg(md5((n * i)::text), ''), {body}), '') FROM generate_series(1, {body} / 32 + 1) i), \
                (SELECT coalesce(left(string_agg(md5((n + i)::text), ''), {rest}), '') FROM generate_series(1, {rest} / 32 + 1) i) \
             FROM generate_series(1, {ROWS}) n;\n\
             CREATE TABLE bench.{name}_added (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL);\n"
        );
    }

    fn script(
        &mut self,
        shape: &Shape,
        bytes: &[usize],
        bodies: &BTreeMap<String, usize>,
        sizes: &Sizes,
    ) -> Result<String> {
        let mut script = String::new();
        for index in 0..shape.statements.len() {
            writeln!(script, "\\set k{index} random(1, {ROWS})")?;
        }
        if shape.explicit {
            script.push_str("BEGIN;\n");
        }
        for (index, (statement, bytes)) in shape.statements.iter().zip(bytes).enumerate() {
            let name = table(&statement.table);
            // A row that is added is as large as the journal's, whatever was sent for it.
            let added = rounded(sizes.get(&statement.table).copied().unwrap_or(*bytes));
            let sent = rounded(*bytes);
            match statement.kind {
                Kind::Select => {
                    writeln!(script, "SELECT body, rest FROM bench.{name} WHERE id = :k{index};")?
                }
                Kind::Lock => {
                    writeln!(script, "SELECT id FROM bench.{name} WHERE id = :k{index} FOR UPDATE;")?
                }
                Kind::Insert => {
                    let text = self.text(added);
                    writeln!(script, "INSERT INTO bench.{name}_added (body) VALUES ({text});")?;
                }
                Kind::Upsert => {
                    let text = self.text(sent);
                    writeln!(
                        script,
                        "INSERT INTO bench.{name} (id, body, rest) VALUES (:k{index}, {text}, '') \
                         ON CONFLICT (id) DO UPDATE SET body = excluded.body;"
                    )?;
                }
                Kind::Update => {
                    // Small changes write the whole row anew, too.
                    let large = sent * 2 > bodies.get(&name).copied().unwrap_or(0);
                    let column = if large { "body" } else { "touched" };
                    let text = self.text(sent);
                    writeln!(
                        script,
                        "UPDATE bench.{name} SET {column} = {text} WHERE id = :k{index} RETURNING id;"
                    )?;
                }
                Kind::Delete => writeln!(script, "DELETE FROM bench.{name}_added WHERE id = :k{index};")?,
                Kind::Notify => script.push_str("SELECT pg_notify('bench_wake', 'work');\n"),
            }
        }
        if shape.explicit {
            script.push_str("COMMIT;\n");
        }
        Ok(script)
    }

    fn text(&mut self, size: usize) -> String {
        self.texts.insert(size);
        format!(":t{size}")
    }

    /// Runs the load on a database of its own; returns rotations a second.
    ///
    /// # Errors
    /// Where `pgbench` fails.
    pub(crate) async fn run(&self, server: &Server, connections: u32, seconds: u32) -> Result<f64> {
        let database = server.empty().await?;
        database.execute(&self.setup).await?;
        database.execute("ANALYZE").await?;
        let folder = tempfile::tempdir()?;
        let mut command = tokio::process::Command::new(server.postgres.program("pgbench"));
        command.args([
            "-n",
            "-M",
            "prepared",
            "-j",
            "2",
            "-c",
            &connections.to_string(),
            "-T",
            &seconds.to_string(),
        ]);
        for size in &self.texts {
            let text: String =
                "{\"step\":\"promote\",\"n\":4711,\"at\":\"2026\"}".chars().cycle().take(*size).collect();
            command.arg("-D").arg(format!("t{size}={text}"));
        }
        for (index, (script, weight)) in self.scripts.iter().enumerate() {
            let file = folder.path().join(format!("{index:03}.sql"));
            std::fs::write(&file, script)?;
            command.arg("-f").arg(format!("{}@{weight}", file.display()));
        }
        command.arg(database.url()).stdin(Stdio::null());
        let output = command.output().await.context("run pgbench")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
        let tps = said
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse::<f64>().ok())
            .context("pgbench gave no rate")?;
        Ok(tps / self.per_rotation)
    }
}

/// Statements that read no table (the clock, the identity) read a small one.
fn table(name: &str) -> String {
    if name.is_empty() { "nothing".to_owned() } else { name.to_owned() }
}

fn rounded(bytes: usize) -> usize {
    bytes.div_ceil(STEP).max(1) * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_the_statements_of_its_shape() {
        let log = "7|rota|LOG:  statement: BEGIN\n\
            7|rota|LOG:  execute s: UPDATE rota.rotations SET a = $1\n\
            7|rota|DETAIL:  parameters: $1 = '0123456789'\n\
            7|rota|LOG:  execute s: SELECT rota.append_history($1)\n\
            7|rota|LOG:  statement: COMMIT\n";
        let trace = Trace::read(log, 1).unwrap();
        let sizes = Sizes::from([("rotations".to_owned(), 2000), ("rotation_history".to_owned(), 700)]);
        let load = Load::of(&trace, &sizes).unwrap();
        let [(script, weight)] = &load.scripts[..] else { panic!("one shape") };
        assert_eq!(*weight, 1);
        let lines: Vec<&str> = script.lines().filter(|line| !line.starts_with('\\')).collect();
        assert_eq!(
            lines,
            [
                "BEGIN;",
                "UPDATE bench.rotations SET body = :t32 WHERE id = :k0 RETURNING id;",
                "INSERT INTO bench.rotation_history_added (body) VALUES (:t704);",
                "COMMIT;"
            ]
        );
        assert!(load.setup.contains("CREATE TABLE bench.rotations "));
        assert_eq!(load.texts, BTreeSet::from([32, 704]));
    }
}
