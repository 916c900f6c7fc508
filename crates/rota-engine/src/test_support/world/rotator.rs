use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::id::FieldName;
use rota_core::policy::model::SecretPolicy;
use rota_core::rotation::Source;
use rota_core::value::{Bundle, SecretValue};

use super::target::TargetState;
use super::{FakeWorld, WorldEventKind, WorldState};
use crate::guard::Guard;
use crate::ports::{
    Created, Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};

/// The shapes that a rotation can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FakeKind {
    /// A generated value that only consumers verify.
    Generated,
    /// Two users of a database taking turns, with a fence.
    TwoUsers,
    /// Keys that the target makes and shows once, without a fence.
    Created,
    /// A person makes and revokes the key at a provider.
    Submitted,
    /// Hashes of one user: no disabling, only removal; with a fence.
    OneWay,
    /// One password: installing the new one ends the old one.
    Single,
}

/// The users of [`FakeKind::TwoUsers`].
const USERS: [&str; 2] = ["app_a", "app_b"];

/// What a target that spoils an installation appends to the value.
pub const SPOILED: &str = "-spoiled";

/// The user of [`FakeKind::Single`].
const ONLY_USER: &str = "admin";

impl FakeKind {
    pub const ALL: [Self; 6] =
        [Self::Generated, Self::TwoUsers, Self::Created, Self::Submitted, Self::OneWay, Self::Single];

    /// The name in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "generated",
            Self::TwoUsers => "two-users",
            Self::Created => "created",
            Self::Submitted => "submitted",
            Self::OneWay => "one-way",
            Self::Single => "single",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// True where a system accepts or refuses the value, whoever changes it there.
    #[must_use]
    pub fn has_target(self) -> bool {
        self != Self::Generated
    }

    /// True where the target compares fences.
    #[must_use]
    pub fn is_fenced(self) -> bool {
        matches!(self, Self::TwoUsers | Self::OneWay)
    }

    fn traits(self) -> RotatorTraits {
        let (source, target, reversible, overlaps) = match self {
            Self::Generated => (Source::Generated, false, false, true),
            Self::TwoUsers => (Source::Generated, true, true, true),
            Self::Created => (Source::Created, true, true, true),
            Self::Submitted => (Source::Submitted, false, false, true),
            Self::OneWay => (Source::Generated, true, false, true),
            Self::Single => (Source::Generated, true, false, false),
        };
        RotatorTraits {
            source,
            target,
            reversible,
            overlaps,
            confirmed_by_person: self == Self::Submitted,
            fenced: self.is_fenced(),
        }
    }

    /// The target's name of the credential whose published text is `text`, and what
    /// is to be shown with it.
    #[must_use]
    pub fn login(self, text: &str) -> (String, String) {
        match self {
            Self::TwoUsers | Self::Created => text.split_once(':').map_or_else(
                || (String::new(), text.to_owned()),
                |(id, secret)| (id.to_owned(), secret.to_owned()),
            ),
            Self::Single => (ONLY_USER.to_owned(), text.to_owned()),
            Self::Generated | Self::Submitted | Self::OneWay => (fingerprint(text), text.to_owned()),
        }
    }

    /// The text that consumers read, from the rotator's parts.
    fn text(self, parts: &Bundle) -> Option<String> {
        let part = |name: &str| parts.iter().find(|(n, _)| n.as_str() == name).map(|(_, v)| v.expose());
        match self {
            Self::TwoUsers | Self::Created => Some(format!("{}:{}", part("username")?, part("password")?)),
            Self::Generated | Self::Submitted | Self::OneWay | Self::Single => {
                parts.iter().next().map(|(_, value)| value.expose().to_owned())
            }
        }
    }

    /// The value that the world starts with.
    #[must_use]
    pub fn first_text(self, secret: &str) -> String {
        match self {
            Self::TwoUsers => format!("{}:{secret}", USERS[0]),
            Self::Created => format!("key-0:{secret}"),
            Self::Generated | Self::Submitted | Self::OneWay | Self::Single => secret.to_owned(),
        }
    }
}

/// A name for a value that tells nothing of it (FNV-1a, 64 bits).
fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("hash-{hash:016x}")
}

pub struct FakeRotator {
    world: FakeWorld,
    kind: FakeKind,
    target: String,
}

