//! Effects on the target, and proofs by really using the credential.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::publication::Place;
use rota_core::rotation::{Done, Event, HoldReason, Source, State, Step};
use rota_core::value::{Bundle, SecretValue};
use serde_json::json;

use super::{intend, material};
use crate::guard::Guard;
use crate::ports::{CheckContext, Idleness, Observed, Proof, TargetContext, TargetEffect, Verdict, Which};
use crate::session::{Halt, Session};

/// How soon a target that is still in use, or not yet sure, is asked again.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// Everything that the rotator may need, values read from their slots.
pub(super) async fn context(session: &mut Session<'_>) -> Result<TargetContext, Halt> {
    let old = material(session, Which::Old).await?.map(|material| material.parts);
    let new = material(session, Which::New).await?.map(|material| material.parts);
    let rotator = session.rotator()?;
    let admin = match rotator.admin_reference() {
        Some(reference) => Some(admin_value(session, reference).await?),
        None => None,
    };
    let rotation = session.rotation();
    let facts = &rotation.facts;
    let undone = |step: Step| facts.attempted.contains(&step) && !facts.done.contains(&step);
    Ok(TargetContext {
        rotation: rotation.id,
        policy: Arc::clone(&session.claim.policy),
        old,
        new,
        old_identity: facts.old_identity.clone(),
        new_identity: facts.new_identity.clone(),
        admin,
        since_promotion: facts.promoted_at.map(|at| session.now().duration_since(at)),
        emergency: rotation.is_emergency(),
        predecessor_unknown: rotation.step().is_some_and(Step::undoes)
            && [Step::Stage, Step::Install, Step::Disable].into_iter().any(undone),
    })
}

/// Reads `store:path` or `store:path#field`.
async fn admin_value(session: &mut Session<'_>, reference: &str) -> Result<SecretValue, Halt> {
    let unreadable = || {
        Fault::invalid(format!(
            "`{reference}` is not `store:path` or `store:path#field`; correct the admin reference"
        ))
    };
    let (store, rest) = reference.split_once(':').ok_or_else(unreadable)?;
    let (path, field) = rest.split_once('#').map_or((rest, None), |(path, field)| (path, Some(field)));
    let id = rota_core::id::StoreId::new(store).map_err(|_| unreadable())?;
    let field = field.map(rota_core::id::FieldName::new).transpose().map_err(|_| unreadable())?;
    let (_, store) = session.store(&id)?;
    let place = Place { path: path.to_owned(), field };
    session.call("reading the administrator's credential", store.read_other(&place)).await?.ok_or_else(|| {
        Fault::invalid(format!(
            "nothing is stored at `{reference}`; put the administrator's credential there"
        ))
        .into()
    })
}

/// Observes, applies only if absent, records.
pub(super) async fn effect(session: &mut Session<'_>, effect: TargetEffect) -> Result<(), Halt> {
    let rotator = session.rotator()?;
    let context = context(session).await?;
    session.compare_fence(&*rotator, &context).await?;
    if matches!(effect, TargetEffect::Disable | TargetEffect::Revoke)
        && session.rotation().open_intent().is_none()
    {
        // Rights may have been given to the old user alone since the candidate was proven.
        must_accept(session, Which::New, &context).await?;
    }
    if !session.engine.stands(Guard::IntentsComeFirst) {
        let early = session.fence(session.next_effect());
        session.call("changing the target", rotator.apply(effect, &context, early)).await?;
    }
    let number = intend(session, BTreeMap::new()).await?;
    let fence = session.fence(number);
    let mut observed = session.call("looking at the target", rotator.observe(effect, &context)).await?;
    if !session.engine.stands(Guard::EffectsAreObservedFirst) {
        observed = Observed::Absent;
    }
    match observed {
        Observed::Foreign { detail } => {
            let step = session.rotation().step().unwrap_or(Step::Install);
            return Err(Halt::Held(HoldReason::Foreign { step, detail }));
        }
        Observed::Applied if !context.predecessor_unknown => {}
        Observed::Applied | Observed::Absent => {
            session.call("changing the target", rotator.apply(effect, &context, fence)).await?;
        }
    }
    if context.predecessor_unknown
        && !rotator.traits().fenced
        && let State::Running { attempt, .. } = &session.rotation().state
    {
        // Where no fence stops it, what this takes back may still land: apply once more after that.
        session.wait_for_late_effects(attempt.since, "a late effect to land, if it still does")?;
    }
    if effect == TargetEffect::Restore {
        must_accept(session, Which::Old, &context).await?;
    }
    if effect == TargetEffect::Revoke && session.engine.stands(Guard::LeaksAreRevoked) {
        super::taken_over::revoke(session).await?;
    }
    let done = match effect {
        TargetEffect::Disable => Done::Disabled,
        TargetEffect::Install | TargetEffect::Revoke | TargetEffect::Restore | TargetEffect::Remove => {
            Done::Plain
        }
    };
    session.advance(Event::Done { done }, json!(null), |_| ()).await
}

