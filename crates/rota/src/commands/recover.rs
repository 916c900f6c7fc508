//! `rota recover`: goes on after the state database was restored from a backup, or lost
//! commits in a failover.
//!
//! Compares what the journal says stands in every store with what stands there, and begins
//! the next incarnation. Deliberately absent: deciding which of the two is right. What
//! differs, or cannot be read, is stopped until a person has reconciled it.

use std::collections::BTreeMap;

use rota_core::fault::Fault;
use rota_core::id::{Incarnation, SecretId, StoreId, VersionRef};
use rota_core::policy::model::Policy;
use rota_core::publication::paths;
use rota_engine::ports::{Adapters, within};
use rota_postgres::{IncarnationState, Orders, Reports};
use serde::Serialize;
use serde_json::json;

use super::Context;
use super::orders::asked;
use super::policy::none_accepted;
use crate::cli::Recover;
use crate::config::Settings;
use crate::database::Right;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, Tone};
use crate::serve::call_limit;
use crate::{machine, prompt, wiring};

/// What `pg_stat_activity` shows.
const WHO: &str = "rota recover";

/// What the journal says of one place, beside what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Compared {
    secret: SecretId,
    store: StoreId,
    path: String,
    state: State,
    /// What a person should know; empty where both are the same.
    seen: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Same,
    /// The journal never recorded a publication there.
    NothingRecorded,
    Differs,
    Unreadable,
}

pub(super) async fn run(context: &Context, recover: &Recover) -> Outcome {
    let settings = context.configuration(&[])?.settings;
    let pool = context.connect(WHO, &[Right::Order, Right::Read]).await?;
    let (orders, reports) = (Orders::new(pool.clone()), Reports::new(pool));
    let state = orders.incarnation().await?;
    if state.trusted {
        return Err(Failure::new(Exit::Refused, "there is nothing to recover")
            .hint("the state database is the one that its incarnation began on"));
    }
    let policy = reports.accepted_policy().await?.ok_or_else(none_accepted)?.policy.unpack();
    let compared = compare(&settings, &policy, &reports).await?;
    let differing = differing(&compared);
    let out = context.output;
    if !out.json {
        show(out, &state, &compared)?;
    }
    if recover.dry_run {
        if out.json {
            out.document(&json!({ "why": why(&state), "places": compared, "begun": null }))?;
        }
        return Ok(if differing.is_empty() { Exit::Success } else { Exit::Unhealthy });
    }
    if !recover.consent.yes {
        prompt::confirm(&policy.application, &plan(differing.len()))?;
    }
    let asked = asked(&recover.consent, None)?;
    let number = recover.number.unwrap_or_else(|| machine::timestamp().as_second());
    // As long as a process of the lost past may hold a lease, and be in its last call.
    let lease = settings.daemon.lease.0;
    let pause = lease + call_limit(lease);
    let stopped = orders.recover(Incarnation(number), &differing, pause, &asked).await?;
    if out.json {
        let document = json!({ "why": why(&state), "places": compared, "begun": number, "stopped": stopped });
        out.document(&document)?;
    } else {
        out.line(format!("incarnation {number} has begun; {stopped} secrets wait to be reconciled"))?;
        out.note("start the daemons again; nothing is claimed before the old leases have lapsed");
    }
    Ok(Exit::Success)
}

fn why(state: &IncarnationState) -> String {
    match (&state.suspended_because, state.same_server) {
        (Some(why), _) => why.clone(),
        (None, false) => "the server's system identifier or timeline is another".to_owned(),
        (None, true) => "its identity is unknown".to_owned(),
    }
}

fn plan(differing: usize) -> String {
    format!(
        "The next incarnation begins. What a process of the past still writes is refused from then on.\n\
         {differing} secrets are stopped until `rota reconcile NAME`; a rotation of theirs is held.\n\
         All others go on from what the journal says, and look at the world before each step."
    )
}

/// Every place of the policy, each path of a store read once.
async fn compare(settings: &Settings, policy: &Policy, reports: &Reports) -> Result<Vec<Compared>, Failure> {
    let recorded = reports.published_versions().await?;
    let adapters = wiring::adapters(settings)?;
    let clock = wiring::clock();
    let limit = call_limit(settings.daemon.lease.0);
    let mut looked: BTreeMap<(StoreId, String), (State, String)> = BTreeMap::new();
    let mut all = Vec::new();
    for secret in policy.secrets.values() {
        let stores = secret.stores.iter().filter_map(|id| policy.stores.get(id));
        for (store, path) in
            stores.flat_map(|store| paths(secret, store).into_keys().map(move |path| (store, path)))
        {
            let place = (store.id.clone(), path.clone());
            if !looked.contains_key(&place) {
                let seen = match recorded.get(&place) {
                    None => (State::NothingRecorded, String::new()),
                    Some(version) => {
                        let read = read(&*adapters, store, &path);
                        judge(version, within(&*clock, limit, "reading what is published", read).await)
                    }
                };
                looked.insert(place.clone(), seen);
            }
            let (state, seen) = looked[&place].clone();
            all.push(Compared { secret: secret.id.clone(), store: store.id.clone(), path, state, seen });
        }
    }
    Ok(all)
}

async fn read(
    adapters: &dyn Adapters,
    store: &rota_core::policy::model::StorePolicy,
    path: &str,
) -> Result<Option<VersionRef>, Fault> {
    Ok(adapters.store(store)?.read(path).await?.map(|stored| stored.version))
}

fn judge(recorded: &VersionRef, read: Result<Option<VersionRef>, Fault>) -> (State, String) {
    match read {
        Ok(Some(version)) if version == *recorded => (State::Same, String::new()),
        Ok(Some(version)) => (
            State::Differs,
            format!("the journal says version {}, the store shows {}", recorded.0, version.0),
        ),
        Ok(None) => (State::Differs, format!("the journal says version {}, nothing is there", recorded.0)),
        Err(fault) => (State::Unreadable, format!("could not be compared: {fault}")),
    }
}

/// The secrets that must not move, each with the first reason.
fn differing(compared: &[Compared]) -> BTreeMap<SecretId, String> {
    let mut differing = BTreeMap::new();
    for one in compared.iter().filter(|one| matches!(one.state, State::Differs | State::Unreadable)) {
        differing
            .entry(one.secret.clone())
            .or_insert_with(|| format!("{} {}: {}", one.store, one.path, one.seen));
    }
    differing
}

fn show(out: Output, state: &IncarnationState, compared: &[Compared]) -> Result<(), Failure> {
    out.line(format!("incarnation {} cannot go on: {}", state.number.0, why(state)))?;
    let rows = compared.iter().map(|one| {
        let (word, tone) = match one.state {
            State::Same => ("same", Tone::Good),
            State::NothingRecorded => ("nothing recorded", Tone::Faint),
            State::Differs => ("DIFFERS", Tone::Bad),
            State::Unreadable => ("UNREADABLE", Tone::Bad),
        };
        let place = format!("{} {}", one.store, one.path);
        [one.secret.to_string(), place, out.paint(tone, word), one.seen.clone()]
    });
    out.table(&["secret", "place", "compared", "seen"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recorded_version_is_the_same() {
        let version = |text: &str| VersionRef(text.to_owned());
        let recorded = version("7");
        assert_eq!(judge(&recorded, Ok(Some(version("7")))), (State::Same, String::new()));
        assert_eq!(judge(&recorded, Ok(Some(version("8")))).0, State::Differs);
        assert_eq!(judge(&recorded, Ok(None)).0, State::Differs);
        assert_eq!(judge(&recorded, Err(Fault::transient("down"))).0, State::Unreadable);
    }
}
