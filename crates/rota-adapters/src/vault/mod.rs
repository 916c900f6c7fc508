//! The Vault (or OpenBao) server that the daemon's configuration names: its address,
//! our login there, and how calls are made.
//!
//! vaultrs knows the API's paths and envelopes. What it leaves to its caller is done
//! here: a client with timeouts and without redirects, renewal, logging in again,
//! and errors without bodies. A token is used until two thirds of its life are over, then
//! renewed; where that fails, or Vault does not know it any more, we log in again.
//!
//! Deliberately absent: environment variables (VAULT_TOKEN and the like are read by
//! nothing here) and background work: a login that nobody uses may end.

mod aws_iam;
mod fault;
mod login;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, Url};
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use rota_engine::ports::Clock;
use tokio::sync::Mutex;
use vaultrs::api::{AuthInfo, EndpointMiddleware};
use vaultrs::client::{Client as _, VaultClient, VaultClientSettings};
use vaultrs::error::ClientError;

use crate::aws::AwsEnvironment;
use crate::http::{self, HttpClient, HttpOptions, Reach, Trust, check_url};
pub(crate) use fault::Failure;
pub use login::{ReadSecret, VaultLogin};

/// Renewed when this part of a token's life is over (in thirds).
const RENEW_AFTER_THIRDS: i32 = 2;

/// A token with less life than this is not worth renewing: a slow call would outlive it.
const SHORTEST_LIFE: SignedDuration = SignedDuration::from_secs(30);

/// A Vault server and how to log in there.
#[derive(Clone)]
pub struct VaultServer {
    /// Such as `https://vault.internal:8200`.
    pub address: String,
    /// The namespace of everything, login included; Vault Enterprise and OpenBao.
    pub namespace: Option<String>,
    /// The only authorities that are trusted, PEM; the system's without it.
    pub authority: Option<Vec<u8>>,
    pub login: VaultLogin,
}

/// A server with our login. Shared by all stores.
pub struct VaultConnection {
    /// For messages: scheme, host and port.
    shown: String,
    base: Url,
    http: HttpClient,
    namespace: Option<String>,
    login: VaultLogin,
    aws: AwsEnvironment,
    clock: Arc<dyn Clock>,
    session: Mutex<Option<Session>>,
}

/// A token and how long it is good for, on the clock that counts suspended time.
struct Session {
    token: SecretValue,
    /// Tells one login from the next.
    number: u64,
    renewable: bool,
    /// Both `None` for a token that never ends.
    renew_at: Option<SignedDuration>,
    ends_at: Option<SignedDuration>,
}

/// A call that can be made again with another token.
#[async_trait]
pub(crate) trait Call: Sync {
    type Answer;

    async fn make(&self, client: &VaultClient) -> Result<Self::Answer, ClientError>;
}

impl VaultConnection {
    /// Makes no call; the first use logs in.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the address is neither https nor on this machine, or the
    /// authority's file is not PEM.
    pub fn new(
        server: VaultServer,
        http: &HttpOptions,
        aws: AwsEnvironment,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        // The configuration names this server, so its private address is meant.
        let reach = Reach::private_too();
        let base = check_url(&server.address, &reach)?;
        let shown = format!("Vault at {}", base.origin().ascii_serialization());
        if base.query().is_some() || base.fragment().is_some() {
            return Err(Fault::invalid("the address of Vault ends with its path, leave out what follows"));
        }
        if server.namespace.as_deref().is_some_and(|name| !is_path(name.trim_matches('/'))) {
            return Err(Fault::invalid(
                "the namespace of Vault is no namespace, write `team` or `team/part`",
            ));
        }
        let trust = server.authority.map_or_else(|| http.trust.clone(), Trust::Only);
        let http = HttpClient::new(&HttpOptions { trust, reach, ..http.clone() })?;
        Ok(Self {
            shown,
            base,
            http,
            namespace: server.namespace,
            login: server.login,
            aws,
            clock,
            session: Mutex::new(None),
        })
    }

    /// How messages call this server.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Makes a call with a token that is good, and once more with a new one where Vault
    /// did not know the first (nothing happened then).
    pub(crate) async fn call<A: Send>(&self, call: &dyn Call<Answer = A>) -> Result<A, Failure> {
        let (token, number) = self.token().await?;
        match call.make(&self.client(&token)).await.map_err(|error| Failure::of(&error)) {
            Err(Failure::Refused) => {}
            other => return other,
        }
        let (token, _) = self.token_after(number).await?;
        call.make(&self.client(&token)).await.map_err(|error| Failure::of(&error))
    }

    /// Makes a call with `token` in place of our login, once: what it says is about that token.
    pub(crate) async fn call_as<A: Send>(
        &self,
        token: &SecretValue,
        call: &dyn Call<Answer = A>,
    ) -> Result<A, Failure> {
        let token = login::header_safe(token.duplicate()).map_err(Failure::Fault)?;
        call.make(&self.client(&token)).await.map_err(|error| Failure::of(&error))
    }

