//! The metrics: names, meanings, and the few that are read from the process itself.
//!
//! Deliberately absent: labels with a secret's name. A hundred thousand series would
//! cost more than they tell; `rota status` and the alerts' messages name secrets.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::exit::{Exit, Failure};

/// Starts measuring; every metric is described, and counters that alerts watch begin at zero.
///
/// # Errors
/// Where metrics were started before in this process.
pub(super) fn start() -> Result<PrometheusHandle, Failure> {
    let handle = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Failure::new(Exit::Failure, format!("cannot start metrics: {error}")))?;
    describe();
    gauge!("rota_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for name in [
        "rota_missed_wakeups_total",
        "rota_bugs_total",
        "rota_journal_faults_total",
        "rota_slack_fallback_total",
    ] {
        counter!(name).absolute(0);
    }
    Ok(handle)
}

fn describe() {
    describe_gauge!("rota_build_info", "The version that runs, as a label; always 1.");
    describe_gauge!("rota_ready", "1 while this process can do its work.");
    describe_gauge!("rota_database_up", "1 while the state database answers.");
    describe_gauge!("rota_secrets", "Secrets in the accepted policy.");
    describe_gauge!("rota_secrets_overdue", "Secrets past their due date without promotion, by priority.");
    describe_gauge!("rota_secrets_blocked", "Secrets that cannot rotate until something is reconciled.");
    describe_gauge!("rota_rotations", "Rotations in flight, by phase.");
    describe_gauge!(
        "rota_rotations_waiting_for_person",
        "Rotations that wait for a value or a confirmation."
    );
    describe_gauge!("rota_orphans", "Credentials left alive by earlier rotations and not reconciled.");
    describe_gauge!(
        "rota_oldest_overdue_seconds",
        Unit::Seconds,
        "How long the longest overdue secret is overdue."
    );
    describe_gauge!("rota_policy_version", "The accepted policy that this process acts on.");
    describe_gauge!("rota_policy_rejected", "1 while the policy's source holds something that was refused.");
    describe_gauge!("rota_channel_up", "1 unless a channel's last delivery failed, by channel.");
    describe_gauge!("rota_channel_pending", "Notices that a channel has not had yet, by channel.");
    describe_gauge!(
        "rota_channel_fallback",
        "1 while a channel's messages go another way than its first webhook, by channel."
    );
    describe_counter!(
        "rota_slack_fallback_total",
        "Messages sent to the fallback because the first webhook failed."
    );
    describe_counter!("rota_wakeups_total", "Looks for work, by what caused them.");
    describe_counter!("rota_missed_wakeups_total", "Wake-ups that the scheduler owed and did not make.");
    describe_counter!("rota_rotations_driven_total", "Claims of rotations that this process worked on.");
    describe_counter!("rota_rotations_opened_total", "Rotations that this process started.");
    describe_counter!("rota_rollouts_driven_total", "Looks at consumers' rollouts.");
    describe_counter!("rota_notices_delivered_total", "Notices delivered, by channel.");
    describe_counter!("rota_pruned_total", "Rows that were over and removed, by what they were.");
    describe_counter!("rota_journal_faults_total", "Calls to the state database that failed.");
    describe_counter!("rota_backend_throttled_total", "Calls put off to stay within limits, by backend.");
    describe_counter!("rota_bugs_total", "Loops that ended in a panic and were started again.");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Resident memory size in bytes.");
    describe_gauge!("process_open_fds", "Number of open file descriptors.");
}

/// What the system says about this process (proc(5)).
pub(super) fn process() {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u32>().ok());
    if let Some(pages) = pages {
        let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
        gauge!("process_resident_memory_bytes").set(f64::from(pages) * f64::from(page));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(f64::from(u32::try_from(open.count()).unwrap_or(u32::MAX)));
    }
}
