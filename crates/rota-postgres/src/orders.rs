//! What people ask for, through the functions that record who asked and why.
//!
//! Works with the rights of `rota_operator`. Deliberately absent: any other write.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use rota_core::fault::Fault;
use rota_core::id::{Epoch, Incarnation, RotationId, SecretId, StoreId, VersionRef};
use rota_core::policy::model::PolicyEntry;
use rota_core::rotation::Suspect;
use rota_engine::ports::{OrderId, OrderKind};
use uuid::Uuid;

use crate::connect::JournalPool;
use crate::error::{Doing as _, unreadable};
use crate::journal::micros;

const DOING: &str = "giving an order";

/// Who asks and why; the database adds its own name of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// 1 to 200 characters.
    pub given_name: String,
    /// 1 to 2000 characters.
    pub reason: String,
}

/// The age of a value that was made before Rota took it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    pub last_rotated: Option<Timestamp>,
    /// Both follow from the policy's schedule.
    pub next_due: Option<Timestamp>,
    pub next_start: Option<Timestamp>,
}

/// An env file that is what it was in a sealed copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredFile {
    pub store: StoreId,
    pub file: String,
    /// The copy's number.
    pub backup: u64,
    /// The version that the file is now.
    pub version: VersionRef,
}

/// What a person needs to put a value into a rotation's slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    pub rotation: RotationId,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    /// The rotation's copy.
    pub policy: PolicyEntry,
}

/// Gives orders. Each is one transaction: recorded, in history, and the rotation in
/// flight under a new epoch and awake.
#[derive(Clone)]
pub struct Orders {
    pool: JournalPool,
}

impl Orders {
    #[must_use]
    pub fn new(pool: JournalPool) -> Self {
        Self { pool }
    }

    /// Asks for `kind`. [`OrderKind::Submitted`] goes through [`Orders::submitted`].
    ///
    /// # Errors
    /// [`Fault::Invalid`] for an unknown secret and for a missing name or reason,
    /// [`Fault::Denied`] without the rights of an operator.
    pub async fn give(&self, secret: &SecretId, kind: &OrderKind, asked: &Asked) -> Result<OrderId, Fault> {
        let sql = match kind {
            OrderKind::Rotate => "SELECT rota.order_rotate($1, $2, $3)",
            OrderKind::Hold => "SELECT rota.order_hold($1, $2, $3)",
            OrderKind::Resume => "SELECT rota.order_resume($1, $2, $3)",
            OrderKind::Rollback => "SELECT rota.order_rollback($1, $2, $3)",
            OrderKind::Abandon => "SELECT rota.order_abandon($1, $2, $3)",
            OrderKind::Confirm => "SELECT rota.order_confirm($1, $2, $3)",
            OrderKind::Emergency { .. } => "SELECT rota.order_emergency($1, $4, $2, $3)",
            OrderKind::Submitted => {
                return Err(Fault::invalid("a submitted value belongs to one rotation; name it"));
            }
        };
        let mut query = sqlx::query_scalar(sql)
            .bind(secret.as_str())
            .bind(plain(&asked.reason))
            .bind(plain(&asked.given_name));
        if let OrderKind::Emergency { suspect } = kind {
            query = query.bind(suspect.map(|suspect| match suspect {
                Suspect::Older => "older",
                Suspect::Newer => "newer",
            }));
        }
        query.fetch_one(&self.pool.pool).await.doing(DOING).map(OrderId)
    }

    /// Takes the waiting rotation of the secret for a quarter of an hour, before a value
    /// is written into its slot.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where no rotation waits for a value, or somebody else is
    /// submitting one.
    pub async fn begin_submission(&self, secret: &SecretId, given_name: &str) -> Result<Submission, Fault> {
        let sql =
            "SELECT rotation, incarnation, epoch, policy::text FROM rota.order_begin_submission($1, $2)";
        let query = sqlx::query_as(sql).bind(secret.as_str()).bind(plain(given_name));
        let (rotation, incarnation, epoch, policy): (Uuid, i64, i64, String) =
            query.fetch_one(&self.pool.pool).await.doing(DOING)?;
        Ok(Submission {
            rotation: RotationId(rotation),
            incarnation: Incarnation(incarnation),
            epoch: Epoch(epoch),
            policy: serde_json::from_str(&policy).map_err(|_| unreadable("a rotation's policy"))?,
        })
    }

    /// Tells of something that is alive and that nobody uses, such as a key that was
    /// made for a rotation which no longer takes it. Returns its number.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the secret has no such rotation.
    pub async fn report_orphan(
        &self,
        secret: &SecretId,
        rotation: RotationId,
        what: &str,
        given_name: &str,
    ) -> Result<i64, Fault> {
        let query = sqlx::query_scalar("SELECT rota.order_report_orphan($1, $2, $3, $4)")
            .bind(secret.as_str())
            .bind(rotation.0)
            .bind(plain(what))
            .bind(plain(given_name));
        query.fetch_one(&self.pool.pool).await.doing(DOING)
    }

    /// Says that the candidate of `rotation` is in its slot.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the rotation no longer waits for it: the key that was
    /// made has to be revoked at the provider.
    pub async fn submitted(
        &self,
        secret: &SecretId,
        rotation: RotationId,
        asked: &Asked,
    ) -> Result<OrderId, Fault> {
        let query = sqlx::query_scalar("SELECT rota.order_submitted($1, $2, $3, $4)")
            .bind(secret.as_str())
            .bind(rotation.0)
            .bind(plain(&asked.reason))
            .bind(plain(&asked.given_name));
        query.fetch_one(&self.pool.pool).await.doing(DOING).map(OrderId)
    }

