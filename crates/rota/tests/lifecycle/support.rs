//! A journal of its own for each test, the catalogue's adapters, and a fast engine.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use futures::future::join_all;
use jiff::SignedDuration;
use rand::TryRng as _;
use rand::rngs::SysRng;
use rota_adapters::aws::AwsEnvironment;
use rota_adapters::catalog::Catalog;
use rota_adapters::child::Runs;
use rota_adapters::credential::CredentialSource;
use rota_adapters::ecs::EcsClients;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::http::{HttpClient, HttpOptions};
use rota_adapters::rotators::provider::Providers;
use rota_adapters::vault::{ReadSecret, VaultConnection, VaultLogin, VaultServer};
use rota_core::format::{RandomFailed, RandomSource};
use rota_core::policy::{self, model::Policy};
use rota_core::value::SecretValue;
use rota_engine::ports::{Adapters, Clock, Journal};
use rota_engine::{Engine, EngineSettings};
use rota_fakes::ecs::{EcsFake, reader_from};
use rota_fakes::http::Listen;
use rota_fakes::postgres::{TestDatabase, shared};
use rota_fakes::secretsmanager::SecretsManagerFake;
use rota_fakes::vault::VaultFake;
use rota_postgres::{ConnectSettings, PgJournal, migrate};
use sqlx::postgres::PgPoolOptions;
use tokio::sync::{Notify, OnceCell};

use crate::consumers::{self, Consumers, WithConsumers};
use crate::emulator::Emulator;
use crate::time::{self, Time};

/// Every test's database is a copy of one of these.
static MIGRATED: OnceCell<TestDatabase> = OnceCell::const_new();
static SIMULATED: OnceCell<TestDatabase> = OnceCell::const_new();

/// Far longer than anything takes on a busy machine, where time is real.
const LIMIT: Duration = Duration::from_secs(120);

/// Nothing in these tests takes more rounds of work, where it is not.
const ROUNDS: usize = 20_000;

/// What has been due for a moment and still cannot be worked on waits for something else.
const SHORTEST_STEP: SignedDuration = SignedDuration::from_millis(100);

const REGION: &str = "us-east-1";
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

pub(crate) struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "the tests' production clock")]
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

#[async_trait]
impl Clock for RealClock {
    fn elapsed(&self) -> SignedDuration {
        SignedDuration::try_from(self.0.elapsed()).unwrap()
    }

    async fn sleep(&self, duration: SignedDuration) {
        tokio::time::sleep(Duration::try_from(duration).unwrap_or_default()).await;
    }
}

/// An engine's clock. Where time is simulated, a pause passes at once, and for everybody;
/// the limit of a call stays real, as the call itself is.
struct EngineClock {
    real: RealClock,
    consumers: Arc<Consumers>,
    time: Arc<Time>,
    call_limit: SignedDuration,
}

#[async_trait]
impl Clock for EngineClock {
    fn elapsed(&self) -> SignedDuration {
        self.real.elapsed() + self.time.ahead()
    }

    async fn sleep(&self, duration: SignedDuration) {
        if self.time.is_simulated() && duration != self.call_limit {
            self.consumers.pass(duration).await;
        } else {
            self.real.sleep(duration).await;
        }
    }
}

pub(crate) struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), RandomFailed> {
        SysRng.try_fill_bytes(buffer).map_err(|_| RandomFailed)
    }
}

/// One test's world.
pub(crate) struct World {
    pub(crate) journal: Arc<PgJournal>,
    pub(crate) adapters: Arc<dyn Adapters>,
    _database: TestDatabase,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) operator: sqlx::PgPool,
    /// A strict Secrets Manager; stores of its kind in the policy use it.
    pub(crate) aws: Arc<SecretsManagerFake>,
    /// Its tasks read `aws` at their start.
    pub(crate) ecs: Arc<EcsFake>,
    pub(crate) vault: Arc<VaultFake>,
    /// In its place where the test asked for it.
    pub(crate) emulator: Option<Arc<Emulator>>,
    pub(crate) time: Arc<Time>,
    /// The services that read the secrets, and the checks of the tests.
    pub(crate) consumers: Arc<Consumers>,
}

