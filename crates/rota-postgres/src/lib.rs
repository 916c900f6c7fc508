//! The journal on Postgres 14 and later.
//!
//! What is due, what is in flight, what happened: claims with leases and epochs,
//! records in one transaction each, the append-only history, the outbox. Every time
//! is the database's clock's. Deliberately absent: any knowledge of stores, rotators
//! and channels, secret values, and transactions that stay open across a network call.
//!
//! Locks are always taken in this order, so that no two transactions wait for each
//! other: a rotation's row, its secret's row, the rows of consumers by name, their
//! rollouts, orders and orphans, the heads of history chains by name, the outbox.

mod connect;
mod error;
mod identity;
mod journal;
mod listen;
mod migrate;
mod orders;
mod reports;

pub use connect::{ConnectSettings, JournalPool, PasswordSource};
pub use journal::{PgJournal, PolicyConsent, Pruned, Retention};
pub use listen::Wakes;
pub use migrate::{BinaryVersion, Migrated, check_schema, migrate};
pub use orders::{Adoption, Asked, IncarnationState, Orders, RestoredFile, Submission};
pub use reports::{
    ChannelStatus, Counts, Exported, HistoryFilter, HistoryLine, InFlight, NotWhole, ObservationLine,
    OrderLine, Orphan, OverdueSecret, Reports, RolloutLine, RotationSummary, SecretStatus, ServedRollout,
};
