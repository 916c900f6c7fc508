//! One account at a provider, as Rota logs in there: each method is one question or one
//! change, and a change names an exact key.
//!
//! Nothing retries by itself, and nothing of an answer gets into a message.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{RequestBuilder, Url};
use rota_core::fault::Fault;
use rota_core::format::Template;
use rota_core::value::{Bundle, SecretValue};
use rota_engine::ports::Proof;
use serde_json::Value;
use zeroize::Zeroizing;

use super::answer::{self, Answer, is_plain};
use super::catalogue::Provider;
use super::file::{Change, LoginForm, Method, Next, Request, Verify};
use super::lint::{self, ID};
use crate::checks::{basic_login, bearer_login, header_name, header_value};
use crate::http::{self, HttpClient};
use crate::login::{Login, value};

/// One call; a list of a few pages has to fit into the 30 s after which the engine gives up.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A page of keys has some 100 bytes a key.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// More keys than these pages hold are somebody's mistake.
const MOST_PAGES: usize = 50;

/// What addresses and bodies are filled with.
pub(super) type Open<'v> = BTreeMap<&'v str, &'v str>;

/// A key as the provider lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created: Option<Timestamp>,
    pub(super) last_used: Option<Timestamp>,
    pub(super) active: bool,
}

/// A key that was made.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) parts: BTreeMap<String, SecretValue>,
}

/// Names of a key that is to be made.
pub(super) struct Naming<'n> {
    pub(super) name: &'n str,
    pub(super) label: &'n str,
    pub(super) rotation: &'n str,
}

/// An account, and Rota's own login there.
pub(super) struct Account<'a> {
    pub(super) provider: &'a Provider,
    pub(super) client: &'a HttpClient,
    pub(super) base: Url,
    /// What the policy says, with the defaults.
    pub(super) settings: BTreeMap<&'a str, &'a str>,
    pub(super) admin: &'a SecretValue,
}

