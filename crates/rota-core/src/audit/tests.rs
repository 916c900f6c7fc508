use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_768_471_200 + second, 123_456_000).unwrap()
}

/// A history with what was sealed of it and what is known outside.
#[derive(Clone)]
struct History {
    rows: Vec<Row>,
    checkpoints: Vec<Sealed>,
    anchors: Vec<Anchor>,
}

impl History {
    /// Three chains of five, four and three rows. The first checkpoint seals two rows of
    /// two chains, the second (anchored) all but the last row of each, the third everything.
    fn sample() -> Self {
        let mut history = Self { rows: Vec::new(), checkpoints: Vec::new(), anchors: Vec::new() };
        for (chain, rows) in [("secret:JWT_SECRET", 5), ("secret:ß/\"É\u{1f600}", 4), ("system", 3)] {
            for seq in 1..=rows {
                history.append(chain, seq);
            }
        }
        history.rows.sort_by(|a, b| (&a.chain, a.seq).cmp(&(&b.chain, b.seq)));
        history.seal(&[2, 2, 0]);
        history.seal(&[4, 3, 2]);
        history.seal(&[5, 4, 3]);
        history.anchors.push(history.checkpoints[1].anchor());
        history
    }

    fn append(&mut self, chain: &str, nth: i64) {
        let entry = json!({
            "kind": "step.done", "actor": "daemon \u{8}\t\n\u{1f}\u{7f}\u{2028}", "secret": null,
            "effect": nth, "detail": { "ä": [true, false, -nth], "z": 0.25, "a": { "big": u64::MAX } },
        });
        let previous = self.rows.iter().rev().find(|row| row.chain == chain).cloned();
        self.rows.push(Row::append(previous.as_ref(), chain, at(nth), "rota_daemon_a", entry));
    }

    fn seal(&mut self, seqs: &[i64]) {
        let mut chains: Vec<_> = self.rows.iter().map(|row| row.chain.clone()).collect();
        chains.dedup();
        let head = |(chain, seq): (&String, &i64)| {
            let row = self.rows.iter().find(|row| row.chain == *chain && row.seq == *seq)?;
            Some(Head { chain: chain.clone(), seq: row.seq, hash: row.hash })
        };
        let heads = chains.iter().zip(seqs).filter_map(head).collect();
        self.checkpoints.push(Sealed::next(self.checkpoints.last(), at(60), heads));
    }

    /// Gives every row, from the one at `from` on, the hashes that its chain asks for.
    fn rehash(&mut self, from: usize) {
        for i in from..self.rows.len() {
            let mut content: RowContent = serde_json::from_str(&self.rows[i].canonical).unwrap();
            if i > 0 && self.rows[i - 1].chain == self.rows[i].chain {
                content.prev = self.rows[i - 1].hash;
            }
            self.rows[i].canonical = content.canonical();
            self.rows[i].hash = Hash::of(&self.rows[i].canonical);
        }
    }

    fn verify(&self) -> Result<Verified, Broken> {
        let mut verifier = Verifier::new(&self.checkpoints, &self.anchors)?;
        self.rows.iter().try_for_each(|row| verifier.row(row))?;
        verifier.finish()
    }

    /// Writes what an export and the kept lines would be.
    fn write(&self, folder: &Path) {
        let rows = self.rows.iter().map(Row::export_line);
        let lines = rows.chain(self.checkpoints.iter().map(Sealed::export_line));
        let lines: Vec<_> = lines.map(|line| line + "\n").collect();
        std::fs::write(folder.join("history.jsonl"), lines.concat()).unwrap();
        if !self.anchors.is_empty() {
            let lines: Vec<_> =
                self.anchors.iter().map(|anchor| format!("rota: {anchor} sealed\n")).collect();
            std::fs::write(folder.join("anchors.txt"), lines.concat()).unwrap();
        }
    }
}

