//! Two users take turns: the idle one gets the new password, the live one falls idle.
//!
//! An idle user cannot log in and has no session; one that can, or has, belongs to
//! somebody, and a person decides.

use rota_core::fault::Fault;
use rota_engine::ports::{Fence, Observed, TargetEffect};
use sqlx::PgConnection;

use super::fence::Change;
use super::privileges;
use super::roles::{must_be_changeable, role};
use super::server::ident;
use super::sessions;
use super::target::{Target, foreign, verifier};
use crate::rotators::turns::{Look, idle_of, look};

/// # Errors
/// [`Fault::Invalid`] and [`Fault::Denied`] with what to change.
pub(super) async fn preflight(target: &Target<'_>, admin: &mut PgConnection) -> Result<(), Fault> {
    let live = target.old.as_ref().map(|login| login.username.as_str());
    let idle = idle_of(target.settings.users.as_deref(), live)?;
    must_be_changeable(admin, &target.admin, &target.settings.roles()).await?;
    if let Some(owner) = &target.settings.role {
        for user in target.settings.roles() {
            must_act_as(admin, user, owner, &target.settings.database).await?;
        }
    }
    if let Some(old) = &target.old {
        target.must_be_accepted(admin, old).await?;
    }
    if target.context.emergency {
        return Ok(());
    }
    is_in_use(target, admin, &idle).await?.map_or(Ok(()), |why| Err(Fault::invalid(why)))
}

/// Says why `user` is not idle; `None` where it is.
async fn is_in_use(
    target: &Target<'_>,
    admin: &mut PgConnection,
    user: &str,
) -> Result<Option<String>, Fault> {
    if role(admin, user).await?.is_some_and(|role| role.can_login) {
        return Ok(Some(format!(
            "`{user}` should be idle and can log in; see who uses it, then run \
             `ALTER ROLE {} NOLOGIN PASSWORD NULL`",
            ident(user)
        )));
    }
    Ok(match target.sessions(admin, user, None).await? {
        0 => None,
        sessions => {
            let told = sessions::told(sessions);
            Some(format!("`{user}` should be idle and has {told}; see who uses it and end what is open"))
        }
    })
}

/// What one of the two creates the other may use only where both create as one role.
async fn must_act_as(admin: &mut PgConnection, user: &str, owner: &str, database: &str) -> Result<(), Fault> {
    use super::fault::Doing as _;
    let sql = "SELECT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $2 AND pg_has_role($1, r.oid, 'MEMBER')), \
        EXISTS (SELECT FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) c (config) \
            WHERE s.setrole = (SELECT oid FROM pg_roles WHERE rolname = $1) \
              AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = $3)) AND c.config = 'role=' || $2)";
    let (member, set): (bool, bool) = sqlx::query_as(sql)
        .bind(user)
        .bind(owner)
        .bind(database)
        .fetch_one(admin)
        .await
        .doing(&format!("looking at the role that `{user}` acts as"))?;
    let (quoted, owner) = (ident(user), ident(owner));
    if !member {
        return Err(Fault::invalid(format!(
            "`{user}` is no member of `role`; run `GRANT {owner} TO {quoted}`"
        )));
    }
    if !set {
        return Err(Fault::invalid(format!(
            "`{user}` does not act as `role` after its login; run `ALTER ROLE {quoted} SET role = {owner}`"
        )));
    }
    Ok(())
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
    let emergency = target.context.emergency;
    let standing = target.standing(admin, login).await?;
    match look(effect, standing, user, emergency) {
        Look::Is(observed) => Ok(observed),
        Look::AbsentIfIdle => is_in_use(target, admin, user).await?.map_or(Ok(Observed::Absent), foreign),
        Look::AppliedIfNoSessions => {
            let sessions = target.sessions(admin, user, None).await?;
            Ok(if sessions == 0 { Observed::Applied } else { Observed::Absent })
        }
    }
}

/// Changes the role and the fence in one transaction. May be repeated.
///
/// # Errors
/// [`Fault::Conflict`] where a later effect was there first.
pub(super) async fn apply(
    target: &Target<'_>,
    admin: &mut PgConnection,
    effect: TargetEffect,
    fence: Fence,
) -> Result<(), Fault> {
    let login = match effect {
        TargetEffect::Install | TargetEffect::Remove => target.candidate()?,
        TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore => target.replaced()?,
    };
    let user = &login.username;
    let mark = target.mark(effect, user, fence);
    let mut change = Change::begin(admin, &mark).await?;
    match effect {
        TargetEffect::Install | TargetEffect::Restore => change.let_in(user, &verifier(login)).await?,
        TargetEffect::Disable => change.run(format!("ALTER ROLE {} NOLOGIN", ident(user))).await?,
        TargetEffect::Revoke | TargetEffect::Remove => change.shut_out(user).await?,
    }
    change.commit().await?;
    let ends = match effect {
        TargetEffect::Revoke | TargetEffect::Remove => true,
        // What is open was opened with a password that leaked.
        TargetEffect::Install | TargetEffect::Disable => target.context.emergency,
        TargetEffect::Restore => false,
    };
    if ends { target.end_sessions(admin, user, None).await } else { Ok(()) }
}

/// What `idle` cannot do that `live` can, in every database where that has rights.
///
/// # Errors
/// As the server says.
pub(super) async fn lacks(target: &Target<'_>, live: &str, idle: &str) -> Result<Option<String>, Fault> {
    let main = &target.settings.database;
    let mut admin = target.connect().await?;
    if role(&mut admin, live).await?.is_none() {
        return Ok(None);
    }
    let lacks = privileges::lacking(&mut admin, live, idle).await?;
    if !lacks.is_empty() {
        return Ok(Some(privileges::listed(main, &lacks)));
    }
    for database in privileges::other_databases(&mut admin, live, main).await? {
        let lacks = privileges::lacking(&mut target.connect_to(&database).await?, live, idle).await?;
        if !lacks.is_empty() {
            return Ok(Some(privileges::listed(&database, &lacks)));
        }
    }
    Ok(None)
}
