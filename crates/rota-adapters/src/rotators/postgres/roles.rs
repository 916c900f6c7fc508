//! What a role is at this moment, and whether it holds a value.

use rota_core::fault::Fault;
use sqlx::{PgConnection, Row as _};

use super::fault::Doing as _;
use super::server::{LoginOutcome, Server, ident};
use crate::login::Login;
use crate::rotators::turns::Standing;

/// A role, as `pg_roles` shows it.
pub(super) struct Role {
    pub(super) can_login: bool,
    pub(super) superuser: bool,
    pub(super) comment: Option<String>,
}

/// # Errors
/// As the server says.
pub(super) async fn role(connection: &mut PgConnection, name: &str) -> Result<Option<Role>, Fault> {
    let sql =
        "SELECT rolcanlogin, rolsuper, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1";
    let row = sqlx::query(sql).bind(name).fetch_optional(connection).await;
    let row = row.doing(&format!("looking at role `{name}`"))?;
    Ok(row.map(|row| Role { can_login: row.get(0), superuser: row.get(1), comment: row.get(2) }))
}

/// Looks at the role and tries the value.
///
/// # Errors
/// As the server says; passing where the role changed between two looks.
pub(super) async fn standing(
    connection: &mut PgConnection,
    server: &Server,
    database: &str,
    login: &Login,
) -> Result<Standing, Fault> {
    let Some(role) = role(connection, &login.username).await? else { return Ok(Standing::Gone) };
    let outcome = server.log_in(login, database).await?;
    match (role.can_login, outcome) {
        (true, LoginOutcome::Accepted | LoginOutcome::NoDatabase) => Ok(Standing::Live { ours: true }),
        (false, LoginOutcome::NotPermitted) => Ok(Standing::Disabled { ours: true }),
        (true, LoginOutcome::Wrong) => Ok(Standing::Live { ours: false }),
        (false, LoginOutcome::Wrong) => Ok(Standing::Disabled { ours: false }),
        (true, LoginOutcome::NotPermitted) | (false, LoginOutcome::Accepted | LoginOutcome::NoDatabase) => {
            Err(Fault::transient(format!("role `{}` was changed while it was looked at", login.username)))
        }
    }
}

/// What the administrator has to be for changing `names`; superusers are never rotated.
///
/// # Errors
/// [`Fault::Invalid`] and [`Fault::Denied`] with what to change.
pub(super) async fn must_be_changeable(
    connection: &mut PgConnection,
    admin: &Login,
    names: &[&str],
) -> Result<(), Fault> {
    for name in names {
        if *name == admin.username {
            return Err(Fault::invalid(format!(
                "the administrator `{name}` cannot rotate itself; give Rota a login of its own as `admin`"
            )));
        }
        let Some(role) = role(connection, name).await? else {
            return Err(Fault::invalid(format!(
                "there is no role `{name}`; create it with NOLOGIN and its rights"
            )));
        };
        if role.superuser {
            return Err(Fault::invalid(format!(
                "role `{name}` is a superuser, which Rota does not rotate; give consumers a role with fewer rights"
            )));
        }
    }
    must_be_able(connection).await
}

/// CREATEROLE, and the right to end other roles' sessions.
async fn must_be_able(connection: &mut PgConnection) -> Result<(), Fault> {
    let sql = "SELECT rolsuper OR rolcreaterole, rolsuper OR pg_has_role('pg_signal_backend', 'USAGE'), \
        rolname::text FROM pg_roles WHERE rolname = current_user";
    let row = sqlx::query(sql).fetch_one(connection).await.doing("looking at the administrator's rights")?;
    let admin = ident(row.get(2));
    let lacks = |right: &str, how: String| {
        Err(Fault::denied(format!("the administrator lacks {right}; run `{how}` as a superuser")))
    };
    if !row.get::<bool, _>(0) {
        return lacks("CREATEROLE", format!("ALTER ROLE {admin} CREATEROLE"));
    }
    if !row.get::<bool, _>(1) {
        return lacks("the right to end sessions", format!("GRANT pg_signal_backend TO {admin}"));
    }
    Ok(())
}
