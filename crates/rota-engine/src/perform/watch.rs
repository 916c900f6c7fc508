//! Observations of the consumers: the baseline before promotion, the rounds after it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::policy::model::{CheckPolicy, ConsumerPolicy};
use rota_core::rotation::{Event, Nature};
use serde_json::json;

use super::target;
use crate::guard::Guard;
use crate::notice;
use crate::ports::{CheckContext, Observation, Proof, Reading, Verdict, Which};
use crate::session::{Halt, Session};

/// Time between two rounds counts for the overlap only up to this many intervals:
/// what nobody looked at was not observed.
const COUNTED_INTERVALS: i32 = 3;

/// One round: every check of every consumer; without consumers the target's proof.
pub(super) async fn round(session: &mut Session<'_>) -> Result<(), Halt> {
    let observations = observe(session).await?;
    let bad: Vec<String> = observations
        .iter()
        .filter(|observation| observation.reading.verdict != Verdict::Healthy)
        .map(|observation| {
            let consumer = observation.consumer.as_ref().map_or("target", |consumer| consumer.as_str());
            format!("{consumer}/{}: {}", observation.check, observation.reading.detail)
        })
        .collect();
    let verdict = if session.engine.stands(Guard::UnhealthyIsNotHealthy) {
        of_all(&observations)
    } else {
        Verdict::Healthy
    };
    let now = session.now();
    let watch = &session.rotation().facts.watch;
    let first_failure = match verdict {
        Verdict::Healthy => false,
        Verdict::Unhealthy => watch.failures_in_row == 0,
        Verdict::Unknown => watch.unread_in_row == 0,
    };
    let limit = session.secret().healthy.every * COUNTED_INTERVALS;
    let counted = watch.last_at.map_or(SignedDuration::ZERO, |last| now.duration_since(last).min(limit));
    let detail = bad.join("; ");
    let notices = first_failure
        .then(|| notice::check_failed(session.rotation(), session.secret(), verdict, &detail, now))
        .into_iter();
    let event = Event::Observed { verdict, counted: counted.max(SignedDuration::ZERO), detail };
    session
        .advance(event, json!(null), |record| {
            record.observations = observations;
            record.notices.extend(notices);
        })
        .await
}

/// One consumer that is seen to suffer counts, whatever of the others can be read.
fn of_all(observations: &[Observation]) -> Verdict {
    let any = |verdict| observations.iter().any(|observation| observation.reading.verdict == verdict);
    if any(Verdict::Unhealthy) {
        Verdict::Unhealthy
    } else if any(Verdict::Unknown) {
        Verdict::Unknown
    } else {
        Verdict::Healthy
    }
}

async fn observe(session: &mut Session<'_>) -> Result<Vec<Observation>, Halt> {
    let consumers = session.consumers();
    if consumers.is_empty() {
        return Ok(vec![Observation {
            consumer: None,
            check: "proof".to_owned(),
            reading: proof(session).await?,
        }]);
    }
    let mut observations = Vec::new();
    for consumer in &consumers {
        for check in &consumer.checks {
            let baseline = session.rotation().facts.baseline.get(&key(consumer, check)).copied();
            let reading = read(session, check, baseline).await?;
            observations.push(Observation {
                consumer: Some(consumer.id.clone()),
                check: check.name.clone(),
                reading,
            });
        }
        if consumer.checks.is_empty() && consumer.unmonitored.is_none() {
            observations.push(Observation {
                consumer: Some(consumer.id.clone()),
                check: "none".to_owned(),
                reading: Reading {
                    verdict: Verdict::Unknown,
                    value: None,
                    detail: "the consumer has no checks and does not say `unmonitored`".to_owned(),
                },
            });
        }
    }
    Ok(observations)
}

fn key(consumer: &ConsumerPolicy, check: &CheckPolicy) -> String {
    format!("{}/{}", consumer.id, check.name)
}

/// A check that cannot be read is unknown; one that can never be read stops the rotation.
async fn read(
    session: &mut Session<'_>,
    policy: &CheckPolicy,
    baseline: Option<f64>,
) -> Result<Reading, Halt> {
    let check = session.engine.adapters.check(policy)?;
    let context = CheckContext { now: session.now(), baseline, value: None };
    match session.call("reading a check", check.observe(&context)).await {
        Ok(reading) => Ok(reading),
        Err(Halt::Fault(fault)) if fault.passes_by_itself() => {
            Ok(Reading { verdict: Verdict::Unknown, value: None, detail: fault.to_string() })
        }
        Err(halt) => Err(halt),
    }
}

/// Without consumers, the new value's own proof stands in for their checks.
async fn proof(session: &mut Session<'_>) -> Result<Reading, Halt> {
    let reading = |verdict, detail: &str| Reading { verdict, value: None, detail: detail.to_owned() };
    let context = target::context(session).await?;
    if !session.rotation().shape.target {
        return Ok(match context.new {
            Some(_) => reading(Verdict::Healthy, "the value is readable"),
            None => reading(Verdict::Unhealthy, "the value's slot is empty"),
        });
    }
    let rotator = session.rotator()?;
    match session.call("using the credential", rotator.prove(Which::New, &context)).await {
        Ok(Proof::Accepted | Proof::NotProvable) => Ok(reading(Verdict::Healthy, "the target accepts it")),
        Ok(Proof::Refused { detail }) => Ok(reading(Verdict::Unhealthy, &detail)),
        Err(Halt::Fault(fault @ (Fault::Transient { .. } | Fault::RateLimited { .. }))) => {
            Ok(reading(Verdict::Unknown, &fault.to_string()))
        }
        Err(halt) => Err(halt),
    }
}

/// Reads every check's number before the promotion, to compare with later.
pub(super) async fn take_baseline(session: &mut Session<'_>) -> Result<(), Halt> {
    debug_assert!(matches!(
        session.rotation().step().map(rota_core::rotation::Step::nature),
        Some(Nature::Publication(_))
    ));
    let mut readings = BTreeMap::new();
    for consumer in session.consumers() {
        for check in &consumer.checks {
            if let Some(value) = read(session, check, None).await?.value {
                readings.insert(key(&consumer, check), value);
            }
        }
    }
    let detail = json!({ "readings": readings });
    session.advance(Event::BaselineTaken { readings }, detail, |_| ()).await
}
