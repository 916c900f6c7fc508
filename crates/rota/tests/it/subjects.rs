//! Secrets of every kind on real servers, in use before Rota knew them.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use rota_fakes::moto::{AwsKey, MotoServer};
use rota_fakes::postgres::{PostgresEndpoint, TestDatabase};
use rota_fakes::redis::RedisServer;
use sqlx::{Connection as _, PgConnection};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use uuid::Uuid;

use crate::world::LIMIT;

pub(crate) const REGION: &str = "us-east-1";

/// What the documentation gives an administrator of Redis.
const REDIS_RIGHTS: &str = "~rota:fence:* resetchannels -@all +get +set +watch +multi +exec +wait +info +ping \
    +acl|getuser +acl|setuser +acl|save +acl|dryrun +client|list +client|kill +config|get +config|rewrite";

/// Where the values of a secret are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// The test's own file `app.env`.
    Env,
    Aws,
    Vault,
}

impl Store {
    fn id(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Aws => "aws",
            Self::Vault => "vault",
        }
    }

    /// How a policy refers to another name in it.
    fn reference(self, name: &str) -> String {
        match self {
            Self::Env => format!("env:{{folder}}/app.env#{name}"),
            Self::Aws => format!("aws:acd/{name}"),
            Self::Vault => format!("vault:acd/{name}"),
        }
    }
}

/// The stores as policies name them.
pub(crate) const STORES: &str = r#"
[store.env]
kind = "env-file"
path = "{folder}/app.env"

[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "acd/{name}"

[store.vault]
kind = "vault-kv2"
mount = "secret"
path = "acd/{name}"
"#;

/// A secret that one of the servers below takes.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) store: Store,
    /// Its table in the policy, without consumers and times.
    pub(crate) policy: String,
    /// What stands in its store before Rota: names and texts.
    pub(crate) before: Vec<(String, String)>,
    /// The name that consumers read.
    pub(crate) shown: &'static str,
    pub(crate) target: Target,
}

/// Who accepts or refuses its values.
pub(crate) enum Target {
    /// Its consumers among each other.
    None,
    Postgres(TestDatabase),
    Redis(RedisServer),
    /// A user of the emulator.
    Iam(Aws, String),
}

/// Random text, of letters and digits.
pub(crate) fn word() -> String {
    format!("{}{}", Uuid::new_v4().simple(), &Uuid::new_v4().simple().to_string()[..8])
}

impl Subject {
    fn new(name: &'static str, store: Store, policy: String, first: String, target: Target) -> Self {
        let policy = format!("[secret.{name}]\nstores = [\"{}\"]\n{policy}\n", store.id());
        Self { name, store, policy, before: vec![(name.to_owned(), first)], shown: name, target }
    }

    /// A key that its consumers verify among each other.
    pub(crate) fn generated(name: &'static str, store: Store) -> Self {
        let policy = "kind = \"generated\"\nformat = \"hex:32\"\nclass = \"signing\"\ntoken_ttl = \"1s\"\n";
        let list: (&str, String) = match name {
            "SESSION_SECRET" => {
                ("SESSION_SECRETS", format!("{policy}publish = {{ list = \"SESSION_SECRETS\" }}"))
            }
            _ => ("API_KEYS", format!("{policy}publish = {{ list = \"API_KEYS\" }}")),
        };
        let first = Uuid::new_v4().simple().to_string().repeat(2);
        let mut subject = Self::new(name, store, list.1, String::new(), Target::None);
        (subject.shown, subject.before) = (list.0, vec![(list.0.to_owned(), format!("[\"{first}\"]"))]);
        subject
    }

    /// A password of any characters.
    pub(crate) fn password(name: &'static str, store: Store) -> Self {
        let policy = "kind = \"generated\"\nformat = \"password:40:symbols\"\nclass = \"password\"\n";
        Self::new(name, store, policy.to_owned(), word(), Target::None)
    }

    /// A key that a person hands in; `more` lines of its table.
    pub(crate) fn operator(name: &'static str, store: Store, more: &str) -> Self {
        let policy = format!("kind = \"operator\"\nformat = \"text:20-200\"\n{more}");
        Self::new(name, store, policy, word(), Target::None)
    }

