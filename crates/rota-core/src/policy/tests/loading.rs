use jiff::SignedDuration;

use super::{HEAD, SESSION, kinds, load, said};
use crate::format::Format;
use crate::id::SecretId;
use crate::policy::Piece;
use crate::policy::model::{Class, Consumers, Environment, Healthy, OnFailure, Priority, PublishForm};
use crate::schedule::Schedule;

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(n * 24)
}

#[test]
fn a_small_policy_is_accepted_with_every_default_resolved() {
    let loaded = load(&format!("{HEAD}{SESSION}"));
    assert_eq!(loaded.diagnostics, []);
    let policy = loaded.policy.unwrap();
    assert_eq!((policy.application.as_str(), policy.environment), ("acd", Environment::Production));
    let secret = &policy.secrets[&SecretId::new("SESSION_SECRET").unwrap()];
    assert_eq!(secret.kind, "generated");
    assert_eq!(secret.settings, serde_json::Value::Null);
    assert_eq!(secret.class, Some(Class::Signing));
    assert_eq!(secret.schedule, Schedule::Cadence { every: days(90) });
    assert_eq!((secret.lead, secret.overlap, secret.token_ttl), (days(1), days(7), days(7)));
    assert_eq!(secret.revoke_after, SignedDuration::ZERO);
    assert_eq!(secret.healthy, Healthy { count: 3, every: SignedDuration::from_mins(5), failures: 3 });
    assert_eq!((secret.on_failure, secret.priority), (OnFailure::Hold, Priority::Medium));
    assert_eq!(secret.remind, [days(14), days(7), days(1)]);
    assert_eq!(secret.owner.as_ref().unwrap().as_str(), "platform");
    assert_eq!(secret.stores.iter().map(|s| s.as_str()).collect::<Vec<_>>(), ["vault"]);
    assert!(matches!(&secret.consumers, Consumers::Named { names } if names.len() == 1));
    assert!(matches!(&secret.publish, PublishForm::List { name } if name.as_str() == "SESSION_SECRETS"));
    assert_eq!(secret.fields.keys().map(|f| f.as_str()).collect::<Vec<_>>(), ["SESSION_SECRET"]);
    let consumer = policy.consumers.values().next().unwrap();
    assert_eq!(consumer.rollout.settings, serde_json::json!({ "cluster": "prod", "service": "backend" }));
    assert_eq!(consumer.rollout.deadline, SignedDuration::from_mins(30));
    assert_eq!(consumer.settle, SignedDuration::from_mins(1));
    assert_eq!(consumer.checks[0].name, "http");
}

#[test]
fn an_unknown_key_is_shown_on_its_line_with_the_nearest_one() {
    insta::assert_snapshot!(said(&format!("{HEAD}{SESSION}overlapp = \"7d\"\n")));
}

#[test]
fn pieces_are_one_policy_in_any_order() {
    let whole = load(&format!("{HEAD}{SESSION}")).policy.unwrap();
    let head = Piece::new("acd/_head.toml", HEAD);
    let secrets = Piece::new("acd/secrets.toml", SESSION);
    let comment = Piece::new("acd/notes.toml", "# nothing yet\n");
    for pieces in [[head.clone(), secrets.clone(), comment.clone()], [comment, secrets, head]] {
        let loaded = crate::policy::load(&pieces, &kinds());
        assert_eq!(loaded.diagnostics, []);
        assert_eq!(loaded.policy.as_ref(), Some(&whole));
    }
}

#[test]
fn a_secret_takes_each_key_from_itself_then_its_profile_then_the_defaults() {
    let text =
        HEAD.replace("[defaults]", "[defaults]\ncadence = \"30d\"\noverlap = \"1d\"\npriority = \"low\"");
    let text = format!(
        "{text}[profile.p]\nkind = \"generated\"\nclass = \"password\"\nformat = \"password:24\"\n\
         cadence = \"180d\"\npriority = \"high\"\nconsumers = [\"backend\"]\n\
         [secret.A]\nprofile = \"p\"\npriority = \"critical\"\n[secret.B]\nprofile = \"p\"\nwindow = \"always\"\n"
    );
    let policy = load(&text).policy.unwrap();
    let [a, b] = ["A", "B"].map(|id| &policy.secrets[&SecretId::new(id).unwrap()]);
    assert_eq!((a.priority, b.priority), (Priority::Critical, Priority::High));
    assert_eq!(a.schedule, Schedule::Cadence { every: days(180) });
    assert_eq!(a.overlap, days(1));
    assert_eq!(b.window, None);
}

