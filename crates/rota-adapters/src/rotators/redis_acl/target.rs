//! What every call works with: the nodes, who administers them, and the two values.

use redis::Cmd;
use rota_core::fault::Fault;
use rota_engine::ports::{Fence, Idleness, Observed, TargetContext, TargetEffect};

use super::fence::{self, Mark, PREFIX};
use super::settings::{DEFAULT_USER, RedisSettings};
use crate::http::Trust;
use crate::login::Login;
use crate::redis_nodes::{Client, LoginOutcome, Node, Role, Session};

/// Who changes users.
enum Admin {
    Login(Login),
    /// The only login that there is: whichever of the values is accepted.
    Itself,
}

pub(super) struct Target<'a> {
    pub(super) settings: &'a RedisSettings,
    pub(super) context: &'a TargetContext,
    pub(super) nodes: Vec<Node>,
    pub(super) old: Option<Login>,
    pub(super) new: Option<Login>,
    admin: Admin,
}

/// A session on a node, and what the node is to the others.
pub(super) struct At {
    pub(super) session: Session,
    pub(super) role: Role,
}

impl<'a> Target<'a> {
    /// # Errors
    /// [`Fault::Invalid`] where the administrator's login or a value cannot be read.
    pub(super) fn new(
        settings: &'a RedisSettings,
        trust: &Trust,
        context: &'a TargetContext,
    ) -> Result<Self, Fault> {
        let admin = match (&settings.admin, &context.admin) {
            (None, _) => Admin::Itself,
            (Some(_), Some(stored)) => {
                Admin::Login(Login::of_admin(stored, "rediss://user:password@cache.internal")?)
            }
            (Some(reference), None) => {
                return Err(Fault::invalid(format!(
                    "nothing is stored at `{reference}`; put the administrator's login there"
                )));
            }
        };
        Ok(Self {
            settings,
            context,
            nodes: settings.servers().nodes(trust),
            old: context.old.as_ref().map(Login::of).transpose()?,
            new: context.new.as_ref().map(Login::of).transpose()?,
            admin,
        })
    }

    /// The name of the administrator's user.
    pub(super) fn administrator(&self) -> Option<&str> {
        match &self.admin {
            Admin::Login(login) => Some(&login.username),
            Admin::Itself => None,
        }
    }

    /// # Errors
    /// [`Fault::Invalid`] where there is none.
    pub(super) fn replaced(&self) -> Result<&Login, Fault> {
        self.old.as_ref().ok_or_else(|| Fault::invalid("there is no old value"))
    }

    /// # Errors
    /// [`Fault::Invalid`] where there is none.
    pub(super) fn candidate(&self) -> Result<&Login, Fault> {
        self.new.as_ref().ok_or_else(|| Fault::invalid("there is no new value"))
    }

    /// A session of the administrator's on every node, primaries first.
    ///
    /// # Errors
    /// As the servers say: one that cannot be reached is unknown. A passing fault where
    /// none of them takes writes.
    pub(super) async fn everywhere(&self) -> Result<Vec<At>, Fault> {
        let mut all = Vec::new();
        for node in &self.nodes {
            let mut session = self.connect(node).await?;
            let role = session.role().await?;
            all.push(At { session, role });
        }
        all.sort_by_key(|at| at.role == Role::Replica);
        if all.iter().all(|at| at.role == Role::Replica) {
            let names: Vec<String> = self.nodes.iter().map(ToString::to_string).collect();
            return Err(Fault::transient(format!(
                "{} is a replica (read only); name the primary, too, or wait for the failover to end",
                names.join(", ")
            )));
        }
        Ok(all)
    }

    async fn connect(&self, node: &Node) -> Result<Session, Fault> {
        match &self.admin {
            Admin::Login(admin) => node.connect(&admin.username, &admin.password).await,
            Admin::Itself => {
                for login in [&self.new, &self.old].into_iter().flatten() {
                    if node.log_in(DEFAULT_USER, &login.password).await? == LoginOutcome::Accepted {
                        return node.connect(DEFAULT_USER, &login.password).await;
                    }
                }
                Err(Fault::denied(format!(
                    "{node} accepts neither the published password nor a new one; \
                     publish the one that it accepts (`requirepass`)"
                )))
            }
        }
    }

    /// Replicas that follow a node and are not among the nodes: their users would be forgotten.
    pub(super) fn unlisted(&self, all: &[At]) -> Option<String> {
        let listed = all.iter().filter(|at| at.role == Role::Replica).count();
        let following: usize = all
            .iter()
            .map(|at| match at.role {
                Role::Primary { replicas } => replicas,
                Role::Replica => 0,
            })
            .sum();
        (following > listed).then(|| {
            format!(
                "{following} replicas follow these nodes and {listed} are named; \
                 each has users of its own, name all of them in `nodes`"
            )
        })
    }

