//! What is wrong with a provider's file that its form does not tell.

use std::collections::BTreeSet;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use rota_core::format::Template;
use rota_core::id::FieldName;
use serde_json::Value;

use super::file::{Change, LoginForm, Method, Next, ProviderFile, Request, Rule};
use crate::http::{self, Reach};

/// What Rota's own login is filled with.
const ADMIN: [&str; 3] = ["admin", "username", "password"];
/// What a key is made with.
const NAMING: [&str; 3] = ["name", "label", "rotation"];
/// The provider's own name of a key.
pub(super) const ID: &str = "id";

/// Something wrong, with the key that it stands at and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{place}`: {message}; {help}")]
pub struct Problem {
    pub place: String,
    pub message: String,
    pub help: String,
}

/// Everything that is wrong with `file`.
#[must_use]
pub fn problems(file: &ProviderFile) -> Vec<Problem> {
    let mut lint = Lint { problems: Vec::new() };
    lint.head(file);
    lint.names(file);
    lint.calls(file);
    lint.verify(file);
    lint.list(file);
    lint.meaning(file);
    lint.problems
}

/// What may fill the templates of a place, and which of it is secret.
struct Known<'f> {
    open: BTreeSet<&'f str>,
    secret: BTreeSet<&'f str>,
}

impl<'f> Known<'f> {
    fn of(file: &'f ProviderFile, others: &[&'f str]) -> Self {
        let open = file.settings.keys().map(String::as_str).chain(others.iter().copied());
        Self { open: open.collect(), secret: BTreeSet::new() }
    }

    fn with_secrets(mut self, secret: impl Iterator<Item = &'f str>) -> Self {
        self.secret = secret.collect();
        self
    }
}

struct Lint {
    problems: Vec<Problem>,
}

