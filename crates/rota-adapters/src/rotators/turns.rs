//! Two users take turns: what a user is at a moment, and what that says of an effect.
//!
//! Deliberately absent: any server. The kind looks at the user and tries the value.

use rota_core::fault::Fault;
use rota_engine::ports::{Observed, TargetEffect};

/// The user whose turn is next.
///
/// # Errors
/// [`Fault::Invalid`] where the live user is neither of the two.
pub(super) fn idle_of(users: Option<&[String]>, live: Option<&str>) -> Result<String, Fault> {
    let Some([one, other]) = users else {
        return Err(Fault::invalid("two users take turns; add `users = [\"acd_a\", \"acd_b\"]`"));
    };
    match live {
        None => Ok(one.clone()),
        Some(live) if live == one => Ok(other.clone()),
        Some(live) if live == other => Ok(one.clone()),
        Some(live) => Err(Fault::invalid(format!(
            "consumers use `{live}`, which is neither `{one}` nor `{other}`; correct `users`"
        ))),
    }
}

/// What the user of a value is, as far as the value is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is no such user.
    Gone,
    /// Nobody can log in; `ours` where the user still holds the value.
    Disabled { ours: bool },
    /// The user can log in; `ours` with the value, else with another password.
    Live { ours: bool },
}

/// What the standing of a value's user says of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    Is(Observed),
    /// Absent where nobody has or uses the user; else somebody does.
    AbsentIfIdle,
    /// Applied where no session is left: sessions outlive the password that opened them.
    AppliedIfNoSessions,
}

/// Judges `effect` on `user` (a user of two that take turns) by what it is now.
pub(super) fn look(effect: TargetEffect, standing: Standing, user: &str, emergency: bool) -> Look {
    let foreign = |detail: String| Look::Is(Observed::Foreign { detail });
    match (effect, standing) {
        (TargetEffect::Install | TargetEffect::Restore, Standing::Live { ours: true }) => {
            Look::Is(Observed::Applied)
        }
        (TargetEffect::Install | TargetEffect::Restore, Standing::Gone) => {
            foreign(format!("`{user}` was dropped"))
        }
        (TargetEffect::Install, _) if emergency => Look::Is(Observed::Absent),
        (TargetEffect::Install, _) => Look::AbsentIfIdle,
        (TargetEffect::Restore, Standing::Disabled { .. }) => Look::Is(Observed::Absent),
        (TargetEffect::Disable, Standing::Gone | Standing::Disabled { .. }) => Look::Is(Observed::Applied),
        (TargetEffect::Disable, Standing::Live { ours: true }) => Look::Is(Observed::Absent),
        (
            TargetEffect::Revoke | TargetEffect::Remove,
            Standing::Gone | Standing::Disabled { ours: false },
        ) => Look::AppliedIfNoSessions,
        (TargetEffect::Revoke, Standing::Live { ours: true }) if !emergency => {
            foreign(format!("`{user}` was allowed to log in again after this rotation had disabled it"))
        }
        (
            TargetEffect::Revoke | TargetEffect::Remove,
            Standing::Disabled { ours: true } | Standing::Live { ours: true },
        ) => Look::Is(Observed::Absent),
        (
            TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore | TargetEffect::Remove,
            Standing::Live { ours: false },
        ) => foreign(format!("`{user}` has a password that is not this rotation's")),
    }
}
