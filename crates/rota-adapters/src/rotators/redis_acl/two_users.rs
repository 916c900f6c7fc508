//! Two users take turns: the idle one gets the new password, the live one falls idle.
//!
//! An idle user is off and has no connection; one that is on, or has one, belongs to
//! somebody, and a person decides.

use rota_core::fault::Fault;
use rota_engine::ports::{Fence, Observed, TargetEffect};

use super::target::{At, Target, end_all, of_all, set_user};
use crate::login::Login;
use crate::redis_nodes::{User, hash};
use crate::rotators::turns::{Look, Standing, idle_of, look};

/// What the user of a value is on one node.
fn standing(user: Option<&User>, login: &Login) -> Standing {
    let Some(user) = user else { return Standing::Gone };
    let holds = user.hashes.contains(&hash(&login.password));
    if !user.on {
        return Standing::Disabled { ours: holds };
    }
    // A second password beside ours is somebody else's.
    Standing::Live { ours: holds && user.hashes.len() == 1 && !user.open }
}

/// Says why the two users cannot be rotated.
///
/// # Errors
/// [`Fault::Invalid`] with what to change.
pub(super) async fn preflight(target: &Target<'_>, at: &mut At) -> Result<(), Fault> {
    let node = at.session.node.clone();
    let live = target.old.as_ref().map(|login| login.username.as_str());
    let idle = idle_of(target.settings.users.as_deref(), live)?;
    for name in target.settings.names() {
        if at.session.user(name).await?.is_none() {
            return Err(Fault::invalid(format!(
                "on {node}, there is no user `{name}`; create it, off and with its rights"
            )));
        }
    }
    if target.context.emergency {
        return Ok(());
    }
    if let Some(old) = &target.old
        && standing(at.session.user(&old.username).await?.as_ref(), old) != (Standing::Live { ours: true })
    {
        return Err(Fault::invalid(format!(
            "on {node}, the published password is not the only one of `{}`, or is refused; \
             publish the one that is accepted, and remove others",
            old.username
        )));
    }
    match busy(at, &idle).await? {
        Some(detail) => Err(Fault::invalid(format!("on {node}, {detail}"))),
        None => Ok(()),
    }
}

/// Why `user` is not idle.
async fn busy(at: &mut At, user: &str) -> Result<Option<String>, Fault> {
    if at.session.user(user).await?.is_some_and(|found| found.on) {
        return Ok(Some(format!(
            "`{user}` should be idle and is on; see who uses it, then run `ACL SETUSER {user} off resetpass`"
        )));
    }
    let clients = at.session.clients().await?.into_iter().filter(|client| client.user == user).count();
    Ok((clients > 0).then(|| {
        format!("`{user}` should be idle and has {clients} connections; see who uses it and close them")
    }))
}

/// What `new` may do otherwise than `old`, on one node.
///
/// # Errors
/// As the server says.
pub(super) async fn differs(at: &mut At, old: &str, new: &str) -> Result<Option<String>, Fault> {
    let (Some(of_old), Some(of_new)) = (at.session.user(old).await?, at.session.user(new).await?) else {
        return Ok(None);
    };
    let node = &at.session.node;
    Ok(of_old
        .differs_from(&of_new)
        .map(|what| format!("`{new}` has other {what} than `{old}` on {node}; give both the same rules")))
}

/// What every node shows.
///
/// # Errors
/// As the servers say.
pub(super) async fn observe(target: &Target<'_>, effect: TargetEffect) -> Result<Observed, Fault> {
    let login = match effect {
        TargetEffect::Install => target.candidate()?,
        // Without a value there is nothing that the target could accept.
        TargetEffect::Remove => match &target.new {
            Some(login) => login,
            None => return Ok(Observed::Applied),
        },
        TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore => target.replaced()?,
    };
    let user = &login.username;
    let mut all = target.everywhere().await?;
    let mut shown = Vec::new();
    for at in &mut all {
        let standing = standing(at.session.user(user).await?.as_ref(), login);
        shown.push(match look(effect, standing, user, target.context.emergency) {
            Look::Is(observed) => observed,
            Look::AbsentIfIdle => match busy(at, user).await? {
                None => Observed::Absent,
                Some(detail) => Observed::Foreign { detail },
            },
            Look::AppliedIfNoSessions => match target.old_clients(at, user).await?.as_slice() {
                [] => Observed::Applied,
                _ => Observed::Absent,
            },
        });
    }
    of_all(&mut all, shown).await
}

/// Changes the user on every node. May be repeated.
///
/// # Errors
/// [`Fault::Conflict`] where a later effect was there first.
pub(super) async fn apply(target: &Target<'_>, effect: TargetEffect, fence: Fence) -> Result<(), Fault> {
    let login = match effect {
        TargetEffect::Install | TargetEffect::Remove => target.candidate()?,
        TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore => target.replaced()?,
    };
    let user = &login.username;
    let rules = match effect {
        TargetEffect::Install | TargetEffect::Restore => {
            vec!["resetpass".to_owned(), format!("#{}", hash(&login.password)), "on".to_owned()]
        }
        TargetEffect::Disable => vec!["off".to_owned()],
        TargetEffect::Revoke | TargetEffect::Remove => vec!["off".to_owned(), "resetpass".to_owned()],
    };
    let mut commands = vec![set_user(user, &rules)];
    match effect {
        TargetEffect::Revoke | TargetEffect::Remove => commands.push(end_all(user)),
        // What is open was opened with a password that leaked.
        TargetEffect::Install | TargetEffect::Disable if target.context.emergency => {
            commands.push(end_all(user));
        }
        TargetEffect::Install | TargetEffect::Disable | TargetEffect::Restore => {}
    }
    let mut change = target.change(effect, fence).await?;
    for number in 0..change.all.len() {
        change.run(number, &commands).await?;
    }
    Ok(())
}
