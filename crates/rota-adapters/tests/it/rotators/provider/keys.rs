//! What a provider shows after each effect; every change names an exact key.

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::id::RotationId;
use rota_engine::ports::{Idleness, Observed, Proof, TargetContext, TargetEffect, Which};
use rota_fakes::http::{Effect, Fault as Trouble};
use uuid::Uuid;

use super::server::{ALL, Account, LABEL, RESEND, SENTRY, TWILIO, fence};

#[tokio::test]
async fn a_key_is_made_proven_and_the_old_one_ended_by_its_id() {
    for entry in ALL {
        let account = Account::new(entry);
        let others = account.fake.make("somebody-elses");
        let (rotator, context) = (account.rotator_alone(), account.made().await);
        let new = account.fake.keys().pop().unwrap();
        assert_eq!(new.name, format!("{LABEL}-{}", context.rotation.0.simple()));
        assert_eq!(Some(&new.id), context.new_identity.as_ref());
        assert!(context.new.as_ref().unwrap().same_as(&account.parts(&new)), "{}", entry.name);
        assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
        assert_eq!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Accepted);
        assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);
        if rotator.traits().reversible {
            refuse_and_take_back(&account, &context).await;
        }
        for effect in [TargetEffect::Revoke, TargetEffect::Remove] {
            assert_eq!(rotator.observe(effect, &context).await.unwrap(), Observed::Absent, "{effect:?}");
            for time in 1..=2 {
                let applied = rotator.apply(effect, &context, fence()).await;
                applied.unwrap_or_else(|fault| panic!("{}: {effect:?}, time {time}: {fault}", entry.name));
            }
            assert_eq!(rotator.observe(effect, &context).await.unwrap(), Observed::Applied, "{effect:?}");
        }
        assert!(matches!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Refused { .. }));
        assert_eq!(account.fake.keys(), [others]);
    }
}

/// The old key is refused, accepted again, and refused.
async fn refuse_and_take_back(account: &Account, context: &TargetContext) {
    let rotator = account.rotator_alone();
    for (effect, active) in
        [(TargetEffect::Disable, false), (TargetEffect::Restore, true), (TargetEffect::Disable, false)]
    {
        assert_eq!(rotator.observe(effect, context).await.unwrap(), Observed::Absent, "{effect:?}");
        rotator.apply(effect, context, fence()).await.unwrap();
        assert_eq!(rotator.observe(effect, context).await.unwrap(), Observed::Applied, "{effect:?}");
        let proof = rotator.prove(Which::Old, context).await.unwrap();
        assert_eq!(proof == Proof::Accepted, active, "{effect:?}");
        let inactive: Vec<String> =
            account.fake.keys().into_iter().filter(|key| !key.active).map(|key| key.id).collect();
        assert_eq!(inactive == [account.first.id.clone()], !active, "{effect:?} touched another key");
    }
}

#[tokio::test]
async fn a_key_of_the_label_that_nobody_recorded_is_named_and_never_touched() {
    let account = Account::new(&RESEND);
    let (rotator, context) = (account.rotator_alone(), account.made().await);
    let theirs = account.fake.make(&format!("{LABEL}-{}", Uuid::now_v7().simple()));
    let fault = account.told(rotator.preflight(&account.context()).await);
    assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    assert!(fault.to_string().contains("https://resend.com/api-keys"), "{fault}");
    let observed = rotator.observe(TargetEffect::Revoke, &context).await.unwrap();
    let Observed::Foreign { detail } = observed else { panic!("{observed:?}") };
    assert!(detail.contains(&theirs.id) && detail.contains(&theirs.name), "{detail}");
    // In an emergency what leaked goes, whoever else is there.
    let urgent = TargetContext { emergency: true, ..context };
    assert_eq!(rotator.observe(TargetEffect::Revoke, &urgent).await.unwrap(), Observed::Absent);
}

#[tokio::test]
async fn names_that_only_look_alike_are_somebody_elses_business() {
    let account = Account::new(&RESEND);
    for name in [LABEL, "acd-backend", "acd-", "acd-00000000", "acd2-0191d3b4a5c67d8e9f00112233445566"] {
        account.fake.make(name);
    }
    account.rotator_alone().preflight(&account.context()).await.unwrap();
}

