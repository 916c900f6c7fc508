//! Programs that do not keep to the protocol: what they did is unknown, and nothing of what
//! they print or are given is told.

use rota_core::fault::Fault;
use rota_engine::ports::{Idleness, Observed, Proof, Rotator as _, TargetContext, TargetEffect, Which};
use serde_json::{Value, json};

use super::service::{bundle, context, fence, loaded, rotator};
use super::users::TEMPLATE;
use crate::support::value;

const OLD: &str = "the-old-password-of-all";
const NEW: &str = "the-new-password-of-all";
const ADMIN: &str = "the-password-of-the-admin";

/// A program that does as `script` says; its verb is `$1`.
fn settings(script: &str) -> Value {
    json!({
        "program": ["/bin/sh", "-c", script, "program"],
        "target": "the target",
        "users": ["acd_a", "acd_b"],
        "timeout": "10s",
    })
}

fn given(settings: &Value) -> TargetContext {
    TargetContext {
        old: Some(bundle(&[("username", "acd_a"), ("password", OLD)])),
        new: Some(bundle(&[("username", "acd_b"), ("password", NEW)])),
        admin: Some(value(ADMIN)),
        ..context(settings, TEMPLATE)
    }
}

/// A fault, in which nothing of a value may stand.
fn told<T>(result: Result<T, Fault>) -> Fault {
    let fault = crate::support::fault(result);
    let message = fault.to_string();
    assert!(![OLD, NEW, ADMIN].iter().any(|word| message.contains(word)), "a value is told: {message}");
    fault
}

async fn observe(script: &str) -> Result<Observed, Fault> {
    let settings = settings(script);
    rotator(&settings, TEMPLATE).observe(TargetEffect::Install, &given(&settings)).await
}

