//! Redis nodes with an administrator and the users that are rotated.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};
use rota_adapters::catalog::kinds;
use rota_adapters::rotators::redis_acl::RedisRotator;
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, FieldName, Incarnation, RotationId, SecretId};
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::model::{FieldPolicy, Fields, PolicyEntry, SecretPolicy};
use rota_core::policy::{Piece, load};
use rota_core::value::Bundle;
use rota_engine::ports::{Fence, Rotator, TargetContext};
use rota_engine::test_support::rotator_suite::{RotatorUnderTest, SecretUnderTest};
use rota_fakes::redis::RedisServer;
use rota_fakes::wait;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::support::{environment, value};

pub(super) const FIRST: &str = "first-word-of-many";
pub(super) const ADMIN: &str = "admin-word-of-many";
/// The user with whose eyes tests look; no rotation knows it.
const WITNESS: &str = "witness";
const SOON: Duration = Duration::from_secs(30);

/// What the administrator of the documentation may do.
pub(super) const RIGHTS: &str = "~rota:fence:* resetchannels -@all +get +set +watch +multi +exec +wait +info +ping \
    +acl|getuser +acl|setuser +acl|save +acl|dryrun +client|list +client|kill +config|get +config|rewrite";

/// A target: `acd` (or `acd_a`) is in use with [`FIRST`], on every node.
pub(super) struct Cache {
    pub(super) nodes: Vec<RedisServer>,
    pub(super) settings: Value,
    pub(super) first_user: String,
}

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.main]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[secret.REDIS_URL]
kind = "redis-acl"
stores = ["main"]
consumers = "none"
cadence = "30d"
overlap = "1d"
fields = { REDIS_URL = "redis://{username:url}:{password:url}@{host}:{port}/{database}" }

[secret.REDIS_URL.redis]
"#;

/// The entry of a policy with these settings, as the loader makes it.
fn entry(settings: &Value) -> PolicyEntry {
    let text = format!("{POLICY}{}", toml::to_string(settings).unwrap());
    let piece = Piece::from_bytes("policy.toml", text.into_bytes()).unwrap();
    let loaded = load(&[piece], &kinds().unwrap());
    let said = render_all(&loaded.diagnostics);
    let policy = loaded.policy.unwrap_or_else(|| panic!("{said}"));
    policy.entry(&SecretId::new("REDIS_URL").unwrap()).unwrap()
}

/// A connection as somebody.
pub(super) async fn session(
    port: u16,
    user: &str,
    password: &str,
) -> Result<MultiplexedConnection, redis::RedisError> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("AUTH").arg(user).arg(password).exec_async(&mut connection).await?;
    Ok(connection)
}

pub(super) fn words(line: &str) -> Cmd {
    let mut words = line.split_whitespace();
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command
}

/// As the witness; made where it is missing.
pub(super) async fn say<T: FromRedisValue>(node: &RedisServer, line: &str) -> T {
    let mut connection = match session(node.port(), WITNESS, WITNESS).await {
        Ok(connection) => connection,
        Err(_) => {
            let mut default = session(node.port(), "default", node.password()).await.unwrap();
            let rules = format!("ACL SETUSER {WITNESS} on >{WITNESS} ~* &* +@all");
            words(&rules).exec_async(&mut default).await.unwrap();
            words("ACL SAVE").exec_async(&mut default).await.unwrap();
            session(node.port(), WITNESS, WITNESS).await.unwrap()
        }
    };
    words(line).query_async(&mut connection).await.unwrap()
}

pub(super) fn hash(password: &str) -> String {
    hex::encode(Sha256::digest(password.as_bytes()))
}

impl Cache {
    /// `settings` beside addresses and administrator; `users` are rules of `ACL SETUSER`.
    pub(super) async fn new(nodes: Vec<RedisServer>, settings: Value, users: &[&str]) -> Self {
        for node in &nodes {
            let _: () = say(node, &format!("ACL SETUSER rota on >{ADMIN} {RIGHTS}")).await;
            for user in users {
                let _: () = say(node, &format!("ACL SETUSER {user}")).await;
            }
            let _: () = say(node, "ACL SAVE").await;
        }
        let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let mut all = json!({
            "url": format!("redis://{}", addresses[0]), "nodes": addresses, "admin": "main:admin",
        });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let first_user = users[0].split(' ').next().unwrap().to_owned();
        Self { nodes, settings: all, first_user }
    }

