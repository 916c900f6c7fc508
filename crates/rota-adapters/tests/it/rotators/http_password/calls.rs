//! Each effect by itself: what is observed, what is sent, and what is never told.

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_engine::ports::{Idleness, Observed, Proof, TargetContext, TargetEffect, Which};
use rota_fakes::http::{Effect, Fault as Failure};
use serde_json::json;

use super::grafana::{by_an_administrator, by_itself, guarded};
use super::registry;
use super::subject::{FIRST, NEXT, Service as _, USER, fence, holds, told};

#[tokio::test]
async fn a_password_goes_there_and_back_and_repetitions_change_nothing() {
    for account in [by_an_administrator(), by_itself()] {
        let (rotator, context) = (account.rotator_alone(), account.context());
        rotator.preflight(&context).await.unwrap();
        for (effect, wanted) in [(TargetEffect::Install, NEXT), (TargetEffect::Remove, FIRST)] {
            assert_eq!(rotator.observe(effect, &context).await.unwrap(), Observed::Absent, "{effect:?}");
            for _ in 0..2 {
                rotator.apply(effect, &context, fence()).await.unwrap();
                assert!(account.service.0.is_password(USER, wanted), "{effect:?}");
            }
            assert_eq!(rotator.observe(effect, &context).await.unwrap(), Observed::Applied, "{effect:?}");
        }
        rotator.apply(TargetEffect::Install, &context, fence()).await.unwrap();
        assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
        assert!(matches!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Refused { .. }));
        assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);
        assert_eq!(rotator.observe(TargetEffect::Revoke, &context).await.unwrap(), Observed::Applied);
        assert!(account.service.0.is_password("Anna", "her-own-word"), "another user's password was set");
    }
}

#[tokio::test]
async fn the_documented_calls_are_made_and_no_password_stands_in_an_address() {
    let account = by_an_administrator();
    let rotator = account.rotator_alone();
    rotator.apply(TargetEffect::Install, &account.context(), fence()).await.unwrap();
    let calls = |fake: &rota_fakes::grafana::GrafanaFake| {
        fake.script().seen().into_iter().map(|seen| seen.call).collect::<Vec<_>>()
    };
    assert_eq!(
        calls(&account.service.0),
        ["GET /api/users/lookup?loginOrEmail=ci", "PUT /api/admin/users/3/password"]
    );
    let own = by_itself();
    own.rotator_alone().apply(TargetEffect::Install, &own.context(), fence()).await.unwrap();
    assert_eq!(calls(&own.service.0), ["GET /api/user", "PUT /api/user/password"]);
}

#[tokio::test]
async fn a_rotation_logs_in_wrongly_too_seldom_to_be_blocked() {
    let account = guarded();
    let (rotator, context) = (account.rotator_alone(), account.context());
    rotator.preflight(&context).await.unwrap();
    rotator.observe(TargetEffect::Install, &context).await.unwrap();
    rotator.apply(TargetEffect::Install, &context, fence()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
    }
    assert_eq!(rotator.observe(TargetEffect::Revoke, &context).await.unwrap(), Observed::Applied);
    assert!(matches!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Refused { .. }));
    assert_eq!(account.service.0.wrong_logins(USER), 2, "a wrong one on purpose, and the old one");
}

#[tokio::test]
async fn a_user_that_consumers_have_blocked_is_asked_again_when_the_block_is_over() {
    let account = guarded();
    let (rotator, context) = (account.rotator_alone(), account.context());
    rotator.apply(TargetEffect::Install, &context, fence()).await.unwrap();
    for _ in 0..5 {
        assert!(!account.service.lets_in(USER, FIRST).await);
    }
    let later = |fault: Fault| match &fault {
        Fault::RateLimited { retry_after, message } => {
            assert_eq!(*retry_after, SignedDuration::from_mins(5));
            holds(message, &["after too many wrong ones", "see who logs in with an old password"]);
        }
        other => panic!("{other:?}"),
    };
    later(told(rotator.prove(Which::New, &context).await));
    later(told(rotator.observe(TargetEffect::Install, &context).await));
    later(told(rotator.observe(TargetEffect::Remove, &context).await));
    // Once consumers have the new one, a person looks.
    let observed = rotator.observe(TargetEffect::Revoke, &context).await.unwrap();
    assert!(matches!(observed, Observed::Foreign { .. }), "{observed:?}");
    let promoted = TargetContext { since_promotion: Some(SignedDuration::ZERO), ..account.context() };
    assert!(matches!(rotator.prove(Which::New, &promoted).await.unwrap(), Proof::Refused { .. }));
    account.service.0.script().clock().advance(SignedDuration::from_mins(5));
    assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
}

