//! What IAM shows after each effect, and whatever is wrong told before anything is changed.

use jiff::SignedDuration;
use rota_adapters::checks::iam_last_used;
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, Incarnation};
use rota_core::policy::model::CheckPolicy;
use rota_engine::ports::{
    CheckContext, Fence, Idleness, Observed, Proof, TargetContext, TargetEffect, Verdict, Which,
};
use serde_json::json;

use super::server::{User, told};

fn fence() -> Fence {
    Fence { incarnation: Incarnation(1), epoch: Epoch(1), effect: EffectNo(1) }
}

fn holds(fault: &Fault, words: &[&str]) {
    let message = fault.to_string();
    for word in words {
        assert!(message.contains(word), "`{word}` is missing: {message}");
    }
}

/// A rotation whose key was made and staged.
async fn made(user: &User) -> TargetContext {
    let context = user.context();
    let rotator = user.rotator_alone();
    rotator.preflight(&context).await.unwrap();
    let created = rotator.create(&context, fence()).await.unwrap();
    TargetContext { new_identity: Some(created.identity), new: Some(created.parts), ..context }
}

#[tokio::test]
async fn a_key_is_made_proven_and_the_old_one_inactive_before_it_is_deleted() {
    let user = User::new().await;
    let (rotator, context) = (user.rotator_alone(), made(&user).await);
    let (old, new) = (user.first.0.clone(), context.new_identity.clone().unwrap());
    assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
    assert_eq!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Accepted);
    for (effect, state) in [
        (TargetEffect::Disable, Some(false)),
        (TargetEffect::Restore, Some(true)),
        (TargetEffect::Disable, Some(false)),
        (TargetEffect::Revoke, None),
    ] {
        assert_eq!(rotator.observe(effect, &context).await.unwrap(), Observed::Absent, "{effect:?}");
        rotator.apply(effect, &context, fence()).await.unwrap();
        rotator.apply(effect, &context, fence()).await.unwrap_or_else(|fault| panic!("{effect:?}: {fault}"));
        assert_eq!(rotator.observe(effect, &context).await.unwrap(), Observed::Applied, "{effect:?}");
        let keys = user.keys().await;
        assert_eq!(keys.iter().find(|(id, _)| *id == old).map(|(_, active)| *active), state, "{effect:?}");
        assert!(keys.contains(&(new.clone(), true)), "{effect:?} touched the new key");
    }
    assert!(matches!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Refused { .. }));
}

#[tokio::test]
async fn a_second_key_of_somebody_else_is_named_and_never_touched() {
    let user = User::new().await;
    let rotator = user.rotator_alone();
    let (theirs, _) = user.make().await;
    for fault in [
        told(&user, rotator.preflight(&user.context()).await),
        told(&user, rotator.create(&user.context(), fence()).await),
    ] {
        assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
        holds(&fault, &[&theirs, &user.name, "aws iam delete-access-key", "not Rota's"]);
    }
    assert_eq!(user.keys().await.len(), 2);
}

#[tokio::test]
async fn a_key_that_came_meanwhile_stops_what_ends_keys() {
    let user = User::new().await;
    let (rotator, context) = (user.rotator_alone(), made(&user).await);
    user.delete(&user.first.0).await;
    let (theirs, _) = user.make().await;
    for effect in [TargetEffect::Disable, TargetEffect::Revoke] {
        let observed = rotator.observe(effect, &context).await.unwrap();
        let Observed::Foreign { detail } = observed else { panic!("{effect:?}: {observed:?}") };
        assert!(detail.contains(&theirs), "{detail}");
    }
}

#[tokio::test]
async fn what_a_lost_answer_left_behind_is_found_by_difference_and_ended_by_id() {
    let user = User::new().await;
    let (rotator, context) = (user.rotator_alone(), user.context());
    assert_eq!(rotator.find_created(&context).await.unwrap(), None);
    assert_eq!(rotator.observe(TargetEffect::Remove, &context).await.unwrap(), Observed::Applied);
    let lost = rotator.create(&context, fence()).await.unwrap().identity;
    assert_eq!(rotator.find_created(&context).await.unwrap(), Some(lost.clone()));
    // A rollback that knows no id finds it as well.
    assert_eq!(rotator.observe(TargetEffect::Remove, &context).await.unwrap(), Observed::Absent);
    let named = TargetContext { new_identity: Some(lost), ..user.context() };
    rotator.apply(TargetEffect::Remove, &named, fence()).await.unwrap();
    assert_eq!(user.keys().await, [(user.first.0.clone(), true)]);
    assert_eq!(rotator.find_created(&context).await.unwrap(), None);
}

