//! One user accepts two passwords: the new hash is added, the old one removed. Exact
//! hashes are added and removed, never "the other one", so that somebody else's stays.

use redis::Cmd;
use rota_core::fault::Fault;
use rota_engine::ports::{Fence, Observed, TargetEffect};

use super::target::{At, Target, end, end_all, of_all, set_user};
use crate::login::Login;
use crate::redis_nodes::{User, hash};

/// The hashes of a rotation.
struct Hashes {
    old: Option<String>,
    new: Option<String>,
}

/// What a user says of an effect; the connections are looked at besides.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    Is(Observed),
    AppliedIfNoConnections,
}

impl Hashes {
    fn of(target: &Target<'_>) -> Self {
        let of = |login: &Option<Login>| login.as_ref().map(|login| hash(&login.password));
        Self { old: of(&target.old), new: of(&target.new) }
    }

    /// The hash that `effect` adds or removes, and the one that stays.
    fn of_effect(&self, effect: TargetEffect) -> (Option<&String>, Option<&String>) {
        match effect {
            TargetEffect::Install | TargetEffect::Remove => (self.new.as_ref(), self.old.as_ref()),
            TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Restore => {
                (self.old.as_ref(), self.new.as_ref())
            }
        }
    }

    fn look(&self, effect: TargetEffect, user: Option<&User>, name: &str, emergency: bool) -> Look {
        let foreign = |detail: String| Look::Is(Observed::Foreign { detail });
        let (Some(wanted), stays) = self.of_effect(effect) else { return Look::Is(Observed::Applied) };
        let Some(user) = user else { return foreign(format!("user `{name}` was deleted")) };
        if let Some(detail) = self.strange(user, name, emergency) {
            return foreign(detail);
        }
        let holds = |hash: Option<&String>| hash.is_some_and(|hash| user.hashes.contains(hash));
        match effect {
            TargetEffect::Install | TargetEffect::Restore if holds(Some(wanted)) => {
                Look::Is(Observed::Applied)
            }
            TargetEffect::Install | TargetEffect::Restore => Look::Is(Observed::Absent),
            TargetEffect::Revoke if !holds(Some(wanted)) => Look::AppliedIfNoConnections,
            TargetEffect::Disable | TargetEffect::Remove if !holds(Some(wanted)) => {
                Look::Is(Observed::Applied)
            }
            TargetEffect::Revoke if !emergency => {
                foreign(format!("`{name}` accepts the old password again, which this rotation had removed"))
            }
            TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Remove
                if stays.is_some() && !holds(stays) =>
            {
                foreign(format!("`{name}` would be left without the password that consumers use"))
            }
            TargetEffect::Disable | TargetEffect::Revoke | TargetEffect::Remove => Look::Is(Observed::Absent),
        }
    }

    /// What a person has to decide about, whatever the effect.
    fn strange(&self, user: &User, name: &str, emergency: bool) -> Option<String> {
        if user.open {
            return Some(format!("`{name}` accepts any password; run `ACL SETUSER {name} resetpass`"));
        }
        if !user.on {
            return Some(format!("`{name}` is off; run `ACL SETUSER {name} on`"));
        }
        let known = [&self.old, &self.new];
        let others = user.hashes.iter().filter(|hash| !known.contains(&&Some((*hash).clone()))).count();
        (others > 0 && !emergency).then(|| {
            format!(
                "`{name}` has {others} passwords that are not this rotation's; \
                 see who uses them and remove them (`ACL GETUSER {name}`, `ACL SETUSER {name} !HASH`)"
            )
        })
    }
}

/// Says why the user cannot be rotated.
///
/// # Errors
/// [`Fault::Invalid`] with what to change.
pub(super) async fn preflight(target: &Target<'_>, at: &mut At, name: &str) -> Result<(), Fault> {
    let node = at.session.node.clone();
    let refused = |detail: String| Err(Fault::invalid(format!("on {node}, {detail}")));
    let Some(user) = at.session.user(name).await? else {
        return refused(format!("there is no user `{name}`; create it with its rights"));
    };
    if let Some(old) = &target.old
        && old.username != name
    {
        return refused(format!("consumers use `{}`, not `{name}`; correct `user`", old.username));
    }
    let hashes = Hashes::of(target);
    let emergency = target.context.emergency;
    if !emergency && hashes.old.as_ref().is_some_and(|old| !user.open && !user.hashes.contains(old)) {
        return refused(format!(
            "the server does not accept the published password of `{name}`; publish the one that it accepts"
        ));
    }
    hashes.strange(&user, name, emergency).map_or(Ok(()), refused)
}