    pub(super) async fn one_user_on(nodes: Vec<RedisServer>) -> Self {
        let user = format!("acd on >{FIRST} ~* &* +@all -@admin");
        Self::new(nodes, json!({ "user": "acd" }), &[&user]).await
    }

    pub(super) async fn one_user() -> Self {
        Self::one_user_on(vec![RedisServer::start().unwrap()]).await
    }

    pub(super) async fn with_a_replica() -> Self {
        let primary = RedisServer::start().unwrap();
        let replica = RedisServer::replica_of(&primary).unwrap();
        follows(&replica).await;
        Self::one_user_on(vec![primary, replica]).await
    }

    pub(super) async fn two_users() -> Self {
        let live = format!("acd_a on >{FIRST} ~* &* +@all -@admin");
        let settings = json!({ "mode": "two-users", "users": ["acd_a", "acd_b"] });
        let nodes = vec![RedisServer::start().unwrap()];
        Self::new(nodes, settings, &[&live, "acd_b off ~* &* +@all -@admin"]).await
    }

    /// A server whose users stand in redis.conf, with nothing but `requirepass`.
    pub(super) async fn requirepass() -> Self {
        let lines = format!("requirepass {FIRST}\nuser {WITNESS} on >{WITNESS} ~* &* +@all\n");
        let node = RedisServer::without_acl_file(&lines).unwrap();
        let settings = json!({ "url": format!("redis://127.0.0.1:{}", node.port()) });
        Self { nodes: vec![node], settings, first_user: "default".to_owned() }
    }

    /// A rotator as the catalogue makes it, without an engine around it.
    pub(super) fn rotator_alone(&self) -> Arc<dyn Rotator> {
        self.rotator_with(&self.settings)
    }

    pub(super) fn rotator_with(&self, settings: &Value) -> Arc<dyn Rotator> {
        Arc::new(RedisRotator::new(&entry(settings).secret, &environment()).unwrap())
    }

    /// What a call of the engine would be given: [`FIRST`] and a new value.
    pub(super) fn context(&self, new: Option<&str>) -> TargetContext {
        let next = if self.settings["mode"] == "two-users" { "acd_b" } else { &self.first_user };
        TargetContext {
            rotation: RotationId(Uuid::from_u128(7)),
            policy: Arc::new(entry(&self.settings)),
            old: Some(self.parts(&self.first_user, FIRST)),
            new: new.map(|new| self.parts(next, new)),
            old_identity: None,
            new_identity: None,
            admin: self.settings.get("admin").map(|_| value(&self.admin_login())),
            since_promotion: None,
            emergency: false,
            predecessor_unknown: false,
        }
    }

    pub(super) fn parts(&self, user: &str, password: &str) -> Bundle {
        let field = |name: &str| FieldName::new(name).unwrap();
        let port = self.nodes[0].port().to_string();
        let parts = [
            ("username", user),
            ("password", password),
            ("host", "127.0.0.1"),
            ("port", &port),
            ("database", "0"),
        ];
        Bundle::new(parts.into_iter().map(|(name, text)| (field(name), value(text))).collect())
    }

    pub(super) fn admin_login(&self) -> String {
        json!({ "username": "rota", "password": ADMIN }).to_string()
    }

    /// The hashes of a user on one node.
    pub(super) async fn hashes(&self, node: usize, user: &str) -> BTreeSet<String> {
        hashes(&self.nodes[node], user).await
    }
}

pub(super) async fn hashes(node: &RedisServer, user: &str) -> BTreeSet<String> {
    let list: Vec<String> = say(node, "ACL LIST").await;
    let start = format!("user {user} ");
    let rules = list.iter().find(|rules| rules.starts_with(&start)).cloned().unwrap_or_default();
    rules.split(' ').filter_map(|word| word.strip_prefix('#')).map(ToOwned::to_owned).collect()
}

