//! What people read.

use rota_core::rotation::{Event, HoldReason, apply};
use rota_engine::ports::{
    Claim, HistoryEntry, Journal as _, Observation, OrderKind, Reading, Record, RolloutRecord, RolloutState,
    Verdict,
};
use rota_engine::test_support::journal_suite::parts::{
    HOUR, LEASE, ending, line, notice, open_and_claim, promoted, published, same, secret,
};
use rota_postgres::{HistoryFilter, ServedRollout};
use serde_json::json;

use crate::support::{ann, database, orders, reports, with_secrets};

#[tokio::test]
async fn the_status_tells_where_every_secret_is_and_why_it_waits() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B", "C"]).await;
    let now = journal.now().await.unwrap();
    promoted(&journal, "A", now - HOUR, now - HOUR * 2).await;
    let held = open_and_claim(&journal, "B").await;
    let reason = HoldReason::Asked { by: "ann".to_owned(), reason: "holiday".to_owned() };
    let event = Event::Held { reason: reason.clone() };
    let rotation = apply(held.rotation.clone(), event, now).unwrap();
    journal.record(&held, Record::of(rotation, held.last_effect)).await.unwrap();

    let reports = reports(&database).await;
    let status = reports.status(None).await.unwrap();
    let names: Vec<_> = status.iter().map(|status| status.secret.as_str()).collect();
    assert_eq!(names, ["A", "B", "C"]);
    assert!(status[0].overdue && status[0].last_promoted_at.is_some() && status[0].in_flight.is_none());
    assert!(!status[1].overdue && status[2].last_promoted_at.is_none());
    let flight = status[1].in_flight.as_ref().unwrap();
    assert_eq!(
        (flight.phase.as_str(), flight.step.as_str(), flight.held.as_ref()),
        ("held", "keep", Some(&reason))
    );
    assert!(flight.can_undo && flight.held_at == Some(now));
    assert_eq!(reports.status(Some(&secret("C"))).await.unwrap(), status[2..]);

    let overdue = reports.overdue().await.unwrap();
    assert_eq!(overdue.iter().map(|line| line.secret.as_str()).collect::<Vec<_>>(), ["A"]);
    let counts = reports.counts().await.unwrap();
    assert_eq!((counts.secrets, counts.blocked, counts.orphans), (3, 0, 0));
    assert_eq!(counts.overdue.into_iter().collect::<Vec<_>>(), [("medium".to_owned(), 1)]);
    assert_eq!(counts.rotations.into_iter().collect::<Vec<_>>(), [("held".to_owned(), 1)]);
    assert_eq!(counts.oldest_overdue_at, Some(now - HOUR));
}

#[tokio::test]
async fn an_order_that_cannot_start_says_why_beside_its_secret() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B"]).await;
    orders(&database).await.give(&secret("A"), &OrderKind::Rotate, &ann("it leaked")).await.unwrap();
    let (now, due) = journal.due(10).await.unwrap();
    journal.postpone(&due[0], "the store is away", now + HOUR, Vec::new()).await.unwrap();
    let status = reports(&database).await.status(None).await.unwrap();
    let waits: Vec<_> = status.iter().map(|status| status.postponed_why.as_deref()).collect();
    assert_eq!(waits, [Some("the store is away"), None]);
    assert_eq!(status[0].postponed_until, Some(now + HOUR));
}

