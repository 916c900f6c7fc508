//! The calls: making a token, looking at one, and ending one by its accessor ("Token auth
//! method (API)" of Vault's documentation).

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use vaultrs::api::token::requests::{CreateOrphanTokenRequest, CreateRoleTokenRequest, ListAccessorRequest};
use vaultrs::api::token::responses::LookupTokenResponse;
use vaultrs::api::{AuthInfo, exec_with_result};
use vaultrs::client::VaultClient;
use vaultrs::error::ClientError;
use vaultrs::token;

use super::settings::VaultTokenSettings;
use crate::login;
use crate::vault::{Call, Failure, VaultConnection};

/// A server with more live tokens is not looked through: that takes longer than a call may.
const MOST_TOKENS: usize = 5_000;

/// The metadata by which a token of ours is known.
pub(super) const LABEL: &str = "rota_secret";
pub(super) const ROTATION: &str = "rota_rotation";

/// A token that was made.
pub(super) struct Made {
    pub(super) token: SecretValue,
    pub(super) accessor: String,
    pub(super) orphan: bool,
    /// How long it lives, in seconds.
    pub(super) seconds: u64,
}

/// What Vault tells of a token to whoever names its accessor.
pub(super) struct Known {
    pub(super) accessor: String,
    /// When it was made, in seconds since the epoch.
    pub(super) created: u64,
    pub(super) orphan: bool,
    pub(super) path: String,
    pub(super) policies: Vec<String>,
    meta: HashMap<String, String>,
}

impl Known {
    pub(super) fn says(&self, name: &str) -> Option<&str> {
        self.meta.get(name).map(String::as_str)
    }
}

impl From<LookupTokenResponse> for Known {
    fn from(told: LookupTokenResponse) -> Self {
        Self {
            accessor: told.accessor,
            created: told.creation_time,
            orphan: told.orphan,
            path: told.path,
            policies: told.policies,
            meta: told.meta.unwrap_or_default(),
        }
    }
}

/// The tokens of a server.
pub(super) struct Tokens(pub(super) Arc<VaultConnection>);

struct Create<'a> {
    settings: &'a VaultTokenSettings,
    name: String,
    meta: HashMap<String, String>,
}

struct List;
struct LookUp<'a>(&'a str);
struct LookUpSelf;
struct Revoke<'a>(&'a str);

#[async_trait]
impl Call for Create<'_> {
    type Answer = AuthInfo;

    async fn make(&self, client: &VaultClient) -> Result<AuthInfo, ClientError> {
        let VaultTokenSettings { role, policies, period, ttl, no_default_policy, label: _ } = self.settings;
        let seconds = |life: &Option<rota_core::policy::duration::DurationText>| {
            life.map(|life| format!("{}s", life.0.as_secs()))
        };
        match role {
            Some(role) => {
                let mut request = CreateRoleTokenRequest::builder();
                request
                    .display_name(&self.name)
                    .meta(self.meta.clone())
                    .no_default_policy(*no_default_policy);
                if !policies.is_empty() {
                    request.policies(policies.clone());
                }
                // The period is the role's.
                seconds(ttl).map(|ttl| request.ttl(ttl));
                token::new_role(client, role, Some(&mut request)).await
            }
            None => {
                let mut request = CreateOrphanTokenRequest::builder();
                request
                    .display_name(&self.name)
                    .meta(self.meta.clone())
                    .no_default_policy(*no_default_policy);
                request.policies(policies.clone());
                seconds(ttl).map(|ttl| request.ttl(ttl));
                seconds(period).map(|period| request.period(period));
                token::new_orphan(client, Some(&mut request)).await
            }
        }
    }
}

#[async_trait]
impl Call for List {
    type Answer = Vec<String>;

    async fn make(&self, client: &VaultClient) -> Result<Vec<String>, ClientError> {
        Ok(exec_with_result(client, ListAccessorRequest {}).await?.keys)
    }
}

#[async_trait]
impl Call for LookUp<'_> {
    type Answer = LookupTokenResponse;

    async fn make(&self, client: &VaultClient) -> Result<LookupTokenResponse, ClientError> {
        token::lookup_accessor(client, self.0).await
    }
}

#[async_trait]
impl Call for LookUpSelf {
    type Answer = LookupTokenResponse;

    async fn make(&self, client: &VaultClient) -> Result<LookupTokenResponse, ClientError> {
        token::lookup_self(client).await
    }
}

