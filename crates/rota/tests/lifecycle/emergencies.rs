//! Leaks, from every place where a rotation stands for a while: what leaked ends, and the
//! declared cut is measured and shown. Nobody is refused once it is over.

use std::io::Write as _;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use rota_fakes::consumer::Failure;

use crate::signing::{SECRET, Signing, TOKEN_TTL};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaked {
    Older,
    Newer,
    Both,
}

/// Where a rotation of a generated list waits, with both values in the world.
const PLACES: [&str; 4] = ["introduce_rollout", "promote_rollout", "watch", "withdraw_rollout"];

async fn report(signing: &Signing, leaked: Leaked) {
    let suspect = match leaked {
        Leaked::Older => Some("older"),
        Leaked::Newer => Some("newer"),
        Leaked::Both => None,
    };
    let sql = "SELECT rota.order_emergency($1, $2, 'it was in a log', 'a test')";
    sqlx::query(sql).bind(SECRET).bind(suspect).execute(&signing.world.operator).await.unwrap();
}

/// What an emergency cost those who sign and verify.
struct Cut {
    /// From the order to the last token that was signed and that somebody refused.
    lasted: SignedDuration,
    /// Tokens from before the order that were refused: as meant, where their key leaked.
    ended: usize,
    refused: usize,
}

impl Cut {
    fn measure(failures: &[Failure], ordered: Timestamp) -> Self {
        let (before, since): (Vec<Timestamp>, Vec<Timestamp>) =
            failures.iter().map(|failure| failure.at - failure.age).partition(|signed| *signed <= ordered);
        let last = since.iter().max().copied().unwrap_or(ordered);
        Self { lasted: last.duration_since(ordered), ended: before.len(), refused: since.len() }
    }
}

async fn leaks_everywhere(leaked: Leaked) -> Vec<String> {
    let signing = Signing::adopt("aws").await;
    let mut lines = Vec::new();
    for (rotations, step) in (1..).zip(PLACES) {
        let old = signing.published().remove(0);
        let seen = signing.fleet.failures().len();
        signing.world.order("rotate", SECRET).await;
        signing.world.work_until_step(SECRET, step).await;
        let new = signing.published().into_iter().find(|key| *key != old).unwrap();
        assert_eq!(signing.fleet.failures().len(), seen, "nothing was cut before the order");
        let ordered = signing.world.time.clock.now();
        report(&signing, leaked).await;
        signing.world.work_until_ended(SECRET, "completed", rotations).await;
        let after = signing.published();
        assert_eq!(after.len(), 1, "{step}, {leaked:?}");
        let gone: &[&String] = match leaked {
            Leaked::Older => &[&old],
            Leaked::Newer => &[&new],
            Leaked::Both => &[&old, &new],
        };
        assert!(!gone.contains(&&after[0]), "{step}, {leaked:?}: what leaked is published");
        let over = signing.world.time.clock.now();
        signing.world.consumers.pass(TOKEN_TTL).await;
        let failures = signing.fleet.failures().split_off(seen);
        assert!(failures.iter().all(|failure| failure.at - failure.age <= over), "{step}, {leaked:?}");
        let Cut { lasted, ended, refused } = Cut::measure(&failures, ordered);
        let seconds = lasted.as_secs();
        lines.push(format!(
            "{step:<18} {leaked:?} leaked: {seconds} s with {refused} refused; {ended} times a token from before"
        ));
    }
    signing.world.assert_history_has_no_hole().await;
    lines
}

#[tokio::test]
async fn what_leaked_ends_from_every_place_and_the_cut_is_measured() {
    let all = [Leaked::Older, Leaked::Newer, Leaked::Both].map(leaks_everywhere);
    let lines: Vec<String> = join_all(all).await.into_iter().flatten().collect();
    // Written past the test harness: the measure is meant to be read.
    let _ = writeln!(std::io::stderr(), "cuts of emergencies:\n  {}", lines.join("\n  "));
    assert_eq!(lines.len(), 12);
}