#[tokio::test]
async fn a_rotation_has_one_line_from_its_start_to_its_end() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B"]).await;
    let first = open_and_claim(&journal, "A").await;
    let mut record = published(&first, first.now, &["backend"]);
    record.rotation.facts.promoted_at = Some(first.now);
    record.rotation.facts.refusal = Some("the old value is refused".to_owned());
    record.observations = vec![Observation {
        consumer: None,
        check: "http".to_owned(),
        reading: Reading { verdict: Verdict::Healthy, value: Some(0.5), detail: "200".to_owned() },
    }];
    let rotation = record.rotation.clone();
    journal.record(&first, record).await.unwrap();
    let claimed = rota_engine::ports::Claim { rotation, ..first };
    journal.record(&claimed, ending(&claimed, claimed.now)).await.unwrap();
    open_and_claim(&journal, "B").await;

    let reports = reports(&database).await;
    let lines = reports.rotations(None, 10).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.secret.as_str()).collect::<Vec<_>>(), ["B", "A"]);
    let ended = &reports.rotations(Some(&secret("A")), 10).await.unwrap()[0];
    assert_eq!(ended, &lines[1]);
    assert_eq!((ended.outcome.as_deref(), ended.cause.as_str()), (Some("abandoned"), "requested"));
    assert_eq!(ended.requested_by.as_deref(), Some("suite"));
    assert_eq!(ended.refusal_evidence.as_deref(), Some("the old value is refused"));
    assert_eq!((ended.promoted_at, ended.ended_at), (Some(claimed.now), Some(claimed.now)));
    assert_eq!((lines[0].outcome.as_deref(), lines[0].step.as_deref()), (None, Some("keep")));

    let observed = reports.observations(claimed.rotation.id, 10).await.unwrap();
    assert_eq!((observed[0].verdict.as_str(), observed[0].value), ("healthy", Some(0.5)));
    let rollouts = reports.rollouts(HOUR).await.unwrap();
    assert_eq!((rollouts[0].consumer.as_str(), rollouts[0].state.as_str()), ("backend", "requested"));
}

#[tokio::test]
async fn history_is_narrowed_by_secret_rotation_kind_and_time() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B"]).await;
    let a = open_and_claim(&journal, "A").await;
    let mut record = same(&a);
    let mut own = line("step.done", "A");
    own.rotation = Some(a.rotation.id);
    record.history = vec![own, line("step.failed", "A")];
    journal.record(&a, record).await.unwrap();
    journal.record(&a, ending(&a, a.now)).await.unwrap();
    let middle = journal.now().await.unwrap();
    open_and_claim(&journal, "B").await;

    let reports = reports(&database).await;
    let kinds = async |filter: HistoryFilter| {
        let lines = reports.history(&filter).await.unwrap();
        lines.into_iter().map(|line| line.kind).collect::<Vec<_>>()
    };
    let all = HistoryFilter::default();
    assert_eq!(
        kinds(all.clone()).await,
        ["policy.accepted", "rotation.opened", "step.done", "step.failed", "rotation.opened"]
    );
    let of_a = HistoryFilter { secret: Some(secret("A")), ..all.clone() };
    assert_eq!(kinds(of_a.clone()).await, ["rotation.opened", "step.done", "step.failed"]);
    assert_eq!(kinds(HistoryFilter { limit: Some(1), ..of_a.clone() }).await, ["step.failed"]);
    assert_eq!(kinds(HistoryFilter { kind: Some("step.".to_owned()), ..of_a.clone() }).await.len(), 2);
    assert_eq!(
        kinds(HistoryFilter { kind: Some("step.done".to_owned()), ..all.clone() }).await,
        ["step.done"]
    );
    assert_eq!(kinds(HistoryFilter { rotation: Some(a.rotation.id), ..all.clone() }).await, ["step.done"]);
    assert_eq!(kinds(HistoryFilter { since: Some(middle), ..all.clone() }).await, ["rotation.opened"]);
    assert_eq!(kinds(HistoryFilter { until: Some(middle), ..of_a }).await.len(), 3);
    let lines = reports.history(&all).await.unwrap();
    assert_eq!((lines[1].actor.as_deref(), lines[1].db_user.as_str()), (Some("suite"), "postgres"));
    assert_eq!(lines[1].detail["with \"quotes\""][1], "2.5");
}