/// AWS at the fake, with its key and no other source of credentials.
async fn aws_at(endpoint: &str) -> AwsEnvironment {
    let credentials = Credentials::new(KEY_ID, KEY, None, None, "test");
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await;
    AwsEnvironment::with_config(config, Some(endpoint)).unwrap()
}

/// Vault at the fake, as its root.
fn vault_at(vault: &VaultFake, clock: Arc<RealClock>) -> VaultConnection {
    let token = vault.root_token().to_owned();
    let token: ReadSecret = Arc::new(move || Ok(SecretValue::new(token.clone()).unwrap()));
    let login = VaultLogin::Token { token };
    let server = VaultServer { address: vault.url(), namespace: None, authority: None, login };
    let aws = AwsEnvironment::new(None).unwrap();
    VaultConnection::new(server, &HttpOptions::default(), aws, clock).unwrap()
}

fn environment(folder: &std::path::Path, aws: AwsEnvironment, vault: &VaultFake) -> AdapterEnvironment {
    let clock = Arc::new(RealClock::new());
    let http = HttpOptions::default();
    let key = folder.join("env-file.key");
    let mut bytes = [0u8; 32];
    SystemRandom.fill(&mut bytes).unwrap();
    std::fs::write(&key, hex::encode(bytes)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    AdapterEnvironment {
        host: None,
        client: HttpClient::new(&http).unwrap(),
        http,
        clock: clock.clone(),
        aws,
        vault: Some(Arc::new(vault_at(vault, clock.clone()))),
        env_file_key: Some(key),
        credentials: CredentialSource::default(),
        runs: Runs::default(),
        ecs: EcsClients::default(),
        providers: Providers::shipped().unwrap(),
    }
}

async fn migrated(simulated: bool) -> TestDatabase {
    let (template, sql) = if simulated { (&SIMULATED, time::INSTALL) } else { (&MIGRATED, "") };
    let template = template
        .get_or_init(|| async {
            let database = shared().unwrap().fresh_database().await.unwrap();
            migrate(&ConnectSettings::from_url(database.url()).unwrap()).await.unwrap();
            database.execute(sql).await.unwrap();
            database
        })
        .await;
    shared().unwrap().fresh_copy_of(template).await.unwrap()
}

impl World {
    /// In real time, with a strict Secrets Manager that checks signatures.
    pub(crate) async fn new() -> Self {
        Self::with(false, false).await
    }

    /// In a time of its own.
    pub(crate) async fn simulated() -> Self {
        Self::with(true, false).await
    }

    /// In a time of its own, with the AWS emulator.
    pub(crate) async fn emulated() -> Self {
        Self::with(true, true).await
    }

    async fn with(simulated: bool, emulated: bool) -> Self {
        let database = migrated(simulated).await;
        let settings = ConnectSettings::from_url(database.url()).unwrap().max_connections(4);
        let pool = settings.act_as("rota_daemon").connect().await.unwrap();
        let operator = PgPoolOptions::new().max_connections(3).connect(database.url()).await.unwrap();
        let time = Arc::new(Time::new(simulated.then(|| operator.clone())));
        let listen = || Listen { clock: time.clock.clone(), ..Listen::default() };
        let folder = tempfile::tempdir().unwrap();
        let aws = SecretsManagerFake::start(REGION, listen()).unwrap();
        if !simulated {
            // A signature is made in real time and would be too old.
            aws.add_key(KEY_ID, KEY);
        }
        let emulator = emulated.then(|| Arc::new(Emulator::start(time.clock.clone())));
        let endpoint = emulator.as_ref().map_or_else(|| aws.url(), |emulator| emulator.url());
        let vault = VaultFake::start(listen()).unwrap();
        let aws = Arc::new(aws);
        let ecs = EcsFake::start(REGION, reader_from(Arc::clone(&aws)), listen()).unwrap();
        let environment = environment(folder.path(), aws_at(&endpoint).await, &vault);
        let at_ecs = AdapterEnvironment { aws: aws_at(&ecs.url()).await, ..environment.clone() };
        let catalog = Catalog::new(environment);
        let consumers = Arc::new(Consumers::new(Arc::clone(&time)));
        Self {
            journal: Arc::new(PgJournal::new(pool)),
            adapters: Arc::new(WithConsumers::new(catalog, at_ecs, Arc::clone(&consumers))),
            aws,
            ecs: Arc::new(ecs),
            vault: Arc::new(vault),
            emulator,
            time,
            consumers,
            operator,
            _database: database,
            folder,
        }
    }

    /// The same world, in which the daemon knows these providers.
    pub(crate) async fn with_providers(mut self, providers: Providers) -> Self {
        let own = environment(self.folder.path(), aws_at(&self.aws.url()).await, &self.vault);
        let own = AdapterEnvironment { providers, ..own };
        let at_ecs = AdapterEnvironment { aws: aws_at(&self.ecs.url()).await, ..own.clone() };
        let consumers = Arc::clone(&self.consumers);
        self.adapters = Arc::new(WithConsumers::new(Catalog::new(own), at_ecs, consumers));
        self
    }

    pub(crate) fn engine(&self, holder: &str) -> Engine {
        self.engine_on(Arc::clone(&self.journal) as Arc<dyn Journal>, holder)
    }

    /// A process that sees the journal as `journal` shows it.
    pub(crate) fn engine_on(&self, journal: Arc<dyn Journal>, holder: &str) -> Engine {
        let settings = EngineSettings::new(holder.to_owned());
        let clock = EngineClock {
            real: RealClock::new(),
            consumers: Arc::clone(&self.consumers),
            time: Arc::clone(&self.time),
            call_limit: settings.call_limit,
        };
        let random = Arc::new(Mutex::new(SystemRandom));
        Engine::new(journal, Arc::clone(&self.adapters), Arc::new(clock), random, settings)
    }

    /// Accepts a policy file; `{folder}` in it is this test's folder.
    pub(crate) async fn accept(&self, text: &str) -> Policy {
        let text = text.replace("{folder}", self.folder.path().to_str().unwrap());
        let loaded = policy::load_str(&text, &consumers::kinds());
        let said: Vec<String> = loaded.diagnostics.iter().map(|finding| finding.message.clone()).collect();
        let mut policy = loaded.policy.unwrap_or_else(|| panic!("the policy is refused: {said:?}"));
        for consumer in policy.consumers.values_mut() {
            // The tests' stores show a write at once.
            consumer.settle = SignedDuration::ZERO;
        }
        self.accept_loaded(&policy).await;
        policy
    }

    pub(crate) async fn accept_loaded(&self, policy: &Policy) {
        let digest = policy::accept::digest(policy);
        self.journal.accept_policy(policy, &digest, "test").await.unwrap();
    }

    /// Writes the env file as a person leaves it: for its owner only.
    pub(crate) fn write_env_file(&self, text: &str) -> std::path::PathBuf {
        let file = self.folder.path().join(".env");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// An operator's order, as the command line gives it.
    pub(crate) async fn order(&self, function: &str, secret: &str) {
        let sql = format!("SELECT rota.order_{function}($1, 'because', 'a test')");
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(secret).execute(&self.operator).await.unwrap();
    }

    /// Why nothing moves, for a test that fails.
    pub(crate) async fn state(&self, secret: &str) -> String {
        let sql = "SELECT coalesce( \
            (SELECT rotation ->> 'state' FROM rota.rotations WHERE secret = $1 ORDER BY opened_at DESC LIMIT 1), \
            (SELECT postponed_why FROM rota.secrets WHERE id = $1), \
            (SELECT string_agg(o::text, ' ') FROM rota.orders o WHERE secret = $1))";
        let state: Option<String> =
            sqlx::query_scalar(sql).bind(secret).fetch_one(&self.operator).await.unwrap();
        state.unwrap_or_else(|| "no rotation and no reason".to_owned())
    }

    /// How many rotations of the secret ended in `phase`.
    pub(crate) async fn ended(&self, secret: &str, phase: &str) -> i64 {
        let sql = "SELECT count(*) FROM rota.rotations WHERE secret = $1 AND phase = $2";
        sqlx::query_scalar(sql).bind(secret).bind(phase).fetch_one(&self.operator).await.unwrap()
    }

    /// Works until `enough` says so.
    pub(crate) async fn work_until<F: Future<Output = bool>>(&self, secret: &str, enough: impl Fn() -> F) {
        self.work_with(&[&self.engine("test")], secret, enough).await;
    }

    /// Lets all `engines` work at once until `enough` says so. Where time is real, so are
    /// the machine's own waits (overlap, `token_ttl`), which are short then; a pause until
    /// the next look is cut short. Where it is simulated, it moves on to the next thing
    /// that somebody waits for.
    pub(crate) async fn work_with<F: Future<Output = bool>>(
        &self,
        engines: &[&Engine],
        secret: &str,
        enough: impl Fn() -> F,
    ) {
        let immortal = Notify::new();
        let engines: Vec<_> = engines.iter().map(|engine| (*engine, &immortal)).collect();
        self.work_with_mortals(&engines, secret, enough).await;
    }

    /// The same with engines of which each ends, wherever it is, once its `Notify` says so.
    /// Returns also when none is left.
    #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
    pub(crate) async fn work_with_mortals<F: Future<Output = bool>>(
        &self,
        engines: &[(&Engine, &Notify)],
        secret: &str,
        enough: impl Fn() -> F,
    ) {
        let started = Instant::now();
        let mut alive: Vec<_> = engines.to_vec();
        for round in 0.. {
            if alive.is_empty() || enough().await {
                return;
            }
            let rounds = alive.iter().map(|(engine, end)| async {
                tokio::select! {
                    moved = self.round(engine, &enough) => Some(moved),
                    () = end.notified() => None,
                }
            });
            let moved = join_all(rounds).await;
            let mut survived = moved.iter().map(Option::is_some);
            alive.retain(|_| survived.next().unwrap_or_default());
            self.consumers.use_secrets();
            let too_long = if self.time.is_simulated() { round > ROUNDS } else { started.elapsed() > LIMIT };
            if too_long {
                panic!("{secret} does not move: {}", self.state(secret).await);
            }
            if moved.contains(&Some(true)) {
                continue;
            }
            if self.time.is_simulated() {
                self.pass_to_the_next_thing().await;
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.look_again().await;
            }
        }
    }

    /// Works like [`World::work_until_ended`], and is killed again and again on the way:
    /// each process holds its lease when it ends, and lives longer by a fifth than the one
    /// before; the first for `life`.
    #[expect(clippy::disallowed_methods, reason = "a test's deadline")]
    pub(crate) async fn work_and_die_until_ended(
        &self,
        secret: &str,
        phase: &str,
        mut life: Duration,
    ) -> u32 {
        let started = Instant::now();
        let mut deaths = 0;
        while self.ended(secret, phase).await == 0 {
            let work = self.work_until(secret, || async { self.ended(secret, phase).await > 0 });
            if tokio::time::timeout(life, work).await.is_err() {
                deaths += 1;
                life = life.mul_f64(1.2);
            }
            assert!(started.elapsed() < LIMIT * 3, "{secret} does not move: {}", self.state(secret).await);
            // The lease of a process that died lapses by itself, only later.
            for table in ["rotations", "rollouts"] {
                let sql = format!(
                    "UPDATE rota.{table} SET lease_until = clock_timestamp() WHERE holder IS NOT NULL"
                );
                sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&self.operator).await.unwrap();
            }
        }
        deaths
    }

    /// One claim at a time: `enough` sees every point where a rotation waits.
    async fn round<F: Future<Output = bool>>(&self, engine: &Engine, enough: &impl Fn() -> F) -> bool {
        engine.open_due().await.unwrap();
        let mut moved = engine.drive_one().await.unwrap().is_some();
        if !enough().await {
            moved |= engine.drive_rollout().await.unwrap().is_some();
        }
        engine.remind().await.unwrap();
        moved
    }

    /// Lets time pass until a rotation or a rollout wakes, a lease lapses or a secret is due.
    pub(crate) async fn pass_to_the_next_thing(&self) {
        let sql = "SELECT (extract(epoch FROM min(at) - clock_timestamp()) * 1e6)::bigint FROM ( \
            SELECT greatest(wake_at, lease_until) FROM rota.rotations WHERE ended_at IS NULL \
            UNION ALL SELECT greatest(wake_at, lease_until) FROM rota.rollouts r WHERE ended_at IS NULL \
                AND (state <> 'requested' OR NOT EXISTS (SELECT FROM rota.rollouts o \
                    WHERE o.consumer = r.consumer AND o.state IN ('starting', 'begun'))) \
            UNION ALL SELECT starts_at FROM rota.secrets s WHERE removed_at IS NULL AND blocked_by IS NULL \
                AND NOT EXISTS (SELECT FROM rota.rotations r WHERE r.secret = s.id AND r.ended_at IS NULL) \
            UNION ALL SELECT not_before FROM rota.orders WHERE handled_at IS NULL \
        ) AS next (at)";
        let next: Option<i64> = sqlx::query_scalar(sql).fetch_one(&self.operator).await.unwrap();
        let next = SignedDuration::from_micros(next.expect("nobody waits for anything"));
        self.consumers.pass(next.max(SHORTEST_STEP)).await;
    }

    /// Ends every pause until the next look; what a look finds decides as always.
    async fn look_again(&self) {
        for table in ["rotations", "rollouts"] {
            let sql = format!("UPDATE rota.{table} SET wake_at = clock_timestamp() WHERE ended_at IS NULL");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&self.operator).await.unwrap();
        }
    }

    pub(crate) async fn work_until_ended(&self, secret: &str, phase: &str, times: i64) {
        self.work_until(secret, || async { self.ended(secret, phase).await >= times }).await;
    }

    /// Works until the rotation in flight stands at `step`.
    pub(crate) async fn work_until_step(&self, secret: &str, step: &str) {
        self.work_until(secret, || async { self.step(secret).await.as_deref() == Some(step) }).await;
    }

    /// The step of the rotation in flight, held ones included.
    pub(crate) async fn step(&self, secret: &str) -> Option<String> {
        let sql = "SELECT step FROM rota.rotations WHERE secret = $1 AND ended_at IS NULL";
        sqlx::query_scalar(sql).bind(secret).fetch_optional(&self.operator).await.unwrap().flatten()
    }

    /// The id of the rotation in flight.
    pub(crate) async fn rotation(&self, secret: &str) -> uuid::Uuid {
        let sql = "SELECT id FROM rota.rotations WHERE secret = $1 AND ended_at IS NULL";
        sqlx::query_scalar(sql).bind(secret).fetch_one(&self.operator).await.unwrap()
    }

    /// Works until the rotation in flight is held; says why.
    pub(crate) async fn work_until_held(&self, secret: &str) -> String {
        let reason = || async {
            let sql = "SELECT rotation #>> '{state,reason}' FROM rota.rotations \
                WHERE secret = $1 AND phase = 'held' AND ended_at IS NULL";
            let reason: Option<Option<String>> =
                sqlx::query_scalar(sql).bind(secret).fetch_optional(&self.operator).await.unwrap();
            reason.flatten()
        };
        self.work_until(secret, || async { reason().await.is_some() }).await;
        reason().await.unwrap()
    }

    /// Works until the secret was postponed; says why.
    pub(crate) async fn work_until_postponed(&self, secret: &str) -> String {
        let reason = || async {
            let sql = "SELECT coalesce(postponed_why, \
                (SELECT waiting FROM rota.orders WHERE secret = $1 ORDER BY id DESC LIMIT 1)) \
                FROM rota.secrets WHERE id = $1";
            let reason: Option<String> =
                sqlx::query_scalar(sql).bind(secret).fetch_one(&self.operator).await.unwrap();
            reason
        };
        self.work_until(secret, || async { reason().await.is_some() }).await;
        reason().await.unwrap()
    }
}