/// What every node shows.
///
/// # Errors
/// As the servers say.
pub(super) async fn observe(
    target: &Target<'_>,
    effect: TargetEffect,
    name: &str,
) -> Result<Observed, Fault> {
    let hashes = Hashes::of(target);
    let mut all = target.everywhere().await?;
    let mut shown = Vec::new();
    for at in &mut all {
        let user = at.session.user(name).await?;
        shown.push(match hashes.look(effect, user.as_ref(), name, target.context.emergency) {
            Look::Is(observed) => observed,
            Look::AppliedIfNoConnections => match target.old_clients(at, name).await?.as_slice() {
                [] => Observed::Applied,
                _ => Observed::Absent,
            },
        });
    }
    of_all(&mut all, shown).await
}

/// Adds or removes one hash on every node. May be repeated.
///
/// # Errors
/// [`Fault::Conflict`] where a later effect was there first.
pub(super) async fn apply(
    target: &Target<'_>,
    effect: TargetEffect,
    name: &str,
    fence: Fence,
) -> Result<(), Fault> {
    let hashes = Hashes::of(target);
    let Some(wanted) = hashes.of_effect(effect).0 else { return Ok(()) };
    let mut change = target.change(effect, fence).await?;
    for number in 0..change.all.len() {
        let commands = commands(target, effect, name, wanted, &mut change.all[number]).await?;
        change.run(number, &commands).await?;
    }
    Ok(())
}

/// What makes `effect` of what a node shows now.
async fn commands(
    target: &Target<'_>,
    effect: TargetEffect,
    name: &str,
    wanted: &str,
    at: &mut At,
) -> Result<Vec<Cmd>, Fault> {
    let Some(user) = at.session.user(name).await? else {
        return Err(Fault::conflict(format!("user `{name}` was deleted on {}", at.session.node)));
    };
    let adds = matches!(effect, TargetEffect::Install | TargetEffect::Restore);
    let mut commands = match (adds, user.hashes.contains(wanted)) {
        (true, _) => vec![set_user(name, &[format!("#{wanted}")])],
        (false, true) => vec![set_user(name, &[format!("!{wanted}")])],
        // To remove what is not there is an error in Redis.
        (false, false) => Vec::new(),
    };
    if !adds && target.context.emergency {
        // Which password opened a connection is not told: all of them go.
        commands.push(end_all(name));
    } else if effect == TargetEffect::Revoke {
        commands.extend(end(&target.old_clients(at, name).await?));
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_set_of_hashes_is_judged_for_every_effect() {
        use TargetEffect::{Disable, Install, Remove, Restore, Revoke};
        let hashes = Hashes { old: Some("old".to_owned()), new: Some("new".to_owned()) };
        let user = |held: &[&str], on: bool, open: bool| {
            let hashes: BTreeSet<String> = held.iter().map(|hash| (*hash).to_owned()).collect();
            User { on, open, hashes, rights: Vec::new() }
        };
        let word = |effect, user: Option<&User>, emergency| match hashes.look(effect, user, "acd", emergency)
        {
            Look::Is(Observed::Applied) => "applied",
            Look::Is(Observed::Absent) => "absent",
            Look::Is(Observed::Foreign { .. }) => "foreign",
            Look::AppliedIfNoConnections => "applied if idle",
        };
        let effects = [Install, Disable, Revoke, Restore, Remove];
        let all = |user: &User, emergency| effects.map(|effect| word(effect, Some(user), emergency));
        let (old, both, new) =
            (user(&["old"], true, false), user(&["old", "new"], true, false), user(&["new"], true, false));
        assert_eq!(all(&old, false), ["absent", "foreign", "foreign", "applied", "applied"]);
        assert_eq!(all(&both, false), ["applied", "absent", "foreign", "applied", "absent"]);
        assert_eq!(all(&new, false), ["applied", "applied", "applied if idle", "absent", "foreign"]);
        assert_eq!(all(&both, true), ["applied", "absent", "absent", "applied", "absent"]);
        let strange = user(&["old", "new", "else"], true, false);
        assert_eq!(all(&strange, false), ["foreign"; 5]);
        assert_eq!(all(&strange, true), ["applied", "absent", "absent", "applied", "absent"]);
        for bad in [user(&["old", "new"], false, false), user(&[], true, true)] {
            assert_eq!(all(&bad, true), ["foreign"; 5]);
        }
        assert_eq!(effects.map(|effect| word(effect, None, true)), ["foreign"; 5]);
    }
}
