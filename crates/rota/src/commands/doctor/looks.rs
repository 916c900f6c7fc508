//! The looks of `rota doctor`, one function for each thing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use reqwest::{Method, StatusCode};
use rota_core::fault::Fault;
use rota_core::policy::diagnostic::{Level, summary};
use rota_core::policy::model::{Policy, StorePolicy};
use rota_core::publication::paths;
use rota_engine::ports::{Adapters, CheckContext, Verdict};
use rota_postgres::{JournalPool, Orders, PgJournal, Reports};

use super::{Finding, State};
use crate::channels::{Channel, Channels};
use crate::commands::{Context, policy};
use crate::config::Configuration;
use crate::exit::Failure;
use crate::{database, machine, wiring};

/// What `pg_stat_activity` shows.
const WHO: &str = "rota doctor";

/// Further apart, leases and destructive gates get doubtful.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(5);

/// Paths of one store that are looked at: enough to see a missing right, few enough for
/// a store that counts calls.
const PATHS_OF_A_STORE: usize = 50;

/// Paths of one store that are told of; a store that refuses everybody would fill the screen.
const FAILURES_OF_A_STORE: usize = 10;

/// What a fault wants done, in general.
fn fix(fault: &Fault) -> &'static str {
    match fault {
        Fault::Transient { .. } => "is it running, and does the network let this machine reach it?",
        Fault::RateLimited { .. } => "look again later",
        Fault::Denied { .. } => "give this login the rights that the page of its kind in docs/ lists",
        Fault::Conflict { .. } | Fault::Invalid { .. } => "change what the message names",
    }
}

fn failed(what: impl Into<String>, fault: &Fault) -> Finding {
    Finding::broken(what, fault.to_string(), fix(fault))
}

/// Reachability, schema, identity and rights.
pub(super) async fn database(configuration: &Configuration) -> (Vec<Finding>, Option<JournalPool>) {
    let what = "state database";
    let pool = match database::settings(configuration, WHO).await {
        Ok(settings) => settings.connect().await,
        Err(Failure { message, hint, .. }) => {
            let fix = hint.unwrap_or_else(|| "see config/default.toml".to_owned());
            return (vec![Finding::broken(what, message, fix)], None);
        }
    };
    let pool = match pool {
        Ok(pool) => pool,
        Err(fault) => return (vec![failed(what, &fault)], None),
    };
    let mut findings = vec![Finding::well(what, "answers")];
    let reports = Reports::new(pool.clone());
    let rights = match (reports.rights().await, reports.login().await) {
        (Ok(rights), Ok(login)) => (rights, login),
        (Err(fault), _) | (_, Err(fault)) => {
            findings.push(failed("grants", &fault));
            return (findings, None);
        }
    };
    let (rights, login) = rights;
    // Without the roles nothing was migrated yet, which the schema says.
    if !rights.is_empty() {
        let grants = grants(&rights, &login);
        let none = grants.state == State::Broken;
        findings.push(grants);
        if none {
            return (findings, None);
        }
    }
    match rota_postgres::check_schema(&pool).await {
        Ok(()) => findings.push(Finding::well("schema", "fits this version")),
        Err(fault) => {
            let old = matches!(&fault, Fault::Invalid { message } if message.contains("rota migrate"));
            let fix = if old { "rota migrate" } else { "install the release that it names" };
            findings.push(Finding::broken("schema", fault.to_string(), fix));
            return (findings, None);
        }
    }
    findings.extend(identity(&pool, &rights).await);
    (findings, Some(pool))
}

/// Whether the server still is the one that the incarnation began on; nothing for a login
/// that may not know.
async fn identity(pool: &JournalPool, rights: &BTreeMap<String, bool>) -> Option<Finding> {
    let what = "database identity";
    let may = |role: &str| rights.get(role) == Some(&true);
    let checked = if may("rota_daemon") {
        PgJournal::new(pool.clone()).check_identity().await
    } else if may("rota_operator") {
        let state = Orders::new(pool.clone()).incarnation().await;
        state.and_then(|state| {
            let why = state.suspended_because.unwrap_or_else(|| "it is another server".to_owned());
            if state.trusted { Ok(()) } else { Err(Fault::invalid(format!("work cannot go on: {why}"))) }
        })
    } else {
        return None;
    };
    Some(match checked {
        Ok(()) => Finding::well(what, "the server that the incarnation began on"),
        Err(fault @ Fault::Invalid { .. }) => Finding::broken(what, fault.to_string(), "rota recover"),
        Err(fault) => failed(what, &fault),
    })
}

