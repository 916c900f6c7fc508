//! The request that a check makes: an address, headers, and a credential that is
//! read at each look.
//!
//! The value of `prove` stands in headers only. An address ends up in the logs of
//! proxies and servers, so it never holds a value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use rota_core::fault::Fault;
use rota_core::policy::kinds::{KindContext, KindProblem};
use rota_core::value::SecretValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::credential::{Credentials, Reference};
use crate::http::{self, HttpClient, Reach};

/// Where the value to be proven goes.
const HOLE: &str = "{value}";

/// Headers whose text is a credential.
const SECRET_HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token", "x-vault-token"];

/// `basic = { username = "...", password = "..." }` (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Basic {
    /// The user's name; `{value}` is the value to be proven.
    username: String,
    /// Where the password is kept (`store:path#field`), or `{value}`.
    password: String,
}

/// The part of a check's settings that makes its request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) url: String,
    pub(super) header: BTreeMap<String, String>,
    /// Headers whose text is kept in a store.
    pub(super) header_from: BTreeMap<String, Reference>,
    pub(super) bearer: Option<String>,
    pub(super) basic: Option<Basic>,
}

/// What a check needs to make its request.
#[derive(Clone)]
pub(super) struct Requester {
    pub(super) http: HttpClient,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) timeout: Duration,
}

impl Requester {
    /// Makes the request that `recipe` describes, with `value` in its holes.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the recipe does not fit; what reading a credential says.
    pub(super) async fn request(
        &self,
        method: Method,
        recipe: &Recipe,
        value: Option<&SecretValue>,
    ) -> Result<RequestBuilder, Fault> {
        let mut request = self.http.request(method, &recipe.url)?.timeout(self.timeout);
        for (name, template) in &recipe.header {
            let name = header_name(name)?;
            let text = header_value(&name, &fill(template, value)?)?;
            request = request.header(name, text);
        }
        for (name, reference) in &recipe.header_from {
            let name = header_name(name)?;
            let text = header_value(&name, self.credentials.read(reference).await?.expose())?;
            request = request.header(name, text);
        }
        if let Some(bearer) = &recipe.bearer {
            let login = bearer_login(&self.credential(bearer, value).await?)?;
            request = request.header(AUTHORIZATION, login);
        }
        if let Some(basic) = &recipe.basic {
            let password = self.credential(&basic.password, value).await?;
            let login = basic_login(&fill(&basic.username, value)?, &password)?;
            request = request.header(AUTHORIZATION, login);
        }
        Ok(request)
    }

    async fn credential(
        &self,
        written: &str,
        value: Option<&SecretValue>,
    ) -> Result<Zeroizing<String>, Fault> {
        if written.contains(HOLE) {
            return fill(written, value);
        }
        let reference =
            Reference::try_from(written.to_owned()).map_err(|why| Fault::invalid(why.to_string()))?;
        let read = self.credentials.read(&reference).await?;
        Ok(Zeroizing::new(read.expose().to_owned()))
    }
}

fn fill(template: &str, value: Option<&SecretValue>) -> Result<Zeroizing<String>, Fault> {
    let holes = template.matches(HOLE).count();
    if holes == 0 {
        return Ok(Zeroizing::new(template.to_owned()));
    }
    let value = value.ok_or_else(|| {
        Fault::invalid(format!("`{HOLE}` has a meaning only in `prove`, where there is a value to be used"))
    })?;
    // Room for all of it at once: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(template.len() + holes * value.byte_len()));
    for (place, piece) in template.split(HOLE).enumerate() {
        if place > 0 {
            text.push_str(value.expose());
        }
        text.push_str(piece);
    }
    Ok(text)
}

/// The text of `Authorization` for a user name and a password (RFC 7617).
///
/// # Errors
/// [`Fault::Invalid`] where a header cannot hold it.
pub(crate) fn basic_login(username: &str, password: &str) -> Result<HeaderValue, Fault> {
    let pair = Zeroizing::new(format!("{username}:{password}"));
    let coded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    header_value(&AUTHORIZATION, &Zeroizing::new(format!("Basic {}", *coded)))
}

/// The text of `Authorization` for a bearer token (RFC 6750, section 2.1).
///
/// # Errors
/// [`Fault::Invalid`] where a header cannot hold it.
pub(crate) fn bearer_login(token: &str) -> Result<HeaderValue, Fault> {
    header_value(&AUTHORIZATION, &Zeroizing::new(format!("Bearer {token}")))
}

