//! A fleet of consumers that sign and verify each other's tokens: several
//! instances behind one address, each signing with the first of its keys and
//! verifying with all, each reading them only at its start.
//!
//! The fleet judges a rotation: [`Fleet::drive`] mints at every instance,
//! verifies at every other one, tokens as old as their lifetime included, and
//! keeps every failure.
//!
//! Deliberately absent: refreshing keys while running. That is what makes
//! rotations hard, so nothing here does it.

mod http;
mod token;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::clock::FakeClock;
use crate::http::{Listen, Script, Serving};

/// Gives an instance its keys at its start, the one to sign with first.
pub type KeyReader = Arc<dyn Fn() -> Result<Vec<String>> + Send + Sync>;

/// The published success rate looks back over this many verifications.
const RATE_WINDOW: usize = 1_000;

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    shared: Shared,
    script: Script,
    serving: Serving,
}

#[derive(Clone)]
struct Shared {
    inner: Arc<Mutex<Inner>>,
    clock: FakeClock,
    token_ttl: SignedDuration,
    reader: KeyReader,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("token_ttl", &self.token_ttl).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    instances: Vec<Instance>,
    started: u64,
    next: usize,
    /// Minted tokens that have not expired, by the key that signed them; a
    /// verification's outcome depends on key and age only.
    outstanding: BTreeMap<[u8; 32], VecDeque<Minted>>,
    verifications: u64,
    recent: VecDeque<bool>,
    failures: Vec<Failure>,
}

struct Instance {
    id: String,
    keys: Vec<String>,
}

struct Minted {
    token: String,
    by: String,
    at: Timestamp,
}

/// A token that an instance did not accept, or could not sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The instance that signed it.
    pub minted_by: String,
    /// The instance that refused it.
    pub verified_by: String,
    /// How old it was.
    pub age: SignedDuration,
    /// When.
    pub at: Timestamp,
}

/// What one round of the driver did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Tokens that were signed.
    pub minted: usize,
    /// Tokens that were accepted.
    pub accepted: usize,
    /// Tokens that were not.
    pub failed: usize,
}

impl Fleet {
    /// Starts `count` instances, which read their keys now. Tokens live for
    /// `token_ttl` on the clock of `listen`.
    ///
    /// # Errors
    /// When the keys cannot be read or no port can be bound.
    pub fn start(count: usize, token_ttl: SignedDuration, reader: KeyReader, listen: Listen) -> Result<Self> {
        let script = Script::with_clock(listen.clock.clone());
        let shared = Shared { inner: Arc::default(), clock: script.clock().clone(), token_ttl, reader };
        for _ in 0..count {
            shared.add()?;
        }
        let serving = Serving::start(http::router(shared.clone()), script.clone(), listen)?;
        Ok(Self { shared, script, serving })
    }