#[tokio::test]
async fn what_a_lost_answer_left_behind_is_found_by_name_and_ended_by_id() {
    for entry in ALL {
        let account = Account::new(entry);
        let (rotator, context) = (account.rotator_alone(), account.context());
        assert_eq!(rotator.find_created(&context).await.unwrap(), None);
        account.fake.script().add(Trouble::next(entry.creates, Effect::CutAfter));
        assert!(matches!(account.told(rotator.create(&context, fence()).await), Fault::Transient { .. }));
        let lost = account.fake.keys().pop().unwrap().id;
        assert_eq!(rotator.find_created(&context).await.unwrap(), Some(lost), "{}", entry.name);
        assert_eq!(rotator.observe(TargetEffect::Remove, &context).await.unwrap(), Observed::Absent);
        rotator.apply(TargetEffect::Remove, &context, fence()).await.unwrap();
        assert_eq!(rotator.observe(TargetEffect::Remove, &context).await.unwrap(), Observed::Applied);
        assert_eq!(account.fake.keys(), std::slice::from_ref(&account.first));
    }
}

#[tokio::test]
async fn a_key_that_is_older_than_the_rotation_whose_name_it_has_is_not_taken_for_ours() {
    let account = Account::new(&RESEND);
    let (rotator, base) = (account.rotator_alone(), account.context());
    let later = account.fake.script().clock().now() + SignedDuration::from_hours(1);
    let seconds = u64::try_from(later.as_second()).unwrap();
    let began = uuid::Timestamp::from_unix(uuid::ContextV7::new(), seconds, 0);
    let context = TargetContext { rotation: RotationId(Uuid::new_v7(began)), ..base };
    account.fake.make(&format!("{LABEL}-{}", context.rotation.0.simple()));
    let fault = account.told(rotator.find_created(&context).await);
    assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    let observed = rotator.observe(TargetEffect::Remove, &context).await.unwrap();
    assert!(matches!(observed, Observed::Foreign { .. }), "{observed:?}");
}

#[tokio::test]
async fn every_page_of_the_list_is_read() {
    for entry in ALL {
        let account = Account::new(entry);
        account.fake.set_longest_page(4);
        for number in 0..10 {
            account.fake.make(&format!("other-{number}"));
        }
        // The oldest key stands on the last of three pages.
        account.rotator_alone().preflight(&account.context()).await.unwrap();
        let pages = account.fake.script().seen().len();
        assert_eq!(pages, 3, "{}: {:?}", entry.name, account.fake.script().seen());
    }
}

#[tokio::test]
async fn a_next_page_at_another_host_gets_no_login() {
    for (entry, link) in [(&TWILIO, false), (&SENTRY, true)] {
        let (account, elsewhere) = (Account::new(entry), Account::new(entry));
        let next = format!("{}/next", elsewhere.fake.url());
        let (headers, body) = match link {
            true => (
                vec![("link".to_owned(), format!("<{next}>; rel=\"next\"; results=\"true\""))],
                "[]".to_owned(),
            ),
            false => (Vec::new(), format!("{{\"keys\":[],\"next_page_uri\":\"{next}\"}}")),
        };
        account.fake.script().add(Trouble::next(entry.lists, Effect::Answer { status: 200, headers, body }));
        let fault = account.told(account.rotator_alone().preflight(&account.context()).await);
        assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
        assert!(fault.to_string().contains("another host"), "{fault}");
        assert_eq!(elsewhere.fake.script().seen(), [], "{}", entry.name);
    }
}

#[tokio::test]
async fn a_provider_without_last_uses_says_so_by_its_file_and_one_with_them_is_asked() {
    let tells = |file: String| {
        file.replace("created = \"$.created_at\"", "created = \"$.created_at\"\nlast_used = \"$.created_at\"")
    };
    let account = Account::with_file(&RESEND, tells);
    account.fake.script().clock().advance(SignedDuration::from_mins(1));
    let (rotator, context) = (account.rotator_alone(), account.made().await);
    assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);
    let swapped = TargetContext {
        old: context.new.as_ref().map(rota_core::value::Bundle::duplicate),
        new: context.old.as_ref().map(rota_core::value::Bundle::duplicate),
        new_identity: None,
        ..context
    };
    assert!(matches!(rotator.idleness(&swapped).await.unwrap(), Idleness::Busy { .. }));
}