pub(crate) fn header_name(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::try_from(name).map_err(|_| Fault::invalid(format!("`{name}` is not a header's name")))
}

pub(crate) fn header_value(name: &HeaderName, text: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        Fault::invalid(format!("the header `{name}` would hold characters that a header cannot"))
    })?;
    // Keeps it out of the HTTP libraries' own output.
    value.set_sensitive(true);
    Ok(value)
}

impl Recipe {
    /// What is wrong with it as settings.
    pub(super) fn problems(&self, context: &KindContext<'_>) -> Vec<KindProblem> {
        let mut problems: Vec<KindProblem> = self.address_problem().into_iter().collect();
        problems.extend(header_problems("/header", &self.header));
        for (name, reference) in &self.header_from {
            let pointer = pointer_to("/header_from", name);
            problems.extend(header_problem(&pointer, name));
            problems.extend(reference_problem(&pointer, &reference.to_string(), context));
        }
        if self.bearer.is_some() && self.basic.is_some() {
            problems.push(KindProblem::error(
                "two-logins",
                "/basic",
                "`bearer` and `basic` exclude each other",
                "keep one of them",
            ));
        }
        let kept = [
            ("/bearer", self.bearer.as_deref()),
            ("/basic/password", self.basic.as_ref().map(|basic| basic.password.as_str())),
        ];
        for (pointer, written) in kept {
            let written = written.filter(|written| !written.contains(HOLE));
            problems.extend(written.and_then(|written| reference_problem(pointer, written, context)));
        }
        problems
    }

    fn address_problem(&self) -> Option<KindProblem> {
        if self.url.contains(HOLE) {
            return Some(KindProblem::error(
                "value-in-address",
                "/url",
                "the value would stand in an address, which others log",
                "put `{value}` into `header`, `bearer` or `basic`",
            ));
        }
        address_problem("/url", &self.url)
    }
}

fn pointer_to(table: &str, name: &str) -> String {
    format!("{table}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// What is wrong with headers whose text stands in the policy, in the table at `pointer`.
pub(crate) fn header_problems(pointer: &str, headers: &BTreeMap<String, String>) -> Vec<KindProblem> {
    let problem = |(name, template): (&String, &String)| {
        let pointer = pointer_to(pointer, name);
        header_problem(&pointer, name).or_else(|| literal_problem(&pointer, name, template))
    };
    headers.iter().filter_map(problem).collect()
}

fn header_problem(pointer: &str, name: &str) -> Option<KindProblem> {
    HeaderName::try_from(name).is_err().then(|| {
        KindProblem::error(
            "header",
            pointer,
            "this is not a header's name",
            "write a name such as `x-tenant`",
        )
    })
}

fn literal_problem(pointer: &str, name: &str, template: &str) -> Option<KindProblem> {
    let secret = SECRET_HEADERS.contains(&name.to_lowercase().as_str());
    (secret && !template.contains(HOLE)).then(|| {
        KindProblem::error(
            "secret-in-policy",
            pointer,
            "this header holds a credential, which does not belong into a policy",
            "keep it in a store and write `header_from = { NAME = \"store:path\" }` or `bearer = \"store:path\"`",
        )
    })
}

/// What is wrong with an address; which private networks may be reached is the
/// daemon's own configuration and judged at the call.
pub(crate) fn address_problem(pointer: &str, url: &str) -> Option<KindProblem> {
    let fault = http::check_url(url, &Reach::private_too()).err()?;
    Some(KindProblem::error("address", pointer, fault.to_string(), "write https://name/path"))
}

/// What is wrong with a reference to a credential.
pub(crate) fn reference_problem(
    pointer: &str,
    written: &str,
    context: &KindContext<'_>,
) -> Option<KindProblem> {
    match Reference::try_from(written.to_owned()) {
        Err(_) => Some(KindProblem::error(
            "reference",
            pointer,
            "this does not say where a credential is kept",
            "write `store:path` or `store:path#field`; the credential itself does not belong into a policy",
        )),
        Ok(reference) if !context.stores.contains_key(&reference.store) => Some(KindProblem::error(
            "reference",
            pointer,
            format!("no store is called `{}`", reference.store),
            "name one of the policy's stores before the colon",
        )),
        Ok(_) => None,
    }
}
