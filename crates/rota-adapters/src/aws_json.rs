//! Signed calls of AWS's JSON protocol, for services of which Rota asks one question: no
//! SDK of theirs is built for that.
//!
//! The credentials are those of [`AwsEnvironment`], the signature is the SDKs' own
//! (Signature Version 4). Of an error only its code is told. Nothing retries by itself.

use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Url};
use rota_core::fault::Fault;
use serde_json::Value;

use crate::aws::{AwsAccount, AwsEnvironment, code_fault, credentials_fault};
use crate::checks::{header_name, header_value};
use crate::http;

/// A page of log events has at most 1 MiB of text; everything else is far smaller.
const MOST_BODY_BYTES: usize = 8 * 1_048_576;

/// A service, as its API reference names it.
pub(crate) struct Service {
    /// In messages.
    pub(crate) name: &'static str,
    /// Of its endpoint and signature.
    pub(crate) host: &'static str,
    /// What stands before an action in `X-Amz-Target`.
    pub(crate) target: &'static str,
    /// `application/x-amz-json-1.0` or `-1.1`.
    pub(crate) content_type: &'static str,
}

/// One service in one account.
pub(crate) struct Caller<'a> {
    pub(crate) aws: &'a AwsEnvironment,
    pub(crate) account: AwsAccount,
    pub(crate) service: &'static Service,
    pub(crate) timeout: Duration,
}

impl Caller<'_> {
    /// Asks for one action.
    ///
    /// # Errors
    /// As the service's error code says; [`Fault::Transient`] where no answer came.
    pub(crate) async fn call(&self, action: &str, question: &Value) -> Result<Value, Fault> {
        let what = format!("{} {action}", self.service.name);
        let client = self.aws.client().await?;
        let url = self.url();
        let body = question.to_string();
        let target = format!("{}.{action}", self.service.target);
        let mut headers = vec![
            (CONTENT_TYPE.as_str().to_owned(), self.service.content_type.to_owned()),
            ("x-amz-target".to_owned(), target),
        ];
        headers.extend(self.signature(&what, &url, &headers, &body).await?);
        let mut request = client.request(Method::POST, &url)?.timeout(self.timeout).body(body);
        for (name, text) in headers {
            // A session token and a signature are among them.
            let name = header_name(&name)?;
            let text = header_value(&name, &text)?;
            request = request.header(name, text);
        }
        let answer = client.send(&what, request).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = http::read_body(&what, answer, MOST_BODY_BYTES).await?;
        let json = serde_json::from_slice::<Value>(&body).ok();
        match (status, json) {
            (200, Some(json)) => Ok(json),
            (200, None) => Err(Fault::transient(format!("{what} answered with something else than JSON"))),
            (_, json) => Err(code_fault(&what, &code(&headers, json.as_ref()), status)),
        }
    }

    fn url(&self) -> String {
        if let Some(endpoint) = self.aws.endpoint() {
            return format!("{}/", endpoint.trim_end_matches('/'));
        }
        let AwsAccount { region, .. } = &self.account;
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://{}.{region}.{suffix}/", self.service.host)
    }

    /// The headers that sign a request.
    async fn signature(
        &self,
        what: &str,
        url: &str,
        headers: &[(String, String)],
        body: &str,
    ) -> Result<Vec<(String, String)>, Fault> {
        let refuse = || Fault::invalid(format!("{what}: the call cannot be signed, check the region"));
        let config = self.aws.account(&self.account).await;
        let provider = config.credentials_provider().ok_or_else(refuse)?;
        let credentials = provider.provide_credentials().await;
        let identity = credentials.map_err(|error| credentials_fault(what, &error))?.into();
        let clock = config.time_source().ok_or_else(refuse)?;
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.account.region)
            .name(self.service.host)
            .time(clock.now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| refuse())?
            .into();
        let host = Url::parse(url).ok().and_then(|url| {
            let host = url.host_str()?.to_owned();
            Some(url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
        });
        let host = ("host".to_owned(), host.ok_or_else(refuse)?);
        let named = headers.iter().chain([&host]).map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new("POST", url, named, SignableBody::Bytes(body.as_bytes()))
            .map_err(|_| refuse())?;
        let (instructions, _) = sign(request, &parameters).map_err(|_| refuse())?.into_parts();
        let (signed, _) = instructions.into_parts();
        Ok(signed.iter().map(|header| (header.name().to_owned(), header.value().to_owned())).collect())
    }
}

/// The error code, without the namespace before it and the address behind it ("AWS JSON
/// protocol", "Operation error serialization").
fn code(headers: &HeaderMap, body: Option<&Value>) -> String {
    let of_header = headers.get("x-amzn-errortype").and_then(|code| code.to_str().ok());
    let of_body = body.and_then(|body| body["__type"].as_str().or_else(|| body["code"].as_str()));
    let code = of_header.or(of_body).unwrap_or("Unknown");
    let code = code.split(':').next().unwrap_or(code);
    code.rsplit('#').next().unwrap_or(code).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_code_is_found_wherever_it_stands() {
        let plain = HeaderMap::new();
        let body =
            json!({ "__type": "com.amazon.coral.service#AccessDeniedException", "message": "hunter2" });
        assert_eq!(code(&plain, Some(&body)), "AccessDeniedException");
        let mut headers = HeaderMap::new();
        headers.insert("x-amzn-errortype", "ThrottlingException:http://internal/".parse().unwrap());
        assert_eq!(code(&headers, Some(&body)), "ThrottlingException");
        assert_eq!(code(&plain, None), "Unknown");
    }
}