#[test]
fn a_kind_s_table_is_filled_from_the_profile_key_by_key() {
    let text = format!(
        "{HEAD}[profile.db]\nkind = \"postgres\"\ncadence = \"30d\"\noverlap = \"24h\"\nconsumers = [\"backend\"]\n\
         postgres = {{ admin = \"vault:admin\", host = \"db-1\", users = [] }}\n\
         [secret.A]\nprofile = \"db\"\npostgres = {{ users = [\"a\", \"b\"] }}\n\
         [secret.B]\nprofile = \"db\"\n[secret.B.postgres]\nhost = \"db-2\"\n"
    );
    let policy = load(&text).policy.unwrap();
    let settings = |id: &str| &policy.secrets[&SecretId::new(id).unwrap()].settings;
    assert_eq!(
        *settings("A"),
        serde_json::json!({ "admin": "vault:admin", "host": "db-1", "users": ["a", "b"] })
    );
    assert_eq!(*settings("B"), serde_json::json!({ "admin": "vault:admin", "host": "db-2", "users": [] }));
    let secret = &policy.secrets[&SecretId::new("A").unwrap()];
    assert_eq!(secret.revoke_after, days(1));
}

#[test]
fn a_mistake_in_a_profile_is_told_once_and_where_it_stands() {
    let secrets: String = (0..50).map(|i| format!("[secret.S{i}X]\nprofile = \"p\"\n")).collect();
    let text = format!(
        "{HEAD}{SESSION}[profile.p]\nkind = \"generated\"\nclass = \"password\"\nformat = \"password:8\"\n\
         cadence = \"90d\"\nconsumers = [\"backend\"]\n{secrets}"
    );
    let loaded = load(&text);
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(loaded.diagnostics[0].code, "P050");
}

#[test]
fn an_operator_s_value_has_a_length_and_an_inbox() {
    let text = HEAD.replace("path = \"acd/{name}\"", "path = \"acd/{name}\"\ninbox = \"inbox/acd/{name}\"");
    let text = format!(
        "{text}[secret.KEY]\nkind = \"operator\"\nclass = \"api-key\"\ncadence = \"90d\"\nconsumers = [\"backend\"]\n"
    );
    let policy = load(&text).policy.unwrap();
    let secret = policy.secrets.values().next().unwrap();
    assert_eq!(secret.inbox.as_deref(), Some("inbox/acd/KEY"));
    assert_eq!(secret.format, Some(Format::Text { min: 32, max: 65_536 }));
}

#[test]
fn several_checks_of_one_kind_are_told_apart() {
    let text = HEAD
        .replace("checks = [{", "checks = [{ kind = \"http\", url = \"https://one\" }, { name = \"main\",");
    let policy = load(&format!("{text}{SESSION}")).policy.unwrap();
    let names: Vec<&str> =
        policy.consumers.values().flat_map(|c| &c.checks).map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["http-1", "main"]);
}

#[test]
fn findings_are_in_the_order_of_the_file_and_survive_as_json() {
    let loaded = load(&format!("{HEAD}{}colour = 1\nzz = 2\n", SESSION.replace("hex:64", "hex:8")));
    let lines: Vec<usize> =
        loaded.diagnostics.iter().filter_map(|d| d.place.as_ref()).map(|p| p.line).collect();
    assert!(lines.is_sorted() && lines.len() == 3, "{lines:?}");
    let json = serde_json::to_value(&loaded.diagnostics[0]).unwrap();
    assert_eq!(json["code"], "P050");
    assert_eq!(json["level"], "error");
    assert_eq!(json["file"], "policy.toml");
    assert_eq!((&json["place"]["line"], &json["place"]["column"]), (&23.into(), &10.into()));
}
