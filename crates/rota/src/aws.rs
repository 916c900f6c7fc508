//! What the daemon itself needs of AWS: the policy's object in S3, and tokens for RDS.
//!
//! Signed by hand (Signature Version 4), since two calls do not pay for two SDKs.
//! Deliberately absent: credentials of our own. They are found as every AWS program
//! finds them: environment, profile, container or instance role.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use reqwest::{Method, StatusCode, Url};
use rota_adapters::http::{HttpClient, read_body, status_fault};
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use rota_postgres::PasswordSource;

use crate::machine;

/// How long an RDS token lives (Amazon RDS user guide, "IAM database authentication").
const TOKEN_LIFE: Duration = Duration::from_mins(15);

/// Credentials and region, found as AWS programs do.
pub(crate) async fn configuration(region: Option<&str>) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    match region {
        Some(region) => loader.region(Region::new(region.to_owned())).load().await,
        None => loader.load().await,
    }
}

async fn credentials(config: &SdkConfig) -> Result<Credentials, Fault> {
    let provider = config.credentials_provider().ok_or_else(|| {
        Fault::denied("there are no AWS credentials; give this process a role or a profile")
    })?;
    // The provider's own text is not repeated: it can name files and answers of endpoints.
    provider.provide_credentials().await.map_err(|_| {
        Fault::denied("no AWS credentials could be had; check the role, the profile or AWS_ACCESS_KEY_ID")
    })
}

fn region(config: &SdkConfig) -> Result<&str, Fault> {
    let region = config.region().map(Region::as_ref);
    region.ok_or_else(|| Fault::invalid("the AWS region is unknown; set aws.region"))
}

/// Reads objects from S3.
pub(crate) struct ObjectReader {
    pub(crate) config: SdkConfig,
    pub(crate) client: HttpClient,
    /// In place of AWS's own.
    pub(crate) endpoint: Option<String>,
}

impl ObjectReader {
    /// The object's bytes (GetObject, Amazon S3 API reference). At most `limit` of them.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where there is no such object, [`Fault::Denied`] where it may
    /// not be read, or a passing fault.
    pub(crate) async fn read(&self, bucket: &str, key: &str, limit: usize) -> Result<Vec<u8>, Fault> {
        let what = "S3";
        let region = region(&self.config)?;
        let url = object_url(self.endpoint.as_deref(), region, bucket, key)?;
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let credentials = credentials(&self.config).await?;
        let signed = signature(credentials, region, "s3", settings, "GET", url.as_str())?;
        let mut request = self.client.request(Method::GET, url.as_str())?;
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        let response = self.client.send(what, request).await?;
        match response.status() {
            StatusCode::OK => read_body(what, response, limit).await,
            StatusCode::NOT_FOUND => Err(Fault::invalid(format!("s3://{bucket}/{key} does not exist"))),
            StatusCode::FORBIDDEN => {
                Err(Fault::denied(format!("s3://{bucket}/{key} may not be read; grant s3:GetObject on it")))
            }
            status => Err(status_fault(what, status, response.headers())),
        }
    }
}

/// Virtual-hosted style, or path style where the name could not be a host's or the
/// endpoint is another.
fn object_url(endpoint: Option<&str>, region: &str, bucket: &str, key: &str) -> Result<Url, Fault> {
    let base = match endpoint {
        Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        None if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    };
    let mut url =
        Url::parse(&base).map_err(|_| Fault::invalid(format!("s3://{bucket} cannot be an address")))?;
    url.path_segments_mut()
        .map_err(|()| Fault::invalid(format!("s3://{bucket} cannot be an address")))?
        .pop_if_empty()
        .extend(key.split('/'));
    Ok(url)
}

/// The headers or the query that sign a request.
struct Signed {
    headers: Vec<(String, String)>,
    query: Vec<(String, String)>,
}

fn signature(
    credentials: Credentials,
    region: &str,
    service: &str,
    settings: SigningSettings,
    method: &str,
    url: &str,
) -> Result<Signed, Fault> {
    // Neither error holds more than the name of a missing part.
    let refuse = || Fault::invalid(format!("a request to {service} cannot be signed"));
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(machine::date())
        .settings(settings)
        .build()
        .map_err(|_| refuse())?
        .into();
    let body = SignableBody::Bytes(&[]);
    let request = SignableRequest::new(method, url, std::iter::empty(), body).map_err(|_| refuse())?;
    let (instructions, _) = sign(request, &parameters).map_err(|_| refuse())?.into_parts();
    let (headers, query) = instructions.into_parts();
    Ok(Signed {
        headers: headers.iter().map(|header| (header.name().to_owned(), header.value().to_owned())).collect(),
        query: query.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect(),
    })
}

/// Makes the tokens that RDS takes for a password.
pub(crate) struct RdsTokens {
    pub(crate) config: SdkConfig,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
}

impl RdsTokens {
    /// Presigns `connect` for the user (Amazon RDS user guide, "Connecting to your DB
    /// instance using IAM authentication").
    fn sign(&self, credentials: Credentials) -> Result<SecretValue, Fault> {
        let Self { host, port, user, .. } = self;
        let mut url = Url::parse(&format!("https://{host}:{port}/"))
            .map_err(|_| Fault::invalid("the database's host is not a name"))?;
        url.query_pairs_mut().append_pair("Action", "connect").append_pair("DBUser", user);
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(TOKEN_LIFE);
        let signed = signature(credentials, region(&self.config)?, "rds-db", settings, "GET", url.as_str())?;
        for (name, value) in &signed.query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let token = url.as_str().strip_prefix("https://").unwrap_or_default().to_owned();
        SecretValue::new(token).map_err(|error| Fault::invalid(error.to_string()))
    }
}

#[async_trait]
impl PasswordSource for RdsTokens {
    async fn password(&self) -> Result<SecretValue, Fault> {
        self.sign(credentials(&self.config).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SdkConfig {
        SdkConfig::builder().region(Region::new("eu-central-1")).build()
    }

    fn key() -> Credentials {
        Credentials::new("AKIDEXAMPLE", "hunter2", None, None, "test")
    }

    #[test]
    fn an_object_has_the_address_that_s3_documents() {
        let url = |endpoint, bucket, key| object_url(endpoint, "eu-west-1", bucket, key).unwrap().to_string();
        assert_eq!(
            url(None, "acd", "rota/policy.toml"),
            "https://acd.s3.eu-west-1.amazonaws.com/rota/policy.toml"
        );
        assert_eq!(url(None, "a.cd", "p"), "https://s3.eu-west-1.amazonaws.com/a.cd/p");
        assert_eq!(
            url(Some("http://127.0.0.1:5000/"), "acd", "a b/c+d"),
            "http://127.0.0.1:5000/acd/a%20b/c+d"
        );
    }

    #[test]
    fn a_database_token_is_a_presigned_connect_without_the_key() {
        let tokens = RdsTokens {
            config: config(),
            host: "db.internal".into(),
            port: 5432,
            user: "rota_daemon".into(),
        };
        let token = tokens.sign(key()).unwrap();
        let text = token.expose();
        assert!(text.starts_with("db.internal:5432/?Action=connect&DBUser=rota_daemon&"), "{text}");
        for part in [
            "X-Amz-Expires=900",
            "X-Amz-Signature=",
            "AKIDEXAMPLE%2F",
            "eu-central-1%2Frds-db%2Faws4_request",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("hunter2"));
    }
}
