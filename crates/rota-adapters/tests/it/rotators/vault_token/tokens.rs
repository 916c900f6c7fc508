//! Each call by itself: what a token is, what its end needs, and what is told where something
//! is wrong.

use rota_adapters::rotators::vault_token::{KIND, VaultTokenRotator};
use rota_core::fault::Fault;
use rota_engine::ports::{Idleness, Observed, Proof, TargetContext, TargetEffect, Which};
use rota_engine::test_support::rotator_suite::RotatorUnderTest as _;
use rota_fakes::http::{Effect, Fault as Failure};
use serde_json::json;

use super::server::{RIGHTS, Server, bundle, daemon, fence, holds, part, told};

#[tokio::test]
async fn a_token_is_an_orphan_that_says_whose_it_is_and_lives_as_long_as_it_should() {
    let server = Server::by_role().await;
    let context = server.made().await;
    let told = server.look_up(context.new_identity.as_deref().unwrap()).await;
    assert_eq!(told["orphan"], json!(true));
    assert_eq!(
        told["meta"],
        json!({ "rota_secret": "SUBJECT", "rota_rotation": context.rotation.0.to_string() })
    );
    assert_eq!(told["display_name"], "token-rota-SUBJECT");
    assert_eq!((&told["period"], &told["renewable"]), (&json!(259_200), &json!(true)));
    assert_eq!(told["policies"], json!(["acd", "default"]));

    let mut server = Server::by_policies().await;
    server.settings =
        json!({ "policies": ["acd"], "ttl": "745h", "no_default_policy": true, "label": "acd/live" });
    let context = server.made().await;
    let told = server.look_up(context.new_identity.as_deref().unwrap()).await;
    assert_eq!((&told["policies"], &told["creation_ttl"]), (&json!(["acd"]), &json!(2_682_000)));
    assert_eq!(told["meta"]["rota_secret"], "acd/live");
}

#[tokio::test]
async fn a_token_is_proven_by_itself_and_the_old_one_ends_by_its_accessor() {
    let server = Server::by_role().await;
    let rotator = server.rotator_alone();
    rotator.preflight(&server.context()).await.unwrap();
    let context = server.made().await;
    for which in [Which::Old, Which::New] {
        assert_eq!(rotator.prove(which, &context).await.unwrap(), Proof::Accepted, "{which:?}");
    }
    assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);
    assert_eq!(rotator.observe(TargetEffect::Revoke, &context).await.unwrap(), Observed::Absent);
    for _ in 0..2 {
        rotator.apply(TargetEffect::Revoke, &context, fence()).await.unwrap();
        assert_eq!(rotator.observe(TargetEffect::Revoke, &context).await.unwrap(), Observed::Applied);
    }
    assert!(matches!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Refused { .. }));
    assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
    assert_eq!(server.alive().await, [context.new_identity.unwrap()]);
}

#[tokio::test]
async fn what_a_lost_answer_left_behind_is_found_by_its_rotation_and_ended() {
    let server = Server::by_role().await;
    let (rotator, context) = (server.rotator_alone(), server.context());
    assert_eq!(rotator.find_created(&context).await.unwrap(), None);
    assert_eq!(rotator.observe(TargetEffect::Remove, &context).await.unwrap(), Observed::Applied);
    server.fake.script().add(Failure::next("POST /v1/auth/token/create", Effect::CutAfter));
    assert!(told(rotator.create(&context, fence()).await).passes_by_itself());
    let lost = rotator.find_created(&context).await.unwrap().unwrap();
    assert_eq!(rotator.observe(TargetEffect::Remove, &context).await.unwrap(), Observed::Absent);
    let other = server.context();
    assert_eq!(rotator.find_created(&other).await.unwrap(), None, "another rotation's token was taken");
    rotator.apply(TargetEffect::Remove, &context, fence()).await.unwrap();
    assert_eq!(server.alive().await, [part(&server.first, "accessor")], "{lost} is left");
}

#[tokio::test]
async fn a_token_that_would_end_early_or_with_another_is_revoked_at_once() {
    let mut server = Server::by_role().await;
    let role = json!({ "allowed_policies": ["acd"], "orphan": false, "token_period": "72h" });
    server.fake.admin("POST", "auth/token/roles/acd", role).await.unwrap();
    let fault = told(server.rotator_alone().create(&server.context(), fence()).await);
    assert!(matches!(fault, Fault::Invalid { .. }), "{fault}");
    holds(&fault.to_string(), &["end with Rota's login", "vault write auth/token/roles/acd orphan=true"]);
    assert_eq!(server.alive().await.len(), 1);

    // Vault's own limit is 32 days.
    server.settings = json!({ "policies": ["acd"], "ttl": "2400h" });
    let fault = told(server.rotator_alone().create(&server.context(), fence()).await);
    holds(&fault.to_string(), &["live for 2764800 s", "8640000 s", "the mount's limits"]);
    assert_eq!(server.alive().await.len(), 1);
}

#[tokio::test]
async fn a_token_that_may_have_children_is_not_idle() {
    let server = Server::by_role().await;
    let maker = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    server.fake.policy("acd", maker).await.unwrap();
    let (rotator, context) = (server.rotator_alone(), server.made().await);
    // A child of somebody who may do more is not the old token's.
    server.fake.policy("more", maker).await.unwrap();
    let other = server.fake.token(json!({ "policies": ["more"] })).await.unwrap();
    server.child_of(&other, &["more"]).await;
    assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);

    let (token, child) = server.child_of(part(&server.first, "token"), &["acd"]).await;
    let Idleness::Busy { detail } = rotator.idleness(&context).await.unwrap() else {
        panic!("a token with a child is idle");
    };
    holds(&detail, &[&child, "1 tokens may have been made with the old one"]);
    assert!(!detail.contains(&token), "a token is told");
    let revoke = json!({ "accessor": child });
    server.fake.admin("POST", "auth/token/revoke-accessor", revoke).await.unwrap();
    assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);
}

