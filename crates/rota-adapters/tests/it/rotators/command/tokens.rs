//! `token-files`: tokens that the target makes, each a file with a hash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rota_adapters::rotators::command::CommandRotator;
use rota_core::policy::model::SecretPolicy;
use rota_core::value::Bundle;
use rota_engine::ports::{Observed, Rotator, TargetContext, TargetEffect};
use rota_engine::test_support::rotator_suite::{RotatorUnderTest, SecretUnderTest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::service::{bundle, context, example, fence, field, fields, part, rotator};
use crate::support::value;

const TEMPLATE: &str = "{username}.{token}";
const FIRST: &str = "the-first-token-of-many";

pub(super) struct Tokens {
    folder: TempDir,
    settings: Value,
}

impl Tokens {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = json!({
            "program": [example("token-files")],
            "target": "the proxy",
            "values": "from-target",
            "disables": true,
            "quiet": "1h",
            "options": { "folder": folder.path() },
        });
        let tokens = Self { folder, settings };
        tokens.write("acd-first", FIRST);
        tokens
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, token: &str) {
        std::fs::write(self.path(name), hash(token)).unwrap();
    }

    fn first() -> Bundle {
        bundle(&[("username", "acd-first"), ("token", FIRST)])
    }
}

fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token)) + "\n"
}

fn names(folder: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[async_trait]
impl RotatorUnderTest for Tokens {
    fn secret(&self) -> SecretUnderTest {
        SecretUnderTest {
            kind: "command".to_owned(),
            settings: self.settings.clone(),
            fields: fields(TEMPLATE),
            accept_gap: false,
        }
    }

    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator> {
        Arc::new(CommandRotator::new(policy).unwrap())
    }

    fn admin(&self) -> Option<(String, String)> {
        None
    }

    fn first(&self) -> Bundle {
        Bundle::single(field("LOGIN"), value(&format!("acd-first.{FIRST}")))
    }

    async fn uses(&self, token: &Bundle) -> bool {
        let stored = tokio::fs::read_to_string(self.path(part(token, "username"))).await;
        stored.is_ok_and(|stored| stored == hash(part(token, "token")))
    }

    async fn alive(&self) -> Vec<String> {
        names(self.folder.path())
    }

    async fn change_by_hand(&self, token: &Bundle) {
        self.write(part(token, "username"), "somebody-elses-token");
    }
}

#[tokio::test]
async fn what_a_lost_answer_left_behind_is_found_by_its_rotation_and_ended_by_its_name() {
    let tokens = Tokens::start();
    let rotator = rotator(&tokens.settings, TEMPLATE);
    let context = TargetContext { old: Some(Tokens::first()), ..context(&tokens.settings, TEMPLATE) };
    rotator.preflight(&context).await.unwrap();
    assert_eq!(rotator.find_created(&context).await.unwrap(), None);
    assert_eq!(rotator.observe(TargetEffect::Remove, &context).await.unwrap(), Observed::Applied);
    let made = rotator.create(&context, fence(1)).await.unwrap();
    assert!(tokens.uses(&made.parts).await);
    assert_eq!(made.identity, format!("acd-{}", context.rotation));
    assert_eq!(rotator.find_created(&context).await.unwrap(), Some(made.identity.clone()));
    // A rollback that knows no name finds it as well.
    let nameless = super::service::context(&tokens.settings, TEMPLATE);
    let named = TargetContext { new_identity: Some(made.identity), old: Some(Tokens::first()), ..context };
    for context in [&named, &nameless] {
        assert_eq!(rotator.observe(TargetEffect::Remove, context).await.unwrap(), Observed::Absent);
    }
    for context in [&named, &nameless] {
        rotator.apply(TargetEffect::Remove, context, fence(2)).await.unwrap();
        assert_eq!(names(tokens.folder.path()), ["acd-first"]);
    }
    rotator.create(&nameless, fence(3)).await.unwrap();
    rotator.apply(TargetEffect::Remove, &nameless, fence(4)).await.unwrap();
    assert_eq!(names(tokens.folder.path()), ["acd-first"]);
}