impl Account<'_> {
    fn doing(&self, what: &str) -> String {
        format!("`{}`, {what},", self.provider.name())
    }

    /// Every key of the account, whoever made it.
    ///
    /// # Errors
    /// As the provider says; [`Fault::Invalid`] for more pages than [`MOST_PAGES`].
    pub(super) async fn list(&self) -> Result<Vec<Key>, Fault> {
        let list = &self.provider.file.list;
        let what = self.doing("listing the keys");
        let first = self.address(&list.request, &self.settings)?;
        let (mut url, mut keys) = (first.clone(), Vec::new());
        for _ in 0..MOST_PAGES {
            let answer = self.ask(&what, &list.request, url.clone(), &self.settings, None).await?;
            if !answer.status.is_success() {
                return Err(self.fault(&what, &answer));
            }
            let page = self.page(&answer).ok_or_else(|| unreadable(&what))?;
            let next = self.next(&what, &answer, &first, page.last())?;
            keys.extend(page);
            match next {
                None => return Ok(keys),
                Some(next) if next == url => return Err(unreadable(&what)),
                Some(next) => url = next,
            }
        }
        Err(Fault::invalid(format!(
            "{what} does not end after {MOST_PAGES} pages; end keys that nobody uses at {}",
            self.provider.file.page
        )))
    }

    fn page(&self, answer: &Answer) -> Option<Vec<Key>> {
        let list = &self.provider.file.list;
        let key = |item: &Value| {
            let active = match &list.active {
                Some(active) => answer::one(&active.path, item)? == &active.equals,
                None => true,
            };
            Some(Key {
                id: answer::id(&list.id, item)?,
                // Keys of others may have none.
                name: answer::one(&list.name, item).and_then(Value::as_str).unwrap_or_default().to_owned(),
                created: list.created.as_ref().and_then(|path| answer::time(path, item)),
                last_used: list.last_used.as_ref().and_then(|path| answer::time(path, item)),
                active,
            })
        };
        answer.items(&list.items)?.iter().map(key).collect()
    }

    /// The next page, which is at the same host: the login goes nowhere else.
    fn next(
        &self,
        what: &str,
        answer: &Answer,
        first: &Url,
        last: Option<&Key>,
    ) -> Result<Option<Url>, Fault> {
        let Some(Next { after, more, address, link }) = &self.provider.file.list.next else {
            return Ok(None);
        };
        let broken = || unreadable(what);
        if let (Some(parameter), Some(more)) = (after, more) {
            let more = answer.json().and_then(|json| answer::one(more, json)).and_then(Value::as_bool);
            if !more.ok_or_else(broken)? {
                return Ok(None);
            }
            let mut url = first.clone();
            url.query_pairs_mut().append_pair(parameter, &last.ok_or_else(broken)?.id);
            return Ok(Some(url));
        }
        let next = match address {
            _ if *link => answer.link(),
            Some(path) => match answer.json().and_then(|json| answer::one(path, json)) {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) if text.is_empty() => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(_) => return Err(broken()),
            },
            None => None,
        };
        let Some(next) = next else { return Ok(None) };
        let url = self.base.join(&next).map_err(|_| broken())?;
        if url.origin() != self.base.origin() {
            return Err(Fault::invalid(format!(
                "{what} continues at another host, where the login is not sent; correct `base` of the provider"
            )));
        }
        Ok(Some(url))
    }

    /// Makes a key, whose secret is shown this once.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where no further key fits; [`Fault::Transient`] where the answer
    /// cannot be read: the key is found by its name then.
    pub(super) async fn create(&self, naming: &Naming<'_>) -> Result<Made, Fault> {
        let create = &self.provider.file.create;
        let what = self.doing("creating a key");
        let mut open = self.settings.clone();
        open.extend([("name", naming.name), ("label", naming.label), ("rotation", naming.rotation)]);
        let url = self.address(&create.request, &open)?;
        let answer = self.ask(&what, &create.request, url, &open, None).await?;
        if answer.fits_any(&self.provider.file.meaning.quota) {
            return Err(Fault::invalid(format!(
                "{what} says that no further key fits; end one that nobody uses at {}",
                self.provider.file.page
            )));
        }
        if !answer.is(&create.done) {
            return Err(self.fault(&what, &answer));
        }
        let made = || {
            let json = answer.json()?;
            let part = |(name, path)| Some((String::clone(name), answer::secret(path, json)?));
            let parts = create.parts.iter().map(part).collect::<Option<_>>()?;
            Some(Made { id: answer::id(&create.id, json)?, parts })
        };
        made().ok_or_else(|| unreadable(&what))
    }

    /// Ends exactly this key. One that is gone is ended.
    ///
    /// # Errors
    /// As the provider says.
    pub(super) async fn revoke(&self, id: &str) -> Result<(), Fault> {
        self.change(&format!("ending key {id}"), &self.provider.file.revoke, id, true).await
    }

    /// Lets exactly this key be used, or not. May be repeated.
    ///
    /// # Errors
    /// As the provider says; [`Fault::Invalid`] where it has no such call.
    pub(super) async fn set_active(&self, id: &str, active: bool) -> Result<(), Fault> {
        let file = &self.provider.file;
        let change = if active { &file.enable } else { &file.disable };
        let change = change.as_ref().ok_or_else(|| {
            Fault::invalid(format!("keys of `{}` cannot be refused for a while", self.provider.name()))
        })?;
        self.change(&format!("changing key {id}"), change, id, !active).await
    }

    async fn change(&self, doing: &str, change: &Change, id: &str, may_be_gone: bool) -> Result<(), Fault> {
        let what = self.doing(doing);
        let mut open = self.settings.clone();
        open.insert(ID, id);
        let url = self.address(&change.request, &open)?;
        let answer = self.ask(&what, &change.request, url, &open, None).await?;
        if answer.is(&change.done) || (may_be_gone && self.is_gone(&answer)) {
            return Ok(());
        }
        Err(self.fault(&what, &answer))
    }

    fn is_gone(&self, answer: &Answer) -> bool {
        answer.is(&[404, 410]) || answer.fits_any(&self.provider.file.meaning.gone)
    }

    /// Uses a key as consumers do, or asks after it where nothing can be tried.
    ///
    /// # Errors
    /// Where the answer says nothing about the key.
    pub(super) async fn verify(&self, id: &str, parts: &Bundle) -> Result<Proof, Fault> {
        let Verify { request, login, accepted, refused } = &self.provider.file.verify;
        let what = self.doing(&format!("using key {id}"));
        let mut open = self.settings.clone();
        open.insert(ID, id);
        let url = self.address(request, &open)?;
        let own = login.as_ref().map(|login| (login, parts));
        let answer = self.ask(&what, request, url, &open, own).await?;
        let status = answer.status.as_u16();
        if answer.fits_any(accepted) {
            return Ok(Proof::Accepted);
        }
        if answer.fits_any(refused) {
            let detail = format!("`{}` answers {status} to key {id}", self.provider.name());
            return Ok(Proof::Refused { detail });
        }
        match self.fault(&what, &answer) {
            fault if fault.passes_by_itself() => Err(fault),
            // Neither yes nor no: the step's deadline asks a person.
            _ => Err(Fault::transient(format!("{what} was answered {status}, which says nothing about it"))),
        }
    }

    /// Why a call of Rota's own login failed.
    fn fault(&self, what: &str, answer: &Answer) -> Fault {
        let meaning = &self.provider.file.meaning;
        if answer.fits_any(&meaning.not_yet) {
            return Fault::transient(format!("{what} is not possible yet"));
        }
        if answer.fits_any(&meaning.denied) {
            return Fault::denied(format!("{what}: the login at `admin` is not valid or lacks the right"));
        }
        answer.fault(what)
    }

    fn address(&self, request: &Request, open: &Open<'_>) -> Result<Url, Fault> {
        let unfit = |hole: &str| {
            Fault::invalid(format!(
                "`{hole}` would not stand in an address of `{}` as it is; correct `with` of the policy",
                self.provider.name()
            ))
        };
        if let Some(hole) =
            request.path.holes().into_iter().find(|hole| !open.get(hole).is_some_and(|text| is_plain(text)))
        {
            return Err(unfit(hole));
        }
        let path = request.path.fill_text(open).map_err(|error| Fault::invalid(error.to_string()))?;
        let mut url = self.base.clone();
        url.set_path(&path);
        let pairs: Vec<(&String, String)> = texts(&request.query, open).collect();
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Ok(url)
    }

    /// One call, as Rota or with a key's own parts.
    async fn ask(
        &self,
        what: &str,
        request: &Request,
        url: Url,
        open: &Open<'_>,
        own: Option<(&LoginForm, &Bundle)>,
    ) -> Result<Answer, Fault> {
        let builder = self.client.request(method(request.method), url.as_str())?.timeout(CALL_TIMEOUT);
        let mut builder = builder.header(ACCEPT, "application/json");
        for (name, text) in texts(&request.headers, open) {
            builder = builder.header(name.as_str(), text);
        }
        if let Some(json) = &request.json {
            builder = builder.json(&filled(json, open));
        }
        if let Some(form) = &request.form {
            builder = builder
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(encoded(self.base.clone(), texts(form, open)));
        }
        let builder = match own {
            Some((login, parts)) => log_in(builder, login, &self.secrets(parts)?)?,
            None => log_in(builder, &self.provider.file.login, &self.admin_secrets()?)?,
        };
        let response = self.client.send(what, builder).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = Zeroizing::new(http::read_body(what, response, MAX_BODY_BYTES).await?);
        Ok(Answer::new(status, headers, &body))
    }

    /// The parts of a key and what the policy says, for its login.
    fn secrets(&self, parts: &Bundle) -> Result<BTreeMap<String, SecretValue>, Fault> {
        let mut all = self.open_values()?;
        all.extend(parts.iter().map(|(name, part)| (name.as_str().to_owned(), part.duplicate())));
        Ok(all)
    }

    fn admin_secrets(&self) -> Result<BTreeMap<String, SecretValue>, Fault> {
        let mut all = self.open_values()?;
        if wants_a_pair(&self.provider.file.login) {
            let login = Login::of_admin(self.admin, "https://USERNAME:PASSWORD@host")?;
            all.insert("username".to_owned(), value(login.username)?);
            all.insert("password".to_owned(), login.password);
        }
        all.insert("admin".to_owned(), self.admin.duplicate());
        Ok(all)
    }

    fn open_values(&self) -> Result<BTreeMap<String, SecretValue>, Fault> {
        self.settings
            .iter()
            .map(|(name, text)| Ok(((*name).to_owned(), value((*text).to_owned())?)))
            .collect()
    }
}

