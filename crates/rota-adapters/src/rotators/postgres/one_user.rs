//! One user whose password changes: the old one is refused at once, which the policy
//! accepts. Sessions that are open go on; those from before the change are counted, and
//! ended at the end.

use rota_core::fault::Fault;
use rota_engine::ports::{Fence, Observed, TargetEffect};
use sqlx::PgConnection;

use super::fence::Change;
use super::roles::must_be_changeable;
use super::sessions::must_show_since_when;
use super::settings::PostgresSettings;
use super::target::{Target, foreign, verifier};
use crate::login::Login;
use crate::rotators::turns::Standing;

/// # Errors
/// [`Fault::Invalid`] where the settings name none.
pub(super) fn name(settings: &PostgresSettings) -> Result<&str, Fault> {
    settings.user.as_deref().ok_or_else(|| Fault::invalid("no user is named; add `user = \"acd\"`"))
}

/// # Errors
/// [`Fault::Invalid`] and [`Fault::Denied`] with what to change.
pub(super) async fn preflight(target: &Target<'_>, admin: &mut PgConnection) -> Result<(), Fault> {
    let user = name(target.settings)?;
    must_be_changeable(admin, &target.admin, &[user]).await?;
    must_show_since_when(admin, user).await?;
    let Some(old) = &target.old else { return Ok(()) };
    if old.username != user {
        return Err(Fault::invalid(format!(
            "consumers use `{}`, not `{user}`; correct `user`",
            old.username
        )));
    }
    target.must_be_accepted(admin, old).await
}

/// When this rotation changed the password, in seconds since the epoch; sessions opened
/// before it were opened with the old one.
///
/// # Errors
/// [`Fault::Conflict`] where something else was changed since.
pub(super) async fn changed_at(target: &Target<'_>) -> Result<f64, Fault> {
    let mut admin = target.connect().await?;
    target.installed_at(&mut admin).await?.ok_or_else(|| {
        Fault::conflict("the last change of this user was not this rotation's; see `rota_fence.effects`")
    })
}

/// What stands on the target.
///
/// # Errors
/// As the server says.
pub(super) async fn observe(
    target: &Target<'_>,
    admin: &mut PgConnection,
    effect: TargetEffect,
) -> Result<Observed, Fault> {
    match effect {
        TargetEffect::Install => changed(target, admin, target.candidate()?, target.old.as_ref()).await,
        TargetEffect::Remove => match (&target.new, &target.old) {
            (None, _) => Ok(Observed::Applied),
            (Some(new), Some(old)) => changed(target, admin, old, Some(new)).await,
            (Some(new), None) => removed(target, admin, new).await,
        },
        TargetEffect::Revoke => replaced(target, admin).await,
        TargetEffect::Disable | TargetEffect::Restore => Err(irreversible()),
    }
}

fn irreversible() -> Fault {
    Fault::invalid("the only password cannot be disabled and enabled again")
}

/// Whether the password is `wanted` by now; anything but `before` is someone else's.
async fn changed(
    target: &Target<'_>,
    admin: &mut PgConnection,
    wanted: &Login,
    before: Option<&Login>,
) -> Result<Observed, Fault> {
    match target.standing(admin, wanted).await? {
        Standing::Live { ours: true } => return Ok(Observed::Applied),
        Standing::Gone => return foreign(format!("role `{}` was dropped", wanted.username)),
        Standing::Disabled { .. } if before.is_none() || target.context.emergency => {
            return Ok(Observed::Absent);
        }
        Standing::Disabled { .. } => return foreign(format!("`{}` was made NOLOGIN", wanted.username)),
        Standing::Live { ours: false } => {}
    }
    let expected = match before {
        Some(before) => target.standing(admin, before).await? == (Standing::Live { ours: true }),
        None => false,
    };
    if expected || target.context.emergency {
        return Ok(Observed::Absent);
    }
    foreign(format!("`{}` has a password that is not this rotation's", wanted.username))
}

/// There was no password before: none is left.
async fn removed(target: &Target<'_>, admin: &mut PgConnection, new: &Login) -> Result<Observed, Fault> {
    match target.standing(admin, new).await? {
        Standing::Gone | Standing::Disabled { ours: false } => Ok(Observed::Applied),
        Standing::Disabled { ours: true } | Standing::Live { ours: true } => Ok(Observed::Absent),
        Standing::Live { ours: false } => {
            foreign(format!("`{}` has a password that is not this rotation's", new.username))
        }
    }
}

/// The old password went with the change; its sessions are left to be ended.
async fn replaced(target: &Target<'_>, admin: &mut PgConnection) -> Result<Observed, Fault> {
    let old = target.replaced()?;
    if target.standing(admin, old).await? == (Standing::Live { ours: true }) {
        return foreign(format!("`{}` has its old password again", old.username));
    }
    let since = target.installed_at(admin).await?;
    let left = match since {
        Some(at) => target.sessions(admin, &old.username, Some(at)).await?,
        None => 0,
    };
    Ok(if left == 0 { Observed::Applied } else { Observed::Absent })
}

/// Changes the password and the fence in one transaction. May be repeated.
///
/// # Errors
/// [`Fault::Conflict`] where a later effect was there first.
pub(super) async fn apply(
    target: &Target<'_>,
    admin: &mut PgConnection,
    effect: TargetEffect,
    fence: Fence,
) -> Result<(), Fault> {
    let user = name(target.settings)?;
    let wanted = match effect {
        TargetEffect::Install => Some(target.candidate()?),
        TargetEffect::Remove => target.old.as_ref(),
        TargetEffect::Revoke => {
            let at = target.installed_at(admin).await?;
            return target.end_sessions(admin, user, at).await;
        }
        TargetEffect::Disable | TargetEffect::Restore => return Err(irreversible()),
    };
    let mark = target.mark(effect, user, fence);
    let mut change = Change::begin(admin, &mark).await?;
    match wanted {
        Some(login) => change.let_in(user, &verifier(login)).await?,
        None => change.shut_out(user).await?,
    }
    change.commit().await?;
    let leaked = target.context.emergency || effect == TargetEffect::Remove;
    if leaked { target.end_sessions(admin, user, None).await } else { Ok(()) }
}
