//! A database user whose password changes under consumers that never stop using it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rota_fakes::postgres::{TestDatabase, shared};
use sqlx::{Connection as _, PgConnection};

use crate::support::World;

const SECRET: &str = "DATABASE_URL";
const PATH: &str = "test/DATABASE_URL";

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[consumer.backend]
rollout = { kind = "test-fleet" }
checks = [{ kind = "test-health" }]

[secret.DATABASE_URL]
kind = "postgres"
stores = ["aws"]
consumers = ["backend"]
cadence = "30d"
overlap = "1s"
revoke_after = "1s"
healthy = { count = 1, every = "1s" }
postgres = { host = "127.0.0.1", port = PORT, database = "DB", admin = "aws:test/admin", SETTINGS }
fields = { DATABASE_URL = "postgresql://{username}:{password:url}@{host}:{port}/{database}" }
"#;

/// What consumers got while they used the login all the time.
#[derive(Default)]
struct Log {
    uses: AtomicU32,
    refusals: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// A target with its users, and two instances that use it.
struct Database {
    world: World,
    target: TestDatabase,
    id: String,
    log: Arc<Log>,
}

/// Uses one instance's login, as long as it has it: a session that stays open, and a new
/// one for each use.
async fn use_login(instances: Arc<Mutex<Vec<String>>>, number: usize, log: Arc<Log>) {
    let mut held: Option<(String, PgConnection)> = None;
    while !log.stopped.load(Ordering::Relaxed) {
        let url = instances.lock().unwrap()[number].clone();
        held = held.filter(|(before, _)| *before == url);
        let result = match &mut held {
            Some((_, session)) => sqlx::query("SELECT 1").execute(session).await.map(|_| ()),
            None => PgConnection::connect(&url).await.map(|session| held = Some((url.clone(), session))),
        };
        let fresh = PgConnection::connect(&url).await.map(|_| ());
        // A restart may have come between the two.
        if instances.lock().unwrap()[number] != url {
            continue;
        }
        log.uses.fetch_add(1, Ordering::Relaxed);
        for error in [result, fresh].into_iter().filter_map(Result::err) {
            log.refusals.lock().unwrap().push(error.to_string());
        }
    }
}

impl Database {
    /// Users `ID_a` (in use, in the store) and `ID_b` (idle), which act as `ID_owner`.
    async fn new(settings: &str) -> Self {
        let world = World::new().await;
        let target = shared().unwrap().fresh_database().await.unwrap();
        let id = format!("u{}", &target.name()[2..14]);
        let sql = format!(
            "CREATE ROLE {id}_admin LOGIN CREATEROLE PASSWORD 'admin-word'; \
             GRANT pg_signal_backend TO {id}_admin; GRANT CREATE ON DATABASE {db} TO {id}_admin; \
             CREATE ROLE {id}_owner; CREATE ROLE {id}_a LOGIN PASSWORD 'first-word'; CREATE ROLE {id}_b; \
             GRANT {id}_owner TO {id}_a, {id}_b; ALTER ROLE {id}_a SET role = {id}_owner; \
             ALTER ROLE {id}_b SET role = {id}_owner; \
             CREATE TABLE items (id int); ALTER TABLE items OWNER TO {id}_owner",
            db = target.name()
        );
        target.execute(&sql).await.unwrap();
        let admin = format!(r#"{{"username":"{id}_admin","password":"admin-word"}}"#);
        world.aws.create("test/admin", &admin).unwrap();
        let url = url_of(&target, &format!("{id}_a"), "first-word");
        world.aws.create(PATH, &url).unwrap();
        let policy = POLICY
            .replace("PORT", &port(&target).to_string())
            .replace("\"DB\"", &format!("\"{}\"", target.name()))
            .replace("SETTINGS", &settings.replace("ID", &id));
        world.accept(&policy).await;
        Self { world, target, id, log: Arc::new(Log::default()) }
    }

    async fn of_two() -> Self {
        Self::new(r#"users = ["ID_a", "ID_b"], role = "ID_owner""#).await
    }

    /// Two instances begin to use the login and never stop.
    fn run(&self) {
        let aws = Arc::clone(&self.world.aws);
        let read = move || aws.value(PATH, "AWSCURRENT").unwrap();
        let instances = Arc::new(Mutex::new(vec![read(), read()]));
        for number in 0..2 {
            tokio::spawn(use_login(Arc::clone(&instances), number, Arc::clone(&self.log)));
        }
        self.world.consumers.run_own("backend", move || {
            for number in 0..2 {
                let fresh = read();
                instances.lock().unwrap()[number] = fresh;
            }
        });
    }

    fn published(&self) -> String {
        self.world.aws.value(PATH, "AWSCURRENT").unwrap()
    }

    async fn accepts(&self, url: &str) -> bool {
        PgConnection::connect(url).await.is_ok()
    }

    async fn can_login(&self, user: &str) -> bool {
        let mut connection = PgConnection::connect(self.target.url()).await.unwrap();
        let sql = "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1";
        let name = format!("{}_{user}", self.id);
        sqlx::query_scalar(sql).bind(name).fetch_one(&mut connection).await.unwrap()
    }

    fn assert_nobody_noticed(&self) {
        assert_eq!(*self.log.refusals.lock().unwrap(), Vec::<String>::new());
        let uses = self.log.uses.load(Ordering::Relaxed);
        assert!(uses > 20, "{uses} uses prove nothing");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.log.stopped.store(true, Ordering::Relaxed);
    }
}

/// Where the test's server listens.
pub(crate) fn port(target: &TestDatabase) -> u16 {
    let authority = target.url().split('@').nth(1).unwrap();
    authority.split('/').next().unwrap().split(':').nth(1).unwrap().parse().unwrap()
}

fn url_of(target: &TestDatabase, user: &str, password: &str) -> String {
    format!("postgresql://{user}:{password}@127.0.0.1:{}/{}", port(target), target.name())
}

#[tokio::test]
async fn two_users_take_turns_and_nobody_is_refused() {
    let database = Database::of_two().await;
    database.run();
    let (world, first) = (&database.world, database.published());
    for turn in 1..=2 {
        let before = database.published();
        world.order("rotate", SECRET).await;
        world.work_until_ended(SECRET, "completed", turn).await;
        let (live, idle) = if turn == 1 { ("b", "a") } else { ("a", "b") };
        assert!(database.published().contains(&format!("//{}_{live}:", database.id)));
        assert!(!database.accepts(&before).await && database.accepts(&database.published()).await);
        assert!(database.can_login(live).await && !database.can_login(idle).await);
    }
    assert_ne!(database.published(), first);
    database.assert_nobody_noticed();
}

#[tokio::test]
async fn a_daemon_that_is_killed_again_and_again_goes_on_where_it_stopped() {
    let database = Database::of_two().await;
    database.run();
    let (world, before) = (&database.world, database.published());
    world.order("rotate", SECRET).await;
    let deaths = world.work_and_die_until_ended(SECRET, "completed", Duration::from_millis(60)).await;
    assert!(deaths > 5, "{deaths} deaths prove nothing");
    assert!(!database.accepts(&before).await && database.accepts(&database.published()).await);
    assert!(!database.can_login("a").await);
    database.assert_nobody_noticed();
}

#[tokio::test]
async fn a_rotation_of_a_login_turned_back_while_it_is_watched_leaves_the_old_one() {
    let database = Database::of_two().await;
    database.run();
    let (world, before) = (&database.world, database.published());
    world.order("rotate", SECRET).await;
    world.work_until_step(SECRET, "watch").await;
    let new = database.published();
    assert!(database.accepts(&new).await && database.accepts(&before).await);
    world.order("rollback", SECRET).await;
    world.work_until_ended(SECRET, "rolled_back", 1).await;
    assert_eq!(database.published(), before);
    assert!(!database.accepts(&new).await && database.accepts(&before).await);
    assert!(!database.can_login("b").await);
    database.assert_nobody_noticed();
}

#[tokio::test]
async fn a_right_that_the_idle_user_lacks_stops_the_rotation_before_anybody_reads_the_new_login() {
    let database = Database::of_two().await;
    let sql = format!("CREATE TABLE orders (id int); GRANT SELECT ON orders TO {}_a", database.id);
    database.target.execute(&sql).await.unwrap();
    let (world, before) = (&database.world, database.published());
    world.order("rotate", SECRET).await;
    let reason = world.work_until_held(SECRET).await;
    assert!(reason.contains("SELECT on table public.orders"), "{reason}");
    assert_eq!(database.published(), before);
    assert!(database.accepts(&before).await);
    database.target.execute(&format!("GRANT SELECT ON orders TO {}_b", database.id)).await.unwrap();
    world.order("resume", SECRET).await;
    world.work_until_ended(SECRET, "completed", 1).await;
}