/// Runs the independent program as if from a shell on each folder, in one interpreter:
/// its exit status and what it prints.
const RUN_EACH: &str = r#"
import contextlib, io, json, os, runpy, sys
script, folders = sys.argv[1], sys.argv[2:]
for folder in folders:
    anchors = os.path.join(folder, "anchors.txt")
    sys.argv = [script, os.path.join(folder, "history.jsonl")] + ["--anchors", anchors] * os.path.exists(anchors)
    said, status = io.StringIO(), None
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as exit:
            status = exit.code
    print(json.dumps([status, said.getvalue()]))
"#;

fn verify_independently(folders: &[PathBuf]) -> Vec<(i64, String)> {
    let mut command = Command::new("python3");
    command.args(["-c", RUN_EACH]).arg(format!("{REPOSITORY}/scripts/verify-history.py")).args(folders);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

type Tampering = (&'static str, fn(&mut History), &'static str);

/// Ways to touch a history, and what is said first. JWT_SECRET has rows 0 to 4, the
/// other secret 5 to 8, the system 9 to 11.
const TAMPERINGS: &[Tampering] = &[
    ("nothing", |_| {}, "12 rows in 3 chains hold, 3 checkpoints; 3 rows are not anchored"),
    (
        "no anchor is known",
        |h| h.anchors.clear(),
        "12 rows in 3 chains hold, 3 checkpoints; 12 rows are not anchored",
    ),
    (
        "no checkpoint is known",
        |h| (h.anchors.clear(), h.checkpoints.clear()).0,
        "12 rows in 3 chains hold, 0 checkpoints; 12 rows are not anchored",
    ),
    (
        "nothing is there",
        |h| *h = History { rows: vec![], checkpoints: vec![], anchors: vec![] },
        "0 rows in 0 chains hold, 0 checkpoints; 0 rows are not anchored",
    ),
    (
        "a word is changed",
        |h| h.rows[2].canonical = h.rows[2].canonical.replace("step.done", "step.gone"),
        "row 3 of chain `secret:JWT_SECRET` does not have the hash of its bytes",
    ),
    (
        "a word and its hash are changed",
        |h| {
            h.rows[2].canonical = h.rows[2].canonical.replace("step.done", "step.gone");
            h.rows[2].hash = Hash::of(&h.rows[2].canonical);
        },
        "row 4 of chain `secret:JWT_SECRET` does not follow on the row before it",
    ),
    (
        "a chain is written anew from some row on",
        |h| {
            h.rows[2].canonical = h.rows[2].canonical.replace("step.done", "step.gone");
            h.rehash(2);
        },
        "row 4 of chain `secret:JWT_SECRET` is not the row that checkpoint 2 sealed",
    ),
    (
        "history and checkpoints are written anew",
        |h| {
            h.rows[2].canonical = h.rows[2].canonical.replace("step.done", "step.gone");
            h.rehash(2);
            h.checkpoints.clear();
            for seqs in [[2, 2, 0], [4, 3, 2], [5, 4, 3]] {
                h.seal(&seqs);
            }
        },
        "checkpoint 2 is not the one that was anchored",
    ),
    (
        "what no anchor covers is written anew, checkpoint included",
        |h| {
            h.rows[4].canonical = h.rows[4].canonical.replace("step.done", "step.gone");
            h.rehash(4);
            h.checkpoints.pop();
            h.seal(&[5, 4, 3]);
        },
        "12 rows in 3 chains hold, 3 checkpoints; 3 rows are not anchored",
    ),
    ("a row is gone", |h| drop(h.rows.remove(6)), "row 2 of chain `secret:ß/\"É\u{1f600}` is missing"),
    ("the first row is gone", |h| drop(h.rows.remove(0)), "row 1 of chain `secret:JWT_SECRET` is missing"),
    (
        "the tail is cut",
        |h| drop(h.rows.drain(3..5)),
        "chain `secret:JWT_SECRET` ends at row 3, but checkpoint 2 sealed its row 4",
    ),
    (
        "the last tail is cut",
        |h| drop(h.rows.pop()),
        "chain `system` ends at row 2, but checkpoint 3 sealed its row 3",
    ),
    (
        "a chain is gone",
        |h| drop(h.rows.drain(0..5)),
        "chain `secret:JWT_SECRET` is gone, but checkpoint 1 sealed its row 2",
    ),
    (
        "everything is gone",
        |h| h.rows.clear(),
        "chain `secret:JWT_SECRET` is gone, but checkpoint 1 sealed its row 2",
    ),
    ("two rows are swapped", |h| h.rows.swap(1, 2), "row 2 of chain `secret:JWT_SECRET` is missing"),
    (
        "a row stands twice",
        |h| h.rows.insert(2, h.rows[1].clone()),
        "row 2 of chain `secret:JWT_SECRET` stands twice, or not in its place",
    ),
    (
        "a row stands twice, far away",
        |h| h.rows.push(h.rows[0].clone()),
        "row 1 of chain `secret:JWT_SECRET` stands twice, or not in its place",
    ),
    (
        "a row is given to another chain",
        |h| h.rows[4].chain = "system".to_owned(),
        "chain `secret:JWT_SECRET` ends at row 4, but checkpoint 3 sealed its row 5",
    ),
    (
        "a chain is given to another name",
        |h| h.rows[9..].iter_mut().for_each(|row| row.chain = "secret:x".to_owned()),
        "row 1 of chain `secret:x` has the bytes of another row",
    ),
    (
        "a blank is added",
        |h| {
            h.rows[11].canonical = h.rows[11].canonical.replacen(':', ": ", 1);
            h.rows[11].hash = Hash::of(&h.rows[11].canonical);
        },
        "row 3 of chain `system` has bytes that are not those of a row",
    ),
    (
        "a member stands twice",
        |h| {
            h.rows[11].canonical = h.rows[11].canonical.replacen('{', "{\"at\":\"1970\",", 1);
            h.rows[11].hash = Hash::of(&h.rows[11].canonical);
        },
        "row 3 of chain `system` has bytes that are not those of a row",
    ),
    (
        "a text is a number that readers differ on",
        |h| {
            h.rows[11].canonical = h.rows[11].canonical.replace("\"0.25\"", "0.25");
            h.rows[11].hash = Hash::of(&h.rows[11].canonical);
        },
        "row 3 of chain `system` has bytes that are not those of a row",
    ),
    (
        "a text is a number that is too great",
        |h| {
            h.rows[11].canonical =
                h.rows[11].canonical.replace("\"18446744073709551615\"", "18446744073709551615");
            h.rows[11].hash = Hash::of(&h.rows[11].canonical);
        },
        "row 3 of chain `system` has bytes that are not those of a row",
    ),
    (
        "a member is added",
        |h| {
            h.rows[11].canonical = h.rows[11].canonical.replacen('{', "{\"aa\":1,", 1);
            h.rows[11].hash = Hash::of(&h.rows[11].canonical);
        },
        "row 3 of chain `system` has bytes that are not those of a row",
    ),
    (
        "a row is no JSON",
        |h| {
            h.rows[11].canonical = "gone".to_owned();
            h.rows[11].hash = Hash::of("gone");
        },
        "row 3 of chain `system` has bytes that are not those of a row",
    ),
    ("the first checkpoint is gone", |h| drop(h.checkpoints.remove(0)), "checkpoint 1 is missing"),
    ("the anchored checkpoint is gone", |h| drop(h.checkpoints.remove(1)), "checkpoint 2 is missing"),
    (
        "the checkpoints from the anchored one on are gone",
        |h| h.checkpoints.truncate(1),
        "checkpoint 2 is missing",
    ),
    (
        "the last checkpoint is gone",
        |h| drop(h.checkpoints.pop()),
        "12 rows in 3 chains hold, 2 checkpoints; 3 rows are not anchored",
    ),
    (
        "a checkpoint is changed",
        |h| h.checkpoints[0].canonical = h.checkpoints[0].canonical.replace("\"rows\":4", "\"rows\":5"),
        "checkpoint 1 does not have the hash of its bytes",
    ),
    (
        "a checkpoint counts wrongly",
        |h| {
            h.checkpoints[0].canonical = h.checkpoints[0].canonical.replace("\"rows\":4", "\"rows\":5");
            h.checkpoints[0].hash = Hash::of(&h.checkpoints[0].canonical);
        },
        "checkpoint 1 counts other chains or rows than it seals",
    ),
    (
        "a checkpoint is changed with its hash",
        |h| {
            let later = h.checkpoints[1].canonical.replace("2026-01-15", "2026-01-16");
            h.checkpoints[1] = Sealed { number: 2, hash: Hash::of(&later), canonical: later };
            h.anchors = vec![h.checkpoints[1].anchor()];
        },
        "checkpoint 3 does not follow on the checkpoint before it",
    ),
    (
        "a checkpoint has the bytes of another",
        |h| h.checkpoints[2] = Sealed { number: 3, ..h.checkpoints[1].clone() },
        "checkpoint 3 has the bytes of another checkpoint",
    ),
    (
        "a checkpoint is no checkpoint",
        |h| h.checkpoints[2] = Sealed { number: 3, canonical: "{}".to_owned(), hash: Hash::of("{}") },
        "checkpoint 3 has bytes that are not those of a checkpoint",
    ),
    (
        "a checkpoint forgets a chain",
        |h| {
            h.checkpoints.pop();
            h.seal(&[5, 4, 0]);
        },
        "checkpoint 3 seals less than the checkpoint before it",
    ),
    (
        "a checkpoint goes back",
        |h| {
            h.checkpoints.pop();
            h.seal(&[5, 4, 1]);
        },
        "checkpoint 3 seals less than the checkpoint before it",
    ),
    (
        "an anchor is of another history",
        |h| h.anchors.push(Anchor { number: 1, hash: Hash::of("other") }),
        "checkpoint 1 is not the one that was anchored",
    ),
    (
        "an anchor is of the future",
        |h| h.anchors.push(Anchor { number: 9, hash: Hash::of("other") }),
        "checkpoint 9 is missing",
    ),
];

#[test]
fn whatever_is_tampered_with_is_named_and_an_independent_program_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut folders = Vec::new();
    let mut verdicts = Vec::new();
    for (i, (what, tamper, wanted)) in TAMPERINGS.iter().enumerate() {
        let mut history = History::sample();
        tamper(&mut history);
        let (status, said) = match history.verify() {
            Ok(verified) => (0, verified.to_string()),
            Err(broken) => (1, broken.to_string()),
        };
        assert_eq!(said, *wanted, "{what}");
        verdicts.push((status, said + "\n"));
        folders.push(folder.path().join(i.to_string()));
        std::fs::create_dir(&folders[i]).unwrap();
        history.write(&folders[i]);
    }
    let theirs = verify_independently(&folders);
    assert_eq!(theirs.len(), TAMPERINGS.len());
    for (((what, ..), ours), theirs) in TAMPERINGS.iter().zip(verdicts).zip(theirs) {
        assert_eq!(theirs, ours, "{what}");
    }
}