/// Which of the roles this login has.
fn grants(rights: &BTreeMap<String, bool>, login: &str) -> Finding {
    let held: Vec<&str> = rights.iter().filter(|(_, held)| **held).map(|(role, _)| role.as_str()).collect();
    if held.is_empty() {
        let grant = format!(
            "{} for a person; GRANT rota_daemon for the daemon",
            database::grant(login, "rota_operator, rota_auditor")
        );
        return Finding::broken("grants", format!("the login `{login}` has none of Rota's roles"), grant);
    }
    Finding::well("grants", held.join(", "))
}

/// This machine's clock beside the database's.
pub(super) async fn clock(pool: &JournalPool) -> Vec<Finding> {
    let what = "clocks";
    let there = match Reports::new(pool.clone()).now().await {
        Ok(there) => there,
        Err(fault) => return vec![failed(what, &fault)],
    };
    let apart = machine::timestamp().duration_since(there).abs();
    let seen = format!("{:.1} s between this machine and the database", apart.as_secs_f64());
    vec![if apart > CLOCKS_APART {
        Finding::broken(what, seen, "synchronise both with NTP (timedatectl set-ntp true)")
    } else {
        Finding::well(what, seen)
    }]
}

/// Whether the policy can be read and is good.
pub(super) async fn policy(context: &Context, source: Option<&String>) -> (Vec<Finding>, Option<Policy>) {
    let read = match policy::read(context, source).await {
        Ok(read) => read,
        Err(failure) => {
            let fix = failure.hint.unwrap_or_else(|| "set policy.source".to_owned());
            return (vec![Finding::broken("policy", failure.message, fix)], None);
        }
    };
    let said = summary(&read.loaded.diagnostics);
    let finding = match (&read.loaded.policy, read.loaded.of(Level::Warning).next()) {
        (None, _) => Finding::broken("policy", said, "rota policy lint"),
        (Some(_), Some(_)) => Finding::doubtful("policy", said, "rota policy lint"),
        (Some(policy), None) => Finding::well("policy", format!("{} secrets, {said}", policy.secrets.len())),
    };
    (vec![finding], read.loaded.policy)
}

/// Every store, at the paths that its secrets are published at.
pub(super) async fn stores(configuration: &Configuration, policy: &Policy) -> Vec<Finding> {
    let adapters = match wiring::adapters(&configuration.settings) {
        Ok(adapters) => adapters,
        Err(failure) => return vec![Finding::broken("stores", failure.message, "see config/default.toml")],
    };
    let mut findings = Vec::new();
    for (id, store) in &policy.stores {
        let wanted: BTreeSet<String> = policy
            .secrets
            .values()
            .filter(|secret| secret.stores.contains(id))
            .flat_map(|secret| paths(secret, store).into_keys())
            .collect();
        findings.extend(look_at_store(&*adapters, store, &wanted).await);
    }
    findings
}

/// One line where all is well, else one for each path that is not.
async fn look_at_store(
    adapters: &dyn Adapters,
    policy: &StorePolicy,
    wanted: &BTreeSet<String>,
) -> Vec<Finding> {
    let what = format!("store {} ({})", policy.id, policy.kind);
    let store = match adapters.store(policy) {
        Ok(store) => store,
        Err(fault) => return vec![failed(what, &fault)],
    };
    let mut findings = Vec::new();
    for path in wanted.iter().take(PATHS_OF_A_STORE) {
        if let Err(fault) = store.preflight(path).await {
            findings.push(failed(format!("{what} {path}"), &fault));
        }
        if findings.len() == FAILURES_OF_A_STORE {
            return findings;
        }
    }
    if findings.is_empty() {
        let looked = wanted.len().min(PATHS_OF_A_STORE);
        let seen = format!("{looked} of {} paths can be read; writing is tried by a rotation", wanted.len());
        findings.push(Finding::well(what, seen));
    }
    findings
}

