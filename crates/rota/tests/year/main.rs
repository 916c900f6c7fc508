//! Four hundred days of the example policies: the real core and engine under a simulated
//! clock, in the fake world, with every invariant of the protocol checked at every step.
//!
//! Schedules, leads, windows, overlaps, token lifetimes and reminders are the examples'
//! own. Observations are thinned to fourteen an overlap. Values are the fake world's:
//! their formats and names are proven elsewhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rota_adapters::catalog;
use rota_core::fault::Fault;
use rota_core::id::SecretId;
use rota_core::policy::model::{Healthy, Policy, PublishForm, SecretPolicy};
use rota_core::policy::{self, Piece};
use rota_core::rotation::{State, Step};
use rota_core::schedule::{Schedule, Start};
use rota_engine::ports::{Clock as _, NoticeKind};
use rota_engine::test_support::{
    Call, Disturbance, FakeKind, FakeNotifier, Form, Guards, Scenario, SecretPlan, SeededRandom, Style,
};
use rota_sim::checker::{Checker, unsettled, values_in_rows};
use rota_sim::executor::{Executor, Step as Turn};
use rota_sim::replica::{Bell, replica};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const DAYS: i32 = 400;

/// People look at what waits for them this often.
const PEOPLE_LOOK_EVERY: SignedDuration = SignedDuration::from_hours(3);
/// A person answers within the working day; longer than that only the late one takes.
const ANSWERED_AFTER: SignedDuration = SignedDuration::from_hours(5);
const LATE_AFTER: SignedDuration = SignedDuration::from_hours(4 * 24);

/// A closed window (Thursday to Monday) and the lead: a rotation starts no earlier before
/// its due date than this.
const EARLIEST: SignedDuration = SignedDuration::from_hours(8 * 24);

/// A fault once in so many calls.
const FAULT_ONCE_IN: u64 = 150;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn start() -> Timestamp {
    at("2026-01-01T00:00:00Z")
}

fn example(name: &str) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples").join(name);
    let piece = Piece::from_bytes(name.to_owned(), std::fs::read(path).unwrap()).unwrap();
    policy::load(&[piece], &catalog::kinds().unwrap()).policy.unwrap()
}

fn form(secret: &SecretPolicy, one_file: bool) -> Form {
    match &secret.publish {
        PublishForm::Single | PublishForm::Document { .. } => Form::Single,
        PublishForm::List { .. } => Form::List,
        PublishForm::Pair { pinned: true, .. } => Form::PinnedPair,
        PublishForm::Pair { .. } if one_file => Form::PairInDocument,
        PublishForm::Pair { .. } => Form::Pair,
    }
}

/// The example's secrets that are generated or handed in, in the fake world.
fn world(example: &Policy, seed: u64) -> Result<Scenario, Fault> {
    let mut scenario = Scenario::new(seed, Guards::default(), start());
    for consumer in example.consumers.values() {
        scenario.add_consumer(consumer.id.as_str(), consumer.settle)?;
    }
    for secret in example.secrets.values() {
        let kind = match secret.kind.as_str() {
            "generated" => FakeKind::Generated,
            "operator" => FakeKind::Submitted,
            _ => continue,
        };
        let one_file = secret.primary_store().is_some_and(|store| example.stores[store].kind == "env-file");
        let healthy = Healthy { every: secret.kept_overlap() / 14, ..secret.healthy };
        let plan = SecretPlan {
            class: secret.class,
            consumers: secret.consumers.names().iter().map(ToString::to_string).collect(),
            overlap: secret.overlap,
            token_ttl: secret.token_ttl,
            revoke_after: secret.revoke_after,
            healthy,
            on_failure: secret.on_failure,
            ..SecretPlan::new(secret.id.as_str(), kind, form(secret, one_file))
        };
        scenario.add_secret(plan)?;
        let SecretPolicy { schedule, lead, window, remind, priority, deadlines, .. } = secret.clone();
        let own = scenario.policy.secrets.get_mut(&secret.id).unwrap();
        *own = SecretPolicy { schedule, lead, window, remind, priority, deadlines, ..own.clone() };
        let entry = scenario.policy.entry(&secret.id).unwrap();
        scenario.world.with(|world| match secret.accept_gap && kind == FakeKind::Generated {
            // What its consumers refuse is accepted by the policy, and measured elsewhere.
            true => drop(world.subjects.remove(&secret.id)),
            false => world.subjects.get_mut(&secret.id).unwrap().entry = entry,
        });
    }
    scenario.start_fleets(2, Style::Restarted)?;
    for secret in scenario.policy.secrets.values() {
        let rule = Start { lead: secret.lead, window: secret.window.as_ref() };
        let due = secret.schedule.next_due(start(), None, rule).unwrap().at;
        scenario.journal.adopt(&secret.id, Some(start()), Some(due), Some(rule.of(due)));
    }
    Ok(scenario)
}