fn value(text: String) -> Result<SecretValue, Fault> {
    SecretValue::new(text).map_err(|error| Fault::invalid(error.to_string()))
}

fn field(name: &str) -> Result<FieldName, Fault> {
    FieldName::new(name).map_err(|error| Fault::invalid(error.to_string()))
}

fn username_and_password(text: &str) -> Result<Bundle, Fault> {
    let (username, password) = text
        .split_once(':')
        .ok_or_else(|| Fault::invalid("the published value is not `username:password`"))?;
    let mut parts = Bundle::single(field("username")?, value(username.to_owned())?);
    parts.insert(field("password")?, value(password.to_owned())?);
    Ok(parts)
}

/// What one effect needs to know of its context, owned.
struct Effect {
    effect: TargetEffect,
    /// The target's name and the secret of the credential that the effect is about.
    login: Option<(String, String)>,
    /// The recorded name, where the value itself was lost.
    recorded: Option<String>,
    /// The old value's, which the only password goes back to.
    back: Option<(String, String)>,
    rotation: rota_core::id::RotationId,
    emergency: bool,
}

impl FakeRotator {
    #[must_use]
    pub fn new(world: FakeWorld, kind: FakeKind, target: String) -> Self {
        Self { world, kind, target }
    }

    async fn call<T: Send>(
        &self,
        name: &'static str,
        detail: String,
        effect: impl FnOnce(&FakeWorld, &mut WorldState, &str, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (world, target) = (self.world.clone(), self.target.clone());
        let wire = self.world.wire().clone();
        let system = format!("target:{target}");
        wire.call(&system, name, detail, move || {
            let now = world.now();
            effect(&world, &mut world.state(), &target, now)
        })
        .await
    }

    fn login_of(&self, parts: Option<&Bundle>) -> Option<(String, String)> {
        self.kind.text(parts?).map(|text| self.kind.login(&text))
    }

    fn effect(&self, effect: TargetEffect, context: &TargetContext) -> Effect {
        let (parts, recorded) = match effect {
            TargetEffect::Install | TargetEffect::Remove => (&context.new, &context.new_identity),
            TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore => {
                (&context.old, &context.old_identity)
            }
        };
        Effect {
            effect,
            login: self.login_of(parts.as_ref()),
            recorded: recorded.clone(),
            back: self.login_of(context.old.as_ref()),
            rotation: context.rotation,
            emergency: context.emergency,
        }
    }
}

fn of<'s>(state: &'s mut WorldState, target: &str) -> &'s mut TargetState {
    state.targets.entry(target.to_owned()).or_default()
}

impl Effect {
    /// The names that the effect is about: by value, by record, or by the rotation
    /// that made them.
    fn names(&self, target: &TargetState) -> Vec<String> {
        if let Some((name, _)) = &self.login {
            return vec![name.clone()];
        }
        if let Some(name) = &self.recorded {
            return vec![name.clone()];
        }
        if self.effect != TargetEffect::Remove {
            return Vec::new();
        }
        let made = |credential: &super::Credential| credential.rotation == Some(self.rotation);
        target.credentials.iter().filter(|(_, c)| made(c)).map(|(name, _)| name.clone()).collect()
    }

    fn observe(&self, kind: FakeKind, target: &TargetState) -> Observed {
        let Some(name) = self.names(target).into_iter().next() else { return Observed::Applied };
        let wanted = self.login.as_ref().map(|(_, secret)| secret.as_str());
        let there = target.credentials.get(&name);
        let held = there.and_then(|credential| credential.secret.as_deref());
        let enabled = there.is_some_and(|credential| credential.enabled && credential.secret.is_some());
        let ours = held.is_some() && (wanted.is_none() || held == wanted);
        let foreign = || Observed::Foreign { detail: format!("`{name}` has a password that is not ours") };
        match self.effect {
            TargetEffect::Install | TargetEffect::Restore if ours && enabled => Observed::Applied,
            TargetEffect::Install if enabled && kind != FakeKind::Single && !self.emergency => foreign(),
            TargetEffect::Install | TargetEffect::Restore => Observed::Absent,
            TargetEffect::Disable if !enabled => Observed::Applied,
            TargetEffect::Revoke | TargetEffect::Remove if held.is_none() => Observed::Applied,
            // The one password is the other value's by now.
            TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Remove
                if !ours && kind == FakeKind::Single =>
            {
                Observed::Applied
            }
            TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Remove if !ours => foreign(),
            TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Remove => Observed::Absent,
        }
    }

