//! Independent clients, in Python.

use std::process::Command;

use rota_fakes::moto::in_environment;

/// Runs a script of `tests/` under these variables; it has to find all as it expects.
pub(crate) fn drives(script: &str, variables: &[(&str, &str)]) {
    let python = std::env::var_os("ROTA_TEST_PYTHON").map(Into::into).or_else(|| in_environment("python"));
    let python = python.expect("no python in .venv/bin of the repository, run scripts/test, which makes it");
    let output = Command::new(python)
        .arg(format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR")))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert_eq!(said.trim().lines().last(), Some("all as expected"));
}
