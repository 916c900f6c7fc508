//! What every AWS service shares: where credentials come from, how calls end, and
//! what their errors ask for.
//!
//! Credentials come from the SDK's default chain (environment, profile, web identity,
//! ECS and EC2 roles), and from there into other roles and accounts. Nothing retries
//! by itself: whether a call may be repeated is the caller's business.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::policy::kinds::KindProblem;
use rota_core::value::SecretValue;
use tokio::sync::OnceCell;

use crate::http::{HttpClient, HttpOptions, Reach, check_url};

/// Past this an endpoint that should be near is down or filtered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole call; these services answer in well under a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// AWS does not say how long to wait; its own SDKs begin with less and go up to 20 s.
const THROTTLED_FOR: SignedDuration = SignedDuration::from_secs(5);

/// What CloudTrail shows as the session of an assumed role.
const SESSION: &str = "rota";

/// Where the SDKs look for the region, in this order; in a task of Amazon ECS the
/// first one is set.
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// The credentials of this process and how it calls AWS. Cheap to clone; clones share
/// the credentials.
#[derive(Debug, Clone)]
pub struct AwsEnvironment {
    /// Read from the default chain at the first use, unless it was given.
    config: Arc<OnceCell<SdkConfig>>,
    endpoint: Option<String>,
    /// For services without an SDK; made at the first use.
    client: Arc<OnceCell<HttpClient>>,
}

/// Where one store or service lives, and as whom it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsAccount {
    /// Such as `us-east-1`.
    pub region: String,
    pub role: Option<AwsRole>,
}

/// A role that is assumed before each session of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsRole {
    pub arn: String,
    /// What the role's trust policy asks for, where it belongs to somebody else.
    pub external_id: Option<String>,
}

impl AwsEnvironment {
    /// With credentials of the default chain; nothing is read before the first use.
    /// `endpoint` takes the place of every AWS endpoint, for emulators and gateways.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where `endpoint` is neither https nor on this machine.
    pub fn new(endpoint: Option<&str>) -> Result<Self, Fault> {
        endpoint.map(|endpoint| check_url(endpoint, &Reach::private_too())).transpose()?;
        Ok(Self { config: Arc::default(), endpoint: endpoint.map(str::to_owned), client: Arc::default() })
    }

    /// With a configuration that exists already.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_config(config: SdkConfig, endpoint: Option<&str>) -> Result<Self, Fault> {
        Ok(Self { config: Arc::new(OnceCell::new_with(Some(config))), ..Self::new(endpoint)? })
    }

    /// What takes the place of every AWS endpoint.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// The client for signed calls; endpoints may be private ones of the network's own.
    ///
    /// # Errors
    /// Those of [`HttpClient::new`].
    pub(crate) async fn client(&self) -> Result<&HttpClient, Fault> {
        let options = HttpOptions { reach: Reach::private_too(), ..HttpOptions::default() };
        self.client.get_or_try_init(async || HttpClient::new(&options)).await
    }

    /// The configuration that all accounts begin with.
    async fn base(&self) -> SdkConfig {
        // Every account names its region; without this one the chain would ask the
        // instance's metadata for another.
        let load = async || {
            aws_config::defaults(BehaviorVersion::latest())
                .region(Region::from_static("us-east-1"))
                .load()
                .await
        };
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .operation_attempt_timeout(CALL_TIMEOUT);
        let builder = self.config.get_or_init(load).await.clone().into_builder();
        let builder = builder.retry_config(RetryConfig::disabled()).timeout_config(timeouts.build());
        match &self.endpoint {
            Some(endpoint) => builder.endpoint_url(endpoint).build(),
            None => builder.build(),
        }
    }

    /// The configuration of whoever holds this key and nothing else, to prove it.
    pub(crate) async fn with_key(&self, region: &str, id: &str, secret: &SecretValue) -> SdkConfig {
        let key = Credentials::new(id, secret.expose(), None, None, "rota");
        let builder = self.base().await.into_builder().region(Region::new(region.to_owned()));
        builder.credentials_provider(SharedCredentialsProvider::new(key)).build()
    }

    /// The configuration for clients of `account`. Makes no call; a role is assumed
    /// at the first use and again before its session ends.
    pub async fn account(&self, account: &AwsAccount) -> SdkConfig {
        let base = self.base().await;
        let region = Region::new(account.region.clone());
        let builder = base.clone().into_builder().region(region.clone());
        let Some(AwsRole { arn, external_id }) = &account.role else { return builder.build() };
        let mut provider =
            AssumeRoleProvider::builder(arn).configure(&base).session_name(SESSION).region(region);
        if let Some(id) = external_id {
            provider = provider.external_id(id);
        }
        let provider = match base.credentials_provider() {
            Some(own) => provider.build_from_provider(own).await,
            None => provider.build().await,
        };
        builder.credentials_provider(SharedCredentialsProvider::new(provider)).build()
    }
}

