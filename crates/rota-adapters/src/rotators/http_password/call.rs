//! One declared call: an address, headers, a login, a body with holes, and what its status
//! means.
//!
//! A password stands in the body or in the `Authorization` header, never in an address,
//! which others log. Bodies of answers are not read, so that nothing of them is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use rota_core::fault::Fault;
use rota_core::format::Template;
use rota_core::policy::kinds::KindProblem;
use rota_core::value::SecretValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::{Body, Parts};
use crate::checks::http::Expect;
use crate::checks::{
    address_problem, basic_login, bearer_login, header_name, header_problems, header_value, status_problem,
};
use crate::http::HttpClient;
use crate::login::Login;

/// What an address may be filled with.
pub(super) const OF_ADDRESSES: [&str; 2] = ["username", "id"];

/// The method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
}

/// How a call says who makes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// User name and password (RFC 7617).
    #[default]
    Basic,
    /// What is kept at `admin`, as a token (RFC 6750).
    Bearer,
    /// Not at all, or by the body.
    None,
}

/// `{ method = "PUT", url = "https://registry.internal/api/users/ci/password", body = { password = "{password}" } }`
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallSettings {
    /// `GET`, `POST`, `PUT` or `PATCH`; without it `GET`, and `POST` with a body.
    pub method: Option<Verb>,
    /// Where; https, or http to this machine. May hold `{username:url}` and `{id}`.
    pub url: String,
    /// Headers, without credentials.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
    /// `basic`, `bearer` or `none`. `basic` without it; `none` for a `login` with a body.
    pub auth: Option<Auth>,
    /// A table becomes JSON, a text is sent as it is; texts hold `{password}` and the like.
    pub body: Option<Value>,
    /// The status or statuses of success; 200 without it.
    #[serde(default)]
    pub expect: Expect,
}

impl CallSettings {
    pub(super) fn auth(&self) -> Auth {
        self.auth.unwrap_or_default()
    }

    /// What is wrong with the call at `pointer`, whose body may hold `parts`.
    pub(super) fn problems(&self, pointer: &str, parts: &[&str]) -> Vec<KindProblem> {
        let mut problems: Vec<KindProblem> = Vec::new();
        problems.extend(self.address_problem(&format!("{pointer}/url")));
        problems.extend(header_problems(&format!("{pointer}/header"), &self.header));
        problems.extend(status_problem(&format!("{pointer}/expect"), &self.expect));
        let holes = self.body.as_ref().map(|body| Body::parse(body).map(|body| body.holes()));
        let at = format!("{pointer}/body");
        match holes {
            Some(Err(why)) => {
                let help = "write texts such as `\"{password}\"`, and `{{` for a brace";
                problems.push(KindProblem::error("body", at, why, help));
            }
            Some(Ok(holes)) => problems.extend(unknown(&at, &holes, parts)),
            None => {}
        }
        problems
    }

    fn address_problem(&self, pointer: &str) -> Option<KindProblem> {
        let template: Template = match self.url.parse() {
            Ok(template) => template,
            Err(why) => {
                let help = "write https://name/path; `{username:url}` is the user's name";
                return Some(KindProblem::error("address", pointer, format!("{why}"), help));
            }
        };
        let holes = template.holes();
        if holes.contains("password") || holes.contains("current") {
            return Some(KindProblem::error(
                "value-in-address",
                pointer,
                "the password would stand in an address, which others log",
                "put it into `body`, or leave it to `auth`",
            ));
        }
        unknown(pointer, &holes.iter().map(|hole| (*hole).to_owned()).collect(), &OF_ADDRESSES).or_else(
            || {
                address_problem(
                    pointer,
                    &template.fill_text(&OF_ADDRESSES.map(|name| (name, "x")).into()).ok()?,
                )
            },
        )
    }
}

fn unknown(pointer: &str, holes: &BTreeSet<String>, known: &[&str]) -> Option<KindProblem> {
    let hole = holes.iter().find(|hole| !known.contains(&hole.as_str()))?;
    let all: Vec<String> = known.iter().map(|part| format!("`{{{part}}}`")).collect();
    let help = format!("write one of {}", all.join(", "));
    Some(KindProblem::error("hole", pointer, format!("nothing fills `{{{hole}}}`"), help))
}

/// Who makes a call.
pub(super) enum Caller<'a> {
    Login(&'a Login),
    Token(&'a SecretValue),
}

/// A call that can be made.
pub(super) struct Call {
    method: Method,
    url: Template,
    headers: Vec<(HeaderName, HeaderValue)>,
    auth: Auth,
    body: Option<Body>,
    pub(super) expect: Expect,
}

impl Call {
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit.
    pub(super) fn new(settings: &CallSettings, auth: Auth) -> Result<Self, Fault> {
        let method = match (settings.method, &settings.body) {
            (Some(Verb::Get), _) | (None, None) => Method::GET,
            (Some(Verb::Post), _) | (None, Some(_)) => Method::POST,
            (Some(Verb::Put), _) => Method::PUT,
            (Some(Verb::Patch), _) => Method::PATCH,
        };
        let header = |(name, text): (&String, &String)| {
            let name = header_name(name)?;
            let text = header_value(&name, text)?;
            Ok((name, text))
        };
        Ok(Self {
            method,
            url: settings.url.parse().map_err(|why| Fault::invalid(format!("the address: {why}")))?,
            headers: settings.header.iter().map(header).collect::<Result<_, Fault>>()?,
            auth,
            body: settings.body.as_ref().map(Body::parse).transpose().map_err(Fault::invalid)?,
            expect: settings.expect.clone(),
        })
    }

    /// Makes the call; any status is an answer. `what` names the service in messages.
    ///
    /// # Errors
    /// [`Fault::Transient`] where no answer came; [`Fault::Invalid`] where the call cannot be made.
    pub(super) async fn make(
        &self,
        what: &str,
        http: &HttpClient,
        timeout: Duration,
        caller: &Caller<'_>,
        parts: &Parts<'_>,
    ) -> Result<Response, Fault> {
        let shown = parts.shown();
        let url = self.url.fill_text(&shown).map_err(|why| Fault::invalid(format!("the address: {why}")))?;
        let mut request = http.request(self.method.clone(), &url)?.timeout(timeout);
        for (name, text) in &self.headers {
            request = request.header(name, text);
        }
        match (self.auth, caller) {
            (Auth::None, _) => {}
            (Auth::Basic, Caller::Login(login)) => {
                request =
                    request.header(AUTHORIZATION, basic_login(&login.username, login.password.expose())?);
            }
            (Auth::Bearer, Caller::Token(token)) => {
                request = request.header(AUTHORIZATION, bearer_login(token.expose().trim())?);
            }
            (Auth::Basic, Caller::Token(_)) | (Auth::Bearer, Caller::Login(_)) => {
                return Err(Fault::invalid("`auth` does not fit what is kept at `admin`"));
            }
        }
        if let Some(body) = &self.body {
            if !self.headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
                request = request.header(CONTENT_TYPE, body.media_type());
            }
            request = request.body(body.fill(parts)?);
        }
        http.send(what, request).await
    }
}