async fn must_accept(session: &mut Session<'_>, which: Which, context: &TargetContext) -> Result<(), Halt> {
    let rotator = session.rotator()?;
    match session.call("using the credential", rotator.prove(which, context)).await? {
        Proof::Accepted | Proof::NotProvable => Ok(()),
        // A credential that the target has just made may take minutes to be known everywhere.
        Proof::Refused { detail } if session.rotation().shape.source == Source::Created => {
            Err(Fault::transient(format!("the target does not accept the credential yet: {detail}")).into())
        }
        Proof::Refused { detail } => {
            let step = session.rotation().step().unwrap_or(Step::Prove);
            Err(Halt::Held(HoldReason::ProofFailed { step, detail }))
        }
    }
}

/// Proves the candidate once more, right before consumers come to read it: a hook may
/// have run since, and whatever changes rights.
pub(super) async fn prove_again(session: &mut Session<'_>) -> Result<(), Halt> {
    if !session.rotation().shape.target || !session.engine.stands(Guard::ProofComesFirst) {
        return Ok(());
    }
    let context = context(session).await?;
    must_accept(session, Which::New, &context).await
}

/// Uses the candidate; without a target it is read back from its slot.
pub(super) async fn prove_new(session: &mut Session<'_>) -> Result<(), Halt> {
    let context = context(session).await?;
    let Some(new) = &context.new else {
        return Err(Halt::Held(HoldReason::ValueMissing {
            detail: "the candidate's slot is empty".to_owned(),
        }));
    };
    let mut how = "read back from its slot";
    if session.rotation().shape.target {
        must_accept(session, Which::New, &context).await?;
        how = "used on the target";
    }
    if let Some(verdict) = prove_by_check(session, new).await? {
        how = "used as the policy's `prove` says";
        match verdict {
            (Verdict::Healthy, _) => {}
            (Verdict::Unhealthy, detail) => {
                return Err(Halt::Held(HoldReason::ProofFailed { step: Step::Prove, detail }));
            }
            (Verdict::Unknown, detail) => return Err(Fault::transient(detail).into()),
        }
    }
    session.advance(Event::Done { done: Done::Plain }, json!({ "how": how }), |_| ()).await
}

/// Runs the policy's `prove` check with a value; `None` where there is none.
async fn prove_by_check(
    session: &mut Session<'_>,
    parts: &Bundle,
) -> Result<Option<(Verdict, String)>, Halt> {
    let Some(policy) = session.secret().prove.clone() else { return Ok(None) };
    let value = match &session.secret().prove_with {
        Some(field) => parts.get(field),
        None => parts.iter().next().map(|(_, value)| value),
    };
    let Some(value) = value else { return Ok(None) };
    let check = session.engine.adapters.check(&policy)?;
    let context = CheckContext { now: session.now(), baseline: None, value: Some(value.duplicate()) };
    let reading = session.call("proving the value", check.observe(&context)).await?;
    Ok(Some((reading.verdict, reading.detail)))
}

/// Proves in one attempt that the new value is accepted and the old one refused.
/// Unreachable is unknown; what nobody can prove is said in history.
pub(super) async fn prove_refused(session: &mut Session<'_>) -> Result<(), Halt> {
    let context = context(session).await?;
    let evidence = if session.rotation().shape.target {
        must_accept(session, Which::New, &context).await?;
        let rotator = session.rotator()?;
        match session.call("using the old credential", rotator.prove(Which::Old, &context)).await? {
            Proof::Refused { detail } => format!("the target refuses the old value: {detail}"),
            Proof::Accepted => return still_accepted(session, "the target still accepts the old value"),
            Proof::NotProvable => "refusal of the old value cannot be proven on this target".to_owned(),
        }
    } else {
        let old = match &context.old {
            Some(old) => prove_by_check(session, old).await?,
            None => None,
        };
        match old {
            Some((Verdict::Unhealthy, detail)) => format!("the provider refuses the old value: {detail}"),
            Some((Verdict::Healthy, _)) => {
                return still_accepted(session, "the provider still accepts the old value");
            }
            Some((Verdict::Unknown, detail)) => return Err(Fault::transient(detail).into()),
            None => "refusal of the old value is not provable: only its consumers verify it".to_owned(),
        }
    };
    let detail = json!({ "evidence": evidence });
    session.advance(Event::Done { done: Done::Refused { evidence } }, detail, |_| ()).await
}

/// Propagation may take a while; the step's deadline asks a person.
fn still_accepted(session: &Session<'_>, what: &str) -> Result<(), Halt> {
    let why = format!("{what} of {}", session.rotation().secret);
    Err(Halt::Waiting { after: ASK_AGAIN, why })
}

/// Reads evidence that nobody uses the old value any more.
pub(super) async fn confirm_idle(session: &mut Session<'_>) -> Result<(), Halt> {
    let context = context(session).await?;
    let rotator = session.rotator()?;
    match session.call("looking for users of the old value", rotator.idleness(&context)).await? {
        Idleness::Idle => session.advance(Event::Done { done: Done::Idle }, json!(null), |_| ()).await,
        Idleness::Busy { detail } => {
            Err(Halt::Waiting { after: ASK_AGAIN, why: format!("the old value to fall idle: {detail}") })
        }
    }
}
