use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::id::{OwnerId, RotationId, SecretId};
use rota_core::policy::model::Priority;
use serde::{Deserialize, Serialize};

/// Something that people should know. Never holds a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Two notices with one key are one notice.
    pub key: String,
    pub kind: NoticeKind,
    pub secret: Option<SecretId>,
    pub rotation: Option<RotationId>,
    pub owner: Option<OwnerId>,
    pub priority: Priority,
    /// What happened.
    pub what: String,
    /// What it means now ("the old value still works").
    pub impact: String,
    /// What happens next, and when.
    pub next: String,
    /// What to run.
    pub command: Option<String>,
    /// A page to open.
    pub link: Option<String>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    DueSoon,
    Overdue,
    WaitingForPerson,
    Started,
    CheckFailed,
    RolledBack,
    Held,
    Completed,
    Emergency,
    Abandoned,
    PolicyAccepted,
    PolicyRejected,
    Digest,
    Test,
}

impl NoticeKind {
    /// The name as stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DueSoon => "due_soon",
            Self::Overdue => "overdue",
            Self::WaitingForPerson => "waiting_for_person",
            Self::Started => "started",
            Self::CheckFailed => "check_failed",
            Self::RolledBack => "rolled_back",
            Self::Held => "held",
            Self::Completed => "completed",
            Self::Emergency => "emergency",
            Self::Abandoned => "abandoned",
            Self::PolicyAccepted => "policy_accepted",
            Self::PolicyRejected => "policy_rejected",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}

/// Notices taken from the outbox for one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxClaim {
    /// The outbox's own number of each notice, in order.
    pub notices: Vec<(i64, Notice)>,
    pub channel: String,
    /// Failed deliveries in a row of the first notice.
    pub failures: u32,
}

/// A channel that reaches people or programs.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// The channel's name in the outbox: `slack`, `slack-fallback`, `webhook`.
    fn channel(&self) -> &str;

    /// Delivers the notices, as one message where there are several. At least once.
    ///
    /// # Errors
    /// [`Fault::RateLimited`] and [`Fault::Transient`] are tried again; the others
    /// mark the channel dead until its settings change.
    async fn deliver(&self, notices: &[Notice]) -> Result<(), Fault>;
}