#[tokio::test]
async fn a_key_that_may_be_somebody_elses_is_left_to_a_person() {
    let mut user = User::new().await;
    let context = user.context();
    let (id, secret) = user.make().await;

    user.settings["exclusive"] = json!(false);
    holds(&told(&user, user.rotator_alone().find_created(&context).await), &[&id, "`exclusive = true`"]);
    user.settings["exclusive"] = json!(true);
    assert_eq!(user.rotator_alone().find_created(&context).await.unwrap(), Some(id.clone()));

    assert!(user.call(&id, &secret).await);
    holds(&told(&user, user.rotator_alone().find_created(&context).await), &[&id, "it was used"]);
    let observed = user.rotator_alone().observe(TargetEffect::Remove, &context).await.unwrap();
    assert!(matches!(observed, Observed::Foreign { .. }), "{observed:?}");
    assert_eq!(user.keys().await.len(), 2);
}

#[tokio::test]
async fn a_published_key_that_is_not_the_users_or_inactive_is_told() {
    let user = User::new().await;
    let rotator = user.rotator_alone();
    let mut context = user.context();
    context.old = Some(User::parts(("AKIAIOSFODNN7EXAMPLE", "x")));
    user.delete(&user.first.0).await;
    holds(&told(&user, rotator.preflight(&context).await), &["AKIAIOSFODNN7EXAMPLE", "is not a key of"]);
    let (id, secret) = user.make().await;
    let call = user.client.update_access_key().user_name(&user.name).access_key_id(&id);
    call.status(aws_sdk_iam::types::StatusType::Inactive).send().await.unwrap();
    context.old = Some(User::parts((&id, &secret)));
    holds(&told(&user, rotator.preflight(&context).await), &[&id, "is inactive"]);
}

#[tokio::test]
async fn a_user_that_is_not_there_is_told() {
    let mut user = User::new().await;
    user.settings["user"] = json!("nobody");
    holds(&told(&user, user.rotator_alone().preflight(&user.context()).await), &["`nobody`", "NoSuchEntity"]);
}

#[tokio::test]
async fn the_last_uses_that_iam_shows_are_the_evidence() {
    let mut user = User::new().await;
    let context = made(&user).await;
    assert_eq!(user.rotator_alone().idleness(&context).await.unwrap(), Idleness::Idle);
    assert!(user.call(&user.first.0, &user.first.1).await);
    assert_eq!(user.rotator_alone().idleness(&context).await.unwrap(), Idleness::Idle);
    user.settings["quiet"] = json!("2h");
    let Idleness::Busy { detail } = user.rotator_alone().idleness(&context).await.unwrap() else {
        panic!("a key that was used a moment ago is idle");
    };
    assert!(detail.contains(&user.first.0), "{detail}");
}

#[tokio::test]
async fn a_check_looks_at_the_use_of_the_newest_key() {
    let user = User::new().await;
    let look = async |within: &str| {
        let settings = json!({ "user": user.name, "within": within });
        let policy = CheckPolicy { name: "check".to_owned(), kind: iam_last_used::NAME.to_owned(), settings };
        let check = (iam_last_used::KIND.build)(&policy, &user.environment).unwrap();
        // Whatever a test does was a while ago by then.
        let now = user.began + SignedDuration::from_hours(1);
        check.observe(&CheckContext { now, baseline: None, value: None }).await.unwrap()
    };
    assert_eq!(look("2h").await.verdict, Verdict::Unknown);
    assert!(user.call(&user.first.0, &user.first.1).await);
    assert_eq!(look("2h").await.verdict, Verdict::Healthy);
    assert_eq!(look("10m").await.verdict, Verdict::Unhealthy);
}
