//! The outbox: each notice once a key and channel, in order, at least once.

use rota_core::fault::Fault;

use super::JournalSubject;
use super::parts::*;
use crate::ports::OutboxClaim;

fn keys(claim: &OutboxClaim) -> Vec<&str> {
    claim.notices.iter().map(|(_, notice)| notice.key.as_str()).collect()
}

pub(super) async fn notices_come_in_order_and_once_per_key(subject: &dyn JournalSubject) {
    let journal = subject.journal();
    let now = journal.now().await.unwrap();
    assert_eq!(journal.claim_notices("slack", 10, LEASE).await.unwrap(), None);
    journal.notify(vec![notice("b", now), notice("a", now)]).await.unwrap();
    journal.notify(vec![notice("a", now), notice("c", now)]).await.unwrap();
    let two = journal.claim_notices("slack", 2, LEASE).await.unwrap().unwrap();
    assert_eq!((keys(&two), two.channel.as_str(), two.failures), (vec!["b", "a"], "slack", 0));
    assert_eq!(two.notices[0].1, notice("b", now));
    journal.record_delivery(&two, Ok(())).await.unwrap();
    let rest = journal.claim_notices("slack", 2, LEASE).await.unwrap().unwrap();
    assert_eq!(keys(&rest), ["c"]);
    journal.record_delivery(&rest, Ok(())).await.unwrap();
    // What was delivered does not come again under the same key.
    journal.notify(vec![notice("b", now)]).await.unwrap();
    assert_eq!(journal.claim_notices("slack", 2, LEASE).await.unwrap(), None);
}

pub(super) async fn each_channel_gets_every_notice(subject: &dyn JournalSubject) {
    let journal = subject.journal();
    let now = journal.now().await.unwrap();
    journal.notify(vec![notice("a", now)]).await.unwrap();
    for channel in ["slack", "webhook"] {
        let claim = journal.claim_notices(channel, 10, LEASE).await.unwrap().unwrap();
        assert_eq!(keys(&claim), ["a"], "{channel}");
        journal.record_delivery(&claim, Ok(())).await.unwrap();
    }
    journal.notify(vec![notice("b", now)]).await.unwrap();
    for channel in ["webhook", "slack"] {
        let claim = journal.claim_notices(channel, 10, LEASE).await.unwrap().unwrap();
        assert_eq!(keys(&claim), ["b"], "{channel}");
    }
}

pub(super) async fn one_process_delivers_on_a_channel_at_a_time(subject: &dyn JournalSubject) {
    let journal = subject.journal();
    let now = journal.now().await.unwrap();
    journal.notify(vec![notice("a", now), notice("b", now)]).await.unwrap();
    let first = journal.claim_notices("slack", 1, LEASE).await.unwrap().unwrap();
    assert_eq!(journal.claim_notices("slack", 1, LEASE).await.unwrap(), None);
    journal.record_delivery(&first, Ok(())).await.unwrap();
    let lapsing = journal.claim_notices("slack", 1, NO_LEASE).await.unwrap().unwrap();
    assert_eq!(keys(&lapsing), ["b"]);
    let again = journal.claim_notices("slack", 1, LEASE).await.unwrap().unwrap();
    assert_eq!(keys(&again), ["b"], "whoever claimed it before may have died");
}

pub(super) async fn a_failed_delivery_is_tried_again_at_its_time_and_counted(subject: &dyn JournalSubject) {
    let journal = subject.journal();
    let now = journal.now().await.unwrap();
    journal.notify(vec![notice("a", now)]).await.unwrap();
    for failures in 0..3 {
        let claim = journal.claim_notices("slack", 10, LEASE).await.unwrap().unwrap();
        assert_eq!(claim.failures, failures);
        journal.record_delivery(&claim, Err((Fault::transient("503"), now))).await.unwrap();
    }
    let claim = journal.claim_notices("slack", 10, LEASE).await.unwrap().unwrap();
    journal.record_delivery(&claim, Err((Fault::transient("503"), now + HOUR))).await.unwrap();
    assert_eq!(journal.claim_notices("slack", 10, LEASE).await.unwrap(), None, "its time has not come");
    assert!(
        journal.claim_notices("webhook", 10, LEASE).await.unwrap().is_some(),
        "another channel is not held up"
    );
}
