//! What lint says of settings, as a person reads it.

use rota_adapters::catalog::kinds;
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::{Piece, load};

const POLICY: &str = r#"version = 1
application = "acd"
environment = "production"
defaults = { owner = "platform" }
owner = { platform = { slack_mention = "S012AB3CD" } }
[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "prod/acd/{name}"

[secret.VAULT_TOKEN]
kind = "vault-token"
stores = ["aws"]
consumers = "none"
cadence = "90d"
overlap = "24h"
vault = { SETTINGS }
fields = { FIELDS }
"#;
const FIELDS: &str = r#"VAULT_TOKEN = "{token}", VAULT_TOKEN_ACCESSOR = "{accessor}""#;

fn said(settings: &str, fields: &str) -> String {
    let text = POLICY.replace("SETTINGS", settings).replace("FIELDS", fields);
    let piece = Piece::from_bytes("policy.toml", text.into_bytes()).unwrap();
    render_all(&load(&[piece], &kinds().unwrap()).diagnostics)
}

#[test]
fn what_fits_is_accepted() {
    for good in [
        r#"role = "acd", period = "72h""#,
        r#"policies = ["acd"], period = "72h", no_default_policy = true, label = "acd-live""#,
        r#"role = "acd", policies = ["acd"], ttl = "91d""#,
    ] {
        let said = said(good, FIELDS);
        // Two names are two versions for whoever reads them one by one, which is a hint.
        assert!(said.ends_with("\n1 hint\n") && said.contains("hint[P066]"), "{good}\n{said}");
    }
}

#[test]
fn a_token_that_ends_before_the_next_one_takes_over_is_an_error() {
    for short in [r#"role = "acd", ttl = "90d""#, r#"policies = ["acd"], ttl = "768h""#] {
        let said = said(short, FIELDS);
        assert!(said.contains("error[P042]") && said.contains("let it live for 91d or more"), "{said}");
    }
}

#[test]
fn each_setting_that_cannot_work_is_pointed_at() {
    for (settings, rule, message) in [
        (r#"role = "acd""#, "life", "nothing says how long"),
        (r#"role = "acd", ttl = "91d", period = "72h""#, "life", "a period or an end"),
        (r#"role = "acd", period = "10s""#, "life", "takes longer than this token lives"),
        (r#"period = "72h""#, "rights", "neither a role nor policies"),
        (r#"role = "a/b", period = "72h""#, "rights", "not the name of a role"),
        (r#"policies = ["root"], period = "72h""#, "rights", "do not get the root policy"),
    ] {
        let said = said(settings, FIELDS);
        assert!(
            said.contains(&format!("[vault-token:{rule}]")) && said.contains(message),
            "{settings}\n{said}"
        );
    }
    let good = r#"role = "acd", period = "72h""#;
    for fields in
        [r#"VAULT_TOKEN = "{token}""#, r#"ACCESSOR = "{accessor}""#, r#"VAULT_TOKEN = "{password}""#]
    {
        let said = said(good, fields);
        assert!(said.contains("[vault-token:fields]"), "{fields}\n{said}");
    }
}