    /// The one address of all instances: `/health`, `/metrics/auth`, `/mint`, `/verify`.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// The faults of the address, and the clock that tokens age by.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// How many instances serve.
    pub fn len(&self) -> usize {
        self.shared.lock().instances.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an instance, which reads its keys now.
    ///
    /// # Errors
    /// When they cannot be read; the fleet stays as it was.
    pub fn add(&self) -> Result<()> {
        self.shared.add().map(drop)
    }

    /// Replaces every instance by a new one: each new one starts before the old
    /// one goes, and `between` is called after each of the two.
    ///
    /// # Errors
    /// When a new instance cannot read its keys; the rest stays as it was.
    pub fn restart_one_by_one(&self, mut between: impl FnMut(&Self)) -> Result<()> {
        let old: Vec<String> =
            self.shared.lock().instances.iter().map(|instance| instance.id.clone()).collect();
        for id in old {
            self.shared.add()?;
            between(self);
            self.shared.lock().instances.retain(|instance| instance.id != id);
            between(self);
        }
        Ok(())
    }

    /// Makes the fleet what somebody else runs: instances by id, with the keys
    /// that each read at its start. An id that stays keeps the keys it has.
    pub fn follow(&self, running: impl IntoIterator<Item = (String, Vec<String>)>) {
        let mut inner = self.shared.lock();
        let mut before: BTreeMap<String, Instance> =
            inner.instances.drain(..).map(|instance| (instance.id.clone(), instance)).collect();
        let instances =
            running.into_iter().map(|(id, keys)| before.remove(&id).unwrap_or(Instance { id, keys }));
        inner.instances = instances.collect();
    }

    /// Mints a token at every instance and verifies at every instance, for each
    /// key in use, its newest and its oldest token that still lives.
    pub fn drive(&self) -> Round {
        let now = self.shared.clock.now();
        let mut inner = self.shared.lock();
        let mut round = Round::default();
        inner.forget_expired(now, self.shared.token_ttl);
        for index in 0..inner.instances.len() {
            match inner.mint(index, now, self.shared.token_ttl) {
                Some(_) => round.minted += 1,
                None => round.failed += 1,
            }
        }
        let oldest_and_newest: Vec<(String, String, Timestamp)> = inner
            .outstanding
            .values()
            .flat_map(|tokens| [tokens.front(), tokens.back()])
            .flatten()
            .map(|minted| (minted.token.clone(), minted.by.clone(), minted.at))
            .collect();
        for index in 0..inner.instances.len() {
            for (token, by, at) in &oldest_and_newest {
                match inner.verify(index, token, by, *at, now) {
                    true => round.accepted += 1,
                    false => round.failed += 1,
                }
            }
        }
        round
    }

    /// Everything that was refused, oldest first.
    pub fn failures(&self) -> Vec<Failure> {
        self.shared.lock().failures.clone()
    }

    /// How many verifications there were in all.
    pub fn verifications(&self) -> u64 {
        self.shared.lock().verifications
    }

    /// From the first to the last failure: a gap, measured.
    pub fn gap(&self) -> Option<SignedDuration> {
        let inner = self.shared.lock();
        let (first, last) = (inner.failures.first()?, inner.failures.last()?);
        Some(last.at.duration_since(first.at))
    }

    /// How old the oldest token is that still lives.
    pub fn oldest_token(&self) -> Option<SignedDuration> {
        let now = self.shared.clock.now();
        let mut inner = self.shared.lock();
        inner.forget_expired(now, self.shared.token_ttl);
        let oldest = inner.outstanding.values().filter_map(VecDeque::front).map(|minted| minted.at).min()?;
        Some(now.duration_since(oldest))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the fleet panics")
    }

    fn add(&self) -> Result<()> {
        let keys = (self.reader)().context("an instance cannot read its keys")?;
        let mut inner = self.lock();
        inner.started += 1;
        let id = format!("instance-{}", inner.started);
        inner.instances.push(Instance { id, keys });
        Ok(())
    }
}

impl Inner {
    /// The next instance in turn, as a load balancer picks it.
    fn pick(&mut self) -> Option<usize> {
        let count = self.instances.len();
        self.next = self.next.wrapping_add(1);
        self.next.checked_rem(count)
    }

    fn mint(&mut self, index: usize, now: Timestamp, ttl: SignedDuration) -> Option<String> {
        let instance = &self.instances[index];
        let by = instance.id.clone();
        let Some(key) = instance.keys.first() else {
            self.count(Err(Failure {
                minted_by: by,
                verified_by: String::new(),
                age: SignedDuration::ZERO,
                at: now,
            }));
            return None;
        };
        let token = token::sign(key, &by, now, ttl);
        let tokens = self.outstanding.entry(Sha256::digest(key).into()).or_default();
        tokens.push_back(Minted { token: token.clone(), by, at: now });
        Some(token)
    }

    fn verify(&mut self, index: usize, token: &str, by: &str, minted: Timestamp, now: Timestamp) -> bool {
        let instance = &self.instances[index];
        let accepted = instance.keys.iter().any(|key| token::verify(key, token, now).is_some());
        let failure = Failure {
            minted_by: by.to_owned(),
            verified_by: instance.id.clone(),
            age: now.duration_since(minted),
            at: now,
        };
        self.count(if accepted { Ok(()) } else { Err(failure) });
        accepted
    }

    fn count(&mut self, outcome: Result<(), Failure>) {
        self.verifications += 1;
        self.recent.push_back(outcome.is_ok());
        if self.recent.len() > RATE_WINDOW {
            self.recent.pop_front();
        }
        self.failures.extend(outcome.err());
    }

    /// None where nothing was verified yet: no data is not a good rate.
    fn success_rate(&self) -> Option<f64> {
        let accepted = self.recent.iter().filter(|accepted| **accepted).count();
        (!self.recent.is_empty()).then(|| accepted as f64 / self.recent.len() as f64)
    }

    fn forget_expired(&mut self, now: Timestamp, ttl: SignedDuration) {
        self.outstanding.retain(|_, tokens| {
            // By the millisecond, as the tokens say it.
            let expired = |minted: &Minted| now.as_millisecond() >= (minted.at + ttl).as_millisecond();
            while tokens.front().is_some_and(expired) {
                tokens.pop_front();
            }
            !tokens.is_empty()
        });
    }
}

/// The keys of a pair of names in the order of the code that reads them, empty
/// ones left out: `[first, second].filter(Boolean)`.
pub fn keys_of_pair(first: Option<String>, second: Option<String>) -> Vec<String> {
    [first, second].into_iter().flatten().filter(|key| !key.is_empty()).collect()
}

/// The keys of a JSON list.
///
/// # Errors
/// When it is no list of strings.
pub fn keys_of_list(json: &str) -> Result<Vec<String>> {
    serde_json::from_str(json).context("the published list is no JSON list of strings")
}
