//! Everything that would make a rotation fail later. Changes nothing.

use redis::Cmd;
use rota_core::fault::Fault;

use super::fence::PREFIX;
use super::target::{At, Target};
use super::{two_passwords, two_users};
use crate::redis_nodes::Save;

/// # Errors
/// [`Fault::Invalid`] and [`Fault::Denied`] with what to change; a passing fault where a
/// node cannot be reached.
pub(super) async fn preflight(target: &Target<'_>) -> Result<(), Fault> {
    let names = target.settings.names();
    if let Some(admin) = target.administrator().filter(|admin| names.contains(admin)) {
        return Err(Fault::invalid(format!(
            "the administrator `{admin}` cannot rotate itself; give Rota a user of its own as `admin`"
        )));
    }
    let mut all = target.everywhere().await?;
    if let Some(unlisted) = target.unlisted(&all) {
        return Err(Fault::invalid(unlisted));
    }
    for at in &mut all {
        must_stand_alone(at).await?;
        let save = at.session.save().await?;
        must_keep_names(at, save, &names)?;
        must_be_able(target, at, save).await?;
        must_not_carry_replicas(at, &names).await?;
        match target.settings.usual() {
            Some(user) => two_passwords::preflight(target, at, user).await?,
            None => two_users::preflight(target, at).await?,
        }
    }
    Ok(())
}

async fn must_stand_alone(at: &mut At) -> Result<(), Fault> {
    let mode = at.session.info("server").await?;
    if mode.get("redis_mode").is_some_and(|mode| mode != "standalone") {
        return Err(Fault::invalid(format!(
            "{} is a node of Redis Cluster or a Sentinel, which is not supported; name servers that stand alone",
            at.session.node
        )));
    }
    Ok(())
}

/// redis.conf is read with quotes, and users are written to it without.
fn must_keep_names(at: &At, save: Save, names: &[&str]) -> Result<(), Fault> {
    match names.iter().find(|name| save == Save::Config && name.contains(['"', '\'', '\\'])) {
        Some(name) => Err(Fault::invalid(format!(
            "{} could not be started again with user `{name}` in its configuration file; set `aclfile`",
            at.session.node
        ))),
        None => Ok(()),
    }
}

/// Asks the server whether the administrator may do what will be done (Redis 7.0 and newer).
async fn must_be_able(target: &Target<'_>, at: &mut At, save: Save) -> Result<(), Fault> {
    let Some(admin) = target.administrator() else { return Ok(()) };
    let fence = format!("{PREFIX}x");
    let command = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (what, how) = match save {
        Save::AclFile => ("ACL", "SAVE"),
        Save::Config => ("CONFIG", "REWRITE"),
    };
    for words in [
        command(&["WATCH", &fence]),
        command(&["GET", &fence]),
        command(&["SET", &fence, "x"]),
        command(&["MULTI"]),
        command(&["EXEC"]),
        command(&["WAIT", "0", "0"]),
        command(&["ACL", "SETUSER", "x"]),
        command(&[what, how]),
        command(&["CLIENT", "KILL", "ID", "0"]),
    ] {
        may(at, admin, &words).await?;
    }
    Ok(())
}

async fn may(at: &mut At, admin: &str, words: &[String]) -> Result<(), Fault> {
    let dry: Cmd = redis::cmd("ACL").arg("DRYRUN").arg(admin).arg(words).clone();
    let said = match at.session.ask::<String>("trying the administrator's rights", &dry).await {
        Ok(said) => said,
        // Redis 6 has no DRYRUN: a missing right shows when the effect is applied.
        Err(Fault::Invalid { .. }) => return Ok(()),
        Err(fault) => return Err(fault),
    };
    if said == "OK" {
        return Ok(());
    }
    Err(Fault::denied(format!(
        "the administrator `{admin}` may not run {} on {}; see the rights that `redis-acl` needs",
        words.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(" "),
        at.session.node
    )))
}

/// A replica that logs in with the password that goes would lose its primary.
async fn must_not_carry_replicas(at: &mut At, names: &[&str]) -> Result<(), Fault> {
    let clients = at.session.clients().await?;
    match clients.iter().find(|client| client.replica && names.contains(&client.user.as_str())) {
        Some(client) => Err(Fault::invalid(format!(
            "replicas log in to {} as `{}`, whose password would go; give them a user of their own \
             (`masteruser`, `masterauth`)",
            at.session.node, client.user
        ))),
        None => Ok(()),
    }
}
