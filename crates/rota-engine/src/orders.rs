//! Orders of people, applied to the rotation in flight before anything else.

use rota_core::id::RotationId;
use rota_core::rotation::{Done, Event, HoldReason, Step, Suspect, emergency_is_within_reach};
use serde_json::json;

use crate::open;
use crate::ports::{JournalError, Opened, OrderKind, PendingOrder, Record, opened_at};
use crate::session::{Halt, Session};

impl Session<'_> {
    /// Applies the oldest order that nobody handled; true where there was one.
    pub(crate) async fn apply_next_order(&mut self) -> Result<bool, Halt> {
        if self.claim.orders.is_empty() {
            return Ok(false);
        }
        let order = self.claim.orders.remove(0);
        let (by, reason) = (order.by.clone(), order.reason.clone());
        let event = match &order.kind {
            OrderKind::Rotate => return self.refuse(&order, "a rotation is in flight already").await,
            OrderKind::Submitted => return self.note(&order, "looked at").await,
            OrderKind::Hold => Event::Held { reason: HoldReason::Asked { by, reason } },
            OrderKind::Resume => Event::Resumed { by, reason },
            OrderKind::Rollback => Event::RolledBack { by, reason },
            OrderKind::Abandon => Event::Abandoned { by, reason },
            OrderKind::Confirm if self.rotation().step() == Some(Step::Confirm) => {
                Event::Done { done: Done::Confirmed { at: order.at } }
            }
            OrderKind::Confirm => return self.refuse(&order, "nothing waits for a confirmation now").await,
            OrderKind::Emergency { suspect } => {
                match as_seen_by(*suspect, &order, self.rotation().id)
                    .filter(|suspect| emergency_is_within_reach(self.rotation(), *suspect, self.now()))
                {
                    Some(suspect) => Event::Hastened { suspect, by, reason },
                    None => return self.supersede(&order).await,
                }
            }
        };
        let detail = json!({ "order": order.id, "by": order.by });
        let id = order.id;
        match self.advance(event, detail, |record| record.handled.push((id, "applied".to_owned()))).await {
            Ok(()) => Ok(true),
            Err(Halt::Fault(fault)) => self.refuse(&order, &fault.to_string()).await,
            Err(halt) => Err(halt),
        }
    }

    async fn refuse(&mut self, order: &PendingOrder, why: &str) -> Result<bool, Halt> {
        self.answer(order, "order.refused", why).await
    }

    async fn note(&mut self, order: &PendingOrder, what: &str) -> Result<bool, Halt> {
        self.answer(order, "order.noted", what).await
    }

    async fn answer(&mut self, order: &PendingOrder, kind: &str, answer: &str) -> Result<bool, Halt> {
        let mut record = Record::of(self.rotation().clone(), self.claim.last_effect);
        let mut line = self.entry_of(kind, json!({ "order": order, "answer": answer }));
        line.actor = order.by.clone();
        record.history.push(line);
        record.handled.push((order.id, answer.to_owned()));
        self.commit(record).await?;
        Ok(true)
    }

    /// A third value takes over in one transaction; this rotation ends as superseded.
    async fn supersede(&mut self, order: &PendingOrder) -> Result<bool, Halt> {
        let plan = open::Opening {
            entry: self.current_entry(),
            cause: open::cause_of(order),
            suspect: Some(Suspect::Older),
            serves: None,
            order: Some(order.clone()),
            supersedes: Some(self.rotation().clone()),
        };
        match open::open(self.engine, plan, self.now()).await? {
            // The row is no longer ours: the next claim works on the new one.
            Opened::Yes => Err(Halt::Lost(JournalError::Stale)),
            Opened::InFlight => self.refuse(order, "another rotation uses the same target or place").await,
            Opened::Blocked { why } => self.refuse(order, &why).await,
        }
    }
}

/// What an order names, seen by a rotation: where that was opened after the order, the
/// newer value of then is the one in use, which this rotation replaces.
fn as_seen_by(named: Option<Suspect>, order: &PendingOrder, rotation: RotationId) -> Option<Suspect> {
    let opened_later = opened_at(rotation).is_some_and(|at| at > order.at);
    if opened_later { named.map(|_| Suspect::Older) } else { named }
}

#[cfg(test)]
mod tests {
    use rota_core::id::SecretId;
    use uuid::Builder;

    use super::*;
    use crate::ports::OrderId;

    #[test]
    fn an_order_from_before_a_rotation_names_the_value_that_it_replaces() {
        let opened = 1_767_225_600_000;
        let rotation = RotationId(Builder::from_unix_timestamp_millis(opened, &[0; 10]).into_uuid());
        let seen = |named, millis: i64| {
            let order = PendingOrder {
                id: OrderId(1),
                secret: SecretId::new("JWT_SECRET").unwrap(),
                kind: OrderKind::Emergency { suspect: named },
                by: "ann".to_owned(),
                reason: "it leaked".to_owned(),
                at: jiff::Timestamp::from_millisecond(millis).unwrap(),
            };
            as_seen_by(named, &order, rotation)
        };
        let opened = i64::try_from(opened).unwrap();
        for named in [Suspect::Older, Suspect::Newer] {
            assert_eq!(seen(Some(named), opened - 1), Some(Suspect::Older));
            assert_eq!(seen(Some(named), opened), Some(named));
        }
        assert_eq!(seen(None, opened - 1), None);
    }
}