    fn apply(&self, kind: FakeKind, names: &[String], target: &mut TargetState, now: Timestamp) {
        for name in names {
            let name = name.clone();
            let secret = self.login.as_ref().map(|(_, secret)| secret.clone());
            match self.effect {
                TargetEffect::Install | TargetEffect::Restore => {
                    let Some(mut secret) = secret else { continue };
                    if self.effect == TargetEffect::Install && std::mem::take(&mut target.spoils_next_install)
                    {
                        secret.push_str(SPOILED);
                    }
                    let rotation = (self.effect == TargetEffect::Install).then_some(self.rotation);
                    target.put(&name, &secret, rotation, now);
                }
                TargetEffect::Disable => {
                    if let Some(credential) = target.credentials.get_mut(&name) {
                        credential.enabled = false;
                    }
                }
                TargetEffect::Revoke | TargetEffect::Remove if kind == FakeKind::TwoUsers => {
                    if let Some(credential) = target.credentials.get_mut(&name) {
                        credential.secret = None;
                        credential.enabled = false;
                    }
                }
                TargetEffect::Remove if kind == FakeKind::Single => {
                    let Some((_, secret)) = &self.back else { continue };
                    target.put(&name, secret, None, now);
                }
                TargetEffect::Revoke | TargetEffect::Remove => {
                    target.credentials.remove(&name);
                }
            }
        }
    }
}

#[async_trait]
impl Rotator for FakeRotator {
    fn traits(&self) -> RotatorTraits {
        self.kind.traits()
    }

    fn parts_of(&self, fields: &Bundle, _policy: &SecretPolicy) -> Result<Bundle, Fault> {
        let one = fields.iter().next().ok_or_else(|| Fault::invalid("nothing is published"))?;
        match self.kind {
            FakeKind::TwoUsers | FakeKind::Created => username_and_password(one.1.expose()),
            FakeKind::Generated => Ok(fields.duplicate()),
            FakeKind::Submitted | FakeKind::OneWay | FakeKind::Single => {
                Ok(Bundle::single(field("value")?, one.1.duplicate()))
            }
        }
    }

