use insta::assert_snapshot;

use super::{added, edited, heard, rule};
use crate::policy::tests::{HEAD, SESSION, kinds};
use crate::policy::{MAX_PIECE_BYTES, MAX_PIECES, MAX_SECRETS, Piece, load};

#[test]
fn a_text_that_is_no_toml_is_refused_where_it_stops_being_toml() {
    assert_snapshot!(rule("P001", &edited("kind = \"generated\"", "kind = generated")), @r#"
    error[P001]: not TOML: string values must be quoted, expected literal string
      --> policy.toml:21:8
       |
    21 | kind = generated
       |        ^^^^^^^^^
       = help: texts stand in double quotes, lists in square brackets, one `key = value` a line
    "#);
}

#[test]
fn a_cut_off_policy_is_refused_at_its_end() {
    let text = added("[secret.NEXT]\nkind = \"gener");
    assert_snapshot!(rule("P001", &text), @r#"
    error[P001]: not TOML: invalid basic string, expected `"`
      --> policy.toml:29:14
       |
    29 | kind = "gener
       |              ^
       = help: texts stand in double quotes, lists in square brackets, one `key = value` a line
    "#);
}

#[test]
fn only_the_syntax_is_told_where_the_text_is_no_toml() {
    let loaded = super::load(&edited("consumers = [\"backend\"]", "consumers = [\"nobody\""));
    assert!(loaded.diagnostics.iter().all(|d| d.code == "P001"), "{:?}", loaded.diagnostics);
}

#[test]
fn an_empty_policy_is_refused() {
    assert_snapshot!(rule("P002", ""), @r#"
    error[P002]: the policy is empty
      = help: begin with `version = 1`, `application = ...` and `environment = ...`, then a `[secret.NAME]`
    "#);
    assert_eq!(rule("P002", ""), rule("P002", "# a comment\n\n"));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let refused = Piece::from_bytes("a.toml", b"\x7fELF\x00\xff".to_vec()).unwrap_err();
    assert_eq!(("P003", refused.code.as_str()), ("P003", "P003"));
    assert_snapshot!(refused.render(), @r#"
    error[P003]: not a text file: byte 5 is not UTF-8
     --> a.toml
      = help: a policy is a TOML file in UTF-8; check which file was given
    "#);
}

#[test]
fn a_control_character_is_no_toml() {
    let heard = rule("P001", &edited("version = 1", "version = \u{0}1"));
    assert!(!heard.contains('\u{0}'), "{heard:?}");
}

#[test]
fn a_file_over_the_limit_is_refused_before_it_is_parsed() {
    let text = format!("{HEAD}{SESSION}{}", "# x\n".repeat(MAX_PIECE_BYTES / 4));
    assert_snapshot!(rule("P004", &text), @r#"
    error[P004]: the file has 1049114 bytes, over the limit of 1048576
     --> policy.toml
      = help: split it into several files in a folder
    "#);
}

#[test]
fn more_secrets_than_the_limit_are_refused() {
    let secrets = |from: usize| (from..from + 25_001).map(|i| format!("[secret.K{i}]\n")).collect::<String>();
    let pieces: Vec<Piece> =
        (0..MAX_SECRETS / 25_000).map(|i| Piece::new(format!("{i}.toml"), secrets(i * 30_000))).collect();
    assert_snapshot!(heard("P005", &load(&pieces, &kinds())), @r#"
    error[P005]: the policy has 100004 secrets, over the limit of 100000
      = help: split it by application
    "#);
}

#[test]
fn more_files_than_the_limit_are_refused() {
    let pieces = vec![Piece::new("x.toml", "version = 1"); MAX_PIECES + 1];
    assert_snapshot!(heard("P005", &load(&pieces, &kinds())), @r#"
    error[P005]: the policy has 10001 files, over the limit of 10000
      = help: put several secrets into one file
    "#);
}

#[test]
fn a_version_from_the_future_is_refused() {
    assert_snapshot!(rule("P006", &edited("version = 1", "version = 2")), @r#"
    error[P006]: version 2 of the format is not known
     --> policy.toml:1:11
      |
    1 | version = 2
      |           ^
      = help: write `version = 1`, or run a newer program
    "#);
}

#[test]
fn files_of_one_policy_agree() {
    let pieces =
        [Piece::new("a.toml", format!("{HEAD}{SESSION}")), Piece::new("b.toml", "application = \"other\"\n")];
    assert_snapshot!(heard("P007", &load(&pieces, &kinds())), @r#"
    error[P007]: another `application` than in another file of this policy
     --> b.toml:1:15
      |
    1 | application = "other"
      |               ^^^^^^^
      = a.toml:2:15: the other one
      = help: files of one folder are one policy: state it once, or alike
    "#);
}

#[test]
fn findings_beyond_the_limit_are_counted() {
    let many: String = (0..600).map(|i| format!("k{i} = 1\n")).collect();
    assert_snapshot!(heard("P008", &super::load(&added(&many))), @r#"
    hint[P008]: 100 more findings are not shown
      = help: mend the ones above first
    "#);
}