    /// A user of a database of `server`, in one of the modes.
    pub(crate) async fn postgres(
        name: &'static str,
        store: Store,
        server: &PostgresEndpoint,
        mode: &str,
    ) -> Self {
        let database = server.fresh_database().await.unwrap();
        let id = format!("u{}", &database.name()[2..14]);
        let (admin, first) = (word(), word());
        let is_new = mode == "new-user";
        let rights = if is_new { "SUPERUSER" } else { "CREATEROLE" };
        let owner = if is_new {
            format!("ALTER TABLE items OWNER TO {id}_a")
        } else {
            format!(
                "CREATE ROLE {id}_owner; CREATE ROLE {id}_b; GRANT {id}_owner TO {id}_a, {id}_b; \
                 ALTER ROLE {id}_a SET role = {id}_owner; ALTER ROLE {id}_b SET role = {id}_owner; \
                 ALTER TABLE items OWNER TO {id}_owner"
            )
        };
        let sql = format!(
            "CREATE ROLE {id}_admin LOGIN {rights} PASSWORD '{admin}'; \
             GRANT pg_signal_backend, pg_read_all_stats TO {id}_admin; \
             GRANT CREATE ON DATABASE {db} TO {id}_admin; CREATE ROLE {id}_a LOGIN PASSWORD '{first}'; \
             CREATE TABLE items (id int); {owner}",
            db = database.name()
        );
        database.execute(&sql).await.unwrap();
        let users = match mode {
            "two-users" => format!("users = [\"{id}_a\", \"{id}_b\"], role = \"{id}_owner\""),
            "new-user" => format!("user = \"{id}\""),
            _ => format!("user = \"{id}_a\""),
        };
        let (port, gap) = (port(server), mode == "one-user");
        let admin_name = format!("{name}_ADMIN");
        let policy = format!(
            "kind = \"postgres\"\naccept_gap = {gap}\nfields = {{ {name} = \"postgresql://{{username}}:{{password:url}}@{{host}}:{{port}}/{{database}}\" }}\n\
             postgres = {{ mode = \"{mode}\", host = \"127.0.0.1\", port = {port}, database = \"{db}\", admin = \"{}\", {users} }}",
            store.reference(&admin_name),
            db = database.name(),
        );
        let url = format!("postgresql://{id}_a:{first}@127.0.0.1:{port}/{}", database.name());
        let mut subject = Self::new(name, store, policy, url, Target::Postgres(database));
        subject.before.push((admin_name, admin_login(&format!("{id}_admin"), &admin)));
        subject
    }

    /// A user of a Redis of its own, in one of the modes.
    pub(crate) fn redis(name: &'static str, store: Store, mode: &str) -> Self {
        let server = RedisServer::start().unwrap();
        let (admin, first) = (word(), word());
        let mut lines = vec![format!("ACL SETUSER rota on >{admin} {REDIS_RIGHTS}")];
        let (user, users) = match mode {
            "two-users" => {
                lines.push("ACL SETUSER acd_b off ~* &* +@all -@admin".to_owned());
                ("acd_a", "users = [\"acd_a\", \"acd_b\"]")
            }
            _ => ("acd", "user = \"acd\""),
        };
        lines.push(format!("ACL SETUSER {user} on >{first} ~* &* +@all -@admin"));
        lines.push("ACL SAVE".to_owned());
        let all: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert!(redis_takes(&server, "default", server.password(), &all));
        let (port, admin_name) = (server.port(), format!("{name}_ADMIN"));
        let policy = format!(
            "kind = \"redis-acl\"\nfields = {{ {name} = \"redis://{{username:url}}:{{password:url}}@{{host}}:{{port}}/{{database}}\" }}\n\
             redis = {{ mode = \"{mode}\", url = \"redis://127.0.0.1:{port}\", admin = \"{}\", {users} }}",
            store.reference(&admin_name),
        );
        let url = format!("redis://{user}:{first}@127.0.0.1:{port}/0");
        let mut subject = Self::new(name, store, policy, url, Target::Redis(server));
        subject.before.push((admin_name, admin_login("rota", &admin)));
        subject
    }

    /// The key of a user of the emulator.
    pub(crate) async fn iam(name: &'static str, store: Store, aws: &Aws) -> Self {
        let (user, client) =
            (format!("user-{}", Uuid::new_v4()), aws_sdk_iam::Client::new(&aws.config().await));
        client.create_user().user_name(&user).send().await.unwrap();
        let made = client.create_access_key().user_name(&user).send().await.unwrap().access_key.unwrap();
        let policy = format!(
            "kind = \"aws-iam-access-key\"\nclass = \"api-key\"\nfields = {{ {name} = \"{{access_key_id}}:{{secret_access_key}}\" }}\n\
             iam = {{ user = \"{user}\", exclusive = true, quiet = \"0s\" }}"
        );
        let first = format!("{}:{}", made.access_key_id, made.secret_access_key);
        Self::new(name, store, policy, first, Target::Iam(aws.clone(), user))
    }

