//! What every [`Notifier`] promises, whoever listens.
//!
//! A promise is one function here; [`notifier_suite!`](crate::notifier_suite) makes a test
//! of each.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::policy::model::Priority;

use crate::ports::{Notice, NoticeKind, Notifier};

/// What the receiver does with the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It takes the message, and its answer is lost.
    TakesAndIsSilent,
    /// It asks to be left alone for so long.
    IsBusy(SignedDuration),
    /// It works wrongly for a moment.
    Fails,
    /// There is no such receiver any more.
    IsGone,
}

/// A channel and who listens to it.
#[async_trait]
pub trait NotifierUnderTest: Send + Sync {
    fn notifier(&self) -> Arc<dyn Notifier>;

    async fn next_reply(&self, reply: Reply);

    /// The messages that the receiver took, each whole.
    async fn taken(&self) -> Vec<String>;
}

/// Makes a test of every promise. `$subject` is evaluated in each test and gives a
/// [`NotifierUnderTest`], in an async context.
#[macro_export]
macro_rules! notifier_suite {
    ($subject:expr) => {
        $crate::notifier_suite! { @ $subject;
            a_notice_comes_with_all_that_it_says
            nothing_to_say_is_no_message
            whatever_passes_by_itself_may_be_sent_again
            a_receiver_that_is_gone_is_not_tried_again
        }
    };
    (@ $subject:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let subject = $subject;
                $crate::test_support::notifier_suite::$promise(&subject).await;
            }
        )*
    };
}

fn notice() -> Notice {
    Notice {
        key: "one".to_owned(),
        kind: NoticeKind::Held,
        secret: None,
        rotation: None,
        owner: None,
        priority: Priority::High,
        what: "the rotation is held".to_owned(),
        impact: "the old value still works".to_owned(),
        next: "nothing happens until a person decides".to_owned(),
        command: Some("rota status JWT_SECRET".to_owned()),
        link: None,
        at: Timestamp::UNIX_EPOCH,
    }
}

async fn deliver(subject: &dyn NotifierUnderTest) -> Result<(), Fault> {
    subject.notifier().deliver(&[notice()]).await
}

pub async fn a_notice_comes_with_all_that_it_says(subject: &dyn NotifierUnderTest) {
    deliver(subject).await.expect("nothing disturbs the delivery");
    let taken = subject.taken().await;
    let [message] = taken.as_slice() else { panic!("one message: {taken:?}") };
    let Notice { what, impact, next, command, .. } = notice();
    for part in [what, impact, next, command.unwrap_or_default()] {
        assert!(message.contains(&part), "{part}: {message}");
    }
}

pub async fn nothing_to_say_is_no_message(subject: &dyn NotifierUnderTest) {
    subject.notifier().deliver(&[]).await.expect("nothing is nothing");
    assert!(subject.taken().await.is_empty());
}

pub async fn whatever_passes_by_itself_may_be_sent_again(subject: &dyn NotifierUnderTest) {
    let pause = SignedDuration::from_secs(17);
    for reply in [Reply::TakesAndIsSilent, Reply::Fails, Reply::IsBusy(pause)] {
        subject.next_reply(reply).await;
        let fault = deliver(subject).await.expect_err("the receiver did not say that it took it");
        assert!(fault.passes_by_itself(), "{reply:?}: {fault}");
        if let Reply::IsBusy(pause) = reply {
            assert!(fault.asks_to_wait() >= pause, "{fault}");
        }
        deliver(subject).await.expect("the same again");
    }
}

pub async fn a_receiver_that_is_gone_is_not_tried_again(subject: &dyn NotifierUnderTest) {
    subject.next_reply(Reply::IsGone).await;
    let fault = deliver(subject).await.expect_err("nobody is there");
    assert!(!fault.passes_by_itself(), "{fault}");
    assert!(subject.taken().await.is_empty());
}