#[tokio::test]
async fn the_rollouts_of_a_rotation_are_found_by_it_and_by_its_secret() {
    let database = database().await;
    let journal = with_secrets(&database, &["A", "B", "C"]).await;
    let a = open_and_claim(&journal, "A").await;
    let b = open_and_claim(&journal, "B").await;
    let c = open_and_claim(&journal, "C").await;
    // One rollout of `backend` serves two rotations; `worker` follows only one.
    journal.record(&a, published(&a, a.now, &["backend"])).await.unwrap();
    journal.record(&b, published(&b, b.now, &["backend", "worker"])).await.unwrap();
    while let Some(claim) = journal.claim_rollout("suite", LEASE).await.unwrap() {
        let detail = json!({ "consumer": claim.consumer.id, "generation": claim.generation });
        let line = |kind: &str| HistoryEntry { secret: None, detail: detail.clone(), ..line(kind, "A") };
        for (state, kind) in
            [(RolloutState::Starting, "rollout.intended"), (RolloutState::Finished, "rollout.finished")]
        {
            let record = RolloutRecord {
                state,
                failures: 0,
                wake_at: None,
                history: vec![line(kind)],
                notices: Vec::new(),
            };
            journal.record_rollout(&claim, record).await.unwrap();
        }
    }
    journal.record(&c, published(&c, c.now, &["backend"])).await.unwrap();

    let reports = reports(&database).await;
    let served = async |of: &[&Claim]| {
        let ids: Vec<_> = of.iter().map(|claim| claim.rotation.id).collect();
        let found = reports.rollouts_of(&ids).await.unwrap();
        let short = |line: ServedRollout| format!("{} {} {}", line.consumer, line.generation, line.state);
        found.into_iter().map(short).collect::<Vec<_>>()
    };
    assert_eq!(served(&[&a]).await, ["backend 1 finished"]);
    assert_eq!(served(&[&b]).await, ["backend 1 finished", "worker 1 finished"]);
    assert_eq!(served(&[&c]).await, ["backend 2 requested"]);
    assert_eq!(served(&[]).await, [""; 0]);
    let lines = async |filter: HistoryFilter| {
        let found = reports.history(&HistoryFilter { kind: Some("rollout.".to_owned()), ..filter }).await;
        let found = found.unwrap().into_iter();
        found.map(|line| format!("{} {}", line.chain, line.kind)).collect::<Vec<_>>()
    };
    let of_a = lines(HistoryFilter { secret: Some(secret("A")), ..HistoryFilter::default() }).await;
    assert_eq!(of_a, ["secret:A rollout.asked", "system rollout.intended", "system rollout.finished"]);
    let of_b = lines(HistoryFilter { rotation: Some(b.rotation.id), ..HistoryFilter::default() }).await;
    assert_eq!(of_b.len(), 1 + 2 * 2, "{of_b:?}");
    let of_c = lines(HistoryFilter { secret: Some(secret("C")), ..HistoryFilter::default() }).await;
    assert_eq!(of_c, ["secret:C rollout.asked"]);
    let all = lines(HistoryFilter::default()).await;
    assert_eq!(all.len(), 3 + 2 * 2, "a line stands once: {all:?}");
    reports.verify_history(&[]).await.unwrap();
}

#[tokio::test]
async fn a_channel_tells_its_backlog_and_its_last_fault() {
    let database = database().await;
    let journal = with_secrets(&database, &["A"]).await;
    let now = journal.now().await.unwrap();
    journal.notify(vec![notice("a", now), notice("b", now)]).await.unwrap();
    let claimed = journal.claim_notices("slack", 1, LEASE).await.unwrap().unwrap();
    let fault = rota_core::fault::Fault::denied("the webhook was removed");
    journal.record_delivery(&claimed, Err((fault, now))).await.unwrap();
    let channels = reports(&database).await.channels().await.unwrap();
    let [slack] = &channels[..] else { panic!("one channel: {channels:?}") };
    assert_eq!((slack.channel.as_str(), slack.pending, slack.failures), ("slack", 2, 1));
    assert_eq!(slack.last_fault.as_deref(), Some("the webhook was removed"));
}
