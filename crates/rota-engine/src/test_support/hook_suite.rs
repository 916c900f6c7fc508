//! What every [`HookRunner`] promises, whatever does the work.
//!
//! A promise is one function here; [`hook_suite!`](crate::hook_suite) makes a test of each.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::ports::{HookContext, HookRunner, HookStatus};

/// A run that needs more looks than this does not end.
const MOST_LOOKS: usize = 1_000;

/// A hook and whoever does its work.
#[async_trait]
pub trait HookUnderTest: Send + Sync {
    fn hook(&self) -> Arc<dyn HookRunner>;

    /// One run of the hook, in its first attempt.
    fn run(&self) -> HookContext;

    /// Whether work that is begun from now on succeeds.
    async fn let_it_succeed(&self, succeeds: bool);

    /// Lets the work go on a little.
    async fn pass(&self);

    /// The runs that whoever does the work can tell apart.
    async fn runs_seen(&self) -> BTreeSet<String>;
}

/// Makes a test of every promise. `$subject` is evaluated in each test and gives a
/// [`HookUnderTest`], in an async context.
#[macro_export]
macro_rules! hook_suite {
    ($subject:expr) => {
        $crate::hook_suite! { @ $subject;
            it_ends_as_its_work_does
            a_repeat_is_the_same_run_and_another_attempt_is_not
        }
    };
    (@ $subject:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let subject = $subject;
                $crate::test_support::hook_suite::$promise(&subject).await;
            }
        )*
    };
}

async fn end_of(subject: &dyn HookUnderTest, run: &HookContext) -> HookStatus {
    let hook = subject.hook();
    for _ in 0..MOST_LOOKS {
        match hook.run(run).await.expect("nothing disturbs the run") {
            HookStatus::UnderWay { detail } => assert!(!detail.is_empty()),
            ended @ (HookStatus::Succeeded | HookStatus::Failed { .. }) => return ended,
        }
        subject.pass().await;
    }
    panic!("it never ends");
}

pub async fn it_ends_as_its_work_does(subject: &dyn HookUnderTest) {
    subject.let_it_succeed(true).await;
    assert_eq!(end_of(subject, &subject.run()).await, HookStatus::Succeeded);
    subject.let_it_succeed(false).await;
    let other = HookContext { index: 1, ..subject.run() };
    let failed = end_of(subject, &other).await;
    assert!(matches!(&failed, HookStatus::Failed { detail } if !detail.is_empty()), "{failed:?}");
}

pub async fn a_repeat_is_the_same_run_and_another_attempt_is_not(subject: &dyn HookUnderTest) {
    subject.let_it_succeed(true).await;
    let run = subject.run();
    for _ in 0..2 {
        assert_eq!(end_of(subject, &run).await, HookStatus::Succeeded);
        assert_eq!(subject.runs_seen().await.len(), 1);
    }
    let again = HookContext { attempt: 1, ..run };
    assert_eq!(end_of(subject, &again).await, HookStatus::Succeeded);
    assert_eq!(subject.runs_seen().await.len(), 2);
}
