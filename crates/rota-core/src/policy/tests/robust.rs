//! Whatever the text, loading ends with a policy or with findings.

use proptest::prelude::*;

use super::{HEAD, SESSION, kinds, load};
use crate::policy::diagnostic::Level;
use crate::policy::model::Policy;
use crate::policy::{Loaded, Piece};

/// Most keys and forms once, so that a damaged copy damages something interesting.
const RICH: &str = r#"version = 1
application = "acd"
environment = "staging"
[defaults]
stores = ["vault"]
owner = "platform"
window = "Mon-Thu 09:00-16:00 Europe/Amsterdam"
remind = ["14d", "1d"]
healthy = { count = 2, every = "1m" }
[rules]
signing = 40
[owner.platform]
slack_mention = "S012AB3CD"
[store.vault]
kind = "vault-kv2"
mount = "secret"
path = "acd/{name}"
inbox = "inbox/{name}"
[calendar.quarterly]
cron = "0 10 15 1,4,7,10 *"
zone = "UTC"
max_age = "93d"
[consumer.backend]
rollout = { kind = "ecs", cluster = "prod", service = "backend", deadline = "20m" }
checks = [{ kind = "http", url = "https://a/health" }, { kind = "http", url = "https://b/health", expect = 200 }]
settle = "30s"
[profile.signing]
kind = "generated"
class = "signing"
format = "hex:64"
calendar = "quarterly"
consumers = ["backend"]
[secret.JWT]
profile = "signing"
token_ttl = "7d"
publish = { first = "JWT_NEW", second = "JWT", pinned = true }
hooks = [{ at = "after-retire", kind = "webhook", url = "https://a/hook" }]
deadline = { promote = "1h" }
[secret.DB]
kind = "postgres"
cadence = "30d"
overlap = "24h"
consumers = ["backend"]
postgres = { admin = "vault:db-admin", host = "db", users = ["a", "b"] }
fields = { DB_URL = "postgresql://{username}:{password:url}@db/x", DB_PASSWORD = { template = "{password}" } }
[secret.OPENAI]
kind = "operator"
class = "api-key"
cadence = "90d"
consumers = "none"
page = "https://platform.example.com"
prove = { kind = "http", url = "https://platform.example.com/v1/models" }
"#;

fn sound(loaded: &Loaded) {
    let errors = loaded.of(Level::Error).count();
    assert_eq!(loaded.policy.is_none(), errors > 0, "{:?}", loaded.diagnostics);
    for diagnostic in &loaded.diagnostics {
        assert!(!diagnostic.render().is_empty());
        assert!(!diagnostic.render().contains(['\u{1b}', '\0']));
    }
    if let Some(policy) = &loaded.policy {
        let text = serde_json::to_string(policy).expect("the accepted form is JSON");
        assert_eq!(&serde_json::from_str::<Policy>(&text).expect("and back"), policy);
    }
}

#[test]
fn the_rich_policy_is_accepted_and_survives_a_round_trip() {
    let loaded = load(RICH);
    assert!(loaded.policy.is_some(), "{:?}", loaded.diagnostics);
    sound(&loaded);
}

#[test]
fn a_policy_cut_off_anywhere_is_read_or_refused() {
    for end in (0..RICH.len()).filter(|end| RICH.is_char_boundary(*end)) {
        sound(&load(&RICH[..end]));
    }
}

#[test]
fn a_policy_without_any_one_line_is_read_or_refused() {
    let lines: Vec<&str> = RICH.lines().collect();
    for skipped in 0..lines.len() {
        let text: Vec<&str> =
            lines.iter().enumerate().filter(|(index, _)| *index != skipped).map(|(_, line)| *line).collect();
        sound(&load(&text.join("\n")));
    }
}

#[test]
fn deeply_nested_tables_are_refused_and_not_followed() {
    let nested = format!("x = {}1{}", "[".repeat(5000), "]".repeat(5000));
    let loaded = load(&format!("{HEAD}{SESSION}{nested}"));
    assert!(loaded.policy.is_none());
    let dotted = format!("[secret.{}]", vec!["a"; 5000].join("."));
    assert!(load(&format!("{HEAD}{SESSION}{dotted}")).policy.is_none());
}

/// A value that TOML can write, for any key.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("[{}]".to_owned()),
        Just("{ a = { b = [1, 2.5, nan, -inf] } }".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("-0x1".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        "[a-zA-Z0-9:{}*/ .-]{0,20}".prop_map(|text| format!("\"{text}\"")),
        "[0-9]{1,20}[wdhms]".prop_map(|text| format!("\"{text}\"")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        sound(&load(&text));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        if let Ok(piece) = Piece::from_bytes("x.toml", bytes) {
            sound(&crate::policy::load(&[piece], &kinds()));
        }
    }

    #[test]
    fn toml_like_text_never_panics(text in "(\\[{0,2}[a-z.\"]{0,8}\\]{0,2}|[a-z_]{1,8} = [\"{\\[a-z0-9:=, ]{0,12}|\n|#){0,40}") {
        sound(&load(&text));
    }

    #[test]
    fn a_damaged_policy_never_panics(at in 0..RICH.len(), cut in 0usize..12, put in "[ -~\n]{0,6}") {
        let mut text: Vec<u8> = RICH.as_bytes().to_vec();
        let end = (at + cut).min(text.len());
        text.splice(at..end, put.bytes());
        sound(&load(&String::from_utf8_lossy(&text)));
    }

    #[test]
    fn any_value_under_any_key_never_panics(line in 0usize..50, value in any_value()) {
        let lines: Vec<String> = RICH.lines().enumerate().map(|(index, text)| match text.split_once(" = ") {
            Some((key, _)) if index == line => format!("{key} = {value}"),
            _ => text.to_owned(),
        }).collect();
        sound(&load(&lines.join("\n")));
    }
}