/// Nothing of the answer stands in it.
fn unreadable(what: &str) -> Fault {
    Fault::transient(format!("{what} was answered in a form that the provider's file does not describe"))
}

/// True where the stored login is a user name and a password.
fn wants_a_pair(login: &LoginForm) -> bool {
    matches!(login, LoginForm::Basic { password, .. } if password.holes().contains("password"))
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}

/// What the templates come to; one that an optional setting would fill is left out.
fn texts<'t>(
    templates: &'t BTreeMap<String, Template>,
    open: &'t Open<'_>,
) -> impl Iterator<Item = (&'t String, String)> {
    templates.iter().filter_map(|(name, template)| Some((name, template.fill_text(open).ok()?)))
}

/// A body with its texts filled, without those that an optional setting would fill.
fn filled(json: &Value, open: &Open<'_>) -> Value {
    fn fill(json: &Value, open: &Open<'_>) -> Option<Value> {
        Some(match json {
            Value::String(text) => Value::String(text.parse::<Template>().ok()?.fill_text(open).ok()?),
            Value::Array(items) => items.iter().filter_map(|item| fill(item, open)).collect(),
            Value::Object(table) => {
                let entry = |(name, inner): (&String, &Value)| Some((name.clone(), fill(inner, open)?));
                Value::Object(table.iter().filter_map(entry).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => json.clone(),
        })
    }
    fill(json, open).unwrap_or_default()
}

/// The body of a form (WHATWG URL, section 5), written as the query of any address.
fn encoded<'t>(mut address: Url, pairs: impl Iterator<Item = (&'t String, String)>) -> String {
    address.query_pairs_mut().extend_pairs(pairs);
    address.query().unwrap_or_default().to_owned()
}

