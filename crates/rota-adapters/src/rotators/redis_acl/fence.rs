//! The key in the target that orders effects: a late one finds a greater fence there and
//! changes nothing.
//!
//! Every change of a primary is one transaction that watches this key. Replicas take no
//! writes but have users of their own: there the key is the primary's, and a change is let
//! through only where it shows the very effect that is being applied.

use redis::{Cmd, Pipeline};
use rota_core::fault::Fault;
use rota_core::id::RotationId;
use rota_engine::ports::Fence;
use serde::{Deserialize, Serialize};

use crate::redis_nodes::{Role, Session};

/// How the names of fences begin.
pub(super) const PREFIX: &str = "rota:fence:";

/// One effect, as the key tells it. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    incarnation: i64,
    epoch: i64,
    effect: i64,
    rotation: String,
    what: String,
}

/// What the key shows beside a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// An earlier effect, or none.
    Less,
    /// This very effect: a repetition.
    Same,
    /// A later one, or another of the same number.
    Greater,
}

impl Mark {
    pub(super) fn new(fence: Fence, rotation: RotationId, what: &str) -> Self {
        Self {
            incarnation: fence.incarnation.0,
            epoch: fence.epoch.0,
            effect: fence.effect.0,
            rotation: rotation.0.to_string(),
            what: what.to_owned(),
        }
    }

    fn before(&self, last: Option<&Self>) -> Before {
        let order = |mark: &Self| (mark.incarnation, mark.epoch, mark.effect);
        match last {
            None => Before::Less,
            Some(last) if last == self => Before::Same,
            Some(last) if order(last) < order(self) => Before::Less,
            Some(_) => Before::Greater,
        }
    }
}

/// Runs `commands` and saves users, in one transaction that the fence `key` lets pass.
/// Commands may hold names and hashes, never a password.
///
/// # Errors
/// [`Fault::Conflict`] where a greater fence was there first; a passing fault where the
/// users cannot be saved, or a replica does not show its primary's fence yet.
pub(super) async fn change(
    session: &mut Session,
    role: Role,
    key: &str,
    mark: &Mark,
    commands: &[Cmd],
) -> Result<(), Fault> {
    let save = session.save().await?;
    session.ask::<()>("watching the fence", redis::cmd("WATCH").arg(key)).await?;
    let last: Option<String> = session.ask("reading the fence", redis::cmd("GET").arg(key)).await?;
    // What cannot be read was not written by us, and orders nothing.
    let last: Option<Mark> = last.and_then(|text| serde_json::from_str(&text).ok());
    let node = session.node.clone();
    match (mark.before(last.as_ref()), role) {
        (Before::Greater, _) => {
            return Err(Fault::conflict(format!(
                "a later effect was at {node} first, this one is not applied any more"
            )));
        }
        (Before::Less, Role::Replica) => {
            return Err(Fault::transient(format!(
                "{node} is a replica and does not show its primary's fence yet; \
                 name its primary in `nodes`, or wait for replication"
            )));
        }
        (Before::Less | Before::Same, Role::Primary { .. }) | (Before::Same, Role::Replica) => {}
    }
    let mut transaction = Pipeline::new();
    transaction.atomic();
    if let Role::Primary { .. } = role {
        let text =
            serde_json::to_string(mark).map_err(|_| Fault::invalid("the fence cannot be written down"))?;
        transaction.cmd("SET").arg(key).arg(text);
    }
    for command in commands {
        transaction.add_command(command.clone());
    }
    if !session.run("changing users", &transaction).await? {
        return Err(Fault::transient(format!("another effect is at {node}, which is looked at again")));
    }
    session.keep(save).await
}

#[cfg(test)]
mod tests {
    use rota_core::id::{EffectNo, Epoch, Incarnation};

    use super::*;

    fn mark(incarnation: i64, epoch: i64, effect: i64, rotation: u128) -> Mark {
        let fence =
            Fence { incarnation: Incarnation(incarnation), epoch: Epoch(epoch), effect: EffectNo(effect) };
        Mark::new(fence, RotationId(uuid::Uuid::from_u128(rotation)), "install")
    }

    #[test]
    fn only_a_greater_effect_or_the_same_one_passes() {
        let ours = mark(1, 5, 17, 1);
        assert_eq!(ours.before(None), Before::Less);
        for earlier in [mark(1, 5, 16, 2), mark(1, 4, 99, 2), mark(0, 9, 99, 2)] {
            assert_eq!(ours.before(Some(&earlier)), Before::Less);
        }
        assert_eq!(ours.before(Some(&ours.clone())), Before::Same);
        for later in [mark(1, 5, 17, 2), mark(1, 5, 18, 1), mark(1, 6, 1, 1), mark(2, 1, 1, 1)] {
            assert_eq!(ours.before(Some(&later)), Before::Greater);
        }
    }
}