    /// Every node with what stands before it: the fence key, and what it is to say.
    ///
    /// # Errors
    /// As [`Target::everywhere`]: nothing is changed where a node cannot be reached.
    pub(super) async fn change(&self, effect: TargetEffect, fence: Fence) -> Result<Change, Fault> {
        Ok(Change {
            all: self.everywhere().await?,
            key: format!("{PREFIX}{}", self.settings.names().join("+")),
            mark: Mark::new(fence, self.context.rotation, word(effect)),
        })
    }

    /// The connections of `user` on every node.
    ///
    /// # Errors
    /// As the servers say: a node that cannot be asked is unknown, not idle.
    pub(super) async fn idleness(&self, user: &str) -> Result<Idleness, Fault> {
        let mut found = 0;
        for at in &mut self.everywhere().await? {
            found += self.old_clients(at, user).await?.len();
        }
        Ok(match found {
            0 => Idleness::Idle,
            found => Idleness::Busy { detail: format!("`{user}` has {found} connections of before") },
        })
    }

    /// The connections of `user` that the old value has opened: all of a user who has had
    /// its turn; of one with two passwords those from before the new one was published.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn old_clients(&self, at: &mut At, user: &str) -> Result<Vec<Client>, Fault> {
        let since = self.settings.usual().map(|_| self.context.since_promotion);
        let is_old = |client: &Client| match since {
            None => true,
            Some(since) => since.is_some_and(|since| client.age >= since),
        };
        let clients = at.session.clients().await?;
        Ok(clients.into_iter().filter(|client| client.user == user && is_old(client)).collect())
    }
}

/// A change of every node, each in one transaction behind its fence.
pub(super) struct Change {
    pub(super) all: Vec<At>,
    key: String,
    mark: Mark,
}

impl Change {
    /// Changes one of the nodes. Primaries come first, and what a primary's fence shows
    /// is on its replicas before they are changed.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where a later effect was there first.
    pub(super) async fn run(&mut self, number: usize, commands: &[Cmd]) -> Result<(), Fault> {
        let named_replicas = self.all.iter().any(|at| at.role == Role::Replica);
        let at = &mut self.all[number];
        fence::change(&mut at.session, at.role, &self.key, &self.mark, commands).await?;
        match at.role {
            Role::Primary { replicas } if named_replicas => at.session.replicated(replicas).await,
            Role::Primary { .. } | Role::Replica => Ok(()),
        }
    }
}

/// What all nodes show of an effect, from what each shows. What is applied is saved
/// before that is told: an earlier try may have ended in between.
///
/// # Errors
/// As the servers say.
pub(super) async fn of_all(all: &mut [At], shown: Vec<Observed>) -> Result<Observed, Fault> {
    let mut absent = false;
    for (at, observed) in all.iter().zip(shown) {
        match observed {
            Observed::Applied => {}
            Observed::Absent => absent = true,
            Observed::Foreign { detail } => {
                return Ok(Observed::Foreign { detail: format!("on {}, {detail}", at.session.node) });
            }
        }
    }
    if absent {
        return Ok(Observed::Absent);
    }
    for at in all {
        let save = at.session.save().await?;
        at.session.keep(save).await?;
    }
    Ok(Observed::Applied)
}

/// What the fence calls an effect.
fn word(effect: TargetEffect) -> &'static str {
    match effect {
        TargetEffect::Install => "install",
        TargetEffect::Disable => "disable",
        TargetEffect::Revoke => "revoke",
        TargetEffect::Restore => "restore",
        TargetEffect::Remove => "remove",
    }
}

/// `ACL SETUSER`; rules may be hashes, never passwords.
pub(super) fn set_user(name: &str, rules: &[String]) -> Cmd {
    redis::cmd("ACL").arg("SETUSER").arg(name).arg(rules).clone()
}

/// Ends every connection of a user but our own.
pub(super) fn end_all(name: &str) -> Cmd {
    redis::cmd("CLIENT").arg("KILL").arg("USER").arg(name).arg("SKIPME").arg("yes").clone()
}

/// Ends exactly these connections.
pub(super) fn end(clients: &[Client]) -> Vec<Cmd> {
    let kill = |client: &Client| redis::cmd("CLIENT").arg("KILL").arg("ID").arg(client.id).clone();
    clients.iter().map(kill).collect()
}
