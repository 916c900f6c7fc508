//! The whole machine: every shape walked forward and back, every event in every step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, RotationId, SecretId, VersionRef};
use rota_core::policy::model::HookPoint;
use rota_core::rotation::{
    Cause, Done, Event, Haste, HoldReason, Intent, List, Nature, Order, Outcome, Phase, Publication,
    Rotation, Shape, Source, State, Step, Suspect, Verdict, apply, can_roll_back, plan,
};
use uuid::Uuid;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for source in [Source::Generated, Source::Submitted, Source::Created] {
        for bits in 0..32u32 {
            let bit = |n: u32| bits & (1 << n) != 0;
            let (target, second) = (bit(0), bit(1));
            if source == Source::Created && !target {
                continue;
            }
            let hooks = if bit(4) { HOOKS.into_iter().collect() } else { BTreeSet::new() };
            shapes.push(Shape {
                source,
                creation: bit(2),
                target,
                reversible: target && bit(3),
                introduces: second && !bit(2) && bit(3),
                shows_a_second: second,
                confirmed_by_person: source == Source::Submitted,
                hooks,
            });
        }
    }
    shapes
}

const HOOKS: [HookPoint; 7] = [
    HookPoint::BeforeGenerate,
    HookPoint::AfterGenerate,
    HookPoint::BeforePromote,
    HookPoint::AfterPromote,
    HookPoint::BeforeRetire,
    HookPoint::AfterRetire,
    HookPoint::OnEmergency,
];

fn open(shape: Shape, haste: Haste) -> Rotation {
    let order = Order { cause: Cause::Scheduled, haste, serves: None, supersedes: Vec::new() };
    Rotation::open(RotationId(Uuid::from_u128(1)), SecretId::new("S").unwrap(), order, shape, NOW)
}

fn done_of(rotation: &Rotation) -> Done {
    let step = rotation.step().unwrap();
    let version = VersionRef("v".to_owned());
    match step {
        Step::Keep => Done::Kept { version, identity: None },
        Step::Stage => Done::Staged { version, identity: None },
        Step::ConfirmIdle | Step::RecheckIdle => Done::Idle,
        Step::Disable => Done::Disabled,
        Step::Confirm => Done::Confirmed { at: NOW },
        Step::ProveRefused => Done::Refused { evidence: "seen".to_owned() },
        _ => match (plan::list_after(step, &rotation.shape), step.nature()) {
            (Some(list), _) => {
                Done::Published { publication: Publication { list, at: NOW, refs: BTreeMap::new() } }
            }
            (None, Nature::Rollout) => Done::RolledOut,
            (None, _) => Done::Plain,
        },
    }
}

fn intent() -> Event {
    Event::Intended { intent: Intent { effect: EffectNo(1), at: NOW, attempt: 0, bases: BTreeMap::new() } }
}

/// Carries the current step to its outcome.
fn step_on(mut rotation: Rotation) -> Rotation {
    if rotation.step().unwrap().leaves_a_trace() {
        rotation = apply(rotation, intent(), NOW).unwrap();
    }
    let done = done_of(&rotation);
    apply(rotation, Event::Done { done }, NOW).unwrap()
}

/// Every state of the walk to the end, the ended one last.
fn walk(rotation: Rotation) -> Vec<Rotation> {
    let mut states = vec![rotation];
    while states.last().unwrap().step().is_some() {
        assert!(states.len() < 100, "the walk does not end");
        let next = step_on(states.last().unwrap().clone());
        states.push(next);
    }
    states
}

fn steps(states: &[Rotation]) -> Vec<Step> {
    states.iter().filter_map(Rotation::step).collect()
}

fn position(steps: &[Step], step: Step) -> Option<usize> {
    steps.iter().position(|other| *other == step)
}

