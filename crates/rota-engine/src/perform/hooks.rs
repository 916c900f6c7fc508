//! Hooks: the user's own work before or after a phase.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::policy::model::HookPoint;
use rota_core::rotation::{Done, Event};
use serde_json::json;

use super::intend;
use crate::ports::{HookContext, HookStatus};
use crate::session::{Halt, Session};

/// How often a run that goes on is looked at.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Runs every hook of `point`, in the policy's order; each must succeed.
pub(super) async fn run(session: &mut Session<'_>, point: HookPoint) -> Result<(), Halt> {
    intend(session, BTreeMap::new()).await?;
    let attempt = session.rotation().open_intent().map_or(0, |intent| intent.attempt);
    let hooks: Vec<_> = session.secret().hooks.iter().filter(|hook| hook.at == point).cloned().collect();
    for (index, hook) in hooks.iter().enumerate() {
        let runner = session.engine.adapters.hook(hook)?;
        let context = HookContext {
            rotation: session.rotation().id,
            secret: session.rotation().secret.clone(),
            point,
            index,
            attempt,
            now: session.now(),
        };
        match session.call("running a hook", runner.run(&context)).await? {
            HookStatus::Succeeded => {}
            HookStatus::UnderWay { detail } => {
                return Err(Halt::Waiting {
                    after: LOOK_AGAIN,
                    why: format!("hook `{}`: {detail}", hook.kind),
                });
            }
            HookStatus::Failed { detail } => {
                return Err(Fault::invalid(format!("hook `{}` failed: {detail}", hook.kind)).into());
            }
        }
    }
    session.advance(Event::Done { done: Done::Plain }, json!({ "hooks": hooks.len() }), |_| ()).await
}
