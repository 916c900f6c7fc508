//! Whatever is wrong is told before anything is changed, and no answer's text is told.

use std::sync::Arc;

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::rotation::Outcome;
use rota_engine::ports::{OrderKind, Proof, TargetContext, TargetEffect, Which};
use rota_engine::test_support::rotator_suite::Harness;
use rota_fakes::http::{Effect, Fault as Trouble};

use super::server::{ALL, Account, RESEND, TWILIO, fence};
use crate::support::value;

fn holds(fault: &Fault, words: &[&str]) {
    let message = fault.to_string();
    for word in words {
        assert!(message.contains(word), "`{word}` is missing: {message}");
    }
}

#[tokio::test]
async fn without_a_login_or_with_the_very_key_that_is_rotated_nothing_begins() {
    for entry in ALL {
        let account = Account::new(entry);
        let rotator = account.rotator_alone();
        let missing = TargetContext { admin: None, ..account.context() };
        holds(&account.told(rotator.preflight(&missing).await), &["main:admin", "nothing is stored"]);
        let own = value(&account.fake.parts(&account.first).into_values().last().unwrap());
        let own = TargetContext { admin: Some(own), ..account.context() };
        holds(&account.told(rotator.preflight(&own).await), &["main:admin", "make another one"]);
        let wrong = r#"{"username":"wrong","password":"wrong"}"#;
        let wrong = TargetContext { admin: Some(value(wrong)), ..account.context() };
        let fault = account.told(rotator.preflight(&wrong).await);
        assert!(matches!(fault, Fault::Denied { .. }), "{}: {fault}", entry.name);
        assert_eq!(account.fake.keys().len(), 1);
    }
}

#[tokio::test]
async fn a_login_of_one_part_where_two_are_needed_is_told_without_it() {
    let account = Account::new(&TWILIO);
    let context = TargetContext { admin: Some(value("hunter2hunter2")), ..account.context() };
    let fault = account.told(account.rotator_alone().preflight(&context).await);
    assert!(matches!(fault, Fault::Invalid { .. }) && !fault.to_string().contains("hunter2"), "{fault}");
    holds(&fault, &["`username` and `password`"]);
    assert_eq!(account.fake.script().seen(), []);
}

#[tokio::test]
async fn a_refusal_that_repeats_the_key_is_told_without_it() {
    for entry in ALL {
        let account = Account::new(entry);
        let (rotator, context) = (account.rotator_alone(), account.made().await);
        account.fake.remove(&account.first.id);
        let Proof::Refused { detail } = rotator.prove(Which::Old, &context).await.unwrap() else {
            panic!("{}: a key that is gone is accepted", entry.name)
        };
        assert!(!detail.contains(&account.first.secret) && detail.contains(&account.first.id), "{detail}");
        let most = account.fake.keys().len();
        account.fake.set_most(most);
        let fault = account.told(rotator.create(&context, fence()).await);
        assert!(!fault.passes_by_itself(), "{}: {fault}", entry.name);
        assert_eq!(account.fake.keys().len(), most);
    }
}

#[tokio::test]
async fn a_published_key_of_another_account_is_told_before_one_is_made() {
    let account = Account::new(&RESEND);
    account.fake.remove(&account.first.id);
    let fault = account.told(account.rotator_alone().preflight(&account.context()).await);
    holds(&fault, &[&account.first.id, "none of this account", "correct `admin`"]);
}

#[tokio::test]
async fn where_no_further_key_fits_the_page_is_named_on_which_a_person_ends_one() {
    let full = |file: String| file.replace("name_length = 50", "name_length = 50\nmax_keys = 2");
    let account = Account::with_file(&RESEND, full);
    account.fake.make("somebody-elses");
    let fault = account.told(account.rotator_alone().preflight(&account.context()).await);
    assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    holds(&fault, &["2 are the most", "https://resend.com/api-keys"]);
    // The provider says it only when it is asked.
    let quota = |file: String| {
        format!("{file}quota = [{{ status = 422, path = \"$.name\", equals = \"validation_error\" }}]\n")
    };
    let account = Account::with_file(&RESEND, quota);
    account.fake.set_most(1);
    let fault = account.told(account.rotator_alone().create(&account.context(), fence()).await);
    assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    holds(&fault, &["no further key fits", "https://resend.com/api-keys"]);
}

