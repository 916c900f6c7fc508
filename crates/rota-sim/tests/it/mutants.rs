//! Every protection is missed as soon as it is taken away.

use rota_engine::test_support::{Guard, Guards};
use rota_sim::mutants::{DIRECTED, Kill, by_directed, by_seed, hunt};

/// What notices first, by `scripts/sim --mutants 60`: a directed run, else a seed.
fn known(guard: Guard) -> Option<Kill> {
    let directed = |name| by_directed(guard, name);
    let seed = |seed| by_seed(guard, seed);
    match guard {
        Guard::OrdersRaiseTheEpoch => directed("an order in the middle of a call"),
        Guard::PublicationsCompare => directed("two secrets of one document"),
        Guard::FencesAreCompared | Guard::LateEffectsAreWaitedOut => {
            directed("a rollback while an effect lands late")
        }
        Guard::SlotsAreWrittenOnce => directed("a slot's write that lands late"),
        Guard::RolloutsAreRechecked => directed("a rollout's start that lands hours late"),
        Guard::LostKeysGoFirst | Guard::CreationsAreLookedUp => directed("a third value after a lost key"),
        Guard::LeaksAreRevoked => directed("a leak of both values"),
        Guard::ForeignIsHeld => directed("somebody else's value"),
        Guard::StaleReadsAreReadAgain => directed("reads that lag behind"),
        Guard::OneRotationInFlight | Guard::RevokingWaits => seed(1),
        Guard::FinishedMeansNoOldInstance | Guard::EffectsAreObservedFirst | Guard::TheOldValueIsKept => {
            seed(2)
        }
        Guard::EveryConsumerRollsOut => seed(3),
        Guard::ProofsAreMade | Guard::ProofComesFirst => seed(5),
        Guard::IdlenessIsRead | Guard::SettleIsWaitedFor => seed(7),
        Guard::RecordsCheckTheEpoch => seed(11),
        Guard::TheWindowIsKept => seed(12),
        _ => seed(0),
    }
}

/// So many seeds of the swarm are run where another one notices by now.
const SEEDS: u64 = 60;

#[test]
#[expect(clippy::print_stderr, reason = "the table is what people read")]
fn every_protection_is_missed_within_sixty_seeds_or_in_a_directed_run() {
    let half = Guard::ALL.len() / 2;
    let kill = |guards: &[Guard]| -> Vec<(Guard, Option<Kill>)> {
        guards.iter().map(|guard| (*guard, known(*guard).or_else(|| hunt(*guard, SEEDS)))).collect()
    };
    let (first, second) = Guard::ALL.split_at(half);
    let mut killed = std::thread::scope(|scope| {
        let other = scope.spawn(|| kill(second));
        let mut killed = kill(first);
        killed.extend(other.join().unwrap());
        killed
    });
    killed.sort_by_key(|(guard, _)| *guard);
    let line = |(guard, kill): &(Guard, Option<Kill>)| {
        let name = format!("{guard:?}");
        let (by, what) = kill.as_ref().map_or(("SURVIVES", ""), |kill| (&*kill.by, &*kill.what));
        format!("{name:<34} {by:<42} {what}\n")
    };
    let table: String = killed.iter().map(line).collect();
    assert!(killed.len() >= 30 && killed.iter().all(|(_, kill)| kill.is_some()), "{table}");
    eprintln!("{table}");
}

#[test]
fn nothing_goes_wrong_in_the_directed_runs_while_all_protections_stand() {
    for (name, run) in DIRECTED {
        assert_eq!(run(Guards::default()), Ok(()), "{name}");
    }
}
