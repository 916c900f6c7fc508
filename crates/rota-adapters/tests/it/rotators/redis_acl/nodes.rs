//! What stands on the nodes after each effect, restarts and late calls included.

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_engine::ports::{Fence, Idleness, Observed, Proof, TargetEffect, Which};
use rota_fakes::redis::RedisServer;
use rota_fakes::tls::TestCa;
use serde_json::json;

use super::server::{Cache, FIRST, fence, hash, say, session, takes, told, words};

const NEXT: &str = "next-word-of-many";

#[tokio::test]
async fn every_effect_survives_a_restart_of_every_node() {
    for mut cache in [Cache::with_a_replica().await, Cache::two_users().await, Cache::requirepass().await] {
        let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
        let mut number = 0;
        for (effect, old, new) in [
            (TargetEffect::Install, true, true),
            (TargetEffect::Disable, false, true),
            (TargetEffect::Restore, true, true),
            (TargetEffect::Remove, true, false),
            (TargetEffect::Install, true, true),
            (TargetEffect::Disable, false, true),
            (TargetEffect::Revoke, false, true),
        ] {
            number += 1;
            rotator.apply(effect, &context, fence(number)).await.unwrap();
            for node in &mut cache.nodes {
                node.restart().unwrap();
            }
            for replica in cache.nodes.iter().skip(1) {
                super::server::follows(replica).await;
            }
            let observed = rotator.observe(effect, &context).await.unwrap();
            assert_eq!(observed, Observed::Applied, "{effect:?} in {}", cache.settings);
            for (which, accepted) in [(Which::Old, old), (Which::New, new)] {
                let proof = rotator.prove(which, &context).await.unwrap();
                assert_eq!(proof == Proof::Accepted, accepted, "{which:?} after {effect:?}");
            }
        }
    }
}

#[tokio::test]
async fn connections_of_the_old_password_are_waited_for_and_closed_by_id() {
    let cache = Cache::one_user().await;
    let (rotator, mut context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    let mut held = session(cache.nodes[0].port(), "acd", FIRST).await.unwrap();
    rotator.apply(TargetEffect::Install, &context, fence(1)).await.unwrap();

    // Published a moment ago: whoever is connected was so before.
    context.since_promotion = Some(SignedDuration::ZERO);
    let busy = rotator.idleness(&context).await.unwrap();
    assert_eq!(busy, Idleness::Busy { detail: "`acd` has 1 connections of before".to_owned() });
    // Published an hour ago: it was opened since, with the new one.
    context.since_promotion = Some(SignedDuration::from_hours(1));
    assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);

    rotator.apply(TargetEffect::Disable, &context, fence(2)).await.unwrap();
    rotator.apply(TargetEffect::Revoke, &context, fence(3)).await.unwrap();
    words("GET x").exec_async(&mut held).await.unwrap();
    context.since_promotion = Some(SignedDuration::ZERO);
    assert_eq!(rotator.observe(TargetEffect::Revoke, &context).await.unwrap(), Observed::Absent);
    rotator.apply(TargetEffect::Revoke, &context, fence(4)).await.unwrap();
    assert!(words("GET x").exec_async(&mut held).await.is_err(), "the old connection goes on");
    assert_eq!(rotator.observe(TargetEffect::Revoke, &context).await.unwrap(), Observed::Applied);
}

#[tokio::test]
async fn the_user_whose_turn_is_over_keeps_its_connections_until_it_is_revoked() {
    let cache = Cache::two_users().await;
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    let mut held = session(cache.nodes[0].port(), "acd_a", FIRST).await.unwrap();
    rotator.apply(TargetEffect::Install, &context, fence(1)).await.unwrap();
    let mut new = session(cache.nodes[0].port(), "acd_b", NEXT).await.unwrap();
    assert!(matches!(rotator.idleness(&context).await.unwrap(), Idleness::Busy { .. }));
    rotator.apply(TargetEffect::Disable, &context, fence(2)).await.unwrap();
    assert!(!takes(&cache.nodes[0], "acd_a", FIRST).await);
    words("GET x").exec_async(&mut held).await.unwrap();
    rotator.apply(TargetEffect::Revoke, &context, fence(3)).await.unwrap();
    assert!(words("GET x").exec_async(&mut held).await.is_err(), "the old connection goes on");
    words("GET x").exec_async(&mut new).await.unwrap();
    assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);
}

