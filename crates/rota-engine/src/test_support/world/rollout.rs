use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::ConsumerId;
use serde_json::{Value, json};

use super::fleet::{Definition, DeploymentState, FleetState, Style};
use super::{FakeWorld, WorldState};
use crate::guard::Guard;
use crate::ports::{Rollout, RolloutContext, RolloutStatus};

/// Restarts a fleet, or waits until its instances have read again by themselves.
pub struct FakeRollout {
    world: FakeWorld,
    fleet: ConsumerId,
}

impl FakeRollout {
    #[must_use]
    pub fn new(world: FakeWorld, fleet: ConsumerId) -> Self {
        Self { world, fleet }
    }

    async fn call<T: Send>(
        &self,
        name: &'static str,
        detail: String,
        effect: impl FnOnce(&FakeWorld, &mut WorldState, &ConsumerId, Timestamp) -> Result<T, Fault>
        + Send
        + 'static,
    ) -> Result<T, Fault> {
        let (world, fleet) = (self.world.clone(), self.fleet.clone());
        let wire = self.world.wire().clone();
        let system = format!("rollout:{fleet}");
        wire.call(&system, name, detail, move || {
            let now = world.now();
            effect(&world, &mut world.state(), &fleet, now)
        })
        .await
    }
}

/// The moment from which an instance reads the publication for certain.
fn shown_at(context: &RolloutContext) -> Timestamp {
    context.published_at.saturating_add(context.settle).unwrap_or(Timestamp::MAX)
}

#[async_trait]
impl Rollout for FakeRollout {
    async fn begin(&self, context: &RolloutContext) -> Result<Value, Fault> {
        let context = context.clone();
        self.call("begin", format!("generation {}", context.generation), move |world, state, fleet, now| {
            let style = state.fleets.get(fleet).map(|fleet| fleet.spec.style);
            match style {
                None => Err(Fault::invalid("the fake world has no such fleet")),
                Some(Style::Rereads { .. }) => Ok(json!({ "from": now })),
                Some(Style::Restarted) => {
                    let pins =
                        context.pins.iter().map(|pin| (pin.name.clone(), pin.reference.clone())).collect();
                    // An instance that starts earlier might still read what was there before.
                    let starts_at = shown_at(&context).max(now);
                    let deployment = world.deploy(state, fleet, context.generation, pins, starts_at);
                    Ok(json!({ "deployment": deployment }))
                }
            }
        })
        .await
    }

    fn must_be_here(&self) -> Result<(), Fault> {
        let only = self.world.state().fleets.get(&self.fleet).and_then(|fleet| fleet.only_from.clone());
        match only {
            Some(host) if host != self.world.wire().actor() => {
                Err(Fault::transient(format!("this rollout runs on host `{host}`")))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn recheck(&self, context: &RolloutContext) -> Result<Option<String>, Fault> {
        let context = context.clone();
        self.call("recheck", String::new(), move |_, state, fleet, _| {
            if !state.guards.stand(Guard::RolloutsAreRechecked) {
                return Ok(None);
            }
            let fleet = state.fleets.get(fleet).ok_or_else(|| Fault::invalid("the fleet was removed"))?;
            let shows = |definition: &Definition| {
                context.pins.iter().all(|pin| definition.pins.get(&pin.name) == Some(&pin.reference))
            };
            let going = fleet
                .deployments
                .values()
                .filter(|d| matches!(d.state, DeploymentState::Waiting | DeploymentState::Going))
                .map(|deployment| &deployment.definition);
            let used = fleet.instances.values().map(|instance| &instance.definition).chain(going);
            let other = used.chain([&fleet.definition]).filter(|definition| !shows(definition)).count();
            Ok((other > 0).then(|| format!("{other} definitions in use have other references")))
        })
        .await
    }

    async fn observe(
        &self,
        handle: &Value,
        memory: &Value,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        let (handle, memory, context) = (handle.clone(), memory.clone(), context.clone());
        self.call("observe", format!("generation {}", context.generation), move |_, state, fleet, now| {
            let careful = state.guards.stand(Guard::FinishedMeansNoOldInstance);
            let fleet = state.fleets.get(fleet).ok_or_else(|| Fault::invalid("the fleet was removed"))?;
            let status = match fleet.spec.style {
                Style::Rereads { every } => reread(&handle, &context, every, now),
                Style::Restarted if careful => restarted(fleet, &handle, &context),
                Style::Restarted => stable(fleet, &handle),
            };
            Ok(match status {
                // Only in two looks apart: the first listing may have missed one that was just starting.
                RolloutStatus::Finished if careful && memory != json!("seen finished") => {
                    let detail = "seen finished once".to_owned();
                    (RolloutStatus::UnderWay { detail }, json!("seen finished"))
                }
                RolloutStatus::Finished => (RolloutStatus::Finished, memory),
                status => (status, Value::Null),
            })
        })
        .await
    }
}

fn reread(handle: &Value, context: &RolloutContext, every: SignedDuration, now: Timestamp) -> RolloutStatus {
    let from = handle.get("from").and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let from = from.unwrap_or(now).max(shown_at(context));
    if from.saturating_add(every).is_ok_and(|end| now > end) {
        RolloutStatus::Finished
    } else {
        RolloutStatus::UnderWay { detail: format!("instances read again every {every:#}") }
    }
}

fn restarted(fleet: &FleetState, handle: &Value, context: &RolloutContext) -> RolloutStatus {
    let Some(number) = handle.get("deployment").and_then(Value::as_u64) else {
        return RolloutStatus::Failed { detail: "the handle names no deployment".to_owned() };
    };
    let Some((latest, deployment)) = fleet.deployments.last_key_value().filter(|(n, _)| **n >= number) else {
        return RolloutStatus::Failed { detail: "the deployment is gone".to_owned() };
    };
    match deployment.state {
        DeploymentState::Failed => {
            return RolloutStatus::Failed { detail: "the old definition was put back".to_owned() };
        }
        DeploymentState::Waiting | DeploymentState::Going | DeploymentState::Replaced => {
            return RolloutStatus::UnderWay { detail: format!("deployment {latest}") };
        }
        DeploymentState::Completed => {}
    }
    let too_old = fleet.instances.values().filter(|i| i.created_at < shown_at(context)).count();
    let other_pins = fleet
        .instances
        .values()
        .filter(|instance| {
            context.pins.iter().any(|pin| instance.definition.pins.get(&pin.name) != Some(&pin.reference))
        })
        .count();
    if other_pins > 0 {
        return RolloutStatus::Failed { detail: format!("{other_pins} instances have other references") };
    }
    if too_old > 0 {
        return RolloutStatus::UnderWay { detail: format!("{too_old} instances are older than the value") };
    }
    RolloutStatus::Finished
}

/// The planted bug behind `finished_means_no_old_instance`: what is not going on any
/// more is taken for finished, whatever its end was.
fn stable(fleet: &FleetState, handle: &Value) -> RolloutStatus {
    let number = handle.get("deployment").and_then(Value::as_u64).unwrap_or(0);
    match fleet.deployments.get(&number).map(|deployment| deployment.state) {
        Some(DeploymentState::Waiting) => RolloutStatus::UnderWay { detail: "not started".to_owned() },
        _ if fleet.instances.values().any(|i| i.definition.deployment < number && !i.draining)
            && fleet.deployments.get(&number).is_some_and(|d| d.state == DeploymentState::Going) =>
        {
            RolloutStatus::UnderWay { detail: "restarting".to_owned() }
        }
        _ => RolloutStatus::Finished,
    }
}