fn log_in(
    builder: RequestBuilder,
    login: &LoginForm,
    known: &BTreeMap<String, SecretValue>,
) -> Result<RequestBuilder, Fault> {
    let known: BTreeMap<&str, &SecretValue> =
        known.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let fill = |template: &Template| {
        template
            .fill(&known)
            .map_err(|_| Fault::invalid("the login lacks a part; add it to a published template"))
    };
    let (name, text) = match login {
        LoginForm::Bearer(token) => (AUTHORIZATION, bearer_login(fill(token)?.expose())?),
        LoginForm::Basic { username, password } => {
            (AUTHORIZATION, basic_login(fill(username)?.expose(), fill(password)?.expose())?)
        }
        LoginForm::Header { name, value } => {
            let name = header_name(name)?;
            let text = header_value(&name, fill(value)?.expose())?;
            (name, text)
        }
    };
    Ok(builder.header(name, text))
}

/// The base of calls to `region`.
///
/// # Errors
/// [`Fault::Invalid`] where the provider has no such region.
pub(super) fn base(provider: &Provider, region: Option<&str>) -> Result<Url, Fault> {
    let file = &provider.file;
    let base = match region {
        None => &file.base,
        Some(region) => file.regions.get(region).ok_or_else(|| {
            Fault::invalid(format!("`{}` has no region `{region}`; correct `region`", file.name))
        })?,
    };
    lint::base_of(base).map_err(Fault::invalid)
}
