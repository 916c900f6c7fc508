//! A database of the shared server with an administrator and a family of users, whose
//! names begin alike and are nobody else's.

use std::sync::Arc;

use async_trait::async_trait;
use rota_adapters::rotators::postgres::PostgresRotator;
use rota_core::id::FieldName;
use rota_core::policy::model::{FieldPolicy, Fields, SecretPolicy};
use rota_core::value::Bundle;
use rota_engine::ports::Rotator;
use rota_engine::test_support::rotator_suite::{RotatorUnderTest, SecretUnderTest};
use rota_fakes::postgres::{PostgresEndpoint, TestDatabase, shared};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::support::{environment, value};

pub(super) const URL: &str = "postgresql://{username:url}:{password:url}@{host}:{port}/{database}";
pub(super) const FIRST: &str = "published-before-all-rotations";
pub(super) const ADMIN: &str = "admin-word-of-many";
/// [`ADMIN`] for the server, of one round: the administrator logs in for every call, and
/// the usual 4096 rounds are most of the time of a test without optimization.
const ADMIN_VERIFIER: &str = "SCRAM-SHA-256$1:cm90YS10ZXN0LXNhbHQtMQ==\
    $S4y3OT7GwD83vAEFoH5LcN1/d6NP8krui2RLiaHqvyE=:kCe+POZaHxEEBGapBaug2mstkDYRpg17Bg5SzBB1r2M=";

/// A target: `ID_a` is in use with [`FIRST`], `ID_b` is idle, both act as `ID_owner`.
pub(super) struct Users {
    pub(super) database: TestDatabase,
    pub(super) id: String,
    pub(super) settings: Value,
    /// Who is published before the first rotation, and with what password.
    pub(super) published: (String, &'static str),
}

/// Each mode, as [`Users::new`] takes it.
pub(super) fn modes() -> [Value; 3] {
    [
        json!({ "users": ["ID_a", "ID_b"], "role": "ID_owner" }),
        json!({ "mode": "new-user", "user": "ID" }),
        json!({ "mode": "one-user", "user": "ID_a" }),
    ]
}

impl Users {
    /// With what stands in `settings` beside server and administrator; `ID` there is
    /// the family's name.
    pub(super) async fn new(settings: Value) -> Self {
        Self::with_admin(settings, false).await
    }

    /// The administrator is a superuser where `superuser` says so.
    pub(super) async fn with_admin(settings: Value, superuser: bool) -> Self {
        Self::on(shared().unwrap(), settings, superuser).await
    }

    /// The same on a server of the test's own.
    pub(super) async fn on(server: &PostgresEndpoint, settings: Value, superuser: bool) -> Self {
        let database = server.fresh_database().await.unwrap();
        let id = format!("u{}", &database.name()[2..14]);
        let rights = if superuser { "SUPERUSER" } else { "CREATEROLE" };
        let sql = format!(
            "CREATE ROLE {id}_admin LOGIN {rights} PASSWORD '{ADMIN_VERIFIER}'; GRANT pg_signal_backend, pg_read_all_stats TO {id}_admin; \
             GRANT CREATE ON DATABASE {db} TO {id}_admin; CREATE ROLE {id}_owner; \
             CREATE ROLE {id}_a LOGIN PASSWORD '{FIRST}'; CREATE ROLE {id}_b; \
             GRANT {id}_owner TO {id}_a, {id}_b; ALTER ROLE {id}_a SET role = {id}_owner; \
             ALTER ROLE {id}_b SET role = {id}_owner; \
             CREATE TABLE items (id int); ALTER TABLE items OWNER TO {id}_owner",
            db = database.name()
        );
        database.execute(&sql).await.unwrap();
        let server = json!({
            "host": "127.0.0.1", "port": port(&database), "database": database.name(), "admin": "main:admin",
        });
        let mut all = named(settings, &id);
        all.as_object_mut().unwrap().extend(server.as_object().unwrap().clone());
        let published = (format!("{id}_a"), FIRST);
        Self { database, id, settings: all, published }
    }

    pub(super) async fn two() -> Self {
        let [two, _, _] = modes();
        Self::new(two).await
    }

    /// The first user of this mode is the family's `a`, without the owner.
    pub(super) async fn fresh() -> Self {
        let [_, new, _] = modes();
        let users = Self::with_admin(new, true).await;
        let sql = format!(
            "ALTER ROLE {id}_a RESET role; REVOKE {id}_owner FROM {id}_a; ALTER TABLE items OWNER TO {id}_a; \
             DROP OWNED BY {id}_b; DROP ROLE {id}_b",
            id = users.id
        );
        users.database.execute(&sql).await.unwrap();
        users
    }

