//! The service behind declared calls: logging in, setting a password, finding a user.

use std::time::Duration;

use jiff::SignedDuration;
use reqwest::StatusCode;
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::body::Parts;
use super::call::{Call, Caller};
use super::settings::HttpPasswordSettings;
use crate::checks;
use crate::http::{self, HttpClient};
use crate::login::{self, Login};

/// A user is told in a few hundred bytes.
const MAX_USER_BYTES: usize = 65_536;

/// A service with the calls that it takes.
pub(super) struct Service {
    http: HttpClient,
    timeout: Duration,
    /// For messages: scheme, host and port.
    pub(super) shown: String,
    pub(super) user: String,
    set: Call,
    login: Call,
    find: Option<Find>,
    refused: Vec<u16>,
    pub(super) lockout: Option<SignedDuration>,
}

struct Find {
    call: Call,
    id: JsonPath,
    name: Option<JsonPath>,
}

impl Service {
    /// Makes no call.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit.
    pub(super) fn new(settings: &HttpPasswordSettings, http: HttpClient) -> Result<Self, Fault> {
        let path = |text: &String| {
            JsonPath::parse(text).map_err(|_| Fault::invalid(format!("`{text}` is not a JSONPath")))
        };
        let find = settings.find.as_ref().map(|find| {
            Ok::<_, Fault>(Find {
                call: Call::new(&find.call(), settings.set.auth())?,
                id: path(&find.id)?,
                name: find.name.as_ref().map(path).transpose()?,
            })
        });
        Ok(Self {
            http,
            timeout: checks::timeout(settings.timeout),
            shown: settings.origin(),
            user: settings.user.clone(),
            set: Call::new(&settings.set, settings.set.auth())?,
            login: Call::new(&settings.login, settings.login_auth())?,
            find: find.transpose()?,
            refused: settings.refused().into_owned(),
            lockout: settings.lockout(),
        })
    }

    /// True where the service takes the user's password, false where it refuses it.
    ///
    /// # Errors
    /// Every other answer is unknown, as its status says.
    pub(super) async fn log_in(&self, password: &SecretValue) -> Result<bool, Fault> {
        let username = login::value(self.user.clone())?;
        let parts = Parts::new(&username).with("password", password);
        let own = Login { username: self.user.clone(), password: password.duplicate() };
        let answer =
            self.login.make(&self.shown, &self.http, self.timeout, &Caller::Login(&own), &parts).await?;
        match answer.status().as_u16() {
            status if self.login.expect.statuses().contains(&status) => Ok(true),
            status if self.refused.contains(&status) => Ok(false),
            _ => Err(self.unexpected("logging in", &self.login, &answer)),
        }
    }

    /// Sets the password. May be repeated.
    ///
    /// # Errors
    /// [`Fault::Denied`] where `caller` may not; as the status says.
    pub(super) async fn set(
        &self,
        caller: &Caller<'_>,
        current: Option<&SecretValue>,
        password: &SecretValue,
    ) -> Result<(), Fault> {
        let username = login::value(self.user.clone())?;
        let id = self.find(caller).await?;
        let mut parts = Parts::new(&username).with_id(id.as_ref()).with("password", password);
        if let Some(current) = current {
            parts = parts.with("current", current);
        }
        let answer = self.set.make(&self.shown, &self.http, self.timeout, caller, &parts).await?;
        if self.set.expect.statuses().contains(&answer.status().as_u16()) {
            return Ok(());
        }
        Err(self.unexpected("setting the password", &self.set, &answer))
    }

    /// The user's id, where a call tells it.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the service does not know the user, or another one answers to its name.
    pub(super) async fn find(&self, caller: &Caller<'_>) -> Result<Option<SecretValue>, Fault> {
        let Some(find) = &self.find else { return Ok(None) };
        let username = login::value(self.user.clone())?;
        let parts = Parts::new(&username);
        let answer = find.call.make(&self.shown, &self.http, self.timeout, caller, &parts).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(Fault::invalid(format!(
                    "{} does not know the user `{}`; correct `user`",
                    self.shown, self.user
                )));
            }
            _ => return Err(self.unexpected("looking for the user", &find.call, &answer)),
        }
        let body = http::read_body(&self.shown, answer, MAX_USER_BYTES).await?;
        let found: Value = serde_json::from_slice(&body).map_err(|_| {
            Fault::invalid(format!("{} tells of the user in something else than JSON", self.shown))
        })?;
        self.read_user(find, &found).map(Some)
    }

    fn read_user(&self, find: &Find, found: &Value) -> Result<SecretValue, Fault> {
        let one = |path: &JsonPath| path.query(found).exactly_one().ok();
        if let Some(path) = &find.name
            && one(path).and_then(Value::as_str) != Some(&self.user)
        {
            return Err(Fault::invalid(format!(
                "another user of {} answers to `{}`; write `user` as the service has it",
                self.shown, self.user
            )));
        }
        let id = match one(&find.id) {
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        // It goes into an address as it is.
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b)) {
            return Err(Fault::invalid(format!(
                "{} tells no id of `{}` at `{}`; correct `find`",
                self.shown, self.user, find.id
            )));
        }
        login::value(id)
    }

    /// What a status says that was not expected; never the text of an answer.
    fn unexpected(&self, doing: &str, call: &Call, answer: &reqwest::Response) -> Fault {
        let what = format!("{} (expected {} when {doing})", self.shown, call.expect.written());
        http::status_fault(&what, answer.status(), answer.headers())
    }
}