    /// Whether `text`, as consumers read it, is accepted. What only consumers verify is.
    pub(crate) async fn accepts(&self, text: &str) -> bool {
        match &self.target {
            Target::None => true,
            Target::Postgres(_) => match PgConnection::connect(text).await {
                Ok(_) => true,
                // A password or a user that is refused (PostgreSQL, appendix A).
                Err(sqlx::Error::Database(error))
                    if error.code().is_some_and(|code| code.starts_with("28")) =>
                {
                    false
                }
                Err(error) => panic!("{}: neither accepted nor refused: {error}", self.name),
            },
            Target::Redis(server) => {
                let login = text.strip_prefix("redis://").unwrap().split('@').next().unwrap();
                let (user, password) = login.split_once(':').unwrap();
                redis_takes(server, user, password, &[])
            }
            Target::Iam(aws, user) => {
                let client = aws_sdk_iam::Client::new(&aws.config().await);
                let listed = client.list_access_keys().user_name(user).send().await.unwrap();
                let (id, secret) = text.split_once(':').unwrap();
                let is_active = |key: &aws_sdk_iam::types::AccessKeyMetadata| {
                    key.access_key_id.as_deref() == Some(id)
                        && key.status == Some(aws_sdk_iam::types::StatusType::Active)
                };
                let own = Aws { id: id.to_owned(), secret: secret.to_owned(), ..aws.clone() };
                let sts = aws_sdk_sts::Client::new(&own.config().await);
                listed.access_key_metadata.iter().any(is_active)
                    && sts.get_caller_identity().send().await.is_ok()
            }
        }
    }

    /// How many logins or keys are alive on the target; one where all is at rest.
    pub(crate) async fn alive(&self) -> usize {
        match &self.target {
            Target::None => 1,
            Target::Postgres(database) => {
                let mut connection = PgConnection::connect(database.url()).await.unwrap();
                let family = format!("u{}%", &database.name()[2..14]);
                let sql = "SELECT count(*) FROM pg_roles WHERE rolname LIKE $1 AND rolcanlogin \
                    AND rolname NOT LIKE '%admin'";
                let count: i64 =
                    sqlx::query_scalar(sql).bind(family).fetch_one(&mut connection).await.unwrap();
                usize::try_from(count).unwrap()
            }
            Target::Redis(server) => {
                let users = server.saved_users().unwrap();
                let own = users.lines().filter(|line| line.starts_with("user acd") && line.contains(" on "));
                own.map(|line| line.matches('#').count()).sum()
            }
            Target::Iam(aws, user) => {
                let client = aws_sdk_iam::Client::new(&aws.config().await);
                client.list_access_keys().user_name(user).send().await.unwrap().access_key_metadata.len()
            }
        }
    }
}

fn admin_login(user: &str, password: &str) -> String {
    serde_json::json!({ "username": user, "password": password }).to_string()
}

/// Where a server listens.
fn port(server: &PostgresEndpoint) -> u16 {
    let authority = server.url().split('@').nth(1).unwrap();
    authority.split('/').next().unwrap().split(':').nth(1).unwrap().parse().unwrap()
}

/// Logs in and says each line; whether all of it was taken.
fn redis_takes(server: &RedisServer, user: &str, password: &str, lines: &[&str]) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let login = format!("AUTH {user} {password}");
    for line in [&[login.as_str()], lines].concat() {
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 256];
        let length = stream.read(&mut answer).unwrap();
        if !answer[..length].starts_with(b"+OK") {
            return false;
        }
    }
    true
}

/// The emulator as its administrator, or with another key.
#[derive(Clone)]
pub(crate) struct Aws {
    pub(crate) url: String,
    id: String,
    secret: String,
}

impl Aws {
    /// From now on the emulator checks every signature.
    pub(crate) async fn of(server: &MotoServer) -> Self {
        let AwsKey { id, secret } = server.require_auth().await.unwrap();
        Self { url: server.url(), id, secret }
    }

    pub(crate) async fn config(&self) -> SdkConfig {
        let credentials = Credentials::new(&self.id, &self.secret, None, None, "test");
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::from_static(REGION))
            .endpoint_url(&self.url)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .load()
            .await
    }

    /// What makes the binary use it at `url`.
    pub(crate) fn settings(&self, url: &str) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", self.id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
            ("ROTA__AWS__ENDPOINT", url),
            ("ROTA__AWS__REGION", REGION),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    pub(crate) async fn create(&self, path: &str, text: &str) {
        let client = aws_sdk_secretsmanager::Client::new(&self.config().await);
        client.create_secret().name(path).secret_string(text).send().await.unwrap();
    }

    pub(crate) async fn read(&self, path: &str) -> String {
        let client = aws_sdk_secretsmanager::Client::new(&self.config().await);
        // Without a stage the emulator goes on to give the first version.
        let read = client.get_secret_value().secret_id(path).version_stage("AWSCURRENT");
        read.send().await.unwrap().secret_string.unwrap()
    }
}
