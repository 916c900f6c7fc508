//! The ways to a token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use vaultrs::api::AuthInfo;
use vaultrs::auth::{approle, kubernetes};
use vaultrs::client::{Client as _, VaultClient};
use vaultrs::error::ClientError;

use super::aws_iam;
use super::fault::Failure;
use crate::aws::AwsEnvironment;

/// Reads a secret of the configuration anew, so that a replaced file counts at the
/// next login.
pub type ReadSecret = Arc<dyn Fn() -> Result<SecretValue, Fault> + Send + Sync>;

/// How we log in. `mount` is the path of the auth method.
#[derive(Clone)]
pub enum VaultLogin {
    /// A token that others make and renew (Vault Agent's sink, for one).
    Token {
        token: ReadSecret,
    },
    AppRole {
        mount: String,
        role_id: String,
        secret_id: ReadSecret,
    },
    /// With the token of the pod's service account.
    Kubernetes {
        mount: String,
        role: String,
        jwt_file: PathBuf,
    },
    /// With AWS credentials: a signed `GetCallerIdentity`, fresh for every login.
    AwsIam {
        mount: String,
        role: String,
        /// The region of the STS endpoint that Vault asks; the global one without it.
        sts_region: Option<String>,
        /// What `iam_server_id_header_value` of the auth method says.
        server_id: Option<String>,
    },
}

impl VaultLogin {
    /// True where a new login gives the same token again.
    pub(super) fn is_token(&self) -> bool {
        match self {
            Self::Token { .. } => true,
            Self::AppRole { .. } | Self::Kubernetes { .. } | Self::AwsIam { .. } => false,
        }
    }
}

/// What a login gives.
pub(super) struct Granted {
    pub(super) token: SecretValue,
    /// How long it lives; 0 for ever.
    pub(super) seconds: u64,
    pub(super) renewable: bool,
}

/// Logs in through `client`, which has no token; `with` makes one that has.
pub(super) async fn log_in(
    login: &VaultLogin,
    client: &VaultClient,
    shown: &str,
    aws: &AwsEnvironment,
    with: impl Fn(&SecretValue) -> VaultClient,
) -> Result<Granted, Fault> {
    let answer = match login {
        VaultLogin::Token { token } => {
            let token = header_safe(token()?)?;
            return look_up(token, with, shown).await;
        }
        VaultLogin::AppRole { mount, role_id, secret_id } => {
            approle::login(client, mount, role_id, secret_id()?.expose()).await
        }
        VaultLogin::Kubernetes { mount, role, jwt_file } => {
            kubernetes::login(client, mount, role, read_jwt(jwt_file)?.expose()).await
        }
        VaultLogin::AwsIam { mount, role, sts_region, server_id } => {
            let signed = aws_iam::sign(aws, sts_region.as_deref(), server_id.as_deref()).await?;
            signed.log_in(client, mount, role).await
        }
    };
    granted(answer, shown)
}

fn granted(answer: Result<AuthInfo, ClientError>, shown: &str) -> Result<Granted, Fault> {
    let refused = || {
        Err(Fault::denied(format!(
            "{shown} refuses the login, check the role, its secret and the auth method's path"
        )))
    };
    match answer {
        Ok(AuthInfo { client_token, lease_duration, renewable, .. }) => {
            let token = SecretValue::new(client_token)
                .map_err(|_| Fault::invalid(format!("{shown} gave no token at the login")))?;
            Ok(Granted { token: header_safe(token)?, seconds: lease_duration, renewable })
        }
        // A wrong role, secret id or signature is a 400 of the auth methods.
        Err(ClientError::APIError { code: 400, .. }) => refused(),
        Err(error) => match Failure::of(&error) {
            Failure::Refused | Failure::Absent(_) | Failure::OtherVersion => refused(),
            Failure::Fault(fault) => Err(fault),
        },
    }
}

/// How long a token that was given to us lives. One that may not look itself up is used
/// as it is.
async fn look_up(
    token: SecretValue,
    with: impl Fn(&SecretValue) -> VaultClient,
    shown: &str,
) -> Result<Granted, Fault> {
    match with(&token).lookup().await {
        Ok(found) => Ok(Granted { token, seconds: found.ttl, renewable: found.renewable.unwrap_or(false) }),
        Err(error) => match Failure::of(&error) {
            Failure::Refused => Ok(Granted { token, seconds: 0, renewable: false }),
            other => Err(other.fault(shown, "auth/token/lookup-self")),
        },
    }
}

/// vaultrs puts the token into a header and panics where that cannot be.
pub(super) fn header_safe(token: SecretValue) -> Result<SecretValue, Fault> {
    let text = token.expose().trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::invalid("the Vault token is not one line of letters, digits and signs"));
    }
    SecretValue::new(text.to_owned()).map_err(|error| Fault::invalid(format!("the Vault token: {error}")))
}

fn read_jwt(path: &Path) -> Result<SecretValue, Fault> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Fault::denied(format!(
            "the service account's token {} cannot be read: {}",
            path.display(),
            error.kind()
        ))
    })?;
    SecretValue::new(text.trim().to_owned())
        .map_err(|error| Fault::invalid(format!("the service account's token {}: {error}", path.display())))
}
