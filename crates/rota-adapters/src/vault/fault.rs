//! What a failed call to Vault asks for ("HTTP API", "HTTP status codes").
//!
//! vaultrs keeps bodies in its errors; they are looked at for two documented
//! sentences and never shown.

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rustify::errors::ClientError as RestError;
use serde::Deserialize;
use vaultrs::error::ClientError;

use crate::http;

/// vaultrs does not pass `Retry-After` on; quotas count per second as a rule.
const RATE_LIMITED_FOR: SignedDuration = SignedDuration::from_secs(5);

/// The body of Vault's 400 where check-and-set found another version.
const CAS_MISMATCH: &str = "check-and-set parameter did not match";

/// Why a call failed.
pub(crate) enum Failure {
    /// Nothing stands there: no path, no mount that serves it, or a version without data.
    Absent(Option<Gone>),
    /// Check-and-set found another version.
    OtherVersion,
    /// The token is not known, or lacks the right.
    Refused,
    /// All else.
    Fault(Fault),
}

/// A version whose data was deleted or destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Gone {
    pub(crate) version: u64,
    pub(crate) destroyed: bool,
}

impl Failure {
    pub(crate) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::APIError { code, errors } => Self::of_status(*code, Some(errors)),
            ClientError::RestClientError { source } => Self::of_rest(source),
            ClientError::ResponseEmptyError
            | ClientError::ResponseDataEmptyError
            | ClientError::JsonParseError { .. } => Self::Fault(not_vault()),
            _ => Self::Fault(Fault::invalid("the call to Vault cannot be built, check the store's settings")),
        }
    }

    fn of_rest(error: &RestError) -> Self {
        match error {
            RestError::ServerResponseError { code: 404, content } => {
                match content.as_deref().and_then(gone) {
                    Some(gone) => Self::Absent(Some(gone)),
                    None => Self::Fault(not_vault()),
                }
            }
            RestError::ServerResponseError { code, .. } => Self::of_status(*code, None),
            RestError::RequestError { source, .. } => {
                Self::Fault(match source.downcast_ref::<reqwest::Error>() {
                    Some(error) => http::fault("Vault", error),
                    None => Fault::transient("the call to Vault broke off"),
                })
            }
            RestError::ResponseError { .. } => Self::Fault(Fault::transient("Vault's answer broke off")),
            RestError::ResponseParseError { .. } | RestError::ResponseConversionError { .. } => {
                Self::Fault(not_vault())
            }
            _ => Self::Fault(Fault::invalid("the call to Vault cannot be built, check the store's settings")),
        }
    }

    /// `errors` is `None` where the body was not Vault's.
    fn of_status(status: u16, errors: Option<&[String]>) -> Self {
        let says = |text: &str| errors.into_iter().flatten().any(|error| error.contains(text));
        Self::Fault(match status {
            400 if says(CAS_MISMATCH) => return Self::OtherVersion,
            401 | 403 => return Self::Refused,
            404 if says("namespace not found") => Fault::invalid("Vault does not know the namespace"),
            404 if errors.is_some() => return Self::Absent(None),
            300..=399 => Fault::invalid(
                "Vault redirects, which is not followed, name the active node or its load balancer",
            ),
            400 => Fault::invalid("Vault does not take the call (400), check the store's settings"),
            405 => Fault::invalid("Vault has no such call here (405), is the mount a KV version 2?"),
            412 => Fault::transient("this Vault node has not caught up yet (412)"),
            429 => Fault::RateLimited {
                message: "Vault asked to slow down (429)".to_owned(),
                retry_after: RATE_LIMITED_FOR,
            },
            503 => Fault::transient("Vault is sealed or in maintenance (503), unseal it"),
            500..=599 => Fault::transient(format!("Vault is out of order ({status})")),
            413 => Fault::invalid("the value is larger than this Vault takes (413)"),
            _ if errors.is_none() => not_vault(),
            _ => Fault::invalid(format!("Vault does not take the call ({status})")),
        })
    }

    /// The fault, where `what` (a path and a right) was refused or is absent.
    pub(crate) fn fault(self, shown: &str, what: &str) -> Fault {
        match self {
            Self::Refused => Fault::denied(format!(
                "{shown} refuses {what}, give the login the right that the page of this store shows"
            )),
            Self::Absent(_) => Fault::invalid(format!("{shown} has nothing at {what}, check mount and path")),
            Self::OtherVersion => Fault::conflict(format!("{shown} has another version at {what}")),
            Self::Fault(fault) => fault,
        }
    }
}

fn not_vault() -> Fault {
    Fault::invalid("something else than Vault answers, check `vault.address`")
}

/// The version that a 404 with metadata tells of.
fn gone(body: &str) -> Option<Gone> {
    #[derive(Deserialize)]
    struct Envelope {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        metadata: Gone,
    }
    Some(serde_json::from_str::<Envelope>(body).ok()?.data.metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, errors: &[&str]) -> &'static str {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        match Failure::of(&ClientError::APIError { code: status, errors }) {
            Failure::Absent(_) => "absent",
            Failure::OtherVersion => "other version",
            Failure::Refused => "refused",
            Failure::Fault(Fault::Transient { .. }) => "transient",
            Failure::Fault(Fault::RateLimited { .. }) => "rate limited",
            Failure::Fault(Fault::Invalid { .. }) => "invalid",
            Failure::Fault(Fault::Denied { .. } | Fault::Conflict { .. }) => "another",
        }
    }

    #[test]
    fn each_documented_status_names_what_to_do_next() {
        for (status, errors, wanted) in [
            (400, &["check-and-set parameter did not match the current version"][..], "other version"),
            (400, &["missing field"], "invalid"),
            (403, &["permission denied"], "refused"),
            (404, &[], "absent"),
            (404, &["namespace not found"], "invalid"),
            (405, &["unsupported operation"], "invalid"),
            (412, &["required index state not present"], "transient"),
            (413, &[], "invalid"),
            (429, &["rate limit quota exceeded"], "rate limited"),
            (472, &[], "invalid"),
            (500, &["internal error"], "transient"),
            (502, &[], "transient"),
            (503, &["Vault is sealed"], "transient"),
        ] {
            assert_eq!(kind(status, errors), wanted, "{status} {errors:?}");
        }
    }

    #[test]
    fn a_404_of_another_server_is_not_an_absent_value() {
        let of = |content: Option<&str>| {
            let source = RestError::ServerResponseError { code: 404, content: content.map(str::to_owned) };
            Failure::of(&ClientError::RestClientError { source })
        };
        for body in [None, Some(""), Some("<html>hunter2</html>"), Some("{}")] {
            let Failure::Fault(Fault::Invalid { message }) = of(body) else {
                panic!("{body:?} was believed")
            };
            assert!(!message.contains("hunter2"));
        }
        let body = r#"{"data":{"data":null,"metadata":{"version":3,"destroyed":true,"deletion_time":""}}}"#;
        let Failure::Absent(Some(gone)) = of(Some(body)) else { panic!("a destroyed version was not seen") };
        assert_eq!(gone, Gone { version: 3, destroyed: true });
    }
}
