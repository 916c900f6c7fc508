//! The way to the state database, from the configuration.
//!
//! Deliberately absent: SQL, and verification that could be switched off (see
//! `rota_postgres::ConnectSettings`).

use std::sync::Arc;

use reqwest::Url;
use rota_core::fault::Fault;
use rota_postgres::{ConnectSettings, JournalPool, Reports};

use crate::aws::{self, RdsTokens};
use crate::config::{Configuration, SecretKey, read_pem};
use crate::exit::{Exit, Failure};

/// Postgres' own port, where the URL names none.
const DEFAULT_PORT: u16 = 5432;

/// How the database is reached. `who` is what `pg_stat_activity` shows.
///
/// # Errors
/// Settings that are missing, unreadable or contradict each other.
pub(crate) async fn settings(configuration: &Configuration, who: &str) -> Result<ConnectSettings, Failure> {
    let database = &configuration.settings.database;
    let url = configuration.required_secret(SecretKey::DatabaseUrl)?;
    let mut settings = ConnectSettings::from_url(url.expose())?
        .application_name(who)
        .max_connections(database.max_connections.get());
    if let Some(path) = &database.ca_file {
        settings = settings.trust_authority(&read_pem(path)?);
    }
    let password = configuration.secret(SecretKey::DatabasePassword)?;
    if database.rds_iam {
        if password.is_some() {
            return Err(Failure::invalid("both `database.rds_iam` and a database password are set")
                .hint("keep one of them"));
        }
        settings = settings.fresh_passwords(Arc::new(rds_tokens(configuration, url.expose()).await?));
    } else if let Some(password) = password {
        settings = settings.password(&password);
    }
    Ok(settings)
}

/// What a command needs to be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Read the views.
    Read,
    /// Give orders.
    Order,
}

impl Right {
    /// The role that people are given for it.
    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::Read => "rota_auditor",
            Self::Order => "rota_operator",
        }
    }

    /// Every role that has it.
    fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["rota_auditor", "rota_daemon", "rota_owner"],
            Self::Order => &["rota_operator", "rota_owner"],
        }
    }
}

/// A pool of connections; the first one is made now.
///
/// # Errors
/// As [`settings`], where the database does not answer or refuses, and where this login
/// lacks a right: with the statement that gives it.
pub(crate) async fn connect(
    configuration: &Configuration,
    who: &str,
    needs: &[Right],
) -> Result<JournalPool, Failure> {
    let pool = settings(configuration, who).await?.connect().await.map_err(explain)?;
    check_rights(&Reports::new(pool.clone()), needs).await?;
    rota_postgres::check_schema(&pool).await?;
    Ok(pool)
}

async fn check_rights(reports: &Reports, needs: &[Right]) -> Result<(), Failure> {
    let held = reports.rights().await?;
    let has = |role: &&str| held.get(*role) == Some(&true);
    // Without the roles there is no schema yet, which is said better elsewhere.
    let lacks = |right: &&Right| !held.is_empty() && !right.roles().iter().any(has);
    let missing: Vec<&str> = needs.iter().filter(lacks).map(|right| right.role()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (login, missing) = (reports.login().await?, missing.join(", "));
    Err(Failure::new(Exit::Refused, format!("the login `{login}` lacks {missing} at the state database"))
        .hint(grant(&login, &missing)))
}

/// What an administrator runs.
pub(crate) fn grant(login: &str, roles: &str) -> String {
    format!("an administrator of the database runs: GRANT {roles} TO \"{login}\";")
}

/// What to do about a database that does not answer.
fn explain(fault: Fault) -> Failure {
    let hint = match &fault {
        Fault::Transient { .. } | Fault::RateLimited { .. } => {
            "is the server running, and does `database.url` name it? `rota config show` lists the settings"
        }
        Fault::Denied { .. } | Fault::Conflict { .. } | Fault::Invalid { .. } => {
            "`rota doctor` checks the login, the schema and the grants one by one"
        }
    };
    Failure::from(fault).hint(hint)
}

async fn rds_tokens(configuration: &Configuration, url: &str) -> Result<RdsTokens, Failure> {
    let incomplete = || {
        Failure::invalid("`database.rds_iam` needs a host and a user in `database.url`")
            .hint("write postgres://user@instance.region.rds.amazonaws.com/database")
    };
    let url = Url::parse(url).map_err(|_| incomplete())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(incomplete)?;
    if url.username().is_empty() {
        return Err(incomplete());
    }
    Ok(RdsTokens {
        config: aws::configuration(configuration.settings.aws.region.as_deref()).await,
        host: host.to_owned(),
        port: url.port().unwrap_or(DEFAULT_PORT),
        user: url.username().to_owned(),
    })
}