#[tokio::test]
async fn neither_password_is_a_person_s_business_and_an_emergency_takes_it_over() {
    let account = registry::account().await;
    account.service.set_by_hand(USER, "set-by-somebody");
    let (rotator, context) = (account.rotator_alone(), account.context());
    for effect in [TargetEffect::Install, TargetEffect::Remove, TargetEffect::Revoke] {
        let observed = rotator.observe(effect, &context).await.unwrap();
        let Observed::Foreign { detail } = observed else { panic!("{effect:?}: {observed:?}") };
        holds(&detail, &["neither the old nor the new password of `ci`"]);
    }
    let context = TargetContext { emergency: true, ..context };
    assert_eq!(rotator.observe(TargetEffect::Install, &context).await.unwrap(), Observed::Absent);
    rotator.apply(TargetEffect::Install, &context, fence()).await.unwrap();
    assert!(account.service.lets_in(USER, NEXT).await);
}

#[tokio::test]
async fn the_old_password_that_came_back_is_told() {
    let account = by_an_administrator();
    let observed = account.rotator_alone().observe(TargetEffect::Revoke, &account.context()).await.unwrap();
    let Observed::Foreign { detail } = observed else { panic!("{observed:?}") };
    holds(&detail, &["`ci` has its old password again"]);
}

#[tokio::test]
async fn each_status_says_what_to_do_next_and_no_body_is_told() {
    let account = by_an_administrator();
    let (rotator, context) = (account.rotator_alone(), account.context());
    for (status, wanted) in [
        (500, "transient"),
        (502, "transient"),
        (503, "transient"),
        (429, "limited"),
        (401, "denied"),
        (403, "denied"),
        (400, "invalid"),
        (404, "invalid"),
        (412, "conflict"),
        (302, "invalid"),
    ] {
        // What it was sent, as some services answer.
        let body = json!({ "message": format!("cannot take {NEXT} for {FIRST} by admin-word") }).to_string();
        let effect = Effect::Answer { status, headers: Vec::new(), body };
        account.service.0.script().add(Failure::next("PUT ", effect));
        let fault = told(rotator.apply(TargetEffect::Install, &context, fence()).await);
        let kind = match &fault {
            Fault::Transient { .. } => "transient",
            Fault::RateLimited { .. } => "limited",
            Fault::Denied { .. } => "denied",
            Fault::Conflict { .. } => "conflict",
            Fault::Invalid { .. } => "invalid",
        };
        assert_eq!(kind, wanted, "{fault}");
        holds(&fault.to_string(), &[&status.to_string(), "when setting the password", "http://127.0.0.1"]);
        assert!(account.service.0.is_password(USER, FIRST));
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_found_out_by_logging_in() {
    for account in [by_an_administrator(), by_itself()] {
        let (rotator, context) = (account.rotator_alone(), account.context());
        account.service.0.script().add(Failure::next("PUT ", Effect::CutAfter));
        let fault = told(rotator.apply(TargetEffect::Install, &context, fence()).await);
        assert!(fault.passes_by_itself(), "{fault}");
        assert_eq!(rotator.observe(TargetEffect::Install, &context).await.unwrap(), Observed::Applied);
        account.service.0.script().add(Failure::next("PUT ", Effect::CutBefore));
        told(rotator.apply(TargetEffect::Remove, &context, fence()).await);
        assert_eq!(rotator.observe(TargetEffect::Remove, &context).await.unwrap(), Observed::Absent);
    }
}

#[tokio::test]
async fn a_login_that_cannot_be_read_is_unknown() {
    let account = by_an_administrator();
    let (rotator, context) = (account.rotator_alone(), account.context());
    for (effect, passes) in [
        (Effect::CutBefore, true),
        (Effect::Answer { status: 503, headers: Vec::new(), body: NEXT.to_owned() }, true),
        (Effect::Answer { status: 403, headers: Vec::new(), body: NEXT.to_owned() }, false),
        (Effect::Answer { status: 404, headers: Vec::new(), body: String::new() }, false),
    ] {
        for which in [Which::Old, Which::New] {
            account.service.0.script().add(Failure::next("GET /api/user", effect.clone()));
            let fault = told(rotator.prove(which, &context).await);
            assert_eq!(fault.passes_by_itself(), passes, "{fault}");
        }
    }
}
