//! The engine: what one process needs to work on rotations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::lock::Mutex as AsyncMutex;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::format::{RandomFailed, RandomSource};
use rota_core::id::SecretId;
use uuid::Uuid;

use crate::bounded::Bounded;
use crate::guard::Guard;
use crate::ports::{AcceptedPolicy, Adapters, Clock, Journal};

/// How one process works. Every limit is an upper bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Names this process in leases and history.
    pub holder: String,
    pub lease: SignedDuration,
    /// The longest that one call of a port may take.
    pub call_limit: SignedDuration,
    /// How many due secrets one look opens at the most.
    pub open_at_once: u32,
}

impl EngineSettings {
    /// Settings with a lease that covers three of the longest calls.
    #[must_use]
    pub fn new(holder: String) -> Self {
        Self {
            holder,
            lease: SignedDuration::from_secs(120),
            call_limit: SignedDuration::from_secs(30),
            open_at_once: 50,
        }
    }

    /// How long after its start a call may still have its effect, whoever made it: the
    /// lease under which it was made, and the longest call.
    pub(crate) fn lands_within(&self) -> SignedDuration {
        self.lease.saturating_add(self.call_limit)
    }
}

/// Stop this long before a lease ends: the record of an outcome must still fit.
pub(crate) const LEASE_MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// One process's hands. Every method does a bounded amount of work and returns;
/// all memory is in the journal, so that any process goes on where another stopped.
pub struct Engine {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) adapters: Arc<dyn Adapters>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<Mutex<dyn RandomSource + Send>>,
    pub(crate) settings: EngineSettings,
    policy: Mutex<Option<Arc<AcceptedPolicy>>>,
    /// One loop reads a new policy, the others wait for it: it may be large.
    refreshing: AsyncMutex<()>,
    stopping: AtomicBool,
    /// Secrets whose rotation cannot start because a store does not answer, and since when
    /// by this process's clock.
    unreached: Mutex<BTreeMap<SecretId, SignedDuration>>,
    /// The journal's clock beside this process's own, when both were last right.
    clock_anchor: Mutex<Option<(Timestamp, SignedDuration)>>,
    #[cfg(feature = "test-support")]
    guards: crate::guard::Guards,
}

impl Engine {
    #[must_use]
    pub fn new(
        journal: Arc<dyn Journal>,
        adapters: Arc<dyn Adapters>,
        clock: Arc<dyn Clock>,
        random: Arc<Mutex<dyn RandomSource + Send>>,
        settings: EngineSettings,
    ) -> Self {
        let journal = Arc::new(Bounded::new(journal, Arc::clone(&clock), settings.call_limit));
        Self {
            journal,
            adapters,
            clock,
            random,
            settings,
            policy: Mutex::new(None),
            refreshing: AsyncMutex::new(()),
            stopping: AtomicBool::new(false),
            unreached: Mutex::new(BTreeMap::new()),
            clock_anchor: Mutex::new(None),
            #[cfg(feature = "test-support")]
            guards: crate::guard::Guards::default(),
        }
    }

    /// The same engine without one of its protections, for tests that must notice.
    #[cfg(feature = "test-support")]
    #[must_use]
    pub fn guarded_by(self, guards: crate::guard::Guards) -> Self {
        Self { guards, ..self }
    }

    /// Whether a protection stands; always, but in a test that took it away.
    #[cfg(feature = "test-support")]
    pub(crate) fn stands(&self, guard: Guard) -> bool {
        self.guards.stand(guard)
    }

    /// Whether a protection stands: always.
    #[cfg(not(feature = "test-support"))]
    #[expect(clippy::unused_self, reason = "the same call as in builds for tests")]
    pub(crate) const fn stands(&self, _: Guard) -> bool {
        true
    }

    /// Begins no further step: rotations under way are released after their current one.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn unreached(&self) -> MutexGuard<'_, BTreeMap<SecretId, SignedDuration>> {
        self.unreached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock_anchor(&self) -> MutexGuard<'_, Option<(Timestamp, SignedDuration)>> {
        self.clock_anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy that all replicas act on, as last seen by [`Engine::refresh_policy`].
    pub(crate) async fn policy(&self) -> Result<Option<Arc<AcceptedPolicy>>, Fault> {
        match self.known_policy() {
            Some(policy) => Ok(Some(policy)),
            None => self.refresh_policy().await,
        }
    }

    fn known_policy(&self) -> Option<Arc<AcceptedPolicy>> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the accepted policy anew where its version changed.
    ///
    /// # Errors
    /// A passing fault of the journal.
    pub async fn refresh_policy(&self) -> Result<Option<Arc<AcceptedPolicy>>, Fault> {
        let _one = self.refreshing.lock().await;
        let known = self.known_policy().map(|policy| policy.version);
        if let Some(newer) = self.journal.accepted_policy(known).await? {
            self.adapters.accept(newer.policy.shared());
            *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(newer));
        }
        Ok(self.known_policy())
    }

    /// A new identifier, ordered by `now` (UUID version 7, RFC 9562).
    pub(crate) fn new_id(&self, now: Timestamp) -> Result<Uuid, Fault> {
        let mut bytes = [0u8; 10];
        self.with_random(|random| random.fill(&mut bytes))?;
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Ok(uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
    }

    pub(crate) fn with_random<T>(
        &self,
        use_it: impl FnOnce(&mut (dyn RandomSource + Send)) -> Result<T, RandomFailed>,
    ) -> Result<T, Fault> {
        let mut random = self.random.lock().map_err(|_| {
            Fault::transient("the random source was poisoned by a panic; restart the process")
        })?;
        use_it(&mut *random).map_err(|failed| Fault::transient(failed.to_string()))
    }
}