#[async_trait]
impl Call for Revoke<'_> {
    type Answer = ();

    async fn make(&self, client: &VaultClient) -> Result<(), ClientError> {
        token::revoke_accessor(client, self.0).await
    }
}

impl Tokens {
    fn fault(&self, failure: Failure, what: &str) -> Fault {
        failure.fault(self.0.shown(), what)
    }

    /// Makes a token that is known by its metadata.
    ///
    /// # Errors
    /// [`Fault::Denied`] where the login may not.
    pub(super) async fn create(
        &self,
        settings: &VaultTokenSettings,
        label: &str,
        rotation: &str,
    ) -> Result<Made, Fault> {
        let meta =
            HashMap::from([(LABEL.to_owned(), label.to_owned()), (ROTATION.to_owned(), rotation.to_owned())]);
        let create = Create { settings, name: format!("rota-{label}"), meta };
        let what = settings.role.as_ref().map_or_else(
            || "update and sudo at auth/token/create-orphan".to_owned(),
            |role| format!("update at auth/token/create/{role}"),
        );
        let AuthInfo { client_token, accessor, orphan, lease_duration, .. } =
            self.0.call(&create).await.map_err(|failure| self.fault(failure, &what))?;
        Ok(Made { token: login::value(client_token)?, accessor, orphan, seconds: lease_duration })
    }

    /// The accessors of all tokens that are there.
    ///
    /// # Errors
    /// [`Fault::Denied`] where the login may not, [`Fault::Invalid`] where they are too many.
    pub(super) async fn accessors(&self) -> Result<Vec<String>, Fault> {
        let listed = self.0.call(&List).await;
        let listed =
            listed.map_err(|failure| self.fault(failure, "list and sudo at auth/token/accessors/"))?;
        if listed.len() > MOST_TOKENS {
            return Err(Fault::invalid(format!(
                "{} has {} tokens, and more than {MOST_TOKENS} are not looked through; give these consumers a \
                 namespace of their own",
                self.0.shown(),
                listed.len()
            )));
        }
        Ok(listed)
    }

    /// What Vault tells of a token; `None` where it has ended.
    async fn look_up(&self, accessor: &str) -> Result<Option<Known>, Fault> {
        match self.0.call(&LookUp(accessor)).await {
            Ok(told) => Ok(Some(told.into())),
            // Vault says of an accessor that is not valid (any more) what it says of a missing right.
            Err(Failure::Refused | Failure::Absent(_)) => Ok(None),
            Err(failure) => Err(self.fault(failure, "update at auth/token/lookup-accessor")),
        }
    }

    /// Every token that is there.
    ///
    /// # Errors
    /// [`Fault::Denied`] where the login may list them and look at none.
    pub(super) async fn all(&self) -> Result<Vec<Known>, Fault> {
        let listed = self.accessors().await?;
        let mut known = Vec::new();
        for accessor in &listed {
            known.extend(self.look_up(accessor).await?);
        }
        if known.is_empty() && !listed.is_empty() {
            let what = "update at auth/token/lookup-accessor";
            return Err(self.fault(Failure::Refused, what));
        }
        Ok(known)
    }

    /// What Vault tells a token of itself; `None` where it refuses it.
    ///
    /// # Errors
    /// A passing fault where Vault cannot be reached.
    pub(super) async fn look_up_self(&self, token: &SecretValue) -> Result<Option<Known>, Fault> {
        match self.0.call_as(token, &LookUpSelf).await {
            Ok(told) => Ok(Some(told.into())),
            Err(Failure::Refused) => Ok(None),
            Err(failure) => Err(self.fault(failure, "auth/token/lookup-self")),
        }
    }

    /// Ends a token, and all that were made with it. May be repeated.
    ///
    /// # Errors
    /// [`Fault::Denied`] where the login may not.
    pub(super) async fn revoke(&self, accessor: &str) -> Result<(), Fault> {
        match self.0.call(&Revoke(accessor)).await {
            Ok(()) => Ok(()),
            Err(failure) => {
                let fault = self.fault(failure, "update at auth/token/revoke-accessor");
                // An accessor that is not there (any more) is refused.
                let gone = !fault.passes_by_itself()
                    && !self.accessors().await?.iter().any(|listed| listed == accessor);
                if gone { Ok(()) } else { Err(fault) }
            }
        }
    }
}
