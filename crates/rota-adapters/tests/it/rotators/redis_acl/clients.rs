//! The check that counts connections by user.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rota_adapters::checks::redis_clients;
use rota_core::fault::Fault;
use rota_core::policy::kinds::KindContext;
use rota_core::policy::model::{CheckPolicy, Environment};
use rota_engine::ports::{CheckContext, Reading, Verdict};
use rota_fakes::redis::RedisServer;
use serde_json::{Value, json};

use super::server::{ADMIN, Cache, FIRST, say, session};
use crate::support::environment_with;

const LOGIN: &str = r#"{"username":"rota","password":"admin-word-of-many"}"#;
const WRONG: &str = r#"{"username":"rota","password":"wrong"}"#;

async fn look(cache: &Cache, more: Value, login: &'static str) -> Result<Reading, Fault> {
    let mut settings = json!({
        "url": cache.settings["url"], "nodes": cache.settings["nodes"], "admin": "main:admin", "user": "acd",
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let policy = CheckPolicy { name: "check".to_owned(), kind: redis_clients::NAME.to_owned(), settings };
    let environment = environment_with(&[("main:admin", login)]);
    let check = (redis_clients::KIND.build)(&policy, &environment)?;
    check.observe(&CheckContext { now: Timestamp::UNIX_EPOCH, baseline: Some(2.0), value: None }).await
}

#[tokio::test]
async fn connections_of_a_user_are_added_up_over_all_nodes() {
    assert!(LOGIN.contains(ADMIN));
    let nodes = vec![RedisServer::start().unwrap(), RedisServer::start().unwrap()];
    let mut cache = Cache::one_user_on(nodes).await;
    let none = look(&cache, json!({ "max": 0 }), LOGIN).await.unwrap();
    assert_eq!((none.verdict, none.value), (Verdict::Healthy, Some(0.0)));

    let first = session(cache.nodes[0].port(), "acd", FIRST).await.unwrap();
    let second = session(cache.nodes[1].port(), "acd", FIRST).await.unwrap();
    let third = session(cache.nodes[1].port(), "acd", FIRST).await.unwrap();
    let three = look(&cache, json!({ "min": 3 }), LOGIN).await.unwrap();
    assert_eq!((three.verdict, three.value), (Verdict::Healthy, Some(3.0)));
    for more in [json!({ "min": 4 }), json!({ "max": 0 }), json!({ "max_rise": "20%" })] {
        assert_eq!(look(&cache, more.clone(), LOGIN).await.unwrap().verdict, Verdict::Unhealthy, "{more}");
    }
    drop((first, second, third));

    cache.nodes[1].stop().unwrap();
    assert_eq!(look(&cache, json!({ "max": 0 }), LOGIN).await.unwrap().verdict, Verdict::Unknown);
}

#[tokio::test]
async fn a_login_that_is_refused_or_lacks_the_right_is_told() {
    let cache = Cache::one_user().await;
    for (login, word) in [(WRONG, "WRONGPASS"), (LOGIN, "NOPERM")] {
        let fault = crate::support::fault(look(&cache, json!({ "min": 1 }), login).await);
        assert!(matches!(fault, Fault::Denied { .. }) && fault.to_string().contains(word), "{fault}");
        let _: () = say(&cache.nodes[0], "ACL SETUSER rota -client|list").await;
    }
}

#[test]
fn settings_that_cannot_work_are_told() {
    let lint = |settings: Value| {
        let kinds = rota_core::policy::kinds::Kinds::new([redis_clients::KIND.spec]).unwrap();
        let kind = kinds.get(rota_core::policy::kinds::Port::Check, redis_clients::NAME).unwrap();
        let context =
            KindContext { environment: Environment::Production, stores: &BTreeMap::new(), secret: None };
        kind.examine(&settings, &context).into_iter().map(|problem| problem.rule).collect::<Vec<_>>()
    };
    let with = |url: &str, more: Value| {
        let mut settings = json!({ "url": url, "admin": "aws:admin", "user": "acd" });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    let bound = json!({ "min": 1 });
    assert_eq!(lint(with("rediss://cache.internal", bound.clone())), ["reference"]);
    assert_eq!(lint(with("redis://cache.internal", bound.clone())), ["tls", "reference"]);
    assert_eq!(lint(with("rediss://a:b@cache.internal", bound)), ["url", "reference"]);
    assert_eq!(lint(with("rediss://cache.internal", json!({}))), ["reference", "no-bound"]);
}
