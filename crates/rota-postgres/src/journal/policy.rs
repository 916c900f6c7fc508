//! The accepted policy, and the rows of its secrets.
//!
//! A due date is stored and stays: only a promotion, an adoption or an edit of the
//! schedule moves it, never a restart or a re-acceptance.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::policy::CompactPolicy;
use rota_core::policy::model::{Policy, SecretPolicy};
use rota_core::schedule::Start;
use rota_engine::ports::{AcceptedPolicy, HistoryEntry, Notice};
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};

use super::{
    ACTOR, PgJournal, append_history, from_json, outbox, rank, sql_time, to_json, wake, without_nul_text,
};
use crate::error::Doing as _;

const DOING: &str = "accepting the policy";

/// Names in one line of history; the rest is counted. `rota.policies` keeps all.
const NAMED_IN_HISTORY: usize = 100;

/// One policy is accepted at a time: "rotp" in ASCII.
const LOCK: i64 = 0x726f_7470;

pub(super) async fn accepted(
    journal: &PgJournal,
    known: Option<i64>,
) -> Result<Option<AcceptedPolicy>, Fault> {
    const DOING: &str = "reading the accepted policy";
    let sql = "SELECT version, digest, policy::text AS policy, accepted_by, accepted_at FROM rota.policies \
        WHERE version = (SELECT max(version) FROM rota.policies) AND version IS DISTINCT FROM $1";
    let row = sqlx::query(sql).bind(known).fetch_optional(journal.pool()).await.doing(DOING)?;
    row.as_ref().map(of_row).transpose()
}

/// The policy is borrowed from the row: of a hundred thousand secrets the text is long.
fn of_row(row: &PgRow) -> Result<AcceptedPolicy, Fault> {
    const DOING: &str = "reading the accepted policy";
    let policy = Arc::new(from_json("the accepted policy", row.try_get("policy").doing(DOING)?)?);
    let at: jiff_sqlx::Timestamp = row.try_get("accepted_at").doing(DOING)?;
    Ok(AcceptedPolicy {
        version: row.try_get("version").doing(DOING)?,
        digest: row.try_get("digest").doing(DOING)?,
        policy,
        by: row.try_get("accepted_by").doing(DOING)?,
        at: at.to_jiff(),
    })
}

/// The accepted policy, through the view that people may read.
pub(crate) async fn seen(pool: &PgPool) -> Result<Option<AcceptedPolicy>, Fault> {
    let sql =
        "SELECT version, digest, policy::text AS policy, accepted_by, accepted_at FROM rota.accepted_policy";
    let row = sqlx::query(sql).fetch_optional(pool).await.doing("reading the accepted policy")?;
    row.as_ref().map(of_row).transpose()
}

/// A person's consent to a policy that no daemon takes by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConsent {
    /// The given name, and in brackets the login at the database.
    pub by: String,
    pub reason: String,
    /// Also to losing many secrets.
    pub removals: bool,
}

pub(super) async fn consent(
    journal: &PgJournal,
    digest: &str,
    replaces: i64,
) -> Result<Option<PolicyConsent>, Fault> {
    let sql = "SELECT format('%s (%s)', given_name, db_user), reason, removals FROM rota.policy_consents \
        WHERE digest = $1 AND replaces = $2 ORDER BY removals DESC, id DESC LIMIT 1";
    let query = sqlx::query_as(sql).bind(digest).bind(replaces);
    let row: Option<(String, String, bool)> =
        query.fetch_optional(journal.pool()).await.doing("looking for a consent")?;
    Ok(row.map(|(by, reason, removals)| PolicyConsent { by, reason, removals }))
}

/// The mark of the texts that the accepted policy of that version was read from.
pub(super) async fn source(journal: &PgJournal, version: i64) -> Result<Option<String>, Fault> {
    let query = sqlx::query_scalar("SELECT source FROM rota.policies WHERE version = $1").bind(version);
    let source: Option<Option<String>> =
        query.fetch_optional(journal.pool()).await.doing("reading the policy's source")?;
    Ok(source.flatten())
}

pub(super) async fn keep_source(journal: &PgJournal, version: i64, mark: &str) -> Result<(), Fault> {
    let query =
        sqlx::query("UPDATE rota.policies SET source = $2 WHERE version = $1 AND source IS DISTINCT FROM $2");
    query
        .bind(version)
        .bind(mark)
        .execute(journal.pool())
        .await
        .doing("keeping the policy's source")
        .map(|_| ())
}

