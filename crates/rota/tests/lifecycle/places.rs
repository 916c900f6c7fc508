//! The names of a store, read and written as somebody does who is not Rota.

use std::sync::Arc;

use futures::FutureExt as _;
use rota_core::document::{DocumentFormat, get};
use rota_core::value::SecretValue;
use serde_json::{Value, json};

use crate::support::World;

/// What stands under a name now.
pub(crate) type ReadName = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The stores that a test chooses from by name.
pub(crate) const STORES: &str = r#"
[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[store.env]
kind = "env-file"
path = "{folder}/.env"

[store.vault]
kind = "vault-kv2"
mount = "secret"
path = "test/{name}"
"#;

impl World {
    /// Reads one of [`STORES`].
    pub(crate) fn reader(&self, store: &str) -> ReadName {
        match store {
            "aws" => {
                let aws = Arc::clone(&self.aws);
                Arc::new(move |name| aws.value(&format!("test/{name}"), "AWSCURRENT"))
            }
            "vault" => {
                let vault = Arc::clone(&self.vault);
                Arc::new(move |name| {
                    let path = format!("secret/data/test/{name}");
                    let read = vault.admin("GET", &path, Value::Null).now_or_never();
                    let read = read.expect("the fake answers at once").ok()?;
                    Some(read["data"]["data"]["value"].as_str()?.to_owned())
                })
            }
            _ => {
                let file = self.folder.path().join(".env");
                Arc::new(move |name| {
                    let text = SecretValue::new(std::fs::read_to_string(&file).ok()?).ok()?;
                    Some(get(&text, DocumentFormat::Dotenv, name).ok()??.expose().to_owned())
                })
            }
        }
    }

    /// Writes names into one of [`STORES`] as they stood before Rota.
    pub(crate) async fn write_before_rota(&self, store: &str, names: &[(&str, &str)]) {
        let mut lines = "OTHER=untouched\n".to_owned();
        for (name, text) in names {
            match store {
                "aws" => self.aws.create(&format!("test/{name}"), text).unwrap(),
                "vault" => {
                    let body = json!({ "data": { "value": text } });
                    self.vault.admin("POST", &format!("secret/data/test/{name}"), body).await.unwrap();
                }
                _ => lines.push_str(&format!("{name}='{text}'\n")),
            }
        }
        if store == "env" {
            self.write_env_file(&lines);
        }
    }
}
