use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::RotationId;

use crate::ports::{Fence, TargetEffect};

/// A system that accepts or refuses credentials.
#[derive(Default)]
pub struct TargetState {
    /// By the target's own name: a user, a key id, a hash.
    pub credentials: BTreeMap<String, Credential>,
    /// The greatest fence that an effect brought, and that effect.
    pub fence: Option<(Fence, TargetEffect)>,
    /// How long a new credential takes to be accepted everywhere.
    pub propagation: SignedDuration,
    /// The next installation stores something else than it was given.
    pub spoils_next_install: bool,
    pub made: u64,
}

pub struct Credential {
    /// `None`: no password, nobody can log in.
    pub secret: Option<String>,
    /// False: disabled, in a way that can be taken back.
    pub enabled: bool,
    /// Which rotation made it.
    pub rotation: Option<RotationId>,
    pub since: Timestamp,
}

impl TargetState {
    /// True where a login would succeed now.
    #[must_use]
    pub fn accepts(&self, identity: &str, secret: &str, now: Timestamp) -> bool {
        self.credentials.get(identity).is_some_and(|credential| {
            credential.enabled
                && credential.secret.as_deref() == Some(secret)
                && credential.since.saturating_add(self.propagation).is_ok_and(|known| known <= now)
        })
    }

    /// Every login: the name, what is shown with it, and whether it succeeds.
    pub(super) fn logins(&self) -> Vec<(String, Option<String>, bool)> {
        self.credentials
            .iter()
            .map(|(name, credential)| (name.clone(), credential.secret.clone(), credential.enabled))
            .collect()
    }

    /// Lets a login succeed, as at the start of the world or by a person.
    pub fn put(&mut self, identity: &str, secret: &str, rotation: Option<RotationId>, since: Timestamp) {
        let credential = Credential { secret: Some(secret.to_owned()), enabled: true, rotation, since };
        self.credentials.insert(identity.to_owned(), credential);
    }

    /// Takes `fence` for `effect`, or refuses it: the fence must be greater than the
    /// last one, or be the same effect again.
    pub(super) fn pass(&mut self, fence: Fence, effect: TargetEffect, compares: bool) -> Result<(), Fault> {
        if let Some((last, last_effect)) = self.fence
            && compares
            && (fence < last || (fence == last && effect != last_effect))
        {
            return Err(Fault::conflict("the target has seen a later effect"));
        }
        self.fence = Some((fence, effect));
        Ok(())
    }
}