pub(super) async fn was_accepted(journal: &PgJournal, digest: &str) -> Result<bool, Fault> {
    let query =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM rota.policies WHERE digest = $1)").bind(digest);
    query.fetch_one(journal.pool()).await.doing("reading the accepted policy")
}

pub(super) async fn accept(
    journal: &PgJournal,
    policy: &Policy,
    digest: &str,
    by: &str,
    tell: impl FnOnce(&AcceptedPolicy) -> Vec<Notice> + Send,
) -> Result<AcceptedPolicy, Fault> {
    let mut tx = journal.pool().begin().await.doing(DOING)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await.doing(DOING)?;
    let sql = "SELECT clock_timestamp() AS now, p.version, p.digest, p.accepted_by, p.accepted_at \
        FROM (SELECT 1) one LEFT JOIN rota.policies p ON p.version = (SELECT max(version) FROM rota.policies)";
    let row = sqlx::query(sql).fetch_one(&mut *tx).await.doing(DOING)?;
    let version: i64 = row.try_get::<Option<i64>, _>("version").doing(DOING)?.unwrap_or(0);
    let current: Option<String> = row.try_get("digest").doing(DOING)?;
    if current.as_deref() == Some(digest) {
        let at: jiff_sqlx::Timestamp = row.try_get("accepted_at").doing(DOING)?;
        let by = row.try_get("accepted_by").doing(DOING)?;
        let policy = Arc::new(compact(policy)?);
        return Ok(AcceptedPolicy { version, digest: digest.to_owned(), policy, by, at: at.to_jiff() });
    }
    let now = row.try_get::<jiff_sqlx::Timestamp, _>("now").doing(DOING)?.to_jiff();
    let accepted = AcceptedPolicy {
        version: version + 1,
        digest: digest.to_owned(),
        policy: Arc::new(compact(policy)?),
        by: without_nul_text(by),
        at: now,
    };
    store(&mut tx, &accepted, policy).await?;
    outbox::add(&mut tx, &tell(&accepted)).await?;
    tx.commit().await.doing(DOING)?;
    Ok(accepted)
}

fn compact(policy: &Policy) -> Result<CompactPolicy, Fault> {
    CompactPolicy::of(policy).map_err(|_| unwritable())
}

fn unwritable() -> Fault {
    Fault::invalid("the policy cannot be written as JSON")
}

async fn store(tx: &mut PgConnection, accepted: &AcceptedPolicy, policy: &Policy) -> Result<(), Fault> {
    let known = known_secrets(tx).await?;
    let changes = Changes::between(&known, policy)?;
    let sql = "INSERT INTO rota.policies (version, digest, policy, accepted_by, accepted_at, changes, secrets) \
        VALUES ($1, $2, $3::json, $4, $5, $6::jsonb, $7)";
    let query = sqlx::query(sql)
        .bind(accepted.version)
        .bind(&accepted.digest)
        // Never as a tree: that of a hundred thousand secrets would be the largest of all.
        // NUL stays an escape here, which the type json keeps as it is.
        .bind(serde_json::to_string(&*accepted.policy).map_err(|_| unwritable())?)
        .bind(&accepted.by)
        .bind(sql_time(accepted.at))
        .bind(to_json(&changes.all())?)
        .bind(i64::try_from(accepted.policy.len()).unwrap_or(i64::MAX));
    query.execute(&mut *tx).await.doing(DOING)?;
    upsert(tx, &known, accepted, policy).await?;
    let sql = "UPDATE rota.secrets SET removed_at = $2 WHERE id = ANY ($1)";
    let query = sqlx::query(sql).bind(&changes.removed).bind(sql_time(accepted.at));
    query.execute(&mut *tx).await.doing(DOING)?;
    let line = HistoryEntry {
        kind: "policy.accepted".to_owned(),
        secret: None,
        rotation: None,
        step: None,
        effect: None,
        actor: if accepted.by.is_empty() { ACTOR.to_owned() } else { accepted.by.clone() },
        detail: json!({
            "version": accepted.version,
            "digest": accepted.digest,
            "secrets": accepted.policy.len(),
            "changes": changes.summary(),
        }),
    };
    append_history(tx, &[line]).await?;
    wake(tx, "policy").await
}