/// Every check, once, now.
pub(super) async fn checks(configuration: &Configuration, policy: &Policy) -> Vec<Finding> {
    let Ok(adapters) = wiring::adapters(&configuration.settings) else { return Vec::new() };
    let mut findings = Vec::new();
    for consumer in policy.consumers.values() {
        for check in &consumer.checks {
            let what = format!("check {}/{}", consumer.id, check.name);
            let context = CheckContext { now: machine::timestamp(), baseline: None, value: None };
            let reading = match adapters.check(check) {
                Ok(check) => check.observe(&context).await,
                Err(fault) => Err(fault),
            };
            findings.push(match reading {
                Err(fault) => failed(what, &fault),
                Ok(reading) => match reading.verdict {
                    Verdict::Healthy => Finding::well(what, reading.detail),
                    Verdict::Unhealthy => {
                        Finding::broken(what, reading.detail, "no rotation passes before it is healthy")
                    }
                    Verdict::Unknown => Finding::doubtful(
                        what,
                        reading.detail,
                        "unknown passes no gate: make it readable from here",
                    ),
                },
            });
        }
    }
    findings
}

/// Whether every rotator, rollout and hook can be made from its settings. Nothing of them
/// is asked: none has a look that changes nothing.
pub(super) fn settings(configuration: &Configuration, policy: &Policy) -> Vec<Finding> {
    let Ok(adapters) = wiring::adapters(&configuration.settings) else { return Vec::new() };
    let mut findings = Vec::new();
    for secret in policy.secrets.values() {
        findings.push(made(format!("rotator of {} ({})", secret.id, secret.kind), adapters.rotator(secret)));
        for hook in &secret.hooks {
            findings.push(made(format!("hook of {} ({})", secret.id, hook.kind), adapters.hook(hook)));
        }
    }
    for consumer in policy.consumers.values() {
        let rollout = &consumer.rollout;
        findings
            .push(made(format!("rollout of {} ({})", consumer.id, rollout.kind), adapters.rollout(rollout)));
    }
    findings
}

fn made<T>(what: String, made: Result<T, Fault>) -> Finding {
    match made {
        Ok(_) => Finding::well(what, "its settings can be used; nothing was started"),
        Err(fault) => failed(what, &fault),
    }
}

/// Whether channels are configured and their secrets readable; nothing is sent.
pub(super) fn channels(configuration: &Arc<Configuration>) -> Vec<Finding> {
    let configured = Channel::configured(configuration);
    if configured.is_empty() {
        let fix = "set slack.webhook_url_file; without a channel nobody hears of a held rotation";
        return vec![Finding::doubtful("messages", "no channel is configured", fix)];
    }
    let channels = match Channels::new(Arc::clone(configuration)) {
        Ok(channels) => channels,
        Err(failure) => return vec![Finding::broken("messages", failure.message, "see config/default.toml")],
    };
    let look = |channel: Channel| match channels.notifier(channel, None) {
        Ok(_) => Finding::well(
            format!("channel {}", channel.name()),
            "configured; `rota notify test` sends a message",
        ),
        Err(failure) => {
            let fix = failure.hint.unwrap_or_else(|| "see config/default.toml".to_owned());
            Finding::broken(format!("channel {}", channel.name()), failure.message, fix)
        }
    };
    configured.into_iter().map(look).collect()
}

/// What became of the last messages, as the outbox knows it.
pub(super) async fn deliveries(pool: &JournalPool) -> Vec<Finding> {
    let channels = match Reports::new(pool.clone()).channels().await {
        Ok(channels) => channels,
        Err(Fault::Denied { .. }) => return Vec::new(),
        Err(fault) => return vec![failed("messages", &fault)],
    };
    let failing = channels.into_iter().filter(|channel| channel.failures > 0);
    failing
        .map(|channel| {
            let fault = channel.last_fault.unwrap_or_default();
            let seen = format!(
                "{} failed deliveries in a row, {} waiting: {fault}",
                channel.failures, channel.pending
            );
            Finding::broken(
                format!("messages on {}", channel.channel),
                seen,
                "`rota notify test` tries it now; a removed webhook needs a new one in its file",
            )
        })
        .collect()
}

/// The daemon of this configuration, where one runs.
pub(super) async fn daemon(configuration: &Configuration) -> Finding {
    let address = crate::commands::health::reachable(configuration.settings.daemon.listen);
    let what = "daemon";
    let ask = async {
        let client = wiring::client(&configuration.settings)?;
        let request = client.request(Method::GET, &format!("http://{address}/readyz"))?;
        Ok::<_, Failure>(client.send("the daemon", request).await?.status())
    };
    match ask.await {
        Ok(StatusCode::OK) => Finding::well(what, format!("ready on {address}")),
        Ok(_) => Finding::broken(what, format!("not ready on {address}"), "rota health says why"),
        Err(_) => Finding::doubtful(
            what,
            format!("none answers on {address}"),
            "is it meant to run here? rota serve",
        ),
    }
}
