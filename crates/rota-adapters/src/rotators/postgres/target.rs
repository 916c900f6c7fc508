//! What every call works with: the server, its administrator, and the two values.

use rota_core::fault::Fault;
use rota_engine::ports::{Fence, Idleness, TargetContext, TargetEffect};
use sqlx::PgConnection;

use super::fence::Mark;
use super::roles::standing;
use super::server::{EXAMPLE, Server, ident};
use super::sessions;
use super::settings::{self, PostgresSettings};
use crate::http::Trust;
use crate::login::Login;
use crate::rotators::turns::Standing;

pub(super) struct Target<'a> {
    pub(super) settings: &'a PostgresSettings,
    pub(super) context: &'a TargetContext,
    pub(super) server: Server,
    pub(super) admin: Login,
    pub(super) old: Option<Login>,
    pub(super) new: Option<Login>,
    standbys: Vec<Server>,
    /// What the fence stands around: the same whatever the server is called.
    fenced: String,
}

impl<'a> Target<'a> {
    /// # Errors
    /// [`Fault::Invalid`] where the administrator's login or a value cannot be read.
    pub(super) fn new(
        settings: &'a PostgresSettings,
        trust: &Trust,
        context: &'a TargetContext,
    ) -> Result<Self, Fault> {
        let admin = context.admin.as_ref().ok_or_else(|| {
            Fault::invalid(format!(
                "nothing is stored at `{}`; put the administrator's login there",
                settings.admin
            ))
        })?;
        Ok(Self {
            settings,
            context,
            server: Server::primary(settings, trust),
            standbys: Server::standbys(settings, trust),
            admin: Login::of_admin(admin, EXAMPLE)?,
            old: context.old.as_ref().map(Login::of).transpose()?,
            new: context.new.as_ref().map(Login::of).transpose()?,
            fenced: settings::fenced(settings),
        })
    }

    /// A session of the administrator's in the consumers' database.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub(super) async fn connect(&self) -> Result<PgConnection, Fault> {
        self.connect_to(&self.settings.database).await
    }

    /// # Errors
    /// As [`Server::connect`].
    pub(super) async fn connect_to(&self, database: &str) -> Result<PgConnection, Fault> {
        self.server.connect(&self.admin, database).await
    }

    /// # Errors
    /// [`Fault::Invalid`] where there is none.
    pub(super) fn replaced(&self) -> Result<&Login, Fault> {
        self.old.as_ref().ok_or_else(|| Fault::invalid("there is no old value"))
    }

    /// # Errors
    /// [`Fault::Invalid`] where there is none.
    pub(super) fn candidate(&self) -> Result<&Login, Fault> {
        self.new.as_ref().ok_or_else(|| Fault::invalid("there is no new value"))
    }

    pub(super) async fn standing(&self, admin: &mut PgConnection, login: &Login) -> Result<Standing, Fault> {
        standing(admin, &self.server, &self.settings.database, login).await
    }

    /// The published login has to work before it is replaced. An emergency goes on without.
    ///
    /// # Errors
    /// [`Fault::Invalid`] with what to change.
    pub(super) async fn must_be_accepted(
        &self,
        admin: &mut PgConnection,
        login: &Login,
    ) -> Result<(), Fault> {
        if self.context.emergency {
            return Ok(());
        }
        let user = &login.username;
        match self.standing(admin, login).await? {
            Standing::Live { ours: true } => Ok(()),
            Standing::Disabled { ours: true } => Err(Fault::invalid(format!(
                "`{user}`, which is published, is NOLOGIN; run `ALTER ROLE {} LOGIN`, or publish a login that works",
                ident(user)
            ))),
            Standing::Gone | Standing::Live { ours: false } | Standing::Disabled { ours: false } => {
                Err(Fault::invalid(format!(
                    "the server refuses the published password of `{user}`; publish the one that it accepts"
                )))
            }
        }
    }

    /// This effect, as the fence tells it.
    pub(super) fn mark<'m>(&'m self, effect: TargetEffect, role: &'m str, fence: Fence) -> Mark<'m> {
        Mark {
            target: &self.fenced,
            secret: self.context.policy.secret.id.as_str(),
            rotation: self.context.rotation,
            what: word(effect),
            role,
            fence,
        }
    }

    /// When this rotation installed its value, in seconds since the epoch, where nothing
    /// was changed since.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn installed_at(&self, admin: &mut PgConnection) -> Result<Option<f64>, Fault> {
        super::fence::done_at(admin, &self.fenced, self.context.rotation, word(TargetEffect::Install)).await
    }

    /// What the last effect on the target was ordered by.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn last_fence(&self, admin: &mut PgConnection) -> Result<Option<Fence>, Fault> {
        super::fence::last(admin, &self.fenced).await
    }

    /// How many sessions a role has on the server and its standbys.
    ///
    /// # Errors
    /// As the servers say: a standby that cannot be asked is unknown, not idle.
    pub(super) async fn sessions(
        &self,
        admin: &mut PgConnection,
        role: &str,
        opened_before: Option<f64>,
    ) -> Result<i64, Fault> {
        let mut sessions = sessions::count(admin, role, opened_before).await?;
        for standby in &self.standbys {
            let mut there = standby.connect(&self.admin, &self.settings.database).await?;
            sessions += sessions::count(&mut there, role, opened_before).await?;
        }
        Ok(sessions)
    }

    /// Ends the sessions of a role on the server and its standbys.
    ///
    /// # Errors
    /// As the servers say.
    pub(super) async fn end_sessions(
        &self,
        admin: &mut PgConnection,
        role: &str,
        opened_before: Option<f64>,
    ) -> Result<(), Fault> {
        sessions::end(admin, role, opened_before).await?;
        for standby in &self.standbys {
            let mut there = standby.connect(&self.admin, &self.settings.database).await?;
            sessions::end(&mut there, role, opened_before).await?;
        }
        Ok(())
    }

    /// # Errors
    /// As [`Target::sessions`].
    pub(super) async fn idleness(&self, role: &str, opened_before: Option<f64>) -> Result<Idleness, Fault> {
        let mut admin = self.connect().await?;
        Ok(match self.sessions(&mut admin, role, opened_before).await? {
            0 => Idleness::Idle,
            sessions => Idleness::Busy { detail: format!("`{role}` has {}", sessions::told(sessions)) },
        })
    }
}

/// What the fence calls an effect.
fn word(effect: TargetEffect) -> &'static str {
    match effect {
        TargetEffect::Install => "install",
        TargetEffect::Disable => "disable",
        TargetEffect::Revoke => "revoke",
        TargetEffect::Restore => "restore",
        TargetEffect::Remove => "remove",
    }
}

/// A difference from what this rotation did, for a person to decide.
pub(super) fn foreign(detail: String) -> Result<rota_engine::ports::Observed, Fault> {
    Ok(rota_engine::ports::Observed::Foreign { detail })
}

/// The verifier that the server keeps in place of a password (RFC 5802, RFC 7677).
pub(super) fn verifier(login: &Login) -> String {
    postgres_protocol::password::scram_sha_256(login.password.expose().as_bytes())
}
