//! Which crates may see which.

use std::collections::BTreeSet;
use std::process::Command;

/// Everything that `package` is built with, its dependencies' dependencies included.
fn built_with(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let arguments =
        ["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{lib}"];
    let output = Command::new(cargo).args(arguments).args(["--package", package]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert!(names.contains(&package.replace('-', "_")), "{names:?}");
    names
}

#[test]
fn the_core_has_no_clock_no_task_and_no_connection() {
    let seen = built_with("rota-core");
    let effects =
        ["tokio", "futures", "async_trait", "sqlx", "sqlx_core", "reqwest", "hyper", "rustls", "vaultrs"];
    let found: Vec<&String> =
        seen.iter().filter(|name| effects.contains(&name.as_str()) || name.starts_with("aws_")).collect();
    assert!(found.is_empty(), "rota-core is pure, and is built with {found:?}");
}

#[test]
fn the_journal_the_adapters_and_the_engine_meet_in_the_ports_only() {
    for (package, others) in [
        ("rota-engine", ["rota_postgres", "rota_adapters"].as_slice()),
        ("rota-postgres", &["rota_adapters"]),
        ("rota-adapters", &["rota_postgres"]),
    ] {
        let seen = built_with(package);
        for other in others {
            assert!(!seen.contains(*other), "{package} is built with {other}");
        }
    }
}

#[test]
fn what_tests_do_to_a_process_is_not_in_the_program_that_is_shipped() {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let arguments = ["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"];
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--format", "{lib} {f}", "--package", "rota"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let engine = lines.lines().find(|line| line.starts_with("rota_engine ")).expect("rota has an engine");
    assert!(!engine.contains("test-support"), "{engine}");
    assert!(lines.lines().all(|line| !line.starts_with("rota_fakes")), "{lines}");
}