impl Lint {
    fn add(&mut self, place: &str, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { place: place.to_owned(), message: message.into(), help: help.into() });
    }

    fn head(&mut self, file: &ProviderFile) {
        if !is_word(&file.name) {
            self.add("name", "this is not a name", "write lower-case letters, digits and `-`");
        }
        if file.sources.is_empty() {
            self.add("sources", "nothing says where this was taken from", "name the provider's reference");
        }
        let bases = file.regions.iter().map(|(name, base)| (format!("regions.{name}"), base));
        for (place, base) in bases.chain([("base".to_owned(), &file.base)]) {
            if let Err(why) = base_of(base) {
                self.add(&place, why, "write `https://api.example.com`, without a path");
            }
        }
        if let Err(fault) = http::check_url(&file.page, &Reach::private_too()) {
            self.add("page", fault.to_string(), "write the page on which a person sees the keys");
        }
        if file.limits.name_length == 0 || file.limits.max_keys.is_some_and(|most| most < 2) {
            self.add(
                "limits",
                "two keys with a name each have to fit",
                "with `max_keys = 1` there is no overlap; leave it out and say `overlap = false`",
            );
        }
        for (name, setting) in &file.settings {
            let place = format!("settings.{name}");
            if !is_setting(name) || ADMIN.contains(&name.as_str()) || NAMING.contains(&name.as_str()) {
                self.add(&place, "a setting cannot be called so", "write another name of letters and `_`");
            }
            let fits = |word: &String| setting.values.is_empty() || setting.values.contains(word);
            if !setting.default.iter().all(fits) || (setting.default.is_some() && setting.optional) {
                self.add(&place, "its default does not fit", "write one of `values`, or leave it out");
            }
        }
    }

    fn names(&mut self, file: &ProviderFile) {
        if let Some(name) = &file.key_name
            && !name.holes().contains("rotation")
        {
            self.add("key_name", "a key could not be found by its rotation", "add `{rotation}`");
        }
        if let Some(name) = &file.key_name {
            self.template("key_name", name, &Known::of(file, &["label", "rotation"]));
        }
        for name in file.create.parts.keys() {
            let place = format!("create.parts.{name}");
            if FieldName::new(name).is_err() || name == ID || file.settings.contains_key(name) {
                self.add(&place, "a part cannot be called so", "write another name, such as `secret`");
            }
        }
        if file.create.parts.is_empty() {
            self.add("create.parts", "consumers would read nothing", "add `secret = \"$...\"`");
        }
        let Some(id_in) = &file.create.id_in else { return };
        if !file.create.parts.contains_key(&id_in.part) {
            self.add("create.id_in.part", "there is no such part", "name one of `create.parts`");
        }
        if !id_in.template.holes().contains(ID) {
            self.add("create.id_in.template", "the id is not in it", "add `{id}` where it stands");
        }
    }

    fn calls(&mut self, file: &ProviderFile) {
        let login = Known::of(file, &[]).with_secrets(ADMIN.into_iter());
        self.login("login", &file.login, &login);
        self.request("create.request", &file.create.request, &Known::of(file, &NAMING));
        if file.create.request.method == Method::Get {
            self.add("create.request.method", "a read makes nothing", "write `POST`");
        }
        self.request("list.request", &file.list.request, &Known::of(file, &[]));
        if file.list.request.method != Method::Get {
            self.add("list.request.method", "a list is read", "write `GET`");
        }
        self.statuses("create.done", &file.create.done);
        self.change("revoke", &file.revoke, file);
        match (&file.disable, &file.enable, &file.list.active) {
            (Some(disable), Some(enable), Some(_)) => {
                self.change("disable", disable, file);
                self.change("enable", enable, file);
            }
            (None, None, _) => {}
            _ => self.add(
                "disable",
                "a key that is refused for a while has to be seen and taken back",
                "write `disable`, `enable` and `list.active`, or none of the two",
            ),
        }
    }

    fn change(&mut self, place: &str, change: &Change, file: &ProviderFile) {
        let request = format!("{place}.request");
        self.request(&request, &change.request, &Known::of(file, &[ID]));
        if !mentions(&change.request, ID) {
            self.add(&request, "it does not name the key", "add `{id}`, so that exactly one key is meant");
        }
        if change.request.method == Method::Get {
            self.add(&request, "a read changes nothing", "write the method that the provider asks for");
        }
        self.statuses(&format!("{place}.done"), &change.done);
    }

    fn verify(&mut self, file: &ProviderFile) {
        let verify = &file.verify;
        let parts = || file.create.parts.keys().map(String::as_str);
        let known = Known::of(file, &[ID]);
        let known = if verify.login.is_some() { known.with_secrets(parts()) } else { known };
        self.request("verify.request", &verify.request, &known);
        match &verify.login {
            Some(login) => self.login("verify.login", login, &known),
            None if !mentions(&verify.request, ID) => {
                self.add("verify.request", "it asks after no key", "add `{id}`, or `verify.login`");
            }
            None => {}
        }
        for (place, rules) in [("verify.accepted", &verify.accepted), ("verify.refused", &verify.refused)] {
            if rules.is_empty() {
                self.add(place, "no answer means it, so nothing would be proven", "add `{ status = ... }`");
            }
            self.rules(place, rules);
        }
    }

    fn list(&mut self, file: &ProviderFile) {
        let Some(Next { after, more, address, link }) = &file.list.next else { return };
        let ways = [after.is_some(), address.is_some(), *link].into_iter().filter(|way| *way).count();
        if ways != 1 || after.is_some() != more.is_some() {
            self.add(
                "list.next",
                "it does not say where the next page is",
                "write `{ after = \"PARAMETER\", more = \"$...\" }`, `{ address = \"$...\" }` or `{ link = true }`",
            );
        }
    }

    fn meaning(&mut self, file: &ProviderFile) {
        let meaning = &file.meaning;
        for (place, rules) in [
            ("meaning.gone", &meaning.gone),
            ("meaning.quota", &meaning.quota),
            ("meaning.denied", &meaning.denied),
            ("meaning.not_yet", &meaning.not_yet),
        ] {
            self.rules(place, rules);
        }
    }

    fn rules(&mut self, place: &str, rules: &[Rule]) {
        for rule in rules {
            self.statuses(place, &[rule.status]);
            if rule.path.is_some() != rule.equals.is_some() {
                self.add(place, "`path` and `equals` belong together", "write both, or the status alone");
            }
        }
    }

    fn statuses(&mut self, place: &str, statuses: &[u16]) {
        if statuses.is_empty() || statuses.iter().any(|status| !(200..=599).contains(status)) {
            self.add(place, "an HTTP status is a number from 200 to 599", "write `[200]` or others");
        }
        if statuses.iter().any(|status| (300..=399).contains(status)) {
            self.add(
                place,
                "a redirect is not followed, since it would take the login to another host",
                "write the final address as `base`",
            );
        }
    }

    fn login(&mut self, place: &str, login: &LoginForm, known: &Known<'_>) {
        let templates = match login {
            LoginForm::Bearer(token) => vec![token],
            LoginForm::Basic { username, password } => vec![username, password],
            LoginForm::Header { name, value } => {
                self.header_name(place, name);
                vec![value]
            }
        };
        for template in &templates {
            let holes = template.holes();
            let unknown =
                holes.iter().find(|hole| !known.open.contains(*hole) && !known.secret.contains(*hole));
            if let Some(hole) = unknown {
                self.unknown(place, hole, known.open.iter().chain(&known.secret));
            }
        }
        if !templates.iter().any(|template| template.holes().iter().any(|hole| known.secret.contains(hole))) {
            let help = format!("add {}", written(known.secret.iter()));
            self.add(place, "no secret is in this login", help);
        }
    }

    fn header_name(&mut self, place: &str, name: &str) {
        if HeaderName::try_from(name).is_err() {
            self.add(place, format!("`{name}` is not a header's name"), "write a name such as `x-api-key`");
        }
    }

    fn request(&mut self, place: &str, request: &Request, known: &Known<'_>) {
        let path = request.path.as_str();
        if !path.starts_with('/') || path.starts_with("//") || path.contains(['?', '#', '\\']) {
            self.add(
                &format!("{place}.path"),
                "a path begins with one slash and ends before the question mark: every call goes to `base`",
                "write `/v1/keys`, and the rest as `query`",
            );
        }
        self.template(&format!("{place}.path"), &request.path, known);
        for (name, template) in &request.query {
            self.template(&format!("{place}.query.{name}"), template, known);
        }
        for (name, template) in &request.headers {
            let place = format!("{place}.headers.{name}");
            self.header_name(&place, name);
            if HeaderValue::try_from(template.as_str()).is_err() {
                self.add(&place, "a header cannot hold this", "write printable ASCII");
            }
            self.template(&place, template, known);
        }
        if request.json.is_some() && request.form.is_some() {
            self.add(place, "`json` and `form` exclude each other", "keep one of them");
        }
        if request.method == Method::Get && (request.json.is_some() || request.form.is_some()) {
            self.add(place, "a read has no body", "write it as `query`");
        }
        for (name, template) in request.form.iter().flatten() {
            self.template(&format!("{place}.form.{name}"), template, known);
        }
        if let Some(json) = &request.json {
            self.json(&format!("{place}.json"), json, known);
        }
    }

    fn json(&mut self, place: &str, json: &Value, known: &Known<'_>) {
        match json {
            Value::Object(table) => {
                for (name, inner) in table {
                    self.json(&format!("{place}.{name}"), inner, known);
                }
            }
            Value::Array(items) => {
                for (index, inner) in items.iter().enumerate() {
                    self.json(&format!("{place}.{index}"), inner, known);
                }
            }
            Value::String(text) => match text.parse::<Template>() {
                Ok(template) => self.template(place, &template, known),
                Err(error) => self.add(place, error.to_string(), "correct the template"),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// What stands in addresses and bodies: nothing secret, which would be logged by others.
    fn template(&mut self, place: &str, template: &Template, known: &Known<'_>) {
        for hole in template.holes() {
            if ADMIN.contains(&hole) || known.secret.contains(hole) {
                self.add(
                    place,
                    format!("`{{{hole}}}` is secret and would stand where others log it"),
                    "write it in `login` only",
                );
            } else if !known.open.contains(hole) {
                self.unknown(place, hole, known.open.iter());
            }
        }
    }

    fn unknown<'h>(&mut self, place: &str, hole: &str, known: impl Iterator<Item = &'h &'h str>) {
        self.add(place, format!("nothing fills `{{{hole}}}`"), format!("write one of {}", written(known)));
    }
}

fn written<'h>(names: impl Iterator<Item = &'h &'h str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{{{name}}}`")).collect();
    names.join(", ")
}

fn is_word(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=40).contains(&name.len()) && name.chars().all(legal) && !name.starts_with('-')
}

fn is_setting(name: &str) -> bool {
    name != ID && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// The base of every call: scheme, host and port.
///
/// # Errors
/// What is wrong with it.
pub(super) fn base_of(base: &str) -> Result<Url, String> {
    let url = http::check_url(base, &Reach::private_too()).map_err(|fault| fault.to_string())?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || base.ends_with('/') {
        return Err("a base is scheme and host alone".to_owned());
    }
    Ok(url)
}

/// True where a hole stands anywhere in a request.
fn mentions(request: &Request, hole: &str) -> bool {
    let form = request.form.iter().flat_map(|form| form.values());
    let all = request.query.values().chain(request.headers.values()).chain(form).chain([&request.path]);
    all.into_iter().any(|template| template.holes().contains(hole))
        || request.json.as_ref().is_some_and(|json| json.to_string().contains(&format!("{{{hole}}}")))
}
