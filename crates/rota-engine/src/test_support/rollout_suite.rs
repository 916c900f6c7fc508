//! What every [`Rollout`] promises, whatever product stands behind it.
//!
//! A promise is one function here; [`rollout_suite!`](crate::rollout_suite) makes a test of each.

use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use serde_json::Value;

use crate::ports::{Rollout, RolloutContext, RolloutStatus};

/// A rollout that needs more looks than this does not end.
const MOST_LOOKS: usize = 1_000;

/// A consumer with a rollout, and what the suite has to know about it.
#[async_trait]
pub trait RolloutUnderTest: Send + Sync {
    fn rollout(&self) -> Arc<dyn Rollout>;

    /// Publishes, waits until that has settled, and says what the rollout has to achieve.
    async fn publish(&self) -> RolloutContext;

    /// Lets the consumer and the clock go on a little; the time is in `context`.
    async fn pass(&self, context: &mut RolloutContext);

    /// True while an instance may go on with what it read before the publication.
    async fn has_old_instance(&self, context: &RolloutContext) -> bool;
}

/// Makes a test of every promise. `$subject` is evaluated in each test and gives a
/// [`RolloutUnderTest`], in an async context.
#[macro_export]
macro_rules! rollout_suite {
    ($subject:expr) => {
        $crate::rollout_suite! { @ $subject;
            it_is_finished_only_after_every_instance_is_new
            beginning_twice_does_no_harm
            a_forgotten_memory_does_no_harm
        }
    };
    (@ $subject:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let subject = $subject;
                $crate::test_support::rollout_suite::$promise(&subject).await;
            }
        )*
    };
}

/// Looks until it is finished; at each look that says so, every instance must be new.
async fn follow(subject: &dyn RolloutUnderTest, context: &mut RolloutContext, handle: &Value, forgets: bool) {
    let rollout = subject.rollout();
    let mut memory = Value::Null;
    for look in 0..MOST_LOOKS {
        let seen = rollout.observe(handle, &memory, context).await;
        let (status, next) = seen.expect("nothing disturbs the look");
        match status {
            RolloutStatus::Finished => {
                assert!(!subject.has_old_instance(context).await, "finished with an old instance");
                return;
            }
            RolloutStatus::UnderWay { detail } => assert!(!detail.is_empty()),
            RolloutStatus::Failed { detail } => panic!("it failed: {detail}"),
        }
        // Another process that never got the last record looks from the beginning.
        memory = if forgets && look == 1 { Value::Null } else { next };
        subject.pass(context).await;
    }
    panic!("it never ends");
}

pub async fn it_is_finished_only_after_every_instance_is_new(subject: &dyn RolloutUnderTest) {
    let mut context = subject.publish().await;
    assert!(subject.has_old_instance(&context).await, "the test would prove nothing");
    let handle = subject.rollout().begin(&context).await.expect("nothing disturbs the start");
    follow(subject, &mut context, &handle, false).await;
}

pub async fn beginning_twice_does_no_harm(subject: &dyn RolloutUnderTest) {
    let mut context = subject.publish().await;
    let first: Result<Value, Fault> = subject.rollout().begin(&context).await;
    first.expect("nothing disturbs the start");
    subject.pass(&mut context).await;
    let handle = subject.rollout().begin(&context).await.expect("a repeat is not refused");
    follow(subject, &mut context, &handle, false).await;
}

pub async fn a_forgotten_memory_does_no_harm(subject: &dyn RolloutUnderTest) {
    let mut context = subject.publish().await;
    let handle = subject.rollout().begin(&context).await.expect("nothing disturbs the start");
    follow(subject, &mut context, &handle, true).await;
}