/// The people, one of whom is late.
async fn people(scenario: Rc<Scenario>, late: Option<SecretId>) {
    loop {
        for secret in scenario.policy.secrets.keys() {
            let waits_since =
                scenario.journal.look(|tables| match &tables.in_flight(secret)?.rotation.state {
                    State::Running { step: Step::Stage | Step::Confirm, attempt } => Some(attempt.since),
                    _ => None,
                });
            let patience = if late.as_ref() == Some(secret) { LATE_AFTER } else { ANSWERED_AFTER };
            if waits_since.is_some_and(|since| scenario.clock.now().duration_since(since) >= patience) {
                let _ = scenario.act_as_person(secret).await;
            }
        }
        scenario.clock.sleep(PEOPLE_LOOK_EVERY).await;
    }
}

/// Short trouble now and then, as any network has it.
fn mild_faults(seed: u64) -> impl FnMut(&Call) -> Option<Disturbance> {
    let mut random = SeededRandom::new(seed);
    move |call| {
        if call.actor != "replica" || !random.once_in(FAULT_ONCE_IN) {
            return None;
        }
        Some(match random.below(4) {
            0 => Disturbance::Fails(Fault::transient("connection reset")),
            1 => Disturbance::AnswerLost,
            2 => Disturbance::Slow(SignedDuration::from_secs(20)),
            _ => Disturbance::CrashAfter,
        })
    }
}

/// What a run of four hundred days did.
struct Year {
    scenario: Rc<Scenario>,
    promotions: BTreeMap<SecretId, Vec<Timestamp>>,
}

/// Runs the days, and checks every invariant after every turn.
fn live(scenario: Scenario, seed: u64, late: Option<SecretId>) -> Year {
    let scenario = Rc::new(scenario);
    let mut checker = Checker::new(&scenario);
    let mut executor = Executor::new(scenario.clock.clone(), scenario.wire.clone(), seed, false);
    let channel = FakeNotifier::new(scenario.wire.clone(), "slack");
    let process = |number: u64| {
        let engine = scenario.engine("replica", seed ^ number);
        replica(Rc::clone(&scenario), engine, channel.clone(), Bell::default())
    };
    executor.spawn("replica", process(0));
    executor.spawn("people", people(Rc::clone(&scenario), late));
    let end = start() + DAY * DAYS;
    let mut promotions: BTreeMap<SecretId, Vec<Timestamp>> = BTreeMap::new();
    let mut crashes = 0;
    while scenario.clock.now() < end {
        if let Turn::Crashed(_) = executor.step() {
            crashes += 1;
            executor.spawn("replica", process(crashes));
        }
        checker.check(&scenario).unwrap_or_else(|violation| panic!("{violation}"));
        scenario.journal.look(|tables| {
            for (id, row) in &tables.secrets {
                let known = promotions.entry(id.clone()).or_default();
                if let Some(at) = row.last_promoted.filter(|at| *at > start() && known.last() != Some(at)) {
                    known.push(at);
                }
            }
        });
    }
    scenario.wire.heal();
    assert_eq!(values_in_rows(&scenario), Vec::<String>::new());
    Year { scenario, promotions }
}

impl Year {
    fn secrets(&self) -> impl Iterator<Item = (&SecretPolicy, &[Timestamp])> {
        self.scenario.policy.secrets.values().map(|secret| (secret, self.promotions[&secret.id].as_slice()))
    }

    /// What people were told of the secret.
    fn notices(&self, secret: &SecretId, kind: NoticeKind) -> Vec<String> {
        self.scenario.journal.look(|tables| {
            let notices = tables.outbox.iter().map(|row| &row.notice);
            let of = notices.filter(|notice| notice.kind == kind && notice.secret.as_ref() == Some(secret));
            of.map(|notice| notice.what.clone()).collect()
        })
    }

    /// Each promotion came before its due date, and no earlier than windows demand; only
    /// the late person's came after it.
    fn assert_dates(&self, late: Option<&SecretId>) {
        for (secret, promotions) in self.secrets() {
            let id = &secret.id;
            let is_late = late == Some(id);
            match &secret.schedule {
                Schedule::Cadence { every } => {
                    let mut from = start();
                    for at in promotions {
                        let age = at.duration_since(from);
                        assert!(age >= *every - EARLIEST, "{id}: promoted after {age:#}, too early");
                        assert_eq!(age > *every, is_late, "{id}: promoted after {age:#}");
                        from = *at;
                    }
                    let left = (start() + DAY * DAYS).duration_since(from);
                    assert!(left <= *every || is_late, "{id}: nothing was promoted for {left:#}");
                }
                Schedule::Calendar { .. } => {
                    let dates = ["2026-01-15", "2026-04-15", "2026-07-15", "2026-10-15", "2027-01-15"];
                    assert_eq!(promotions.len(), dates.len(), "{id}: {promotions:?}");
                    for (date, promoted) in dates.iter().zip(promotions) {
                        let ahead = at(&format!("{date}T10:00:00Z")).duration_since(*promoted);
                        assert_eq!(ahead < SignedDuration::ZERO, is_late, "{id}: {ahead:#} before {date}");
                        assert!(ahead <= DAY, "{id}: {ahead:#} before {date}");
                    }
                }
                Schedule::OnRequest => panic!("{id} is never due"),
            }
        }
    }