/// Waits until a replica has its primary's data.
pub(super) async fn follows(replica: &RedisServer) {
    let up = wait::until(SOON, "replication", async || {
        let info: String = say(replica, "INFO replication").await;
        Ok(info.contains("master_link_status:up").then_some(()))
    });
    up.await.unwrap();
}

pub(super) fn fence(effect: i64) -> Fence {
    Fence { incarnation: Incarnation(1), epoch: Epoch(1), effect: EffectNo(effect) }
}

/// The text of a part.
fn part<'a>(value: &'a Bundle, name: &str) -> &'a str {
    value.iter().find(|(part, _)| part.as_str() == name).unwrap().1.expose()
}

fn url_field() -> FieldName {
    FieldName::new("REDIS_URL").unwrap()
}

/// True where a node takes a login and lets it work; false where it refuses it.
pub(super) async fn takes(node: &RedisServer, user: &str, password: &str) -> bool {
    let mut connection = match session(node.port(), user, password).await {
        Ok(connection) => connection,
        Err(error) if error.code() == Some("WRONGPASS") => return false,
        Err(error) => panic!("the server is not there: {error}"),
    };
    words("GET items").exec_async(&mut connection).await.is_ok()
}

#[async_trait]
impl RotatorUnderTest for Cache {
    fn secret(&self) -> SecretUnderTest {
        let template = "redis://{username:url}:{password:url}@{host}:{port}/{database}";
        let field = FieldPolicy { template: Some(template.parse().unwrap()), format: None };
        SecretUnderTest {
            kind: "redis-acl".to_owned(),
            settings: self.settings.clone(),
            fields: Fields::from_iter([(url_field(), field)]),
            accept_gap: false,
        }
    }

    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator> {
        Arc::new(RedisRotator::new(policy, &environment()).unwrap())
    }

    fn admin(&self) -> Option<(String, String)> {
        self.settings.get("admin").map(|_| ("admin".to_owned(), self.admin_login()))
    }

    fn first(&self) -> Bundle {
        let url = format!("redis://{}:{FIRST}@127.0.0.1:{}/0", self.first_user, self.nodes[0].port());
        Bundle::single(url_field(), value(&url))
    }

    /// On every node.
    async fn uses(&self, login: &Bundle) -> bool {
        for node in &self.nodes {
            if !takes(node, part(login, "username"), part(login, "password")).await {
                return false;
            }
        }
        true
    }

    /// Every password of every user that is on, on any node.
    async fn alive(&self) -> Vec<String> {
        let mut alive = BTreeSet::new();
        for node in &self.nodes {
            let list: Vec<String> = say(node, "ACL LIST").await;
            let rotated = list.iter().filter(|rules| {
                let name = rules.split(' ').nth(1).unwrap_or_default();
                name.starts_with("acd") || (name == "default" && self.first_user == "default")
            });
            for rules in rotated.filter(|rules| rules.contains(" on ")) {
                let name = rules.split(' ').nth(1).unwrap_or_default();
                let hashes = rules.split(' ').filter(|word| word.starts_with('#') || *word == "nopass");
                alive.extend(hashes.map(|hash| format!("{name} {hash}")));
            }
        }
        alive.into_iter().collect()
    }

    async fn change_by_hand(&self, login: &Bundle) {
        let (user, old) = (part(login, "username"), hash(part(login, "password")));
        let _: () = say(&self.nodes[0], &format!("ACL SETUSER {user} !{old} >by-hand")).await;
    }
}

/// The fault of a call, which tells no value.
pub(super) fn told<T>(result: Result<T, Fault>) -> Fault {
    let fault = crate::support::fault(result);
    let message = fault.to_string();
    for word in [FIRST, ADMIN, &hash(FIRST)] {
        assert!(!message.contains(word), "a value is told: {message}");
    }
    fault
}
