//! The signed `GetCallerIdentity` request that Vault hands on to STS ("AWS auth method
//! (API)", type `iam`).

use std::collections::BTreeMap;

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sign_request};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rota_core::fault::Fault;
use vaultrs::api::AuthInfo;
use vaultrs::auth::aws;
use vaultrs::client::VaultClient;
use vaultrs::error::ClientError;
use zeroize::Zeroizing;

use crate::aws::{AwsAccount, AwsEnvironment};

/// The only body that Vault hands on.
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The region by which requests to the global endpoint are signed.
const GLOBAL_REGION: &str = "us-east-1";

/// A login that was not sent yet.
pub(super) struct Signed {
    url: String,
    headers: Zeroizing<String>,
}

impl Signed {
    pub(super) async fn log_in(
        &self,
        client: &VaultClient,
        mount: &str,
        role: &str,
    ) -> Result<AuthInfo, ClientError> {
        let (url, headers, body) = (encoded(&self.url), encoded(&self.headers), encoded(BODY));
        aws::iam_login(client, mount, "POST", &url, &headers, &body, Some(role)).await
    }
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Signs a request for the STS endpoint that Vault will ask.
///
/// # Errors
/// [`Fault::Denied`] where there are no credentials.
pub(super) async fn sign(
    environment: &AwsEnvironment,
    sts_region: Option<&str>,
    server_id: Option<&str>,
) -> Result<Signed, Fault> {
    let region = sts_region.unwrap_or(GLOBAL_REGION);
    let config = environment.account(&AwsAccount { region: region.to_owned(), role: None }).await;
    let none = || {
        Fault::denied(
            "there are no AWS credentials to log in to Vault with, give the daemon a role or a profile",
        )
    };
    let provider = config.credentials_provider().ok_or_else(none)?;
    // The provider's own text can name files and answers of endpoints.
    let identity = provider.provide_credentials().await.map_err(|_| none())?.into();
    let clock = config.time_source().ok_or_else(|| Fault::invalid("the AWS configuration has no clock"))?;

    let host = sts_region
        .map_or_else(|| "sts.amazonaws.com".to_owned(), |region| format!("sts.{region}.amazonaws.com"));
    let url = format!("https://{host}/");
    let mut headers: BTreeMap<String, String> = [
        ("host".to_owned(), host),
        ("content-type".to_owned(), "application/x-www-form-urlencoded; charset=utf-8".to_owned()),
    ]
    .into();
    if let Some(id) = server_id {
        headers.insert("x-vault-aws-iam-server-id".to_owned(), id.to_owned());
    }
    let refuse = || Fault::invalid("the login to Vault cannot be signed, check region and server id");
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(clock.now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| refuse())?
        .into();
    let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let request = SignableRequest::new("POST", &url, named, SignableBody::Bytes(BODY.as_bytes()))
        .map_err(|_| refuse())?;
    let (instructions, _) = sign_request(request, &parameters).map_err(|_| refuse())?.into_parts();
    let (signed, _) = instructions.into_parts();
    for header in &signed {
        headers.insert(header.name().to_owned(), header.value().to_owned());
    }
    let lists: BTreeMap<&String, [&String; 1]> =
        headers.iter().map(|(name, value)| (name, [value])).collect();
    let headers = serde_json::to_string(&lists).map_err(|_| refuse())?;
    Ok(Signed { url, headers: Zeroizing::new(headers) })
}
