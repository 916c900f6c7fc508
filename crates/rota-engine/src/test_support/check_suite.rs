//! What every [`Check`] promises, whatever it looks at.
//!
//! A promise is one function here; [`check_suite!`](crate::check_suite) makes a test of each.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::value::SecretValue;

use crate::ports::{Check, CheckContext, Reading, Verdict};

/// How the consumer is in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Well,
    Ill,
    /// Nobody answers.
    Away,
}

/// A check and the consumer that it looks at.
#[async_trait]
pub trait CheckUnderTest: Send + Sync {
    fn check(&self) -> Arc<dyn Check>;

    /// From now on the consumer is like that; nobody comes back who went away.
    async fn becomes(&self, health: Health);
}

/// Makes a test of every promise. `$subject` is evaluated in each test and gives a
/// [`CheckUnderTest`], in an async context.
#[macro_export]
macro_rules! check_suite {
    ($subject:expr) => {
        $crate::check_suite! { @ $subject;
            a_well_consumer_is_healthy_and_an_ill_one_is_not
            whoever_does_not_answer_is_unknown_and_no_fault
            a_look_says_what_it_saw_and_never_the_value
        }
    };
    (@ $subject:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let subject = $subject;
                $crate::test_support::check_suite::$promise(&subject).await;
            }
        )*
    };
}

const VALUE: &str = "a-value-that-nobody-may-read";

/// A look at the consumer, or, with a value, at what becomes of whoever shows it.
async fn look(subject: &dyn CheckUnderTest, value: Option<&str>) -> Reading {
    let value = value.map(|text| SecretValue::new(text.to_owned()).expect("a constant text is a value"));
    let context = CheckContext { now: Timestamp::UNIX_EPOCH, baseline: None, value };
    subject.check().observe(&context).await.expect("the settings fit")
}

pub async fn a_well_consumer_is_healthy_and_an_ill_one_is_not(subject: &dyn CheckUnderTest) {
    for (health, verdict) in [
        (Health::Well, Verdict::Healthy),
        (Health::Ill, Verdict::Unhealthy),
        (Health::Well, Verdict::Healthy),
    ] {
        subject.becomes(health).await;
        for _ in 0..2 {
            assert_eq!(look(subject, None).await.verdict, verdict, "{health:?}: a look changes nothing");
        }
    }
}

pub async fn whoever_does_not_answer_is_unknown_and_no_fault(subject: &dyn CheckUnderTest) {
    subject.becomes(Health::Away).await;
    assert_eq!(look(subject, None).await.verdict, Verdict::Unknown);
}

pub async fn a_look_says_what_it_saw_and_never_the_value(subject: &dyn CheckUnderTest) {
    for health in [Health::Well, Health::Ill, Health::Away] {
        subject.becomes(health).await;
        let Reading { detail, .. } = look(subject, Some(VALUE)).await;
        assert!(!detail.is_empty() && !detail.contains(VALUE), "{detail}");
    }
}