#[tokio::test]
async fn a_token_that_ends_with_another_is_never_published() {
    let server = Server::by_role().await;
    let (token, accessor) = server.child_of(server.fake.root_token(), &["acd"]).await;
    let context = TargetContext { new: Some(bundle(&token, &accessor)), ..server.context() };
    let proof = server.rotator_alone().prove(Which::New, &context).await.unwrap();
    let Proof::Refused { detail } = proof else { panic!("{proof:?}") };
    holds(&detail, &[&accessor, "ends with the one that made it"]);
    let root = server.fake.token(json!({ "policies": ["root"] })).await.unwrap();
    let context = TargetContext { new: Some(bundle(&root, "x")), ..server.context() };
    assert!(matches!(
        server.rotator_alone().prove(Which::New, &context).await.unwrap(),
        Proof::Refused { .. }
    ));
}

#[tokio::test]
async fn a_token_of_the_same_name_stops_everything_but_an_emergency() {
    let server = Server::by_role().await;
    let (rotator, context) = (server.rotator_alone(), server.made().await);
    server.change_by_hand(&server.first).await;
    let fault = told(rotator.preflight(&context).await);
    holds(&fault.to_string(), &["`SUBJECT`", "vault token revoke -accessor"]);
    let observed = rotator.observe(TargetEffect::Revoke, &context).await.unwrap();
    assert!(matches!(observed, Observed::Foreign { .. }), "{observed:?}");
    let context = TargetContext { emergency: true, ..context };
    rotator.preflight(&context).await.unwrap();
    assert_eq!(rotator.observe(TargetEffect::Revoke, &context).await.unwrap(), Observed::Absent);
}

#[tokio::test]
async fn each_right_that_the_daemon_lacks_is_named() {
    for (lacking, settings) in [
        ("auth/token/create/acd", json!({ "role": "acd", "period": "72h" })),
        ("auth/token/create-orphan", json!({ "policies": ["acd"], "ttl": "768h" })),
        ("auth/token/accessors", json!({ "role": "acd", "period": "72h" })),
        ("auth/token/lookup-accessor", json!({ "role": "acd", "period": "72h" })),
        ("auth/token/revoke-accessor", json!({ "role": "acd", "period": "72h" })),
    ] {
        let mut server = Server::by_role().await;
        server.settings = settings;
        let rights: Vec<&str> = RIGHTS.into_iter().filter(|line| !line.contains(lacking)).collect();
        server.environment = daemon(&server.fake, &rights.join("\n")).await;
        let (rotator, context) = (server.rotator_alone(), server.context());
        let fault = match rotator.preflight(&context).await {
            Err(fault) => told::<()>(Err(fault)),
            Ok(()) => match rotator.create(&context, fence()).await {
                Err(fault) => told::<()>(Err(fault)),
                Ok(_) => told(rotator.apply(TargetEffect::Revoke, &context, fence()).await),
            },
        };
        assert!(matches!(fault, Fault::Denied { .. }), "{lacking}: {fault}");
        holds(&fault.to_string(), &[lacking]);
    }
}

#[tokio::test]
async fn a_published_token_that_is_refused_or_another_is_told() {
    let server = Server::by_role().await;
    let rotator = server.rotator_alone();
    let (token, accessor) = (part(&server.first, "token"), part(&server.first, "accessor"));
    let context = TargetContext { old: Some(bundle("hvs.gone", accessor)), ..server.context() };
    holds(&told(rotator.preflight(&context).await).to_string(), &["refuses the published token"]);
    let context = TargetContext { old: Some(bundle(token, "another")), ..server.context() };
    holds(&told(rotator.preflight(&context).await).to_string(), &["another accessor than another"]);
    let context = TargetContext { old: Some(bundle("two words", accessor)), ..server.context() };
    holds(&told(rotator.preflight(&context).await).to_string(), &["not one line of letters"]);
}

#[tokio::test]
async fn a_vault_that_is_sealed_or_out_of_order_is_asked_again() {
    let server = Server::by_role().await;
    let (rotator, context) = (server.rotator_alone(), server.made().await);
    server.fake.seal();
    for fault in [
        told(rotator.preflight(&context).await),
        told(rotator.create(&context, fence()).await),
        told(rotator.find_created(&context).await),
        told(rotator.observe(TargetEffect::Revoke, &context).await),
        told(rotator.apply(TargetEffect::Revoke, &context, fence()).await),
        told(rotator.prove(Which::Old, &context).await),
        told(rotator.idleness(&context).await),
    ] {
        assert!(fault.passes_by_itself(), "{fault}");
    }
    server.fake.unseal();
    assert_eq!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Accepted);
}

#[tokio::test]
async fn without_a_vault_in_its_configuration_the_daemon_says_so() {
    let server = Server::by_role().await;
    let policy = server.context().policy.secret.clone();
    let built = VaultTokenRotator::new(&policy, &crate::support::environment());
    holds(&told(built.map(|_| ())).to_string(), &["`SUBJECT`", "set `vault.address`"]);
    assert!((KIND.build)(&policy, &server.environment).is_ok());
}
