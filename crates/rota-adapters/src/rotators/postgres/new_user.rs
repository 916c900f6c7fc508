//! A new user for each rotation, with whatever was given to the one before. What that
//! one owns changes hands when it is dropped; until then the new one is its member.

use rota_core::fault::Fault;
use rota_core::id::RotationId;
use rota_engine::ports::{Fence, Observed, TargetEffect};
use sqlx::PgConnection;

use super::fault::Doing as _;
use super::fence::{Change, Mark};
use super::privileges::{self, Missing};
use super::roles::{must_be_changeable, role};
use super::server::{ident, literal};
use super::settings::PostgresSettings;
use super::target::{Target, foreign, verifier};
use crate::login::Login;
use crate::rotators::turns::Standing;

/// The last digits of a rotation's id are random; so many of them name its user.
const DIGITS: usize = 12;

/// Statements may bring up what a first look could not see (a default privilege taken
/// away, a member's member); after so many rounds a person is asked.
const ROUNDS: usize = 3;

/// The user that a rotation makes.
///
/// # Errors
/// [`Fault::Invalid`] where the settings name no beginning.
pub(super) fn name(settings: &PostgresSettings, rotation: RotationId) -> Result<String, Fault> {
    let prefix = super::one_user::name(settings)?;
    let digits = rotation.0.simple().to_string();
    Ok(format!("{prefix}_{}", &digits[digits.len() - DIGITS..]))
}

/// Says on the role itself whose it is.
fn comment(target: &Target<'_>) -> String {
    format!("made by rota for {} in rotation {}", target.context.policy.secret.id, target.context.rotation)
}

/// # Errors
/// [`Fault::Invalid`] and [`Fault::Denied`] with what to change.
pub(super) async fn preflight(target: &Target<'_>, admin: &mut PgConnection) -> Result<(), Fault> {
    let new = name(target.settings, target.context.rotation)?;
    if let Some(role) = role(admin, &new).await?
        && role.comment != Some(comment(target))
    {
        return Err(Fault::invalid(format!(
            "role `{new}` exists already and is somebody else's; drop or rename it"
        )));
    }
    let Some(old) = &target.old else {
        return Err(Fault::invalid(
            "a new user gets the rights of the one before, and none is published; publish the login of a first user",
        ));
    };
    must_be_changeable(admin, &target.admin, &[&old.username]).await?;
    target.must_be_accepted(admin, old).await
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
        TargetEffect::Install => installed(target, admin).await,
        TargetEffect::Remove => match &target.new {
            None => Ok(Observed::Applied),
            Some(new) => removed(target, admin, &new.username).await,
        },
        TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore => {
            let old = target.replaced()?;
            let standing = target.standing(admin, old).await?;
            retired(target, effect, &old.username, standing)
        }
    }
}

async fn installed(target: &Target<'_>, admin: &mut PgConnection) -> Result<Observed, Fault> {
    let new = target.candidate()?;
    let standing = target.standing(admin, new).await?;
    if standing == Standing::Gone {
        return Ok(Observed::Absent);
    }
    if role(admin, &new.username).await?.is_some_and(|role| role.comment != Some(comment(target))) {
        return foreign(format!("role `{}` is somebody else's", new.username));
    }
    if standing != (Standing::Live { ours: true }) {
        return Ok(Observed::Absent);
    }
    let old = &target.replaced()?.username;
    Ok(match lacks(target, old, &new.username).await? {
        None => Observed::Applied,
        Some(_) => Observed::Absent,
    })
}

async fn removed(target: &Target<'_>, admin: &mut PgConnection, new: &str) -> Result<Observed, Fault> {
    match role(admin, new).await? {
        None => Ok(Observed::Applied),
        Some(role) if role.comment == Some(comment(target)) => Ok(Observed::Absent),
        Some(_) => foreign(format!("role `{new}` is somebody else's")),
    }
}

