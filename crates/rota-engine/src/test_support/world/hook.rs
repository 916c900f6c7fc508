use async_trait::async_trait;
use jiff::SignedDuration;
use rota_core::fault::Fault;

use super::{FakeWorld, WorldEventKind};
use crate::ports::{HookContext, HookRunner, HookStatus};

/// How long the runs of a fake hook of kind `slow` take; the others are done at once.
const SLOW: SignedDuration = SignedDuration::from_mins(2);

/// A run that succeeds after its time; `failing` ones never do, `fails-once` ones not at
/// the first attempt.
pub struct FakeHook {
    world: FakeWorld,
    kind: String,
}

impl FakeHook {
    #[must_use]
    pub fn new(world: FakeWorld, kind: String) -> Self {
        Self { world, kind }
    }
}

#[async_trait]
impl HookRunner for FakeHook {
    async fn run(&self, context: &HookContext) -> Result<HookStatus, Fault> {
        let (world, kind, key) = (self.world.clone(), self.kind.clone(), context.idempotency_key());
        let first_attempt = context.attempt == 0;
        let wire = self.world.wire().clone();
        wire.call("hook", "run", key.clone(), move || {
            if kind == "failing" {
                return Ok::<_, Fault>(HookStatus::Failed { detail: "it always fails".to_owned() });
            }
            if kind == "fails-once" && first_attempt {
                return Ok(HookStatus::Failed { detail: "it fails at the first attempt".to_owned() });
            }
            let takes = if kind == "slow" { SLOW } else { SignedDuration::ZERO };
            let done_at = world.clock().later(takes);
            let mut state = world.state();
            let first = !state.hook_runs.contains_key(&key);
            let done_at = *state.hook_runs.entry(key.clone()).or_insert(done_at);
            if first {
                world.note(&mut state, WorldEventKind::HookRan { key });
            }
            Ok(if world.now() >= done_at {
                HookStatus::Succeeded
            } else {
                HookStatus::UnderWay { detail: format!("until {done_at}") }
            })
        })
        .await
    }
}
