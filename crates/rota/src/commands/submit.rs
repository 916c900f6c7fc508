//! `rota submit`: a value that a person made, straight into its slot.
//!
//! With the operator's own rights at the store: the value goes from the prompt to the
//! store and nowhere else. Deliberately absent: arguments and files for the value; both
//! are seen by others.

use rota_core::fault::Fault;
use rota_core::policy::model::PolicyEntry;
use rota_core::submission;
use rota_core::value::SecretValue;
use rota_engine::ports::{Adapters, Slot, SlotRole};
use rota_postgres::{Asked, Orders, Reports, Submission};
use serde_json::json;

use super::Context;
use super::orders::{NO_DAEMON, daemon_connected, given_name};
use crate::cli::Submit;
use crate::database::Right;
use crate::exit::{Exit, Failure, Outcome};
use crate::{prompt, wiring};

/// What `pg_stat_activity` shows.
const WHO: &str = "rota submit";

/// What to do with a key that nobody took.
const REVOKE: &str = "revoke the key that you made at the provider: nothing uses it";

pub(super) async fn run(context: &Context, submit: &Submit) -> Outcome {
    let configuration = context.configuration(&[])?;
    let pool = context.connect(WHO, &[Right::Order]).await?;
    let (orders, reports) = (Orders::new(pool.clone()), Reports::new(pool));
    let asked = Asked {
        given_name: given_name(submit.by.name.as_deref())?,
        reason: "handed in with rota submit".to_owned(),
    };
    // Claimed before anything is written: two people must not both make a key.
    let begun = orders.begin_submission(&submit.name, &asked.given_name).await?;
    let value = prompt::value(&format!("New value of {}", submit.name))?;
    check(&begun.policy, &value)?;
    let adapters = wiring::adapters(&configuration.settings)?;
    let handed_in = hand_in(&orders, &*adapters, submit, &value, &asked).await;
    let submission = match handed_in {
        Ok(submission) => submission,
        Err(fault) => return Err(refused(&orders, submit, &begun, &asked, fault).await?),
    };
    let out = context.output;
    if out.json {
        out.document(&json!({ "secret": submit.name, "rotation": submission.rotation, "submitted": true }))?;
    } else {
        out.line(format!("the value of {} is in its slot; the daemon proves and publishes it", submit.name))?;
        if daemon_connected(&reports).await? {
            out.note(format!("follow it with `rota status {} --watch`", submit.name));
        } else {
            out.note(NO_DAEMON);
        }
    }
    Ok(Exit::Success)
}

/// Takes the claim again (it may have lapsed while the person was away), writes the slot
/// and says so.
///
/// # Errors
/// [`Fault::Conflict`] where nobody takes the value any more; any other fault says
/// nothing about the key.
async fn hand_in(
    orders: &Orders,
    adapters: &dyn Adapters,
    submit: &Submit,
    value: &SecretValue,
    asked: &Asked,
) -> Result<Submission, Fault> {
    let submission = orders.begin_submission(&submit.name, &asked.given_name).await?;
    write(adapters, &submission, value).await?;
    orders.submitted(&submit.name, submission.rotation, asked).await?;
    Ok(submission)
}

/// What the person is told. A key that was refused stays on the list of what is left
/// alive until somebody revoked it.
async fn refused(
    orders: &Orders,
    submit: &Submit,
    begun: &Submission,
    asked: &Asked,
    fault: Fault,
) -> Result<Failure, Failure> {
    if !matches!(fault, Fault::Conflict { .. }) {
        // The value may be in its slot: the daemon looks there by itself.
        return Ok(Failure::from(fault).hint("keep the key, and hand the same value in again"));
    }
    let what = format!("a key handed in by {} and not taken; its value is unused", asked.given_name);
    orders.report_orphan(&submit.name, begun.rotation, &what, &asked.given_name).await?;
    Ok(Failure::from(fault).hint(REVOKE))
}

/// What the policy says of the value, before it goes anywhere.
fn check(entry: &PolicyEntry, value: &SecretValue) -> Result<(), Failure> {
    submission::read(&entry.secret, value).map(|_| ()).map_err(|unfit| {
        Failure::invalid(format!("the value does not fit: {unfit}"))
            .hint("nothing was written; copy it again")
    })
}

async fn write(adapters: &dyn Adapters, submission: &Submission, value: &SecretValue) -> Result<(), Fault> {
    let entry = &submission.policy;
    let store = entry
        .secret
        .primary_store()
        .and_then(|id| entry.stores.get(id))
        .ok_or_else(|| Fault::invalid("the secret names no store"))?;
    let slot = Slot::of(entry, submission.rotation, SlotRole::Candidate)?;
    match adapters.store(store)?.stage(&slot, value).await {
        Ok(_) => Ok(()),
        Err(Fault::Conflict { .. }) => {
            Err(Fault::conflict("somebody else handed in another value first, or the rotation has ended"))
        }
        Err(fault) => Err(fault),
    }
}