    /// Vault's clock, from the `Date` of its health page, whatever that says.
    pub(crate) async fn date(&self) -> Result<Timestamp, Fault> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/v1/sys/health", self.base.path().trim_end_matches('/')));
        let answer = self.http.send(&self.shown, self.http.request(Method::GET, url.as_str())?).await?;
        http::date(answer.headers())
            .ok_or_else(|| Fault::transient(format!("{} answers without a date", self.shown)))
    }

    fn client(&self, token: &SecretValue) -> VaultClient {
        self.client_with(token.expose().to_owned())
    }

    fn client_with(&self, token: String) -> VaultClient {
        let base = self.base.as_str().trim_end_matches('/');
        VaultClient {
            http: rustify::clients::reqwest::Client::new(base, self.http.client().clone()),
            middle: EndpointMiddleware {
                token,
                version: "v1".to_owned(),
                wrap: None,
                namespace: self.namespace.clone(),
            },
            // Not read by vaultrs once the client exists.
            settings: VaultClientSettings {
                address: self.base.clone(),
                ca_certs: Vec::new(),
                identity: None,
                timeout: None,
                token: String::new(),
                verify: true,
                version: 1,
                wrapping: false,
                namespace: None,
                proxy: None,
            },
        }
    }

    /// A token that is good for some time, and the number of its login.
    async fn token(&self) -> Result<(SecretValue, u64), Failure> {
        let mut session = self.session.lock().await;
        let now = self.clock.elapsed();
        if let Some(current) = session.as_mut() {
            let over = |at: Option<SignedDuration>| at.is_some_and(|at| now >= at);
            if !over(current.renew_at) || self.renew(current, now).await {
                return Ok((current.token.duplicate(), current.number));
            }
        }
        let fresh = self.log_in(session.as_ref().map_or(0, |last| last.number + 1)).await?;
        let found = (fresh.token.duplicate(), fresh.number);
        *session = Some(fresh);
        Ok(found)
    }

    /// A token that is not the refused one of login `number`, unless Vault says that it
    /// knows that one: then the right is missing, not the login.
    async fn token_after(&self, number: u64) -> Result<(SecretValue, u64), Failure> {
        let mut session = self.session.lock().await;
        if let Some(current) = session.as_ref() {
            if current.number != number {
                return Ok((current.token.duplicate(), current.number));
            }
            match self.client(&current.token).lookup().await.map_err(|error| Failure::of(&error)) {
                Ok(_) => return Err(Failure::Refused),
                Err(Failure::Refused) => {}
                Err(failure) => return Err(failure),
            }
        }
        let refused = session.take();
        let fresh = self.log_in(number + 1).await?;
        if refused.is_some_and(|refused| refused.token.same_as(&fresh.token)) {
            return Err(Failure::Fault(Fault::denied(format!(
                "{}: the token is not valid (any more), put a new one in its file",
                self.shown
            ))));
        }
        let found = (fresh.token.duplicate(), fresh.number);
        *session = Some(fresh);
        Ok(found)
    }

    /// Lengthens a token's life. False where it cannot be used any more; a token whose
    /// renewal fails is used until its end.
    async fn renew(&self, session: &mut Session, now: SignedDuration) -> bool {
        let remains = session.ends_at.is_none_or(|end| now + SHORTEST_LIFE < end);
        if !session.renewable || !remains {
            return remains && self.login.is_token();
        }
        match self.client(&session.token).renew(None).await {
            Ok(AuthInfo { lease_duration, renewable, .. }) => {
                let life = life(now, lease_duration);
                session.renewable = renewable;
                (session.renew_at, session.ends_at) = life;
                // At its maximum life a renewal gives next to nothing.
                session.ends_at.is_none_or(|end| now + SHORTEST_LIFE < end)
            }
            Err(error) => match Failure::of(&error) {
                Failure::Fault(fault) => fault.passes_by_itself(),
                Failure::Refused | Failure::Absent(_) | Failure::OtherVersion => false,
            },
        }
    }

    async fn log_in(&self, number: u64) -> Result<Session, Failure> {
        let now = self.clock.elapsed();
        let login::Granted { token, seconds, renewable } =
            login::log_in(&self.login, &self.client_with(String::new()), &self.shown, &self.aws, |token| {
                self.client(token)
            })
            .await
            .map_err(Failure::Fault)?;
        let (renew_at, ends_at) = life(now, seconds);
        Ok(Session { token, number, renewable, renew_at, ends_at })
    }
}

/// When a token that was given `seconds` at `now` is renewed, and when it ends.
fn life(now: SignedDuration, seconds: u64) -> (Option<SignedDuration>, Option<SignedDuration>) {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX / 4);
    if seconds == 0 {
        return (None, None);
    }
    let whole = SignedDuration::from_secs(seconds);
    (Some(now.saturating_add(whole / 3 * RENEW_AFTER_THIRDS)), Some(now.saturating_add(whole)))
}

/// Mounts, namespaces and paths go into URLs as they are.
pub(crate) fn is_path(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_-.+=@~:/".contains(&b);
    text.bytes().all(legal) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_after_two_thirds_of_its_life() {
        let secs = SignedDuration::from_secs;
        assert_eq!(life(secs(100), 0), (None, None));
        assert_eq!(life(secs(100), 30), (Some(secs(120)), Some(secs(130))));
        assert!(life(secs(100), u64::MAX).1 > Some(secs(1_000_000)));
    }

    #[test]
    fn paths_need_no_escaping() {
        for good in ["acd/JWT_SECRET", "a.b", "secret", "team/part-1"] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["", "a//b", "/a", "a/", "a/../b", "a?b", "a#b", "a%2fb", "a b", "ü"] {
            assert!(!is_path(bad), "{bad}");
        }
    }
}