    pub(super) async fn one() -> Self {
        let [_, _, one] = modes();
        Self::new(one).await
    }

    pub(super) fn url(&self, user: &str, password: &str) -> String {
        let text = |key: &str| self.settings[key].as_str().unwrap();
        let (host, port, database) = (text("host"), port(&self.database), text("database"));
        format!("postgresql://{user}:{password}@{host}:{port}/{database}")
    }

    pub(super) async fn superuser(&self) -> PgConnection {
        PgConnection::connect(self.database.url()).await.unwrap()
    }

    /// Makes the database, its administrator and its published user on another server.
    pub(super) async fn replicate_to(&self, mut there: PgConnection) {
        let (user, password) = &self.published;
        let database = format!("CREATE DATABASE {}", self.database.name());
        let roles = format!(
            "CREATE ROLE {}_admin LOGIN SUPERUSER PASSWORD '{ADMIN_VERIFIER}'; \
             CREATE ROLE {user} LOGIN PASSWORD '{password}'",
            self.id
        );
        for sql in [database, roles] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut there).await.unwrap();
        }
    }

    pub(super) fn admin_login(&self) -> String {
        json!({ "username": format!("{}_admin", self.id), "password": ADMIN }).to_string()
    }
}

/// The settings with the family's name in place of `ID`, where roles are named.
fn named(mut settings: Value, id: &str) -> Value {
    for (key, value) in settings.as_object_mut().unwrap() {
        if ["users", "user", "role"].contains(&key.as_str()) {
            *value = serde_json::from_str(&value.to_string().replace("ID", id)).unwrap();
        }
    }
    settings
}

pub(super) fn port(database: &TestDatabase) -> u16 {
    let authority = database.url().split('@').nth(1).unwrap();
    authority.split('/').next().unwrap().split(':').nth(1).unwrap().parse().unwrap()
}

/// The text of a part.
pub(super) fn part<'a>(value: &'a Bundle, name: &str) -> &'a str {
    value.iter().find(|(part, _)| part.as_str() == name).unwrap().1.expose()
}

pub(super) fn url_field() -> FieldName {
    FieldName::new("DATABASE_URL").unwrap()
}

#[async_trait]
impl RotatorUnderTest for Users {
    fn secret(&self) -> SecretUnderTest {
        let field = FieldPolicy { template: Some(URL.parse().unwrap()), format: None };
        SecretUnderTest {
            kind: "postgres".to_owned(),
            settings: self.settings.clone(),
            fields: Fields::from_iter([(url_field(), field)]),
            accept_gap: self.settings["mode"] == "one-user",
        }
    }

    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator> {
        Arc::new(PostgresRotator::new(policy, &environment()).unwrap())
    }

    fn admin(&self) -> Option<(String, String)> {
        Some(("admin".to_owned(), self.admin_login()))
    }

    fn first(&self) -> Bundle {
        Bundle::single(url_field(), value(&self.url(&self.published.0, self.published.1)))
    }

    async fn uses(&self, login: &Bundle) -> bool {
        let url = self.database.url_as(part(login, "username"), part(login, "password")).unwrap();
        match PgConnection::connect(&url).await {
            Ok(mut session) => {
                let used = sqlx::query("SELECT count(*) FROM items").execute(&mut session).await.is_ok();
                let _ = session.close().await;
                used
            }
            Err(sqlx::Error::Database(_)) => false,
            Err(error) => panic!("the server is not there: {error}"),
        }
    }

    /// Whoever can log in, and users of rotations that were not dropped.
    async fn alive(&self) -> Vec<String> {
        let sql = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE $1 AND rolname NOT IN ($2, $3) \
            AND (rolcanlogin OR length(rolname) = length($4) + 13) ORDER BY 1";
        let (id, admin, owner) = (&self.id, format!("{}_admin", self.id), format!("{}_owner", self.id));
        let query = sqlx::query_scalar(sql).bind(format!("{id}%")).bind(admin).bind(owner).bind(id);
        query.fetch_all(&mut self.superuser().await).await.unwrap()
    }

    async fn change_by_hand(&self, login: &Bundle) {
        let sql = format!("ALTER ROLE \"{}\" PASSWORD 'by-hand'", part(login, "username"));
        sqlx::query(AssertSqlSafe(sql)).execute(&mut self.superuser().await).await.unwrap();
    }
}