#[tokio::test]
async fn a_rotation_that_met_the_quota_is_held_with_nothing_half_done_and_goes_on_when_there_is_room() {
    let quota = |file: String| format!("{file}quota = [{{ status = 422 }}]\n");
    let account = Arc::new(Account::with_file(&RESEND, quota));
    account.fake.set_most(1);
    let harness = Harness::new(Arc::clone(&account) as _).await;
    harness.order(OrderKind::Rotate);
    harness.work_until(|harness| harness.held().is_some()).await;
    let reason = harness.held().unwrap();
    for word in ["no further key fits", "https://resend.com/api-keys"] {
        assert!(reason.contains(word), "`{word}` is missing: {reason}");
    }
    assert_eq!(account.fake.keys(), std::slice::from_ref(&account.first));
    account.fake.set_most(10);
    harness.order(OrderKind::Resume);
    assert_eq!(harness.finish().await, Outcome::Completed);
    let alive = account.fake.keys();
    assert!(alive.len() == 1 && alive[0].id != account.first.id, "{} keys", alive.len());
}

#[tokio::test]
async fn a_rotation_that_is_asked_to_slow_down_completes_without_a_second_key() {
    for entry in ALL {
        let account = Arc::new(Account::new(entry));
        let harness = Harness::new(Arc::clone(&account) as _).await;
        account.fake.rate_limit(entry.lists, 1, 17);
        account.fake.rate_limit("DELETE /", 1, 17);
        account.fake.rate_limit(entry.creates, 1, 17);
        assert_eq!(harness.rotate().await, Outcome::Completed, "{}", entry.name);
        assert_eq!(account.fake.keys().len(), 1, "{}", entry.name);
        assert_eq!(account.fake.script().pending(), 0, "{}", entry.name);
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_as_long_as_the_provider_says() {
    let account = Account::new(&RESEND);
    let (rotator, context) = (account.rotator_alone(), account.made().await);
    for (on, call) in
        [("GET /api-keys", 0), ("POST /api-keys", 1), ("DELETE /api-keys", 2), ("GET /domains", 3)]
    {
        account.fake.rate_limit(on, 1, 17);
        let fault = match call {
            0 => account.told(rotator.observe(TargetEffect::Revoke, &context).await),
            1 => account.told(rotator.create(&context, fence()).await),
            2 => account.told(rotator.apply(TargetEffect::Revoke, &context, fence()).await),
            _ => account.told(rotator.prove(Which::New, &context).await),
        };
        let Fault::RateLimited { retry_after, .. } = fault else { panic!("{on}: {fault}") };
        assert_eq!(retry_after, SignedDuration::from_secs(17), "{on}");
        assert_eq!(account.fake.script().pending(), 0, "{on}: it was asked again by itself");
    }
}

#[tokio::test]
async fn an_error_that_repeats_the_secret_is_told_without_it() {
    let account = Account::new(&RESEND);
    let (rotator, context) = (account.rotator_alone(), account.made().await);
    let new = account.fake.keys().pop().unwrap();
    for status in [400, 401, 403, 404, 409, 418, 422, 500, 503, 529] {
        let body = format!(
            "{{\"message\":\"{} {} is wrong\",\"name\":\"{}\"}}",
            new.secret,
            account.fake.admin(),
            new.secret
        );
        for on in ["GET /api-keys", "POST /api-keys", "DELETE /api-keys", "GET /domains"] {
            let effect = Effect::Answer { status, headers: Vec::new(), body: body.clone() };
            account.fake.script().add(Trouble::next(on, effect));
        }
        account.told(rotator.preflight(&context).await);
        account.told(rotator.create(&context, fence()).await);
        if status == 404 {
            // Gone is ended.
            rotator.apply(TargetEffect::Revoke, &context, fence()).await.unwrap();
        } else {
            account.told(rotator.apply(TargetEffect::Revoke, &context, fence()).await);
        }
        let fault = account.told(rotator.prove(Which::New, &context).await);
        assert!(matches!(fault, Fault::Transient { .. }), "{status}: neither yes nor no: {fault}");
        assert_eq!(account.fake.script().pending(), 0, "{status}");
    }
    assert_eq!(account.fake.keys().len(), 2);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_not_an_empty_one() {
    let account = Account::new(&RESEND);
    let (rotator, context) = (account.rotator_alone(), account.made().await);
    for body in [
        "",
        "<html>",
        "{}",
        r#"{"data":null,"has_more":false}"#,
        r#"{"data":[]}"#,
        r#"{"data":[],"has_more":"no"}"#,
        r#"{"data":[],"has_more":true}"#,
        r#"{"data":[{"name":"x"}],"has_more":false}"#,
        r#"{"data":[{"id":"a/b","name":"x"}],"has_more":false}"#,
    ] {
        let effect = Effect::Answer { status: 200, headers: Vec::new(), body: body.to_owned() };
        account.fake.script().add(Trouble::next("GET /api-keys", effect));
        let fault = account.told(rotator.observe(TargetEffect::Revoke, &context).await);
        assert!(matches!(fault, Fault::Transient { .. }), "{body}: {fault}");
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let account = Account::new(&RESEND);
    let context = account.context();
    let body = r#"{"data":[{"id":"same","name":"x"}],"has_more":true}"#.to_owned();
    let effect = Effect::Answer { status: 200, headers: Vec::new(), body };
    account.fake.script().add(Trouble::next("GET /api-keys", effect).times(1000));
    let fault = account.told(account.rotator_alone().observe(TargetEffect::Revoke, &context).await);
    assert!(matches!(fault, Fault::Transient { .. }), "{fault}");
    assert_eq!(account.fake.script().count("GET /api-keys"), 2, "the second page is the first again");
}

#[tokio::test]
async fn a_redirect_takes_the_login_nowhere() {
    let account = Account::new(&RESEND);
    let elsewhere = Account::new(&RESEND);
    let headers = vec![("location".to_owned(), format!("{}/api-keys", elsewhere.fake.url()))];
    let effect = Effect::Answer { status: 307, headers, body: String::new() };
    account.fake.script().add(Trouble::next("GET /api-keys", effect));
    let fault = account.told(account.rotator_alone().preflight(&account.context()).await);
    holds(&fault, &["redirects"]);
    assert_eq!(elsewhere.fake.script().seen(), []);
}

#[tokio::test]
async fn a_key_that_may_only_send_is_known_by_how_it_is_refused_the_rest() {
    let account = Account::new(&RESEND);
    let context = account.made().await;
    let rotator = account.rotator_alone();
    let made = account.fake.keys().pop().unwrap();
    assert_eq!(made.scope, "sending_access");
    assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
    for (status, body) in [
        (403, r#"{"statusCode":403,"message":"API key is invalid","name":"invalid_api_key"}"#),
        (401, r#"{"statusCode":401,"message":"API key is invalid","name":"validation_error"}"#),
        (400, r#"{"statusCode":400,"message":"API key is invalid","name":"validation_error"}"#),
    ] {
        let effect = Effect::Answer { status, headers: Vec::new(), body: body.to_owned() };
        account.fake.script().add(Trouble::next("GET /domains", effect));
        let proof = rotator.prove(Which::New, &context).await.unwrap();
        assert!(matches!(proof, Proof::Refused { .. }), "{status}: {proof:?}");
    }
}
