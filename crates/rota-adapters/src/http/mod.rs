//! The one way in which adapters speak HTTP: a client that verifies TLS, follows
//! no redirect, retries nothing, ends every call, and reaches only addresses
//! that it may.
//!
//! Deliberately absent: proxies (the addresses are judged after the name was
//! resolved here, which a proxy would do elsewhere), cookies, and any knowledge of
//! what is asked. No text of an answer's body ever gets into a message.

mod reach;

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url};
use rota_core::fault::Fault;

pub use reach::{Reach, Refusal};

/// Past this a server that should be near is down or filtered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole call; health endpoints and stores answer in well under a second.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a rate limit does not say how long it lasts.
const DEFAULT_RETRY_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// A server that asks for more is asked again after this all the same.
const MAX_RETRY_AFTER: SignedDuration = SignedDuration::from_hours(1);

const USER_AGENT: &str = concat!("rota/", env!("CARGO_PKG_VERSION"));

/// Whose signature on a server's certificate is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities of the operating system.
    #[default]
    System,
    /// Those and the ones in this PEM text.
    SystemAnd(Vec<u8>),
    /// Only the ones in this PEM text.
    Only(Vec<u8>),
}

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    pub trust: Trust,
    pub reach: Reach,
    pub connect_timeout: Duration,
    /// From the first byte sent to the last byte read.
    pub call_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            trust: Trust::System,
            reach: Reach::default(),
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
        }
    }
}

/// A client; cheap to clone, and clones share its connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
    reach: Arc<Reach>,
}

impl HttpClient {
    /// # Errors
    /// [`Fault::Invalid`] where an authority's PEM text cannot be read or the system
    /// has no authorities.
    pub fn new(options: &HttpOptions) -> Result<Self, Fault> {
        Self::with_lookup(options, Arc::new(|name| Box::pin(system_lookup(name))))
    }

    fn with_lookup(options: &HttpOptions, lookup: Lookup) -> Result<Self, Fault> {
        let reach = Arc::new(options.reach.clone());
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(options.connect_timeout)
            .timeout(options.call_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .dns_resolver(Arc::new(Resolver { reach: Arc::clone(&reach), lookup }));
        let builder = match &options.trust {
            Trust::System => builder,
            Trust::SystemAnd(pem) => builder.tls_certs_merge(authorities(pem)?),
            Trust::Only(pem) => builder.tls_certs_only(authorities(pem)?),
        };
        let client = builder.build().map_err(|_| {
            Fault::invalid(
                "no TLS client can be made, install the system's certificate authorities (ca-certificates)",
            )
        })?;
        Ok(Self { client, reach })
    }

    /// Begins a request.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where `url` may not be called, see [`check_url`].
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, Fault> {
        Ok(self.client.request(method, check_url(url, &self.reach)?))
    }

    /// Sends a request; any status is an answer. `what` names the system in messages.
    ///
    /// # Errors
    /// [`Fault::Transient`] where no answer came, [`Fault::Invalid`] where the name
    /// resolves to addresses that may not be reached.
    pub async fn send(&self, what: &str, request: RequestBuilder) -> Result<Response, Fault> {
        request.send().await.map_err(|error| fault(what, &error))
    }

    /// The client itself, for libraries that bring their own requests. They have to
    /// pass their address through [`check_url`] once: literal addresses are not resolved.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where this client may go.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }
}

/// Parses an address and judges what can be judged before its name is resolved:
/// https, or http to loopback; no credentials inside; no address that may not be reached.
///
/// # Errors
/// [`Fault::Invalid`] with what to write instead.
pub fn check_url(url: &str, reach: &Reach) -> Result<Url, Fault> {
    let url =
        Url::parse(url).map_err(|_| Fault::invalid("the address is not a URL, write https://name/path"))?;
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return Err(Fault::invalid("the address names no host, write https://name/path"));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Fault::invalid(format!(
            "the address of {host} holds credentials, which would be logged by others, pass them as a header"
        )));
    }
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    match url.scheme() {
        "https" => {}
        "http" if literal.map_or_else(|| is_localhost(host), reach::is_loopback) => {}
        "http" => {
            return Err(Fault::invalid(format!(
                "{host} would be called without TLS, write https:// (http:// is for this machine only)"
            )));
        }
        _ => return Err(Fault::invalid(format!("{host} is not called over https, write https://"))),
    }
    if let Some(address) = literal {
        reach.judge(address).map_err(|refusal| Fault::invalid(refusal.to_string()))?;
    }
    Ok(url)
}

fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
}

type Lookup = Arc<
    dyn Fn(String) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync,
>;

async fn system_lookup(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// Resolves a name to those of its addresses that may be reached, so that the
/// connection goes to an address that was judged, whatever the name says next.
struct Resolver {
    reach: Arc<Reach>,
    lookup: Lookup,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, lookup) = (Arc::clone(&self.reach), Arc::clone(&self.lookup));
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = lookup(host.clone()).await?;
            let allowed = reach.allowed(&host, is_localhost(&host), &found)?;
            let addresses: Addrs = Box::new(allowed.into_iter().map(|ip| (ip, 0).into()));
            Ok(addresses)
        })
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, Fault> {
    let certificates = Certificate::from_pem_bundle(pem)
        .map_err(|_| Fault::invalid("the certificate authority's file is not PEM"))?;
    if certificates.is_empty() {
        return Err(Fault::invalid("the certificate authority's file holds no certificate"));
    }
    Ok(certificates)
}

/// Turns a call without an answer into a fault. The library's text is not used: it
/// repeats the address, whose query can hold a token.
#[must_use]
pub fn fault(what: &str, error: &reqwest::Error) -> Fault {
    if let Some(refusal) = cause::<Refusal>(error, |_| true) {
        return Fault::invalid(format!("{what}: {refusal}"));
    }
    if error.is_builder() {
        return Fault::invalid(format!("{what}: the request cannot be built, check its address and headers"));
    }
    let how = if error.is_timeout() {
        "did not answer in time"
    } else if cause::<io::Error>(error, is_tls).is_some() {
        "shows a certificate that is not trusted or not for this name, check the name, its date and the authority"
    } else if error.is_dns() {
        "has a name that cannot be resolved, check its spelling and the DNS"
    } else if error.is_connect() {
        "cannot be reached, check its address and the network"
    } else {
        "broke the call off"
    };
    Fault::transient(format!("{what} {how}"))
}

/// The first cause that is a `T` and pleases `wanted`.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static), wanted: fn(&T) -> bool) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref::<T>().filter(|found| wanted(found)) {
        return Some(found);
    }
    // An io::Error does not name what it carries as its source.
    let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    carried
        .and_then(|carried| cause::<T>(carried, wanted))
        .or_else(|| error.source().and_then(|source| cause::<T>(source, wanted)))
}

/// How rustls reports a handshake that it refused.
fn is_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// What a status that is not a success says about the call, where the system gives
/// statuses their usual meaning (RFC 9110, RFC 6585).
#[must_use]
pub fn status_fault(what: &str, status: StatusCode, headers: &HeaderMap) -> Fault {
    let message = |why: &str| format!("{what} answered {}: {why}", status.as_u16());
    match status.as_u16() {
        401 => Fault::denied(message("the login is not valid (any more)")),
        403 => Fault::denied(message("the login lacks the right")),
        429 => {
            Fault::RateLimited { message: message("asked to slow down"), retry_after: retry_after(headers) }
        }
        408 | 425 | 500..=599 => Fault::transient(message("out of order, the call is tried again")),
        409 | 412 => Fault::conflict(message("something else stands there")),
        404 => Fault::invalid(message("nothing is there, check the address")),
        300..=399 => Fault::invalid(message("it redirects, which is not followed, write the final address")),
        _ => Fault::invalid(message("it does not take the request")),
    }
}

/// How long to wait, from `Retry-After` (RFC 9110, section 10.2.3); at most an hour.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> SignedDuration {
    let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    let wait = text.and_then(|text| match text.parse::<u32>() {
        Ok(seconds) => Some(SignedDuration::from_secs(i64::from(seconds))),
        Err(_) => Some(http_date(text)?.duration_since(date(headers)?)),
    });
    wait.filter(|wait| !wait.is_negative()).unwrap_or(DEFAULT_RETRY_AFTER).min(MAX_RETRY_AFTER)
}

/// The server's clock when it answered, from `Date`.
#[must_use]
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

/// A date as headers have it (RFC 9110, section 5.6.7).
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// [`Fault::Invalid`] where it is longer, [`Fault::Transient`] where it breaks off.
pub async fn read_body(what: &str, mut response: Response, limit: usize) -> Result<Vec<u8>, Fault> {
    let too_long = || Fault::invalid(format!("{what} answers with more than {limit} bytes"));
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(0));
    while let Some(chunk) = response.chunk().await.map_err(|error| fault(what, &error))? {
        if body.len() + chunk.len() > limit {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
