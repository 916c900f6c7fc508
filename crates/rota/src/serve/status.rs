//! The document behind the status page and `/status.json`, and the gauges.

use jiff::{SignedDuration, Timestamp};
use metrics::gauge;
use rota_core::fault::Fault;
use rota_engine::ports::AcceptedPolicy;
use rota_postgres::{ChannelStatus, Counts, Reports, RolloutLine};
use serde::Serialize;

use super::board::Trouble;
use super::work::Crew;
use crate::view::Secret;

/// As many as a page can show; the rest is at rest, and counted.
const SECRETS_SHOWN: u32 = 300;

/// Ended rollouts stay on the page for this long.
const ROLLOUTS_SHOWN_FOR: SignedDuration = SignedDuration::from_secs(20);

/// Phases that are shown as zero where there is none, so that a graph has no holes.
const PHASES: [&str; 6] = ["generate", "dual_run", "monitor", "retire", "rolling_back", "held"];

const PRIORITIES: [&str; 4] = ["critical", "high", "medium", "low"];

/// Everything that the page shows, read at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Status {
    pub(super) now: Timestamp,
    pub(super) policy: Option<PolicyLine>,
    pub(super) counts: Counts,
    /// In flight first, then by due date.
    pub(super) secrets: Vec<Secret>,
    pub(super) rollouts: Vec<RolloutLine>,
    pub(super) channels: Vec<ChannelStatus>,
}

/// The accepted policy, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PolicyLine {
    application: String,
    environment: rota_core::policy::model::Environment,
    version: i64,
    accepted_by: String,
    accepted_at: Timestamp,
}

impl From<&AcceptedPolicy> for PolicyLine {
    fn from(accepted: &AcceptedPolicy) -> Self {
        Self {
            application: accepted.policy.shared().application.clone(),
            environment: accepted.policy.shared().environment,
            version: accepted.version,
            accepted_by: accepted.by.clone(),
            accepted_at: accepted.at,
        }
    }
}

/// Reads it all.
pub(super) async fn read(reports: &Reports, policy: Option<&AcceptedPolicy>) -> Result<Status, Fault> {
    Ok(Status {
        now: reports.now().await?,
        policy: policy.map(PolicyLine::from),
        counts: reports.counts().await?,
        secrets: reports.foremost(SECRETS_SHOWN).await?.into_iter().map(Secret::from).collect(),
        rollouts: reports.rollouts(ROLLOUTS_SHOWN_FOR).await?,
        channels: reports.channels().await?,
    })
}

/// Reads it again and again.
pub(super) async fn keep(crew: Crew, reports: Reports, every: SignedDuration) {
    while !crew.stop.is_cancelled() {
        let status = match crew.engine.refresh_policy().await {
            Ok(policy) => read(&reports, policy.as_deref()).await,
            Err(fault) => Err(fault),
        };
        match status {
            Ok(status) => {
                measure(&status);
                report_channels(&crew, &status.channels);
                crew.board.report("database", None);
                crew.board.show(status);
                crew.pause(every).await;
            }
            Err(fault) => crew.after_fault(&fault).await,
        }
    }
}

/// A dead channel is seen in health, not only in the channel that is dead.
fn report_channels(crew: &Crew, channels: &[ChannelStatus]) {
    for channel in channels {
        let trouble = channel.last_fault.as_ref().filter(|_| channel.failures > 0).map(|fault| Trouble {
            message: format!(
                "{} failed deliveries in a row, {} waiting: {fault}",
                channel.failures, channel.pending
            ),
            blocks: false,
        });
        crew.board.report(&format!("channel {}", channel.channel), trouble);
    }
}

/// A count as a gauge wants it: exact far beyond any number of secrets.
fn number(count: i64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn measure(status: &Status) {
    let counts = &status.counts;
    gauge!("rota_database_up").set(1.0);
    gauge!("rota_secrets").set(number(counts.secrets));
    gauge!("rota_secrets_blocked").set(number(counts.blocked));
    gauge!("rota_orphans").set(number(counts.orphans));
    gauge!("rota_rotations_waiting_for_person").set(number(counts.waiting_for_person));
    for phase in PHASES {
        let count = counts.rotations.get(phase).copied().unwrap_or(0);
        gauge!("rota_rotations", "phase" => phase).set(number(count));
    }
    for priority in PRIORITIES {
        let count = counts.overdue.get(priority).copied().unwrap_or(0);
        gauge!("rota_secrets_overdue", "priority" => priority).set(number(count));
    }
    let overdue = counts.oldest_overdue_at.map_or(0, |since| status.now.duration_since(since).as_secs());
    gauge!("rota_oldest_overdue_seconds").set(number(overdue));
    gauge!("rota_policy_version").set(status.policy.as_ref().map_or(0.0, |policy| number(policy.version)));
    for channel in &status.channels {
        let up = if channel.failures == 0 { 1.0 } else { 0.0 };
        gauge!("rota_channel_up", "channel" => channel.channel.clone()).set(up);
        gauge!("rota_channel_pending", "channel" => channel.channel.clone()).set(number(channel.pending));
    }
}