fn retired(
    target: &Target<'_>,
    effect: TargetEffect,
    old: &str,
    standing: Standing,
) -> Result<Observed, Fault> {
    let emergency = target.context.emergency;
    match (effect, standing) {
        (TargetEffect::Restore, Standing::Live { ours: true })
        | (TargetEffect::Disable | TargetEffect::Revoke, Standing::Gone)
        | (TargetEffect::Disable, Standing::Disabled { .. }) => Ok(Observed::Applied),
        (TargetEffect::Restore, Standing::Disabled { .. })
        | (TargetEffect::Disable, Standing::Live { ours: true })
        | (TargetEffect::Revoke, Standing::Disabled { ours: true }) => Ok(Observed::Absent),
        (TargetEffect::Revoke, Standing::Disabled { ours: false } | Standing::Live { .. }) if emergency => {
            Ok(Observed::Absent)
        }
        (TargetEffect::Revoke, Standing::Live { ours: true }) => {
            foreign(format!("`{old}` was allowed to log in again after this rotation had disabled it"))
        }
        (TargetEffect::Restore, Standing::Gone) => foreign(format!("role `{old}` was dropped")),
        (_, Standing::Live { ours: false } | Standing::Disabled { ours: false }) => {
            foreign(format!("`{old}` has a password that is not this rotation's"))
        }
        (TargetEffect::Install | TargetEffect::Remove, _) => {
            Err(Fault::invalid("only an old user is retired"))
        }
    }
}

/// Changes roles and fence, in each database one transaction. May be repeated.
///
/// # Errors
/// [`Fault::Conflict`] where a later effect was there first, [`Fault::Denied`] with what
/// cannot be given to the new user.
pub(super) async fn apply(
    target: &Target<'_>,
    admin: &mut PgConnection,
    effect: TargetEffect,
    fence: Fence,
) -> Result<(), Fault> {
    match effect {
        TargetEffect::Install => install(target, admin, fence).await,
        TargetEffect::Disable => {
            let old = &target.replaced()?.username;
            let mark = target.mark(effect, old, fence);
            let mut change = Change::begin(admin, &mark).await?;
            change.run(format!("ALTER ROLE {} NOLOGIN", ident(old))).await?;
            change.commit().await?;
            if target.context.emergency { target.end_sessions(admin, old, None).await } else { Ok(()) }
        }
        TargetEffect::Restore => {
            let old = target.replaced()?;
            let mark = target.mark(effect, &old.username, fence);
            let mut change = Change::begin(admin, &mark).await?;
            change.let_in(&old.username, &verifier(old)).await?;
            change.commit().await
        }
        TargetEffect::Revoke => {
            let (old, new) = (target.replaced()?, target.candidate()?);
            let mark = target.mark(effect, &old.username, fence);
            drop_role(target, admin, &mark, &new.username).await
        }
        TargetEffect::Remove => {
            let (old, new) = (target.replaced()?, target.candidate()?);
            let mark = target.mark(effect, &new.username, fence);
            drop_role(target, admin, &mark, &old.username).await
        }
    }
}

async fn install(target: &Target<'_>, admin: &mut PgConnection, fence: Fence) -> Result<(), Fault> {
    let (old, new) = (target.replaced()?, target.candidate()?);
    let mark = target.mark(TargetEffect::Install, &new.username, fence);
    let others = privileges::other_databases(admin, &old.username, &target.settings.database).await?;
    let mut change = Change::begin(admin, &mark).await?;
    create(target, &mut change, old, new).await?;
    give(&mut change, &target.settings.database, &old.username, &new.username).await?;
    change.let_in(&new.username, &verifier(new)).await?;
    change.commit().await?;
    for database in others {
        let mut there = target.connect_to(&database).await?;
        let mut change = Change::begin(&mut there, &mark).await?;
        share_what_comes(&mut change, &old.username, &new.username).await?;
        give(&mut change, &database, &old.username, &new.username).await?;
        change.commit().await?;
    }
    Ok(())
}

async fn create(target: &Target<'_>, change: &mut Change<'_>, old: &Login, new: &Login) -> Result<(), Fault> {
    match role(change.connection(), &new.username).await? {
        None => {
            let (name, comment) = (ident(&new.username), literal(&comment(target)));
            change.run(format!("CREATE ROLE {name} NOLOGIN; COMMENT ON ROLE {name} IS{comment}")).await?;
            act_for(change, &new.username).await?;
        }
        Some(role) if role.comment == Some(comment(target)) => {}
        Some(_) => return Err(Fault::conflict(format!("role `{}` is somebody else's", new.username))),
    }
    share_what_comes(change, &old.username, &new.username).await
}