/// What is wrong with settings that say where and as whom a service is called.
pub(crate) fn account_problems(
    region: Option<&str>,
    assume_role: Option<&str>,
    external_id: Option<&str>,
) -> Vec<KindProblem> {
    let mut problems = Vec::new();
    if region.is_some_and(|region| !is_region(region)) {
        let help = "write `region = \"us-east-1\"`";
        problems.push(KindProblem::error("region", "/region", "this is not a region", help));
    }
    if assume_role.is_some_and(|arn| !is_role(arn)) {
        let help = "write `assume_role = \"arn:aws:iam::123456789012:role/rota\"`";
        problems.push(KindProblem::error(
            "assume-role",
            "/assume_role",
            "this is not the ARN of a role",
            help,
        ));
    }
    if external_id.is_some() && assume_role.is_none() {
        let message = "an external id without a role to assume does nothing";
        let help = "add `assume_role`, or leave `external_id` out";
        problems.push(KindProblem::error("external-id", "/external_id", message, help));
    }
    problems
}

/// The region that the daemon itself is in, where its environment says so.
pub(crate) fn own_region() -> Option<String> {
    REGION_VARIABLES.iter().find_map(|name| std::env::var(name).ok()).filter(|region| is_region(region))
}

/// True for the form of a region: `us-east-1`, `us-gov-west-1`.
pub(crate) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let words = |parts: &[&str]| {
        parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase()))
    };
    matches!(parts.as_slice(), [first, middle @ .., number]
        if first.len() == 2 && !middle.is_empty() && words(&parts[..parts.len() - 1])
            && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// True for the form of a role's ARN.
pub(crate) fn is_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    matches!(parts.as_slice(), ["arn", partition, "iam", "", account, name]
        if partition.starts_with("aws") && account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())
            && name.strip_prefix("role/").is_some_and(|name| !name.is_empty()))
}

/// What a failed call asks for. `what` names service and object in the message; of the
/// service's own text only the error code is shown.
pub fn fault<E>(what: &str, error: &SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if let SdkError::ServiceError(context) = error {
        let status = context.raw().status().as_u16();
        return code_fault(what, context.err().code().unwrap_or("Unknown"), status);
    }
    if let Some(error) = cause::<CredentialsError>(error) {
        return credentials_fault(what, error);
    }
    match error {
        SdkError::ConstructionFailure(_) => Fault::invalid(format!(
            "{what}: the call cannot be built, check the region and the names in the policy"
        )),
        SdkError::TimeoutError(_) => Fault::transient(format!("{what} did not answer in time")),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            Fault::transient(format!("{what} did not answer in time"))
        }
        SdkError::DispatchFailure(_) => Fault::transient(format!(
            "{what} cannot be reached, check the region and the way to its endpoint"
        )),
        _ => Fault::transient(format!("{what} gave an answer that breaks off")),
    }
}

