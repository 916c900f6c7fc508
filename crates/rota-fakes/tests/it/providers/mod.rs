//! The fakes of providers against what their references promise, through an independent
//! client.

use std::process::Command;

use rota_fakes::http::Listen;
use rota_fakes::moto::in_environment;
use rota_fakes::providers::{Product, ProviderFake};

/// Runs one scene of the client, which the references are read into a second time.
fn drive(product: Product, scene: &str) {
    let python = std::env::var_os("ROTA_TEST_PYTHON").map(Into::into).or_else(|| in_environment("python"));
    let python = python.expect("no python in .venv/bin of the repository, run scripts/test, which makes it");
    let fake = ProviderFake::start(product, Listen::default()).unwrap();
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drive_providers.py"))
        .arg(scene)
        .env("PROVIDER_URL", fake.url())
        .env("PROVIDER_ADMIN", fake.admin())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert_eq!(said.trim().lines().last(), Some("all as expected"));
}

#[test]
fn resend_makes_lists_and_ends_keys_as_its_reference_says() {
    drive(Product::Resend, "resend");
}

#[test]
fn twilio_makes_lists_and_ends_keys_as_its_reference_says() {
    drive(Product::Twilio, "twilio");
}

#[test]
fn sentry_makes_refuses_and_ends_keys_as_its_reference_says() {
    drive(Product::Sentry, "sentry");
}

#[test]
fn openai_makes_lists_and_ends_service_accounts_as_its_reference_says() {
    drive(Product::OpenAi, "openai");
}