/// Only a member changes a role's defaults and hands over what it owns; a superuser is one of each.
async fn act_for(change: &mut Change<'_>, new: &str) -> Result<(), Fault> {
    let sql = "SELECT pg_has_role($1, 'USAGE')";
    let query = sqlx::query_scalar(sql).bind(new).fetch_one(change.connection());
    let member: bool = query.await.doing(&format!("looking at who may act for `{new}`"))?;
    if member { Ok(()) } else { change.run(format!("GRANT {} TO CURRENT_USER", ident(new))).await }
}

/// Lets the old user use what the new one creates while both are in use. Goes with the old one.
async fn share_what_comes(change: &mut Change<'_>, old: &str, new: &str) -> Result<(), Fault> {
    let (old, new) = (ident(old), ident(new));
    for kind in ["TABLES", "SEQUENCES", "ROUTINES", "TYPES", "SCHEMAS"] {
        change.run(format!("ALTER DEFAULT PRIVILEGES FOR ROLE {new} GRANT ALL ON {kind} TO {old}")).await?;
    }
    Ok(())
}

/// Gives `new` what was given to `old`, and refuses where something cannot be given.
async fn give(change: &mut Change<'_>, database: &str, old: &str, new: &str) -> Result<(), Fault> {
    for _ in 0..ROUNDS {
        let missing = privileges::missing(change.connection(), old, new).await?;
        let given = missing.into_iter().filter_map(|missing| Some((missing.what, missing.statement?)));
        let given: Vec<(String, String)> = given.collect();
        if given.is_empty() {
            break;
        }
        for (what, statement) in given {
            let doing = format!("giving `{new}` {what} in database `{database}`");
            change.run_for(&doing, statement).await?;
        }
    }
    let lacks = named(privileges::missing(change.connection(), old, new).await?);
    if lacks.is_empty() {
        return Ok(());
    }
    Err(Fault::denied(format!(
        "`{new}` cannot be given what `{old}` has, {}; let the administrator give it, or give it to a group of `{old}`",
        privileges::listed(database, &lacks)
    )))
}

fn named(missing: Vec<Missing>) -> Vec<String> {
    missing.into_iter().map(|missing| missing.what).collect()
}

/// Ends the role's sessions, gives what it owns to `heir`, takes back what it was given,
/// and drops it last, in the consumers' database.
async fn drop_role(
    target: &Target<'_>,
    admin: &mut PgConnection,
    mark: &Mark<'_>,
    heir: &str,
) -> Result<(), Fault> {
    let dropped = mark.role;
    let (name, heir) = (ident(dropped), ident(heir));
    let hand_over = format!("REASSIGN OWNED BY {name} TO {heir}; DROP OWNED BY {name}");
    let is_there = role(admin, dropped).await?.is_some();
    // Without the role the fence is raised all the same: what would make it may still land.
    let mut change = Change::begin(admin, mark).await?;
    if is_there {
        change.run(format!("ALTER ROLE {name} NOLOGIN")).await?;
    }
    change.commit().await?;
    if !is_there {
        return Ok(());
    }
    target.end_sessions(admin, dropped, None).await?;
    for database in privileges::other_databases(admin, dropped, &target.settings.database).await? {
        let mut there = target.connect_to(&database).await?;
        let mut change = Change::begin(&mut there, mark).await?;
        change.run(hand_over.clone()).await?;
        change.commit().await?;
    }
    let mut change = Change::begin(admin, mark).await?;
    change.run(format!("{hand_over}; DROP ROLE {name}")).await?;
    change.commit().await
}

/// What `old` was given and `new` was not, in every database where `old` has rights.
///
/// # Errors
/// As the server says.
pub(super) async fn lacks(target: &Target<'_>, old: &str, new: &str) -> Result<Option<String>, Fault> {
    let main = &target.settings.database;
    let mut admin = target.connect().await?;
    if role(&mut admin, old).await?.is_none() {
        return Ok(None);
    }
    let lacks = named(privileges::missing(&mut admin, old, new).await?);
    if !lacks.is_empty() {
        return Ok(Some(privileges::listed(main, &lacks)));
    }
    for database in privileges::other_databases(&mut admin, old, main).await? {
        let lacks = named(privileges::missing(&mut target.connect_to(&database).await?, old, new).await?);
        if !lacks.is_empty() {
            return Ok(Some(privileges::listed(&database, &lacks)));
        }
    }
    Ok(None)
}