#[test]
fn a_chain_alone_is_checked_from_its_first_row() {
    let history = History::sample();
    let verified = verify_chain(&history.rows[..5]).unwrap();
    assert_eq!((verified.rows, verified.chains, verified.not_anchored), (5, 1, 5));
    assert_eq!(
        verify_chain(&history.rows[1..5]).unwrap_err().to_string(),
        "row 1 of chain `secret:JWT_SECRET` is missing"
    );
}

#[test]
fn the_independent_program_refuses_what_is_no_export() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl");
    for text in ["{\"row\":{}}\n", "[]\n"] {
        std::fs::write(&file, text).unwrap();
        let script = format!("{REPOSITORY}/scripts/verify-history.py");
        let output = Command::new("python3").arg(script).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "line 1 is neither a row nor a checkpoint\n", "{text:?}");
    }
}

#[test]
fn canonical_json_is_written_in_one_way() {
    for (value, wanted) in [
        (
            json!({ "b": 1, "a": [null, true, false, "x"], "": {} }),
            r#"{"":{},"a":[null,true,false,"x"],"b":1}"#,
        ),
        (
            json!({ "é": 1, "z": 2, "\u{ffff}": 3, "\u{1f600}": 4 }),
            "{\"z\":2,\"é\":1,\"\u{ffff}\":3,\"\u{1f600}\":4}",
        ),
        (json!(-9_007_199_254_740_991i64), "-9007199254740991"),
        (json!(9_007_199_254_740_992i64), "\"9007199254740992\""),
        (json!(i64::MIN), "\"-9223372036854775808\""),
        (json!([0.1, 1.0, -0.0, 1e300]), r#"["0.1","1.0","-0.0","1e+300"]"#),
        // RFC 8785, section 3.2.2.2.
        (
            json!("\u{20ac}$\u{f}\nA'B\"\\\\\"/\u{8}\u{c}\r\t\u{7f}"),
            "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\\b\\f\\r\\t\u{7f}\"",
        ),
        (json!("a\0b"), "\"a\u{fffd}b\""),
        (json!({ "\0": 1, "b": 2 }), "{\"b\":2,\"\u{fffd}\":1}"),
    ] {
        assert_eq!(canonical_json(&value), wanted);
    }
}

#[test]
fn anchors_are_found_in_the_lines_that_were_kept() {
    let anchor = Anchor { number: 12, hash: Hash::of("x") };
    for line in
        [anchor.to_string(), format!("*rota* acd/production: {anchor}, 3 chains"), format!("a\n{anchor}\n")]
    {
        assert_eq!(line.parse(), Ok(anchor), "{line}");
    }
    for line in
        ["", "checkpoint 12", "checkpoint 0 sha256:", "checkpoint x sha256:00", "sha256:00 checkpoint 1"]
    {
        assert_eq!(line.parse::<Anchor>(), Err(InvalidAnchor), "{line}");
    }
}

#[test]
fn the_example_in_the_documentation_holds() {
    let text = std::fs::read_to_string(format!("{REPOSITORY}/docs/auditing.md")).unwrap();
    let lines =
        text.lines().filter(|line| line.starts_with("{\"row\":") || line.starts_with("{\"checkpoint\":"));
    let (mut rows, mut checkpoints) = (Vec::new(), Vec::new());
    for line in lines {
        let record: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        if let Some(row) = record.get("row") {
            rows.push(Row {
                chain: text(&row["chain"]),
                seq: row["seq"].as_i64().unwrap(),
                canonical: text(&row["canonical"]),
                hash: text(&row["hash"]).parse().unwrap(),
            });
        } else {
            let point = &record["checkpoint"];
            checkpoints.push(Sealed {
                number: point["number"].as_i64().unwrap(),
                canonical: text(&point["canonical"]),
                hash: text(&point["hash"]).parse().unwrap(),
            });
        }
    }
    let anchors: Vec<Anchor> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!((rows.len(), checkpoints.len(), anchors.len()), (2, 1, 1));
    let history = History { rows, checkpoints, anchors };
    assert_eq!(history.verify().map(|verified| verified.not_anchored), Ok(0));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn writing_what_was_written_changes_nothing(value in any_json()) {
        let text = canonical_json(&value);
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(canonical_json(&read), text);
    }

    #[test]
    fn any_entry_makes_a_row_that_holds(entries in prop::collection::vec(any_json(), 1..5), user in ".{0,8}") {
        let mut rows: Vec<Row> = Vec::new();
        for entry in entries {
            rows.push(Row::append(rows.last(), "secret:A", at(0), &user, entry));
        }
        prop_assert_eq!(verify_chain(&rows).map(|verified| verified.rows), Ok(rows.len() as u64));
    }

    #[test]
    fn a_changed_byte_never_holds(row in 0usize..12, place in any::<prop::sample::Index>(), with in "[ -~]") {
        let mut history = History::sample();
        let canonical = &mut history.rows[row].canonical;
        let places: Vec<_> = canonical.char_indices().map(|(i, c)| (i, c.len_utf8())).collect();
        let (at, length) = places[place.index(places.len())];
        prop_assume!(canonical[at..at + length] != with);
        canonical.replace_range(at..at + length, &with);
        prop_assert!(history.verify().is_err());
        // With a hash to match it is the next row, or a seal, that does not hold.
        history.rows[row].hash = Hash::of(&history.rows[row].canonical);
        prop_assert!(history.verify().is_err());
    }
}