fn comes_before(steps: &[Step], first: Step, second: Step) -> bool {
    match (position(steps, first), position(steps, second)) {
        (Some(first), Some(second)) => first < second,
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

#[test]
fn every_calm_rotation_proves_promotes_rolls_out_and_watches_before_the_old_value_is_hurt() {
    for shape in shapes() {
        let states = walk(open(shape.clone(), Haste::None));
        let steps = steps(&states);
        let end = states.last().unwrap();
        assert_eq!(end.phase(), Phase::Completed);
        for hurtful in [Step::Withdraw, Step::Disable, Step::Revoke, Step::Confirm] {
            for first in [Step::Prove, Step::Promote, Step::PromoteRollout, Step::Watch] {
                assert!(comes_before(&steps, first, hurtful), "{shape:?}: {first} after {hurtful}");
            }
        }
        assert!(comes_before(&steps, Step::RecheckIdle, Step::Disable), "{shape:?}");
        assert!(comes_before(&steps, Step::RecheckIdle, Step::Revoke), "{shape:?}");
        assert!(comes_before(&steps, Step::Prove, Step::Promote), "{shape:?}");
        if shape.introduces {
            assert!(comes_before(&steps, Step::IntroduceRollout, Step::Promote), "{shape:?}");
            assert!(position(&steps, Step::Introduce).is_some());
        }
        assert_eq!(steps.last(), Some(&Step::Purge), "{shape:?}");
        assert_eq!(position(&steps, Step::Keep).is_some(), !shape.creation);
        assert_eq!(position(&steps, Step::Withdraw).is_some(), shape.shows_a_second && !shape.creation);
        assert_eq!(position(&steps, Step::Revoke).is_some(), shape.target && !shape.creation);
    }
}

#[test]
fn an_emergency_skips_waits_but_never_the_proof_and_refuses_the_leak_before_the_rollout() {
    for shape in shapes() {
        let states = walk(open(shape.clone(), Haste::Emergency { suspect: Suspect::Older }));
        let steps = steps(&states);
        assert!(comes_before(&steps, Step::Prove, Step::Promote), "{shape:?}");
        assert!(comes_before(&steps, Step::Promote, Step::Revoke), "{shape:?}");
        assert!(position(&steps, Step::ConfirmIdle).is_none());
        let rollout = position(&steps, Step::PromoteRollout).or(position(&steps, Step::WithdrawRollout));
        assert!(rollout.is_some(), "{shape:?}: nobody reads the new value");
        if shape.target && !shape.creation {
            assert!(position(&steps, Step::Revoke) < rollout, "{shape:?}");
        }
    }
}

#[test]
fn a_rollback_from_any_step_publishes_the_old_value_before_the_new_one_is_removed() {
    for shape in shapes() {
        for state in walk(open(shape.clone(), Haste::None)) {
            for attempted in [false, true] {
                let mut state = state.clone();
                let Some(step) = state.step() else { continue };
                if attempted {
                    if !step.leaves_a_trace() {
                        continue;
                    }
                    state = apply(state, intent(), NOW).unwrap();
                }
                let order = Event::RolledBack { by: "me".to_owned(), reason: "r".to_owned() };
                let allowed = can_roll_back(&state).is_ok();
                let turned = apply(state.clone(), order, NOW);
                assert_eq!(turned.is_ok(), allowed);
                let Ok(turned) = turned else {
                    assert!(
                        state.is_past_undo()
                            || (shape.creation && state.facts.attempted.contains(&Step::Promote)),
                        "{shape:?}: no way back from {step}"
                    );
                    continue;
                };
                check_way_back(&shape, &state, walk(turned));
            }
        }
    }
}

fn check_way_back(shape: &Shape, from: &Rotation, states: Vec<Rotation>) {
    let end = states.last().unwrap();
    assert_eq!(end.phase(), Phase::RolledBack);
    let steps = steps(&states);
    assert!(steps.iter().all(|step| step.undoes()), "{steps:?}");
    let published = plan::furthest(shape, &from.facts);
    if matches!(published, List::OldNew | List::NewOld | List::New) {
        assert_eq!(end.list(), List::Old, "{shape:?} from {published:?}");
        assert!(comes_before(&steps, Step::RejectRollout, Step::Remove), "{shape:?}");
    }
    if from.facts.attempted.contains(&Step::Disable) {
        assert_eq!(steps.first(), Some(&Step::Restore), "the old value is accepted again first");
    }
    if shape.target && from.facts.attempted.contains(&Step::Install) {
        assert!(steps.contains(&Step::Remove), "{shape:?}");
    }
    if matches!(published, List::NewOld | List::New) && shape.shows_a_second {
        assert!(comes_before(&steps, Step::DemoteRollout, Step::Cooldown));
        assert!(comes_before(&steps, Step::Cooldown, Step::Reject));
        assert!(steps.contains(&Step::Cooldown));
    }
    assert_eq!(steps.last(), Some(&Step::Discard));
}

#[test]
fn an_emergency_at_any_step_is_dealt_with_or_asks_for_a_third_value() {
    for shape in shapes() {
        for state in walk(open(shape.clone(), Haste::None)) {
            for suspect in [Suspect::Older, Suspect::Newer] {
                let order = Event::Hastened { suspect, by: "me".to_owned(), reason: "leak".to_owned() };
                let Ok(hastened) = apply(state.clone(), order, NOW) else { continue };
                let end = walk(hastened).pop().unwrap();
                let wanted = match suspect {
                    Suspect::Older => Phase::Completed,
                    Suspect::Newer => Phase::RolledBack,
                };
                assert_eq!(end.phase(), wanted, "{shape:?} from {:?}", state.step());
                if suspect == Suspect::Newer {
                    assert!(matches!(end.list(), List::Old | List::Nothing));
                }
            }
        }
    }
}

#[test]
fn a_held_rotation_resumes_with_its_open_intent_and_wants_new_evidence() {
    let shape =
        shapes().into_iter().find(|shape| shape.target && shape.reversible && !shape.creation).unwrap();
    for state in walk(open(shape, Haste::None)) {
        let Some(step) = state.step() else { continue };
        let state = if step.leaves_a_trace() { apply(state, intent(), NOW).unwrap() } else { state };
        let reason = HoldReason::Asked { by: "me".to_owned(), reason: "r".to_owned() };
        let held = apply(state.clone(), Event::Held { reason }, NOW).unwrap();
        assert_eq!(held.phase(), Phase::Held);
        assert_eq!(held.open_intent(), state.open_intent());
        let resume = Event::Resumed { by: "me".to_owned(), reason: "r".to_owned() };
        let resumed = apply(held, resume, NOW).unwrap();
        assert_eq!(resumed.open_intent(), state.open_intent(), "{step}: the unknown effect is forgotten");
        assert_eq!(resumed.facts.watch.healthy, 0);
        assert_eq!(resumed.facts.evidence_after, Some(NOW));
        if state.open_intent().is_none() && state.facts.done.contains(&Step::Watch) && !state.is_past_undo() {
            assert!(!resumed.facts.done.contains(&Step::Watch), "{step}: old observations pass a gate");
        }
        assert_eq!(walk(resumed).pop().unwrap().phase(), Phase::Completed);
    }
}

#[test]
fn a_permanent_fault_holds_at_once_and_a_passing_one_backs_off() {
    let rotation = open(shapes().remove(0), Haste::None);
    let held = apply(rotation.clone(), Event::Failed { fault: Fault::denied("no rights") }, NOW).unwrap();
    assert_eq!(held.phase(), Phase::Held);
    let retried = apply(rotation, Event::Failed { fault: Fault::transient("down") }, NOW).unwrap();
    let State::Running { attempt, .. } = retried.state else { panic!("not running") };
    assert_eq!(attempt.failures, 1);
    assert!(attempt.not_before > NOW);
}

#[test]
fn no_recorded_moment_is_after_the_clock_mark() {
    let later = NOW + SignedDuration::from_hours(5);
    let watching = standing_in(Step::Watch).unwrap();
    assert_eq!(watching.clock_mark(), Some(NOW));
    let seen =
        Event::Observed { verdict: Verdict::Unknown, counted: SignedDuration::ZERO, detail: String::new() };
    let observed = apply(watching, seen, later).unwrap();
    assert_eq!(observed.clock_mark(), Some(later));
}

fn events() -> Vec<(&'static str, Event)> {
    let said = || ("me".to_owned(), "r".to_owned());
    let ((by, reason), (by2, reason2), (by3, reason3)) = (said(), said(), said());
    let (by4, reason4) = said();
    vec![
        ("intended", intent()),
        ("failed (passing)", Event::Failed { fault: Fault::transient("x") }),
        ("failed (permanent)", Event::Failed { fault: Fault::denied("x") }),
        ("waited", Event::Waited { until: NOW, why: "x".to_owned() }),
        (
            "observed",
            Event::Observed {
                verdict: Verdict::Healthy,
                counted: SignedDuration::ZERO,
                detail: String::new(),
            },
        ),
        ("evidence aged", Event::EvidenceAged),
        ("baseline taken", Event::BaselineTaken { readings: BTreeMap::new() }),
        ("held", Event::Held { reason: HoldReason::Asked { by, reason } }),
        ("rolled back", Event::RolledBack { by: by2, reason: reason2 }),
        ("resumed", Event::Resumed { by: by3, reason: reason3 }),
        (
            "hastened (older)",
            Event::Hastened { suspect: Suspect::Older, by: by4.clone(), reason: reason4.clone() },
        ),
        (
            "hastened (newer)",
            Event::Hastened { suspect: Suspect::Newer, by: by4.clone(), reason: reason4.clone() },
        ),
        ("abandoned", Event::Abandoned { by: by4, reason: reason4 }),
        ("superseded", Event::Superseded),
    ]
}

/// A rotation in `step`, reached the way that real ones reach it.
fn standing_in(step: Step) -> Option<Rotation> {
    let full = |source, reversible, hooks: bool| Shape {
        source,
        creation: false,
        target: source != Source::Submitted,
        reversible,
        introduces: true,
        shows_a_second: true,
        confirmed_by_person: source == Source::Submitted,
        hooks: if hooks { HOOKS.into_iter().collect() } else { BTreeSet::new() },
    };
    for shape in [full(Source::Generated, true, true), full(Source::Submitted, false, true)] {
        for haste in [Haste::None, Haste::Emergency { suspect: Suspect::Older }] {
            for state in walk(open(shape.clone(), haste)) {
                if state.step() == Some(step) {
                    return Some(state);
                }
                let order = Event::RolledBack { by: "me".to_owned(), reason: "r".to_owned() };
                if let Ok(turned) = apply(state, order, NOW)
                    && let Some(found) = walk(turned).into_iter().find(|state| state.step() == Some(step))
                {
                    return Some(found);
                }
            }
        }
    }
    None
}

/// What every event does in every step, as the table of `docs/state-machine.md`.
fn matrix() -> String {
    let events = events();
    let mut table = String::from("| step | phase | after it |");
    for (name, _) in &events {
        let _ = write!(table, " {name} |");
    }
    table.push_str("\n|---|---|---|");
    table.push_str(&"---|".repeat(events.len()));
    table.push('\n');
    let held = |rotation: &Rotation| {
        let reason = HoldReason::Asked { by: "me".to_owned(), reason: "r".to_owned() };
        apply(rotation.clone(), Event::Held { reason }, NOW).unwrap()
    };
    let rows = Step::ALL.into_iter().map(|step| {
        let rotation = standing_in(step).unwrap_or_else(|| panic!("{step} is never reached"));
        (format!("`{step}`"), rotation)
    });
    let watch = standing_in(Step::Watch).unwrap();
    let extra = [
        ("held in `watch`".to_owned(), held(&watch)),
        (
            "ended".to_owned(),
            apply(watch, Event::Abandoned { by: "me".to_owned(), reason: "r".to_owned() }, NOW).unwrap(),
        ),
    ];
    for (name, rotation) in rows.chain(extra) {
        let next = match &rotation.state {
            State::Running { .. } => landing(&step_on(rotation.clone())),
            State::Held { .. } | State::Ended { .. } => "—".to_owned(),
        };
        let _ = write!(table, "| {name} | {} | {next} |", rotation.phase().as_str());
        for (_, event) in &events {
            let cell = match apply(rotation.clone(), event.clone(), NOW) {
                Ok(after) if after.step() == rotation.step() && after.phase() == rotation.phase() => {
                    "stays".to_owned()
                }
                Ok(after) => landing(&after),
                Err(_) => "✗".to_owned(),
            };
            let _ = write!(table, " {cell} |");
        }
        table.push('\n');
    }
    table
}

fn landing(rotation: &Rotation) -> String {
    match &rotation.state {
        State::Running { step, .. } => format!("`{step}`"),
        State::Held { .. } => "held".to_owned(),
        State::Ended { outcome, .. } => match outcome {
            Outcome::Completed => "completed",
            Outcome::RolledBack => "rolled back",
            Outcome::Abandoned => "abandoned",
            Outcome::Superseded => "superseded",
        }
        .to_owned(),
    }
}

/// Rewrite the table with `UPDATE_DOCS=1`, read the difference, and decide whether it is meant.
#[test]
fn the_documented_table_is_what_the_machine_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state-machine.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (start, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
    let (head, rest) = page.split_once(start).expect("the page marks where its table begins");
    let (written, tail) = rest.split_once(end).expect("the page marks where its table ends");
    let matrix = matrix();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{start}{matrix}{end}{tail}")).unwrap();
    } else {
        assert_eq!(written, matrix, "run with UPDATE_DOCS=1 and read the difference");
    }
}