#[tokio::test]
async fn in_an_emergency_connections_end_with_the_password() {
    let cache = Cache::one_user().await;
    let (rotator, mut context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    context.emergency = true;
    let mut held = session(cache.nodes[0].port(), "acd", FIRST).await.unwrap();
    rotator.apply(TargetEffect::Install, &context, fence(1)).await.unwrap();
    words("GET x").exec_async(&mut held).await.unwrap();
    rotator.apply(TargetEffect::Disable, &context, fence(2)).await.unwrap();
    assert!(words("GET x").exec_async(&mut held).await.is_err(), "whoever has it goes on");
}

#[tokio::test]
async fn a_late_effect_changes_no_node() {
    let cache = Cache::with_a_replica().await;
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    rotator.apply(TargetEffect::Install, &context, fence(2)).await.unwrap();
    // The same again passes; an earlier one and another of the same number do not.
    rotator.apply(TargetEffect::Install, &context, fence(2)).await.unwrap();
    let older = Fence { epoch: rota_core::id::Epoch(0), ..fence(9) };
    for (effect, late) in
        [(TargetEffect::Remove, fence(1)), (TargetEffect::Remove, fence(2)), (TargetEffect::Remove, older)]
    {
        let fault = told(rotator.apply(effect, &context, late).await);
        assert!(matches!(fault, Fault::Conflict { .. }), "{fault}");
    }
    for node in [0, 1] {
        assert_eq!(cache.hashes(node, "acd").await, [hash(FIRST), hash(NEXT)].into());
    }
}

#[tokio::test]
async fn somebody_elses_password_beside_ours_stays_and_holds() {
    let cache = Cache::one_user().await;
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    rotator.apply(TargetEffect::Install, &context, fence(1)).await.unwrap();
    let _: () = say(&cache.nodes[0], "ACL SETUSER acd >theirs").await;
    let observed = rotator.observe(TargetEffect::Disable, &context).await.unwrap();
    let Observed::Foreign { detail } = observed else { panic!("{observed:?}") };
    assert!(detail.contains("1 passwords that are not this rotation's"), "{detail}");
    rotator.apply(TargetEffect::Disable, &context, fence(2)).await.unwrap();
    assert_eq!(cache.hashes(0, "acd").await, [hash(NEXT), hash("theirs")].into());
}

#[tokio::test]
async fn a_private_authority_is_verified_in_full() {
    let authority = TestCa::new().unwrap();
    let node = RedisServer::with_tls(&authority.issue(&["localhost"]).unwrap()).unwrap();
    let url = |host: &str| format!("rediss://{host}:{}", node.port());
    let settings = |host: &str, ca: Option<&str>| {
        let mut settings = json!({ "url": url(host), "admin": "main:admin", "user": "acd" });
        if let Some(ca) = ca {
            settings["ca"] = json!(ca);
        }
        settings
    };
    let stranger = TestCa::new().unwrap();
    let trusted = settings("localhost", Some(authority.pem()));
    let untrusted = [
        settings("localhost", None),
        settings("localhost", Some(stranger.pem())),
        settings("127.0.0.1", Some(authority.pem())),
    ];
    let mut context = Cache { settings: trusted.clone(), first_user: "acd".to_owned(), nodes: vec![node] };
    let asked = context.context(None);
    for settings in untrusted {
        let fault = told(context.rotator_with(&settings).preflight(&asked).await);
        assert!(fault.to_string().contains("certificate was not accepted"), "{fault}");
    }
    // The certificate is accepted, and so the login is judged: nobody made the users yet.
    context.settings = trusted;
    let fault = told(context.rotator_alone().preflight(&asked).await);
    assert!(fault.to_string().contains("WRONGPASS"), "{fault}");
    let default = json!({ "username": "default", "password": context.nodes[0].password() }).to_string();
    let as_default = rota_engine::ports::TargetContext {
        admin: Some(crate::support::value(&default)),
        ..context.context(None)
    };
    let fault = told(context.rotator_alone().preflight(&as_default).await);
    assert!(fault.to_string().contains("there is no user `acd`"), "{fault}");
}
