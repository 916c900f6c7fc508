//! `postgres-sessions`: how many sessions a consumer has on its database, within bounds.
//!
//! A consumer whose pool is empty cannot log in, whatever its health page says. Nothing
//! is asked but the server's own list; rights on tables are not needed.

use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Check, CheckContext, Reading};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bounds::{Bounds, Change};
use super::{reference_problem, timeout, unknown, unread};
use crate::catalog::CheckKind;
use crate::credential::{Credentials, Reference};
use crate::environment::AdapterEnvironment;
use crate::login::Login;
use crate::rotators::postgres::fault::Doing as _;
use crate::rotators::postgres::server::{APPLICATION, EXAMPLE, Server};
use crate::rotators::postgres::settings::{DEFAULT_PORT, ca_problem, host_problem};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "postgres-sessions";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "how many sessions a consumer has on its database")
        .inline::<PostgresSessionsSettings>()
        .lint(lint),
    build: |policy, environment| Ok(Arc::new(PostgresSessionsCheck::new(&policy.settings, environment)?)),
};

/// Sessions of consumers in the database that the check logs in to. Who is logged in,
/// where and as which application is shown to every login; ours are not a consumer's.
const COUNT: &str = "SELECT count(*) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid \
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.application_name <> $5 \
      AND ($1::text IS NULL OR r.rolname = $1) AND ($2::text IS NULL OR starts_with(r.rolname::text, $2)) \
      AND ($3::text IS NULL OR a.application_name = $3) AND ($4::text IS NULL OR starts_with(a.application_name, $4))";

/// `{ kind = "postgres-sessions", host = "db.internal", database = "acd", admin = "aws:prod/acd/db-monitor", user = "acd_*", min = 1 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSessionsSettings {
    /// The server; only this machine is reached without verified TLS.
    host: String,
    /// 5432 without it.
    port: Option<u16>,
    /// The database whose sessions are counted.
    database: String,
    /// Where the login that counts is kept (`store:path#field`): a JSON document with
    /// `username` and `password`, or a connection URL. It needs no rights but CONNECT.
    admin: Reference,
    /// Sessions of this user; `acd_*` is every user whose name begins so.
    user: Option<String>,
    /// Sessions of this `application_name`, `*` at its end as above.
    application: Option<String>,
    /// Fewer are unhealthy.
    min: Option<f64>,
    /// More are unhealthy.
    max: Option<f64>,
    /// How far the number may fall from what it was before the promotion.
    max_drop: Option<Change>,
    /// How far the number may rise from what it was before the promotion.
    max_rise: Option<Change>,
    /// Certificate authorities that may sign the server's certificate, PEM.
    ca: Option<String>,
    /// How long an answer may take; 10s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// The check.
pub struct PostgresSessionsCheck {
    settings: PostgresSessionsSettings,
    server: Server,
    credentials: Arc<dyn Credentials>,
}

impl PostgresSessionsCheck {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let settings: PostgresSessionsSettings = settings::read(NAME, settings)?;
        let port = settings.port.unwrap_or(DEFAULT_PORT);
        let trust = &environment.http.trust;
        Ok(Self {
            server: Server::new(settings.host.clone(), port, settings.ca.as_ref(), trust),
            credentials: Arc::new(environment.credentials.clone()),
            settings,
        })
    }

    async fn count(&self) -> Result<i64, Fault> {
        let PostgresSessionsSettings { admin, database, user, application, .. } = &self.settings;
        let admin = Login::of_admin(&self.credentials.read(admin).await?, EXAMPLE)?;
        let mut session = self.server.connect(&admin, database).await?;
        let (user, users) = name_or_beginning(user.as_deref());
        let (application, applications) = name_or_beginning(application.as_deref());
        let query = sqlx::query_scalar(COUNT).bind(user).bind(users).bind(application).bind(applications);
        query.bind(APPLICATION).fetch_one(&mut session).await.doing("counting the sessions of consumers")
    }

    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let limit = timeout(self.settings.timeout);
        match tokio::time::timeout(limit, self.count()).await {
            // A server has thousands of sessions at most.
            Ok(sessions) => {
                let sessions = u32::try_from(sessions?).unwrap_or(u32::MAX);
                Ok(self.settings.bounds().judge(f64::from(sessions), context.baseline))
            }
            Err(_) => Ok(unknown(format!("{} gave no answer in {} s", self.settings.host, limit.as_secs()))),
        }
    }
}

#[async_trait]
impl Check for PostgresSessionsCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        self.look(context).await.or_else(unread)
    }
}

/// A name, or how names begin.
fn name_or_beginning(said: Option<&str>) -> (Option<&str>, Option<&str>) {
    match said.map(|text| (text, text.strip_suffix('*'))) {
        None => (None, None),
        Some((name, None)) => (Some(name), None),
        Some((_, Some(beginning))) => (None, Some(beginning)),
    }
}

impl PostgresSessionsSettings {
    fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max, max_drop: self.max_drop, max_rise: self.max_rise }
    }
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = PostgresSessionsSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    if settings.user.is_none() && settings.application.is_none() {
        problems.push(KindProblem::error(
            "whose",
            "",
            "every session would count, whoever's it is",
            "add `user = \"acd_*\"` or `application = \"backend\"`",
        ));
    }
    problems.extend(host_problem("/host", &settings.host));
    problems.extend(ca_problem(settings.ca.as_ref()));
    problems.extend(settings.bounds().problem());
    problems.extend(reference_problem("/admin", &settings.admin.to_string(), context));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_stands_for_the_rest_of_a_name() {
        assert_eq!(name_or_beginning(None), (None, None));
        assert_eq!(name_or_beginning(Some("acd_a")), (Some("acd_a"), None));
        assert_eq!(name_or_beginning(Some("acd_*")), (None, Some("acd_")));
        assert_eq!(name_or_beginning(Some("a*d")), (Some("a*d"), None));
    }
}
