//! The server's side of AWS Signature Version 4 ("Create a signed AWS API
//! request"): takes a signed request apart and computes its signature anew.
//!
//! Deliberately absent: presigned URLs and chunked payloads; no client here
//! uses them.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How far a request's time may be from the service's.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(15);

/// A request as it arrived. Header names are in lower case.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// The path, as sent.
    pub path: &'a str,
    /// The query, as sent, without the question mark.
    pub query: &'a str,
    /// All headers.
    pub headers: &'a BTreeMap<String, String>,
    /// The body.
    pub body: &'a [u8],
}

/// What a signature says about itself, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The access key's id.
    pub key_id: String,
    /// The region of the scope.
    pub region: String,
    /// The service of the scope.
    pub service: String,
    /// The names of the headers that it covers.
    pub signed_headers: Vec<String>,
    /// When it was made.
    pub signed_at: Timestamp,
    /// The signature itself, hex.
    pub signature: String,
    date: String,
    moment: String,
}

/// Why a signature is not accepted; the names are AWS's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no `Authorization` header.
    MissingAuthenticationToken,
    /// A header is malformed or a required one is missing or not signed.
    IncompleteSignature,
    /// The signature is another one.
    SignatureDoesNotMatch,
    /// The request is too old or from the future.
    RequestExpired,
}

impl Refused {
    /// AWS's error code.
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::IncompleteSignature => "IncompleteSignatureException",
            Self::SignatureDoesNotMatch => "InvalidSignatureException",
            Self::RequestExpired => "RequestExpired",
        }
    }
}

impl Claim {
    /// Reads the `Authorization` and `X-Amz-Date` headers.
    ///
    /// # Errors
    /// When they are missing or malformed, or the host is not signed.
    pub fn read(request: &Request<'_>) -> Result<Self, Refused> {
        let header = request.headers.get("authorization").ok_or(Refused::MissingAuthenticationToken)?;
        Self::parse(header, request).ok_or(Refused::IncompleteSignature)
    }

    fn parse(header: &str, request: &Request<'_>) -> Option<Self> {
        let parts: BTreeMap<&str, &str> = header
            .strip_prefix(ALGORITHM)?
            .split(',')
            .filter_map(|part| part.trim().split_once('='))
            .collect();
        let scope: Vec<&str> = parts.get("Credential")?.split('/').collect();
        let [key_id, date, region, service, "aws4_request"] = scope[..] else { return None };
        let moment = request.headers.get("x-amz-date")?;
        let signed_at = DateTime::strptime("%Y%m%dT%H%M%SZ", moment).ok()?;
        let signed_at = signed_at.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let signed_headers: Vec<String> = parts.get("SignedHeaders")?.split(';').map(Into::into).collect();
        // AWS requires the host and every x-amz- header to be covered.
        let must_be_signed = |name: &&String| *name == "host" || name.starts_with("x-amz-");
        let all_covered =
            request.headers.keys().filter(must_be_signed).all(|name| signed_headers.contains(name));
        (all_covered && moment.starts_with(date) && signed_headers.contains(&"host".to_owned())).then(|| {
            Self {
                key_id: key_id.to_owned(),
                region: region.to_owned(),
                service: service.to_owned(),
                signed_headers,
                signed_at,
                signature: parts.get("Signature").copied().unwrap_or_default().to_owned(),
                date: date.to_owned(),
                moment: moment.clone(),
            }
        })
    }

    /// Checks the age and the signature.
    ///
    /// # Errors
    /// When it is stale, from the future, or made with another secret or for
    /// another request.
    pub fn verify(&self, request: &Request<'_>, secret: &str, now: Timestamp) -> Result<(), Refused> {
        if now.duration_since(self.signed_at).abs() > TOLERANCE {
            return Err(Refused::RequestExpired);
        }
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let canonical = hex::encode(Sha256::digest(self.canonical(request)?));
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{canonical}", self.moment);
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [self.date.as_str(), &self.region, &self.service, "aws4_request"] {
            key = mac(&key, part.as_bytes());
        }
        let expected = hex::encode(mac(&key, to_sign.as_bytes()));
        if expected == self.signature { Ok(()) } else { Err(Refused::SignatureDoesNotMatch) }
    }

    fn canonical(&self, request: &Request<'_>) -> Result<String, Refused> {
        let mut lines = format!("{}\n{}\n", request.method, request.path);
        let mut pairs: Vec<&str> = request.query.split('&').filter(|pair| !pair.is_empty()).collect();
        pairs.sort_unstable();
        lines.push_str(&pairs.join("&"));
        lines.push('\n');
        for name in &self.signed_headers {
            let value = request.headers.get(name).ok_or(Refused::IncompleteSignature)?;
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            lines.push_str(&format!("{name}:{value}\n"));
        }
        let hash = hex::encode(Sha256::digest(request.body));
        lines.push_str(&format!("\n{}\n{hash}", self.signed_headers.join(";")));
        Ok(lines)
    }
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes a key of any length, so this cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is accepted");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `get-vanilla` case of AWS's published Signature Version 4 test suite.
    fn vanilla() -> BTreeMap<String, String> {
        let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
            ("authorization", authorization),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    #[test]
    fn the_published_test_case_verifies_and_any_change_does_not() {
        let headers = vanilla();
        let request = Request { method: "GET", path: "/", query: "", headers: &headers, body: b"" };
        let claim = Claim::read(&request).unwrap();
        let now = claim.signed_at + SignedDuration::from_mins(14);
        assert_eq!(claim.verify(&request, SECRET, now), Ok(()));
        assert_eq!(claim.verify(&request, "other", now), Err(Refused::SignatureDoesNotMatch));
        let changed = Request { body: b"x", ..request.clone() };
        assert_eq!(claim.verify(&changed, SECRET, now), Err(Refused::SignatureDoesNotMatch));
        for off in [-16, 16] {
            let then = claim.signed_at + SignedDuration::from_mins(off);
            assert_eq!(claim.verify(&request, SECRET, then), Err(Refused::RequestExpired));
        }
    }

    #[test]
    fn a_request_without_a_whole_signature_is_refused() {
        let read = |change: &dyn Fn(&mut BTreeMap<String, String>)| {
            let mut headers = vanilla();
            change(&mut headers);
            Claim::read(&Request { method: "GET", path: "/", query: "", headers: &headers, body: b"" })
        };
        let missing = |headers: &mut BTreeMap<String, String>| drop(headers.remove("authorization"));
        assert_eq!(read(&missing), Err(Refused::MissingAuthenticationToken));
        let undated = |headers: &mut BTreeMap<String, String>| drop(headers.remove("x-amz-date"));
        assert_eq!(read(&undated), Err(Refused::IncompleteSignature));
        let uncovered = |headers: &mut BTreeMap<String, String>| {
            headers.insert("x-amz-security-token".to_owned(), "t".to_owned());
        };
        assert_eq!(read(&uncovered), Err(Refused::IncompleteSignature));
        let basic = |headers: &mut BTreeMap<String, String>| {
            headers.insert("authorization".to_owned(), "Basic eA==".to_owned());
        };
        assert_eq!(read(&basic), Err(Refused::IncompleteSignature));
    }
}
