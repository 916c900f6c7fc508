//! Whatever is wrong is told in words that say what to change, before anything is changed.

use rota_core::fault::Fault;
use rota_engine::ports::{Observed, Proof, TargetEffect, Which};
use rota_fakes::redis::RedisServer;
use serde_json::json;

use super::server::{Cache, FIRST, fence, follows, hash, say, takes, told};
use crate::support::value;

const NEXT: &str = "next-word-of-many";

/// What a rotation would be told before it begins.
async fn refusal(cache: &Cache) -> Fault {
    let fault = told(cache.rotator_alone().preflight(&cache.context(None)).await);
    assert_eq!(cache.hashes(0, "acd").await.len(), 1, "something was changed");
    fault
}

fn holds(fault: &Fault, words: &[&str]) {
    let message = fault.to_string();
    for word in words {
        assert!(message.contains(word), "`{word}` is missing: {message}");
    }
}

#[tokio::test]
async fn a_target_that_fits_is_rotated() {
    let cache = Cache::with_a_replica().await;
    cache.rotator_alone().preflight(&cache.context(None)).await.unwrap();
    let two = Cache::two_users().await;
    two.rotator_alone().preflight(&two.context(None)).await.unwrap();
    let alone = Cache::requirepass().await;
    alone.rotator_alone().preflight(&alone.context(None)).await.unwrap();
}

