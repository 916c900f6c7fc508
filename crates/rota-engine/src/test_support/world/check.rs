use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::id::ConsumerId;
use serde_json::Value;

use super::{FakeKind, FakeWorld, WorldEventKind, setting};
use crate::guard::Guard;
use crate::ports::{Check, CheckContext, Reading, Verdict};

/// How a fleet is beside its use of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Unhealthy for a reason of its own until then.
    pub unhealthy_until: Option<Timestamp>,
    /// Cannot be read until then.
    pub unknown_until: Option<Timestamp>,
}

/// A look at a fleet (`{"fleet": "web"}`), or a real use of a value at a target
/// (`{"target": "provider", "kind": "submitted"}`).
pub struct FakeCheck {
    world: FakeWorld,
    what: What,
}

#[derive(Clone)]
enum What {
    Fleet(ConsumerId),
    Value { target: String, kind: FakeKind },
}

impl FakeCheck {
    /// # Errors
    /// Where the settings name neither.
    pub fn new(world: FakeWorld, settings: &Value) -> Result<Self, Fault> {
        let what = if settings.get("target").is_some() {
            let kind = FakeKind::parse(setting(settings, "kind")?)
                .ok_or_else(|| Fault::invalid("the check's `kind` is not one of the fakes"))?;
            What::Value { target: setting(settings, "target")?.to_owned(), kind }
        } else {
            let fleet = ConsumerId::new(setting(settings, "fleet")?)
                .map_err(|error| Fault::invalid(error.to_string()))?;
            What::Fleet(fleet)
        };
        Ok(Self { world, what })
    }
}

fn reading(verdict: Verdict) -> Reading {
    let (value, detail) = match verdict {
        Verdict::Healthy => (Some(1.0), "all is well"),
        Verdict::Unhealthy => (Some(0.0), "requests fail"),
        Verdict::Unknown => (None, "no data"),
    };
    Reading { verdict, value, detail: detail.to_owned() }
}

#[async_trait]
impl Check for FakeCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let (world, what) = (self.world.clone(), self.what.clone());
        let value = context.value.as_ref().map(|value| value.expose().to_owned());
        let wire = self.world.wire().clone();
        wire.call("check", "observe", String::new(), move || {
            let now = world.now();
            let mut state = world.state();
            match what {
                What::Fleet(consumer) => {
                    let truly = state.verdict_on(&consumer, now);
                    let said = match truly {
                        Verdict::Unknown if !state.guards.stand(Guard::UnknownIsNotHealthy) => {
                            Verdict::Healthy
                        }
                        verdict => verdict,
                    };
                    world.note(&mut state, WorldEventKind::Checked { consumer, truly, said });
                    Ok::<Reading, Fault>(reading(said))
                }
                What::Value { target, kind } => {
                    let Some(text) = value else {
                        return Err(Fault::invalid("this check uses a value and was given none"));
                    };
                    let (identity, secret) = kind.login(&text);
                    let works =
                        state.targets.get(&target).is_some_and(|t| t.accepts(&identity, &secret, now));
                    Ok(reading(if works { Verdict::Healthy } else { Verdict::Unhealthy }))
                }
            }
        })
        .await
    }
}

impl super::WorldState {
    fn verdict_on(&mut self, consumer: &ConsumerId, now: Timestamp) -> Verdict {
        let Some(fleet) = self.fleets.get(consumer) else { return Verdict::Unknown };
        let (health, uses) = (fleet.health, fleet.spec.uses.clone());
        let is_on = |until: Option<Timestamp>| until.is_some_and(|until| now < until);
        if is_on(health.unknown_until) {
            return Verdict::Unknown;
        }
        let suffers = self.complaints(now).iter().any(|complaint| uses.contains(&complaint.secret));
        if suffers || is_on(health.unhealthy_until) { Verdict::Unhealthy } else { Verdict::Healthy }
    }
}