    /// Tells when the value in use was really made. Applied at once.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for a date in the future and while a rotation is in flight.
    pub async fn adopt(&self, secret: &SecretId, adoption: &Adoption, asked: &Asked) -> Result<(), Fault> {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_sqlx());
        let query = sqlx::query("SELECT rota.order_adopt($1, $2, $3, $4, $5, $6)")
            .bind(secret.as_str())
            .bind(time(adoption.last_rotated))
            .bind(time(adoption.next_due))
            .bind(time(adoption.next_start))
            .bind(plain(&asked.reason))
            .bind(plain(&asked.given_name));
        query.execute(&self.pool.pool).await.doing(DOING).map(|_| ())
    }

    /// Says that one orphan of the secret, or (`None`) everything that was left alive,
    /// is dealt with; with the last one the secret may rotate again. Applied at once.
    /// Returns how many orphans that were.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where no open orphan has that number.
    pub async fn resolve_orphan(
        &self,
        secret: &SecretId,
        orphan: Option<i64>,
        asked: &Asked,
    ) -> Result<i64, Fault> {
        let query = sqlx::query_scalar("SELECT rota.order_resolve_orphan($1, $2, $3, $4)")
            .bind(secret.as_str())
            .bind(orphan)
            .bind(plain(&asked.reason))
            .bind(plain(&asked.given_name));
        query.fetch_one(&self.pool.pool).await.doing(DOING)
    }

    /// Consents to replacing the accepted version `replaces` by the policy of `digest`;
    /// `removals`: also where it loses many secrets. A daemon takes it from its source.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where another version was accepted meanwhile.
    pub async fn accept_policy(
        &self,
        digest: &str,
        replaces: i64,
        removals: bool,
        asked: &Asked,
    ) -> Result<i64, Fault> {
        let query = sqlx::query_scalar("SELECT rota.order_accept_policy($1, $2, $3, $4, $5)")
            .bind(digest)
            .bind(replaces)
            .bind(removals)
            .bind(plain(&asked.reason))
            .bind(plain(&asked.given_name));
        query.fetch_one(&self.pool.pool).await.doing(DOING)
    }

    /// Keeps in history that a sealed copy was put back in place of an env file.
    ///
    /// # Errors
    /// [`Fault::Denied`] without the rights of an operator.
    pub async fn restored_file(&self, restored: &RestoredFile, asked: &Asked) -> Result<(), Fault> {
        let RestoredFile { store, file, backup, version } = restored;
        let query = sqlx::query("SELECT rota.order_restored_file($1, $2, $3, $4, $5, $6)")
            .bind(store.as_str())
            .bind(plain(file))
            .bind(i64::try_from(*backup).unwrap_or(i64::MAX))
            .bind(&version.0)
            .bind(plain(&asked.reason))
            .bind(plain(&asked.given_name));
        query.execute(&self.pool.pool).await.doing("recording a restored file").map(|_| ())
    }

    /// The running incarnation, and whether it can be trusted.
    ///
    /// # Errors
    /// [`Fault::Denied`] without the rights of an operator.
    pub async fn incarnation(&self) -> Result<IncarnationState, Fault> {
        let sql = "SELECT number, trusted, same_server, suspended_because FROM rota.order_show_incarnation()";
        let (number, trusted, same_server, suspended_because): (i64, bool, bool, Option<String>) =
            sqlx::query_as(sql).fetch_one(&self.pool.pool).await.doing("reading the incarnation")?;
        Ok(IncarnationState { number: Incarnation(number), trusted, same_server, suspended_because })
    }

    /// Goes on after a restored backup under a `number` from outside the database.
    /// `differing` says what was seen of each secret whose store shows something else
    /// than the journal: none of them moves before it is reconciled. Nothing is claimed
    /// for `pause`. Returns how many secrets were stopped.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where there is nothing to recover, [`Fault::Invalid`] where
    /// the number is not greater than every earlier one.
    pub async fn recover(
        &self,
        number: Incarnation,
        differing: &BTreeMap<SecretId, String>,
        pause: SignedDuration,
        asked: &Asked,
    ) -> Result<i64, Fault> {
        let differing: BTreeMap<&str, String> =
            differing.iter().map(|(secret, seen)| (secret.as_str(), plain(seen))).collect();
        let sql = "SELECT rota.order_recover($1, $2::jsonb, $3 * interval '1 microsecond', $4, $5)";
        let query = sqlx::query_scalar(sql)
            .bind(number.0)
            .bind(serde_json::json!(differing).to_string())
            .bind(micros(pause))
            .bind(plain(&asked.reason))
            .bind(plain(&asked.given_name));
        query.fetch_one(&self.pool.pool).await.doing(DOING)
    }

    /// Goes on after a recovery, under a number from outside the database.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the number is not greater than every earlier one.
    pub async fn begin_incarnation(&self, number: Incarnation, asked: &Asked) -> Result<(), Fault> {
        let query = sqlx::query("SELECT rota.order_begin_incarnation($1, $2, $3)")
            .bind(number.0)
            .bind(plain(&asked.reason))
            .bind(plain(&asked.given_name));
        query.execute(&self.pool.pool).await.doing(DOING).map(|_| ())
    }
}

/// Whether the state database still is the one that its incarnation began on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncarnationState {
    pub number: Incarnation,
    /// Work may go on.
    pub trusted: bool,
    pub same_server: bool,
    /// Why nothing may be claimed.
    pub suspended_because: Option<String>,
}

/// Postgres cannot keep the character NUL.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