/// What an error code asks for ("Common errors" of the services' API references).
pub(crate) fn code_fault(what: &str, code: &str, status: u16) -> Fault {
    let shown = if code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') { code } else { "Unknown" };
    match code {
        "AccessDenied" | "AccessDeniedException" | "NotAuthorized" | "OptInRequired" => Fault::denied(
            format!("{what}: the role lacks the right ({shown}), add it as the page of this kind shows"),
        ),
        "ExpiredToken"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Fault::denied(format!(
            "{what}: the AWS credentials are not valid (any more) ({shown}), renew them"
        )),
        "RequestExpired" | "RequestTimeTooSkewed" => {
            Fault::denied(format!("{what}: this machine's clock is far off AWS's ({shown}), set it"))
        }
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded" => Fault::RateLimited {
            message: format!("{what}: too many calls ({shown})"),
            retry_after: THROTTLED_FOR,
        },
        // Proxies and gateways refuse without a code of the service.
        _ if matches!(status, 401 | 403) => {
            Fault::denied(format!("{what}: refused ({shown}), check the credentials and their rights"))
        }
        _ if status >= 500 || status == 429 => Fault::transient(format!("{what} is out of order ({shown})")),
        _ => Fault::invalid(format!("{what} does not take the call ({shown})")),
    }
}

/// Why there are no credentials to call with.
pub(crate) fn credentials_fault(what: &str, error: &CredentialsError) -> Fault {
    let role = format!("{what}: the role cannot be assumed");
    if let Some(SdkError::ServiceError(context)) = cause::<SdkError<AssumeRoleError>>(error) {
        return code_fault(&role, context.err().code().unwrap_or("Unknown"), context.raw().status().as_u16());
    }
    if let Some(SdkError::ServiceError(context)) = cause::<SdkError<AssumeRoleWithWebIdentityError>>(error) {
        return code_fault(&role, context.err().code().unwrap_or("Unknown"), context.raw().status().as_u16());
    }
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Fault::denied(format!(
            "{what}: there are no AWS credentials, give the daemon a role, a profile or the AWS_ variables"
        )),
        CredentialsError::InvalidConfiguration(_) => {
            Fault::denied(format!("{what}: the AWS configuration cannot be used, check the profile"))
        }
        _ => Fault::transient(format!("{what}: the AWS credentials cannot be had at the moment")),
    }
}

fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_common_error_names_what_to_do_next() {
        for code in ["AccessDeniedException", "ExpiredTokenException", "InvalidSignatureException"] {
            assert!(matches!(code_fault("it", code, 400), Fault::Denied { .. }), "{code}");
        }
        for code in ["RequestExpired", "UnrecognizedClientException", "OptInRequired"] {
            assert!(matches!(code_fault("it", code, 400), Fault::Denied { .. }), "{code}");
        }
        for code in ["ThrottlingException", "TooManyRequestsException"] {
            assert!(matches!(code_fault("it", code, 400), Fault::RateLimited { .. }), "{code}");
        }
        for code in ["InternalFailure", "InternalServiceError", "ServiceUnavailable"] {
            assert!(matches!(code_fault("it", code, 503), Fault::Transient { .. }), "{code}");
        }
        assert!(matches!(code_fault("it", "Unknown", 403), Fault::Denied { .. }));
        for code in ["ValidationException", "InvalidParameterException", "MalformedQueryString"] {
            assert!(matches!(code_fault("it", code, 400), Fault::Invalid { .. }), "{code}");
        }
    }

    #[test]
    fn a_code_that_is_no_code_is_not_shown() {
        let message = code_fault("it", "hunter2 is not allowed", 400).to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn an_endpoint_is_https_or_on_this_machine() {
        AwsEnvironment::new(Some("http://127.0.0.1:5000")).unwrap();
        for endpoint in ["http://aws.example.com", "http://169.254.169.254", "https://169.254.170.2"] {
            let refused = AwsEnvironment::new(Some(endpoint));
            assert!(matches!(refused, Err(Fault::Invalid { .. })), "{endpoint}");
        }
    }
}
