//! An independent client of the real product drives the fake: `hvac`.

use std::process::Command;

use rota_fakes::http::Listen;
use rota_fakes::moto::in_environment;
use rota_fakes::vault::VaultFake;

#[test]
fn the_python_client_of_the_real_product_finds_what_it_expects() {
    let python = std::env::var_os("ROTA_TEST_PYTHON").map(Into::into).or_else(|| in_environment("python"));
    let python = python.expect("no python in .venv/bin of the repository, run scripts/test, which makes it");
    let vault = VaultFake::start(Listen::default()).unwrap();
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive_vault.py"))
        .env("VAULT_ADDR", vault.url())
        .env("VAULT_TOKEN", vault.root_token())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert_eq!(said.trim().lines().last(), Some("all as expected"));
}