#[tokio::test]
async fn whatever_is_not_the_protocol_is_unknown() {
    for (script, why) in [
        ("exit 1", "exit code 1"),
        ("exit 127", "exit code 127"),
        ("kill -9 $$", "signal 9"),
        ("kill -TERM $$", "signal 15"),
        // The secret, as an answer and as noise.
        ("cat <&3", "something else"),
        ("cat <&3 | tee /dev/stderr", "something else"),
        ("echo done", "something else"),
        ("printf '{\"identity\":'", "something else"),
        ("head -c 100 /dev/urandom", "something else"),
        ("yes", "more than an answer"),
        ("yes '' | head -c 200000", "more than an answer"),
        ("yes >&4", "descriptor 4"),
        ("exit 13", "exit code 13"),
    ] {
        let fault = told(observe(script).await);
        assert!(matches!(fault, Fault::Transient { .. }), "{script}: {fault}");
        assert!(fault.to_string().contains(why), "{script}: {fault}");
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_and_unknown() {
    for script in ["exec sleep 600", "sleep 600 & exit 0", "trap '' TERM; while :; do sleep 600; done"] {
        let mut settings = settings(script);
        settings["timeout"] = json!("1s");
        let observed = rotator(&settings, TEMPLATE).observe(TargetEffect::Install, &given(&settings)).await;
        let fault = told(observed);
        assert!(matches!(fault, Fault::Transient { .. }), "{script}: {fault}");
        assert!(fault.to_string().contains("did not end within 1s"), "{script}: {fault}");
    }
}

#[tokio::test]
async fn a_program_that_reads_nothing_is_judged_by_its_code_however_long_the_values_are() {
    let settings = settings("exit 10");
    let long = "x".repeat(60_000);
    let context = TargetContext {
        old: Some(bundle(&[("username", "acd_a"), ("password", &long)])),
        new: Some(bundle(&[("username", "acd_b"), ("password", &long)])),
        ..given(&settings)
    };
    let observed = rotator(&settings, TEMPLATE).observe(TargetEffect::Install, &context).await;
    assert_eq!(observed.unwrap(), Observed::Absent);
}

#[tokio::test]
async fn values_are_on_descriptor_3_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let script = format!(
        "cat /proc/$$/cmdline /proc/$$/environ >{}; cat >{}; cat <&3 >{}; exit 10",
        at("process").display(),
        at("question").display(),
        at("values").display()
    );
    observe(&script).await.unwrap();
    let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    for place in ["process", "question"] {
        assert!(![OLD, NEW, ADMIN].iter().any(|word| read(place).contains(word)), "{place}");
    }
    let values: Value = serde_json::from_str(&read("values")).unwrap();
    let login = |user: &str, password: &str| json!({ "username": user, "password": password });
    assert_eq!(values, json!({ "old": login("acd_a", OLD), "new": login("acd_b", NEW), "admin": ADMIN }));
    let question: Value = serde_json::from_str(&read("question")).unwrap();
    assert_eq!(question["verb"], "observe");
    assert_eq!(question["identity"], "acd_b");
    assert!(read("process").contains("observe"), "the verb is the last argument");
}

#[tokio::test]
async fn a_program_that_is_not_there_or_may_not_run_is_told() {
    for (program, denied) in [("/nowhere/at-all", false), ("/etc/passwd", true)] {
        let mut settings = settings("");
        settings["program"] = json!([program]);
        let fault = told(rotator(&settings, TEMPLATE).preflight(&given(&settings)).await);
        assert_eq!(matches!(fault, Fault::Denied { .. }), denied, "{fault}");
        assert_eq!(matches!(fault, Fault::Invalid { .. }), !denied, "{fault}");
    }
}

/// The same, with values that the target makes.
fn making(script: &str) -> (Value, TargetContext) {
    let mut settings = settings(script);
    settings.as_object_mut().unwrap().remove("users");
    settings["values"] = json!("from-target");
    let context = TargetContext { new: None, ..given_to(&settings, "{username}.{key}") };
    (settings, context)
}

fn given_to(settings: &Value, template: &str) -> TargetContext {
    TargetContext {
        old: Some(bundle(&[("username", "key-1"), ("key", OLD)])),
        admin: Some(value(ADMIN)),
        ..context(settings, template)
    }
}

#[tokio::test]
async fn what_a_program_makes_has_a_name_and_every_part_or_counts_as_unknown() {
    for made in [
        "",
        "key-2",
        "[]",
        r#"{"key":"the-new-password-of-all"}"#,
        r#"{"username":"key-2"}"#,
        r#"{"username":"","key":"the-new-password-of-all"}"#,
        r#"{"username":"key-2","key":7}"#,
        r#"{"username":"key\n2","key":"the-new-password-of-all"}"#,
    ] {
        let (settings, context) = making(&format!("cat <<'E' >&4\n{made}\nE"));
        let created = rotator(&settings, "{username}.{key}").create(&context, fence(1)).await;
        let fault = told(created.map(|_| ()));
        assert!(matches!(fault, Fault::Transient { .. }), "{made}: {fault}");
    }
    let (settings, context) = making(r#"printf '{"username":"key-2","key":"the-new-password-of-all"}' >&4"#);
    let created = rotator(&settings, "{username}.{key}").create(&context, fence(1)).await.unwrap();
    assert_eq!(created.identity, "key-2");
}

#[tokio::test]
async fn an_identity_that_holds_a_value_goes_nowhere() {
    let template = "{username}.{key}";
    for script in
        [format!(r#"printf '{{"identity":"key {OLD}"}}'"#), format!(r#"printf '{{"identity":"{ADMIN}"}}'"#)]
    {
        let (settings, context) = making(&script);
        let fault = told(rotator(&settings, template).find_created(&context).await);
        assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    }
    let script = format!(r#"printf '{{"username":"key-{NEW}","key":"{NEW}"}}' >&4"#);
    let (settings, context) = making(&script);
    let created = rotator(&settings, template).create(&context, fence(1)).await;
    assert!(matches!(told(created.map(|_| ())), Fault::Invalid { .. }));
}

#[tokio::test]
async fn codes_become_what_the_engine_does_next() {
    let of = |code: i32| settings(&format!("exit {code}"));
    for (code, effect, wanted) in [
        (0, TargetEffect::Install, "applied"),
        (10, TargetEffect::Install, "absent"),
        (11, TargetEffect::Install, "absent"),
        (12, TargetEffect::Install, "foreign"),
        (0, TargetEffect::Disable, "absent"),
        (10, TargetEffect::Disable, "applied"),
        (11, TargetEffect::Disable, "applied"),
        (12, TargetEffect::Disable, "foreign"),
        (0, TargetEffect::Revoke, "absent"),
        (10, TargetEffect::Revoke, "applied"),
        (11, TargetEffect::Revoke, "absent"),
        (12, TargetEffect::Revoke, "foreign"),
        (0, TargetEffect::Restore, "applied"),
        (10, TargetEffect::Restore, "foreign"),
        (11, TargetEffect::Restore, "absent"),
        (0, TargetEffect::Remove, "absent"),
        (10, TargetEffect::Remove, "applied"),
        (11, TargetEffect::Remove, "absent"),
        (12, TargetEffect::Remove, "foreign"),
    ] {
        let settings = of(code);
        let observed = rotator(&settings, TEMPLATE).observe(effect, &given(&settings)).await.unwrap();
        let observed = match observed {
            Observed::Absent => "absent",
            Observed::Applied => "applied",
            Observed::Foreign { .. } => "foreign",
        };
        assert_eq!(observed, wanted, "{code} of {effect:?}");
    }
    for (code, proof) in [(0, true), (13, false)] {
        let settings = of(code);
        let proven = rotator(&settings, TEMPLATE).prove(Which::Old, &given(&settings)).await.unwrap();
        assert_eq!(proven == Proof::Accepted, proof, "{proven:?}");
    }
}

#[tokio::test]
async fn in_an_emergency_an_idle_user_that_somebody_has_is_taken_over() {
    let settings = settings("exit 12");
    let context = TargetContext { emergency: true, ..given(&settings) };
    let rotator = rotator(&settings, TEMPLATE);
    assert_eq!(rotator.observe(TargetEffect::Install, &context).await.unwrap(), Observed::Absent);
    assert!(matches!(
        rotator.observe(TargetEffect::Revoke, &context).await.unwrap(),
        Observed::Foreign { .. }
    ));
}

#[tokio::test]
async fn whether_the_old_credential_is_used_is_said_or_declared() {
    let look = async |script: &str, quiet: Option<&str>, hours: Option<i64>| {
        let mut settings = settings(script);
        if let Some(quiet) = quiet {
            settings["quiet"] = json!(quiet);
        }
        let since_promotion = hours.map(jiff::SignedDuration::from_hours);
        let context = TargetContext { since_promotion, ..given(&settings) };
        rotator(&settings, TEMPLATE).idleness(&context).await
    };
    let is_busy = |idleness: Result<Idleness, Fault>| matches!(idleness.unwrap(), Idleness::Busy { .. });
    assert!(!is_busy(look(r#"printf '{"in_use":false}'"#, Some("24h"), Some(1)).await));
    assert!(is_busy(look(r#"printf '{"in_use":true}'"#, Some("24h"), Some(48)).await));
    assert!(is_busy(look("exit 0", Some("24h"), Some(23)).await));
    assert!(is_busy(look("exit 0", Some("24h"), None).await));
    assert!(!is_busy(look("exit 0", Some("24h"), Some(24)).await));
    assert!(!is_busy(look("exit 11", None, None).await));
    assert!(matches!(told(look("exit 0", None, Some(48)).await), Fault::Invalid { .. }));
    assert!(matches!(told(look("exit 75", Some("24h"), Some(48)).await), Fault::Transient { .. }));
}

#[test]
fn settings_that_cannot_work_are_refused_with_what_to_write() {
    let base = settings("exit 0");
    let with = |key: &str, value: Value| {
        let mut settings = base.clone();
        settings[key] = value;
        settings
    };
    assert!(loaded(&base, TEMPLATE).is_ok());
    let one = json!({ "program": ["/x"], "target": "t", "user": "acd", "overlaps": true });
    assert!(loaded(&one, "{password}").is_ok());
    for (settings, template, word) in [
        (with("program", json!([])), TEMPLATE, "no program is named"),
        (with("program", json!(["/x --flag y"])), TEMPLATE, "no shell"),
        (with("environment", json!(["ROTA__DATABASE__URL"])), TEMPLATE, "not passed on"),
        (with("timeout", json!("2m")), TEMPLATE, "25s"),
        (with("target", json!(" ")), TEMPLATE, "no name"),
        (with("users", json!(["a", "a"])), TEMPLATE, "not two"),
        (with("user", json!("c")), TEMPLATE, "one more"),
        (with("values", json!("from-target")), TEMPLATE, "the name that the target gives it"),
        (with("admin", json!("nowhere:x")), TEMPLATE, "no store is called `nowhere`"),
        (base.clone(), "{password}", "would not read its name"),
        (base.clone(), "{username}", "no password"),
        (base.clone(), "{username}:{password}:{host}", "`{host}`"),
        (json!({ "program": ["/x"], "target": "t" }), "{password}", "accept_gap"),
        (
            json!({ "program": ["/x"], "target": "t", "values": "from-target" }),
            "{username}",
            "whole credential",
        ),
    ] {
        let said = loaded(&settings, template).expect_err("it cannot work");
        assert!(said.contains(word), "`{word}` is missing: {said}");
    }
}