#[tokio::test]
async fn an_administrator_that_is_missing_wrong_or_the_user_itself_is_named() {
    let cache = Cache::one_user().await;
    let rotator = cache.rotator_alone();
    let mut context = cache.context(None);
    context.admin = None;
    holds(&told(rotator.preflight(&context).await), &["main:admin", "put the administrator's login there"]);

    context.admin = Some(value(r#"{"username":"rota","password":"wrong"}"#));
    let fault = told(rotator.preflight(&context).await);
    assert!(matches!(fault, Fault::Denied { .. }), "{fault}");
    holds(&fault, &["WRONGPASS", "`rota`", "correct the administrator's login"]);

    context.admin = Some(value("not a login"));
    holds(&told(rotator.preflight(&context).await), &["rediss://", "correct what is stored at `admin`"]);

    let itself = json!({ "username": "acd", "password": FIRST });
    context.admin = Some(value(&itself.to_string()));
    holds(&told(rotator.preflight(&context).await), &["`acd` cannot rotate itself", "user of its own"]);
}

#[tokio::test]
async fn each_right_that_the_administrator_lacks_is_named() {
    let cache = Cache::one_user().await;
    for (rule, named) in [
        ("-acl|setuser", "ACL SETUSER"),
        ("-acl|save", "ACL SAVE"),
        ("-client|kill", "CLIENT KILL"),
        ("-set", "SET rota:fence:"),
        ("-wait", "WAIT"),
    ] {
        let _: () = say(&cache.nodes[0], &format!("ACL SETUSER rota {rule}")).await;
        let fault = refusal(&cache).await;
        assert!(matches!(fault, Fault::Denied { .. }), "{fault}");
        holds(&fault, &[named, "`rota`"]);
        let _: () = say(&cache.nodes[0], &format!("ACL SETUSER rota +{}", &rule[1..])).await;
    }
    let _: () = say(&cache.nodes[0], "ACL SETUSER rota -acl|getuser").await;
    holds(&refusal(&cache).await, &["NOPERM", "lacks a right"]);
}

#[tokio::test]
async fn only_replicas_are_asked_again_until_one_takes_writes() {
    let primary = RedisServer::start().unwrap();
    let replica = RedisServer::replica_of(&primary).unwrap();
    follows(&replica).await;
    let cache = Cache::one_user_on(vec![replica]).await;
    let fault = refusal(&cache).await;
    assert!(fault.passes_by_itself(), "{fault}");
    holds(&fault, &["replica (read only)", "name the primary"]);

    // The failover ends.
    let _: () = say(&cache.nodes[0], "REPLICAOF NO ONE").await;
    cache.rotator_alone().preflight(&cache.context(None)).await.unwrap();
}

#[tokio::test]
async fn a_replica_that_is_not_among_the_nodes_is_noticed_at_every_gate() {
    let cache = Cache::one_user().await;
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    rotator.apply(TargetEffect::Install, &context, fence(1)).await.unwrap();
    assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);

    let replica = RedisServer::replica_of(&cache.nodes[0]).unwrap();
    follows(&replica).await;
    holds(&told(rotator.preflight(&context).await), &["1 replicas follow", "name all of them in `nodes`"]);
    let Proof::Refused { detail } = rotator.prove(Which::New, &context).await.unwrap() else {
        panic!("the new value is let through to consumers of a replica that refuses it");
    };
    assert!(detail.contains("name all of them"), "{detail}");
}

#[tokio::test]
async fn replicas_that_log_in_as_the_rotated_user_are_not_cut_off() {
    let mut cache = Cache::requirepass().await;
    let port = cache.nodes[0].port();
    let lines = format!(
        "replicaof 127.0.0.1 {port}\nmasterauth {FIRST}\nrequirepass {FIRST}\n\
        user witness on >witness ~* &* +@all\n"
    );
    let replica = RedisServer::without_acl_file(&lines).unwrap();
    follows(&replica).await;
    cache.nodes.push(replica);
    let nodes: Vec<String> = cache.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    cache.settings["nodes"] = json!(nodes);
    let fault = told(cache.rotator_alone().preflight(&cache.context(None)).await);
    holds(&fault, &["`default`", "masteruser"]);
}

#[tokio::test]
async fn with_one_node_down_nothing_is_changed_on_the_others() {
    let mut cache =
        Cache::one_user_on(vec![RedisServer::start().unwrap(), RedisServer::start().unwrap()]).await;
    cache.nodes[1].stop().unwrap();
    let fault = refusal(&cache).await;
    assert!(fault.passes_by_itself(), "{fault}");
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    let fault = told(rotator.apply(TargetEffect::Install, &context, fence(1)).await);
    holds(&fault, &["cannot be reached", &cache.nodes[1].port().to_string()]);
    assert!(fault.passes_by_itself(), "{fault}");
    assert_eq!(cache.hashes(0, "acd").await.len(), 1, "half of it was done");
    assert!(rotator.prove(Which::Old, &context).await.is_ok_and(|proof| proof == Proof::Accepted));
    assert!(rotator.prove(Which::New, &context).await.is_ok_and(|proof| proof != Proof::Accepted));

    cache.nodes[1].start_again().unwrap();
    rotator.apply(TargetEffect::Install, &context, fence(1)).await.unwrap();
    assert_eq!(rotator.observe(TargetEffect::Install, &context).await.unwrap(), Observed::Applied);
    for node in [0, 1] {
        assert!(
            takes(&cache.nodes[node], "acd", NEXT).await && takes(&cache.nodes[node], "acd", FIRST).await
        );
    }
}

#[tokio::test]
async fn a_user_that_cannot_be_rotated_is_told_with_the_command_that_mends_it() {
    let cache = Cache::one_user().await;
    for (rules, words) in [
        ("off", "`acd` is off; run `ACL SETUSER acd on`"),
        ("on nopass", "accepts any password"),
        ("resetpass >first-word-of-many >second-word", "1 passwords that are not this rotation's"),
        ("resetpass >second-word", "does not accept the published password"),
    ] {
        let _: () = say(&cache.nodes[0], &format!("ACL SETUSER acd {rules}")).await;
        holds(&told(cache.rotator_alone().preflight(&cache.context(None)).await), &[words]);
    }
    let _: () = say(&cache.nodes[0], "ACL DELUSER acd").await;
    holds(&told(cache.rotator_alone().preflight(&cache.context(None)).await), &["there is no user `acd`"]);
}

#[tokio::test]
async fn of_two_users_the_idle_one_must_be_idle_and_have_the_same_rights() {
    let cache = Cache::two_users().await;
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    let _: () = say(&cache.nodes[0], "ACL SETUSER acd_b on >theirs").await;
    holds(&told(rotator.preflight(&context).await), &["`acd_b` should be idle and is on"]);
    let held = super::server::session(cache.nodes[0].port(), "acd_b", "theirs").await.unwrap();
    let _: () = say(&cache.nodes[0], "ACL SETUSER acd_b off resetpass").await;
    holds(&told(rotator.preflight(&context).await), &["has 1 connections"]);
    let observed = rotator.observe(TargetEffect::Install, &context).await.unwrap();
    assert!(matches!(observed, Observed::Foreign { .. }), "{observed:?}");
    drop(held);
    let _: u32 = say(&cache.nodes[0], "CLIENT KILL USER acd_b").await;

    rotator.apply(TargetEffect::Install, &context, fence(1)).await.unwrap();
    assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
    let _: () = say(&cache.nodes[0], "ACL SETUSER acd_a resetkeys ~app:*").await;
    let Proof::Refused { detail } = rotator.prove(Which::New, &context).await.unwrap() else {
        panic!("a user with other rights is published");
    };
    assert!(detail.contains("`acd_b` has other keys than `acd_a`"), "{detail}");
}

#[tokio::test]
async fn odd_names_are_kept_where_the_file_can_hold_them() {
    let name = "o'acd\"ß";
    let user = format!("{name} on >{FIRST} ~* &* +@all");
    let mut cache = Cache::new(vec![RedisServer::start().unwrap()], json!({ "user": name }), &[&user]).await;
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    rotator.preflight(&context).await.unwrap();
    rotator.apply(TargetEffect::Install, &context, fence(1)).await.unwrap();
    rotator.apply(TargetEffect::Disable, &context, fence(2)).await.unwrap();
    cache.nodes[0].restart().unwrap();
    assert_eq!(rotator.prove(Which::New, &context).await.unwrap(), Proof::Accepted);
    assert!(matches!(rotator.prove(Which::Old, &context).await.unwrap(), Proof::Refused { .. }));
}

#[tokio::test]
async fn users_that_a_restart_would_lose_or_garble_are_not_rotated() {
    // redis.conf is read with quotes and written without: the node would not start again.
    let admin = format!("user rota on >{} ~* &* +@all", super::server::ADMIN);
    let lines = format!("{admin}\nuser witness on >witness ~* &* +@all\n");
    let node = RedisServer::without_acl_file(&lines).unwrap();
    let _: () = say(&node, &format!("ACL SETUSER acd'x on >{FIRST} ~* &* +@all")).await;
    let settings = json!({
        "url": format!("redis://127.0.0.1:{}", node.port()), "admin": "main:admin", "user": "acd'x",
    });
    let cache = Cache { nodes: vec![node], settings, first_user: "acd'x".to_owned() };
    let fault = told(cache.rotator_alone().preflight(&cache.context(None)).await);
    holds(&fault, &["could not be started again", "`aclfile`"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_leaves_the_effect_undone() {
    let cache = Cache::one_user().await;
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    let _: () = say(&cache.nodes[0], "PING").await;
    cache.nodes[0].lock_folder(true).unwrap();
    for fault in [
        told(rotator.apply(TargetEffect::Install, &context, fence(1)).await),
        // It stands in memory, and would be gone after a restart: not applied.
        told(rotator.observe(TargetEffect::Install, &context).await),
    ] {
        assert!(fault.passes_by_itself(), "{fault}");
        holds(&fault, &["cannot write its `aclfile`"]);
    }
    cache.nodes[0].lock_folder(false).unwrap();
    assert_eq!(rotator.observe(TargetEffect::Install, &context).await.unwrap(), Observed::Applied);
    assert!(cache.nodes[0].saved_users().unwrap().contains(&hash(NEXT)));
}

#[tokio::test]
async fn a_cluster_is_refused() {
    let cache = Cache::one_user_on(vec![RedisServer::with("cluster-enabled yes").unwrap()]).await;
    holds(&refusal(&cache).await, &["Redis Cluster", "not supported"]);
}