/// What the journal knows of a secret, as far as a new policy is concerned.
struct Known {
    /// The stored columns that come from the policy, to tell whether they changed.
    described: Described,
    in_policy: bool,
    added_at: Timestamp,
    last_promoted_at: Option<Timestamp>,
    next_due_at: Option<Timestamp>,
    next_start_at: Option<Timestamp>,
}

/// The part of a secret's policy that its row holds.
#[derive(PartialEq)]
struct Described {
    kind: String,
    priority: i16,
    owner: Option<String>,
    consumers: Vec<String>,
    schedule: Value,
    start_rule: Value,
}

impl Described {
    fn of(secret: &SecretPolicy) -> Result<Self, Fault> {
        let json = |value: Result<Value, serde_json::Error>| {
            value.map_err(|_| Fault::invalid("a schedule cannot be written as JSON"))
        };
        Ok(Self {
            kind: secret.kind.clone(),
            priority: rank(secret.priority),
            owner: secret.owner.as_ref().map(|owner| owner.as_str().to_owned()),
            consumers: secret.consumers.names().iter().map(|id| id.as_str().to_owned()).collect(),
            schedule: json(serde_json::to_value(&secret.schedule))?,
            start_rule: json(serde_json::to_value((secret.lead, &secret.window)))?,
        })
    }
}

async fn known_secrets(tx: &mut PgConnection) -> Result<BTreeMap<String, Known>, Fault> {
    let sql = "SELECT id, kind, priority, owner, consumers, schedule::text, start_rule::text, removed_at IS NULL, \
        added_at, last_promoted_at, next_due_at, next_start_at FROM rota.secrets ORDER BY id FOR NO KEY UPDATE";
    let rows = sqlx::query(sql).fetch_all(tx).await.doing(DOING)?;
    let mut known = BTreeMap::new();
    for row in rows {
        let time = |column: usize| {
            let at: Option<jiff_sqlx::Timestamp> = row.try_get(column).doing(DOING)?;
            Ok::<_, Fault>(at.map(|at| at.to_jiff()))
        };
        let secret = Known {
            described: Described {
                kind: row.try_get(1).doing(DOING)?,
                priority: row.try_get(2).doing(DOING)?,
                owner: row.try_get(3).doing(DOING)?,
                consumers: row.try_get(4).doing(DOING)?,
                schedule: from_json("a schedule", row.try_get(5).doing(DOING)?)?,
                start_rule: from_json("a schedule", row.try_get(6).doing(DOING)?)?,
            },
            in_policy: row.try_get(7).doing(DOING)?,
            added_at: row.try_get::<jiff_sqlx::Timestamp, _>(8).doing(DOING)?.to_jiff(),
            last_promoted_at: time(9)?,
            next_due_at: time(10)?,
            next_start_at: time(11)?,
        };
        known.insert(row.try_get(0).doing(DOING)?, secret);
    }
    Ok(known)
}

/// Ids that a policy adds, removes and changes.
struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

impl Changes {
    fn between(known: &BTreeMap<String, Known>, policy: &Policy) -> Result<Self, Fault> {
        let mut changes = Self { added: Vec::new(), removed: Vec::new(), changed: Vec::new() };
        for (id, secret) in &policy.secrets {
            match known.get(id.as_str()) {
                Some(known) if known.in_policy => {
                    if known.described != Described::of(secret)? {
                        changes.changed.push(id.to_string());
                    }
                }
                Some(_) | None => changes.added.push(id.to_string()),
            }
        }
        let names: std::collections::BTreeSet<&str> = policy.secrets.keys().map(|id| id.as_str()).collect();
        let gone = known.iter().filter(|(id, known)| known.in_policy && !names.contains(id.as_str()));
        changes.removed = gone.map(|(id, _)| id.clone()).collect();
        Ok(changes)
    }

    fn all(&self) -> Value {
        json!({ "added": self.added, "removed": self.removed, "changed": self.changed })
    }

    fn summary(&self) -> Value {
        let short = |ids: &[String]| {
            let named: Vec<&String> = ids.iter().take(NAMED_IN_HISTORY).collect();
            json!({ "count": ids.len(), "ids": named })
        };
        json!({
            "added": short(&self.added),
            "removed": short(&self.removed),
            "changed": short(&self.changed),
        })
    }
}

