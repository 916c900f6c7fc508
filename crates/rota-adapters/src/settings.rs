//! What the settings of several kinds have in common.

use std::time::Duration;

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::KindProblem;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The engine gives up on a call after 30 s; one that has a limit of its own ends before.
pub(crate) const LONGEST_CALL: SignedDuration = SignedDuration::from_secs(25);

/// Settings that lint accepted before; a copy in an old rotation may no longer fit.
///
/// # Errors
/// [`Fault::Invalid`] where they do not fit `T`.
pub(crate) fn read<T: DeserializeOwned>(kind: &str, settings: &Value) -> Result<T, Fault> {
    T::deserialize(settings).map_err(|error| {
        Fault::invalid(format!("the settings of `{kind}` cannot be read, correct the policy: {error}"))
    })
}

/// The limit of one call; never over [`LONGEST_CALL`].
pub(crate) fn timeout(said: Option<DurationText>, default: Duration) -> Duration {
    let said = said.map(|text| text.0.min(LONGEST_CALL));
    said.and_then(|limit| Duration::try_from(limit).ok()).unwrap_or(default)
}

/// What is wrong with the limit of one call.
pub(crate) fn timeout_problem(pointer: &str, said: Option<DurationText>) -> Option<KindProblem> {
    let limit = said?.0;
    (limit.is_zero() || limit > LONGEST_CALL).then(|| {
        KindProblem::error(
            "timeout",
            pointer,
            format!("a call takes more than no time and at most {}s", LONGEST_CALL.as_secs()),
            "write a limit such as `10s`",
        )
    })
}

/// What belongs to one host is left to the daemon there; this one gives it back.
///
/// # Errors
/// [`Fault::Transient`] where `here` is not the host that the settings name.
pub(crate) fn must_be_here(what: &str, host: Option<&String>, here: Option<&String>) -> Result<(), Fault> {
    match host {
        Some(host) if here != Some(host) => Err(Fault::transient(format!(
            "this {what} runs on host `{host}`, run a daemon there with `host = \"{host}\"`"
        ))),
        Some(_) | None => Ok(()),
    }
}