    /// Starts and withdrawals happen while the policy's window is open, read by hand.
    fn assert_windows(&self, fridays_too: bool) {
        let is_open = |at: Timestamp| {
            let at = at.to_zoned(TimeZone::UTC);
            let day = !matches!(at.weekday(), Weekday::Friday | Weekday::Saturday | Weekday::Sunday);
            (day || fridays_too) && (9..16).contains(&at.hour())
        };
        let (opened, withdrawn) = self.scenario.journal.look(|tables| {
            let opened: Vec<Timestamp> = tables.rotations.values().map(|row| row.opened_at).collect();
            let intended = tables.history.iter().filter(|row| row.entry.kind == "step.intended");
            let withdrawn = intended.filter(|row| row.entry.step == Some(Step::Withdraw)).map(|row| row.at);
            (opened, withdrawn.collect::<Vec<_>>())
        });
        assert!(!opened.is_empty());
        let outside = opened.iter().chain(&withdrawn).find(|at| !is_open(**at));
        assert_eq!(outside, None, "outside of the window");
    }

    /// Reminders came for every due date, alerts for the late person's alone.
    fn assert_notices(&self, late: Option<&SecretId>) {
        for (secret, promotions) in self.secrets() {
            let id = &secret.id;
            let (told, due) = (self.notices(id, NoticeKind::DueSoon).len(), promotions.len());
            // The last reminder is not sent where the value was promoted before it.
            let most = (due + 1) * secret.remind.len();
            assert!((due..=most).contains(&told), "{id}: {told} reminders of {due} dates");
            let alerts = self.notices(id, NoticeKind::Overdue).len();
            if late == Some(id) {
                assert!(alerts >= promotions.len(), "{id}: {alerts} alerts");
            } else {
                assert_eq!(alerts, 0, "{id} was overdue");
            }
            // That a store did not answer at the start is told by the same kind.
            let held =
                self.notices(id, NoticeKind::Held).into_iter().filter(|what| what.contains(" is held"));
            assert_eq!(held.collect::<Vec<_>>(), Vec::<String>::new());
        }
    }

    /// What is not in flight on the last day has come to rest.
    fn assert_rest(&self) {
        let flying: Vec<String> = self.scenario.journal.look(|tables| {
            let rows = tables.rotations.values().filter(|row| row.in_flight());
            rows.map(|row| format!("{}:", row.rotation.secret)).collect()
        });
        let known = |problem: &String| {
            self.scenario.world.with(|world| {
                let id = problem.split(':').next().and_then(|id| SecretId::new(id).ok());
                id.is_some_and(|id| world.subjects.contains_key(&id))
            })
        };
        let problems: Vec<String> = unsettled(&self.scenario)
            .into_iter()
            .filter(|problem| known(problem) && !flying.iter().any(|id| problem.starts_with(id.as_str())))
            .collect();
        assert_eq!(problems, Vec::<String>::new());
    }
}

fn four_hundred_days(file: &str, fridays_too: bool, late: Option<&str>) {
    let example = example(file);
    let late: Option<SecretId> = late.map(|id| id.parse().unwrap());
    for (seed, troubled) in [(1, false), (2, true)] {
        let scenario = world(&example, seed).unwrap();
        if troubled {
            scenario.wire.disturb_with(mild_faults(seed));
        }
        let year = live(scenario, seed, late.clone());
        year.assert_dates(late.as_ref());
        year.assert_windows(fridays_too);
        year.assert_notices(late.as_ref());
        year.assert_rest();
    }
}

#[test]
fn the_dashboards_secrets_rotate_on_their_dates_for_four_hundred_days() {
    four_hundred_days("autonomous-coding-dashboard.toml", true, Some("GITHUB_TOKEN"));
}

#[test]
fn jobswipes_secrets_rotate_on_their_dates_for_four_hundred_days() {
    four_hundred_days("jobswipe.toml", false, None);
}

#[test]
fn mgmt_vibes_secrets_rotate_on_their_dates_for_four_hundred_days() {
    four_hundred_days("mgmt-vibe.toml", false, Some("STRIPE"));
}

#[test]
fn the_cutovers_secrets_rotate_on_their_dates_for_four_hundred_days() {
    four_hundred_days("production-cutover.toml", false, None);
}

#[test]
fn the_starter_kits_secrets_rotate_on_their_dates_for_four_hundred_days() {
    four_hundred_days("starter-kit.toml", false, None);
}