/// When the next value must be promoted and when its rotation starts.
fn dates(
    secret: &SecretPolicy,
    described: &Described,
    known: Option<&Known>,
    now: Timestamp,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let start = Start { lead: secret.lead, window: secret.window.as_ref() };
    let Some(known) = known else {
        let due = secret.schedule.first_due(now, None, None, start).map(|due| due.at);
        return (due, due.map(|due| start.of(due)));
    };
    if known.described.schedule != described.schedule {
        let due = match known.last_promoted_at {
            Some(promoted) => secret.schedule.next_due(promoted, None, start),
            None => secret.schedule.first_due(known.added_at, None, None, start),
        };
        let due = due.map(|due| due.at);
        return (due, due.map(|due| start.of(due)));
    }
    if known.described.start_rule != described.start_rule {
        return (known.next_due_at, known.next_due_at.map(|due| start.of(due)));
    }
    (known.next_due_at, known.next_start_at)
}

/// Writes the rows of all secrets that are new or differ.
async fn upsert(
    tx: &mut PgConnection,
    known: &BTreeMap<String, Known>,
    accepted: &AcceptedPolicy,
    policy: &Policy,
) -> Result<(), Fault> {
    let mut rows = Rows::default();
    for (id, secret) in &policy.secrets {
        let before = known.get(id.as_str());
        let described = Described::of(secret)?;
        if before.is_some_and(|before| before.in_policy && before.described == described) {
            continue;
        }
        let (due, start) = dates(secret, &described, before, accepted.at);
        rows.push(id.as_str(), described, due, start);
    }
    rows.write(tx, accepted).await
}

#[derive(Default)]
struct Rows {
    ids: Vec<String>,
    kinds: Vec<String>,
    priorities: Vec<i16>,
    owners: Vec<Option<String>>,
    /// JSON arrays: Postgres has no arrays of arrays of different lengths.
    consumers: Vec<String>,
    schedules: Vec<String>,
    start_rules: Vec<String>,
    dues: Vec<Option<jiff_sqlx::Timestamp>>,
    starts: Vec<Option<jiff_sqlx::Timestamp>>,
}

impl Rows {
    fn push(&mut self, id: &str, described: Described, due: Option<Timestamp>, start: Option<Timestamp>) {
        self.ids.push(id.to_owned());
        self.kinds.push(without_nul_text(&described.kind));
        self.priorities.push(described.priority);
        self.owners.push(described.owner);
        self.consumers.push(json!(described.consumers).to_string());
        self.schedules.push(described.schedule.to_string());
        self.start_rules.push(described.start_rule.to_string());
        self.dues.push(due.map(sql_time));
        self.starts.push(start.map(sql_time));
    }

    async fn write(self, tx: &mut PgConnection, accepted: &AcceptedPolicy) -> Result<(), Fault> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let sql = "INSERT INTO rota.secrets AS s (id, kind, priority, owner, consumers, schedule, start_rule, \
                policy_version, next_due_at, next_start_at, added_at) \
            SELECT n.id, n.kind, n.priority, n.owner, \
                ARRAY (SELECT jsonb_array_elements_text(n.consumers::jsonb)), \
                n.schedule::jsonb, n.start_rule::jsonb, $10, n.due, n.start, $11 \
            FROM unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[], \
                $8::timestamptz[], $9::timestamptz[]) \
                AS n (id, kind, priority, owner, consumers, schedule, start_rule, due, start) \
            ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, priority = excluded.priority, \
                owner = excluded.owner, consumers = excluded.consumers, schedule = excluded.schedule, \
                start_rule = excluded.start_rule, policy_version = excluded.policy_version, \
                next_due_at = excluded.next_due_at, next_start_at = excluded.next_start_at, removed_at = NULL";
        let query = sqlx::query(sql)
            .bind(self.ids)
            .bind(self.kinds)
            .bind(self.priorities)
            .bind(self.owners)
            .bind(self.consumers)
            .bind(self.schedules)
            .bind(self.start_rules)
            .bind(self.dues)
            .bind(self.starts)
            .bind(accepted.version)
            .bind(sql_time(accepted.at));
        query.execute(tx).await.doing(DOING).map(|_| ())
    }
}
