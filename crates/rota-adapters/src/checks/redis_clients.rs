//! `redis-clients`: how many connections a user has on the nodes of a Redis, within bounds.
//!
//! Shows that consumers came back after a rollout, and that nobody uses a user any more. A
//! node that cannot be asked makes the number unknown.

use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Check, CheckContext, Reading};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bounds::{Bounds, Change};
use super::{reference_problem, unread};
use crate::catalog::CheckKind;
use crate::credential::{Credentials, Reference};
use crate::http::Trust;
use crate::login::Login;
use crate::redis_nodes::{Servers, servers_problems};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "redis-clients";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "how many connections a user of Redis has, within bounds")
        .inline::<RedisClientsSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(RedisClientsCheck::new(
            &policy.settings,
            environment.http.trust.clone(),
            Arc::new(environment.credentials.clone()),
        )?))
    },
};

/// `{ kind = "redis-clients", url = "rediss://...", admin = "aws:...", user = "acd", min = 1 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisClientsSettings {
    /// The server, without a login: `rediss://host:port`, or `redis://` on this machine.
    url: String,
    /// Every node, `host` or `host:port`; their connections are added up.
    #[serde(default)]
    nodes: Vec<String>,
    /// Where the login that may run CLIENT LIST is kept (`store:path#field`).
    admin: Reference,
    /// Whose connections are counted.
    user: String,
    /// Below it is unhealthy.
    min: Option<f64>,
    /// Above it is unhealthy.
    max: Option<f64>,
    /// How far it may fall from its number before the promotion.
    max_drop: Option<Change>,
    /// How far it may rise from its number before the promotion.
    max_rise: Option<Change>,
    /// Certificate authorities that may sign the nodes' certificates, PEM.
    ca: Option<String>,
}

/// The check.
pub struct RedisClientsCheck {
    settings: RedisClientsSettings,
    trust: Trust,
    credentials: Arc<dyn Credentials>,
}

impl RedisClientsCheck {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, trust: Trust, credentials: Arc<dyn Credentials>) -> Result<Self, Fault> {
        Ok(Self { settings: settings::read(NAME, settings)?, trust, credentials })
    }

    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let stored = self.credentials.read(&self.settings.admin).await?;
        let admin = Login::of_admin(&stored, "rediss://user:password@cache.internal")?;
        let mut connections = 0_u32;
        for node in self.settings.servers().nodes(&self.trust) {
            let mut session = node.connect(&admin.username, &admin.password).await?;
            for client in session.clients().await? {
                connections += u32::from(client.user == self.settings.user);
            }
        }
        Ok(self.settings.bounds().judge(f64::from(connections), context.baseline))
    }
}

#[async_trait]
impl Check for RedisClientsCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        self.look(context).await.or_else(unread)
    }
}

impl RedisClientsSettings {
    fn servers(&self) -> Servers<'_> {
        Servers { url: &self.url, nodes: &self.nodes, ca: self.ca.as_ref() }
    }

    fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max, max_drop: self.max_drop, max_rise: self.max_rise }
    }
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = RedisClientsSettings::deserialize(settings) else { return Vec::new() };
    let mut problems = servers_problems(&settings.servers());
    problems.extend(reference_problem("/admin", &settings.admin.to_string(), context));
    problems.extend(settings.bounds().problem());
    problems
}