    fn generate(&self, target: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        let fresh = |random: &mut dyn RandomSource| {
            let mut bytes = [0u8; 16];
            random.fill(&mut bytes).map_err(|failed| Fault::transient(failed.to_string()))?;
            value(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        };
        match self.kind {
            FakeKind::Generated => target
                .policy
                .secret
                .fields
                .keys()
                .map(|name| Ok((name.clone(), fresh(random)?)))
                .collect::<Result<_, Fault>>()
                .map(Bundle::new),
            FakeKind::TwoUsers => {
                let live = self.login_of(target.old.as_ref()).map(|(name, _)| name);
                let idle = USERS.into_iter().find(|user| live.as_deref() != Some(user)).unwrap_or(USERS[0]);
                let mut parts = Bundle::single(field("username")?, value(idle.to_owned())?);
                parts.insert(field("password")?, fresh(random)?);
                Ok(parts)
            }
            FakeKind::OneWay | FakeKind::Single => Ok(Bundle::single(field("value")?, fresh(random)?)),
            FakeKind::Created | FakeKind::Submitted => {
                Err(Fault::invalid("this kind's values are not generated here"))
            }
        }
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        self.kind.traits().target.then(|| self.login_of(Some(parts))).flatten().map(|(name, _)| name)
    }

    async fn preflight(&self, _target: &TargetContext) -> Result<(), Fault> {
        self.call("preflight", String::new(), |_, _, _, _| Ok(())).await
    }

    async fn create(&self, target: &TargetContext, _fence: Fence) -> Result<Created, Fault> {
        if self.kind != FakeKind::Created {
            return Err(Fault::invalid("this kind's values are not created by the target"));
        }
        let rotation = target.rotation;
        self.call("create", rotation.to_string(), move |world, state, name, now| {
            let secret = format!("{:016x}{:016x}", state.random.next_u64(), state.random.next_u64());
            let target = of(state, name);
            target.made += 1;
            let identity = format!("key-{}", target.made);
            target.put(&identity, &secret, Some(rotation), now);
            let event =
                WorldEventKind::Created { target: name.to_owned(), rotation, identity: identity.clone() };
            world.note(state, event);
            Ok(Created { parts: username_and_password(&format!("{identity}:{secret}"))?, identity })
        })
        .await
    }

    async fn find_created(&self, target: &TargetContext) -> Result<Option<String>, Fault> {
        let rotation = target.rotation;
        self.call("find_created", rotation.to_string(), move |_, state, name, _| {
            let looks = state.guards.stand(Guard::CreationsAreLookedUp);
            Ok(of(state, name)
                .credentials
                .iter()
                .find(|(_, credential)| looks && credential.rotation == Some(rotation))
                .map(|(identity, _)| identity.clone()))
        })
        .await
    }

    async fn observe(&self, effect: TargetEffect, target: &TargetContext) -> Result<Observed, Fault> {
        let (kind, effect) = (self.kind, self.effect(effect, target));
        self.call("observe", format!("{:?}", effect.effect), move |_, state, name, _| {
            Ok(effect.observe(kind, of(state, name)))
        })
        .await
    }

    async fn last_fence(&self, _: &TargetContext) -> Result<Option<Fence>, Fault> {
        let fenced = self.kind.is_fenced();
        self.call("last_fence", String::new(), move |_, state, name, _| {
            Ok(of(state, name).fence.filter(|_| fenced).map(|(fence, _)| fence))
        })
        .await
    }

    async fn apply(&self, effect: TargetEffect, target: &TargetContext, fence: Fence) -> Result<(), Fault> {
        let (kind, effect) = (self.kind, self.effect(effect, target));
        self.call("apply", format!("{:?}", effect.effect), move |world, state, name, now| {
            let compares = state.guards.stand(Guard::FencesAreCompared);
            let exact = state.guards.stand(Guard::CredentialsAreNamed);
            let target = of(state, name);
            if kind.is_fenced() {
                target.pass(fence, effect.effect, compares)?;
            }
            let mut names = effect.names(target);
            if !exact && matches!(effect.effect, TargetEffect::Revoke | TargetEffect::Remove) {
                // The planted bug: whichever stands first, as "the old one" would be.
                names = target.credentials.keys().take(1).cloned().collect();
            }
            let before = target.logins();
            effect.apply(kind, &names, target, now);
            let changed = before != target.logins();
            let (target, rotation, effect) = (name.to_owned(), effect.rotation, effect.effect);
            let event = match names.into_iter().next() {
                Some(identity) if changed => {
                    WorldEventKind::TargetChanged { target, effect, rotation, identity, fence }
                }
                Some(_) => return Ok(()),
                None => WorldEventKind::Unnamed { target, effect, rotation },
            };
            world.note(state, event);
            Ok(())
        })
        .await
    }

    async fn prove(&self, which: Which, target: &TargetContext) -> Result<Proof, Fault> {
        let parts = match which {
            Which::Old => target.old.as_ref(),
            Which::New => target.new.as_ref(),
        };
        if !self.kind.traits().target {
            return Ok(Proof::NotProvable);
        }
        let login = self.login_of(parts).ok_or_else(|| Fault::invalid("there is no value to be proven"))?;
        let (rotation, secret) = (target.rotation, target.policy.secret.id.clone());
        self.call("prove", format!("{which:?}"), move |world, state, name, now| {
            let believes = !state.guards.stand(Guard::ProofsAreMade) && which == Which::New;
            let works = of(state, name).accepts(&login.0, &login.1, now);
            let said = works || believes;
            world.note(state, WorldEventKind::Proved { secret, rotation, which, works, said });
            Ok(if said {
                Proof::Accepted
            } else {
                Proof::Refused { detail: format!("`{}` cannot log in", login.0) }
            })
        })
        .await
    }

    async fn idleness(&self, target: &TargetContext) -> Result<Idleness, Fault> {
        let old = target.old.as_ref().and_then(|parts| self.kind.text(parts));
        let secret = target.policy.secret.id.clone();
        self.call("idleness", String::new(), move |_, state, _, _| {
            let users = old.map_or(0, |old| state.users_of(&secret, &old));
            Ok(if users == 0 || !state.guards.stand(Guard::IdlenessIsRead) {
                Idleness::Idle
            } else {
                Idleness::Busy { detail: format!("{users} instances use it") }
            })
        })
        .await
    }
}
