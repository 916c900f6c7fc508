//! What an administrator asks of a node.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use rota_core::fault::Fault;

use super::fault::{Doing as _, code_of, fault};
use super::user::User;

/// How long a primary waits for its replicas to have what was written.
const REPLICATION: Duration = Duration::from_secs(3);

/// A session of the administrator's on one node.
pub(crate) struct Session {
    /// The node, for messages.
    pub(crate) node: String,
    connection: MultiplexedConnection,
}

/// What a node is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Primary {
        replicas: usize,
    },
    /// Read only; users are not replicated to it.
    Replica,
}

/// How users survive a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Save {
    /// `ACL SAVE`.
    AclFile,
    /// `CONFIG REWRITE`: users stand in redis.conf.
    Config,
}

/// A connection that somebody has to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) user: String,
    pub(crate) age: SignedDuration,
    /// It is a replica that follows this node.
    pub(crate) replica: bool,
}

impl Session {
    pub(super) fn new(node: String, connection: MultiplexedConnection) -> Self {
        Self { node, connection }
    }

    /// Sends one command. It may hold names and hashes, never a password.
    ///
    /// # Errors
    /// As the server says; `doing` stands in the message.
    pub(crate) async fn ask<T: FromRedisValue>(&mut self, doing: &str, command: &Cmd) -> Result<T, Fault> {
        command.query_async(&mut self.connection).await.doing(&format!("{doing} on {}", self.node))
    }

    /// Sends a transaction; false where what was watched changed, and nothing happened.
    ///
    /// # Errors
    /// As the server says.
    pub(crate) async fn run(&mut self, doing: &str, commands: &Pipeline) -> Result<bool, Fault> {
        let answer: Value =
            commands.query_async(&mut self.connection).await.doing(&format!("{doing} on {}", self.node))?;
        Ok(answer != Value::Nil)
    }

    /// # Errors
    /// As the server says.
    pub(crate) async fn user(&mut self, name: &str) -> Result<Option<User>, Fault> {
        let doing = format!("looking at user `{name}`");
        let answer: Value = self.ask(&doing, redis::cmd("ACL").arg("GETUSER").arg(name)).await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let unreadable = || Fault::invalid(format!("{doing} on {}: the answer cannot be read", self.node));
        User::read(&answer).map(Some).ok_or_else(unreadable)
    }

    /// Everybody who is connected, ourselves too. Redis 7.0 cannot filter by user.
    ///
    /// # Errors
    /// As the server says.
    pub(crate) async fn clients(&mut self) -> Result<Vec<Client>, Fault> {
        let text: String = self.ask("counting clients", redis::cmd("CLIENT").arg("LIST")).await?;
        Ok(text.lines().filter_map(client).collect())
    }

    /// One section of `INFO`, by name.
    ///
    /// # Errors
    /// As the server says.
    pub(crate) async fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>, Fault> {
        let text: String = self.ask("asking for INFO", redis::cmd("INFO").arg(section)).await?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    /// # Errors
    /// As the server says.
    pub(crate) async fn role(&mut self) -> Result<Role, Fault> {
        let info = self.info("replication").await?;
        let replicas = info.get("connected_slaves").and_then(|number| number.parse().ok()).unwrap_or(0);
        let primary = info.get("role").is_some_and(|role| role == "master");
        Ok(if primary { Role::Primary { replicas } } else { Role::Replica })
    }

    /// The text of a setting; empty where there is none.
    ///
    /// # Errors
    /// As the server says.
    pub(crate) async fn setting(&mut self, name: &str) -> Result<String, Fault> {
        let command = redis::cmd("CONFIG").arg("GET").arg(name).clone();
        let pair: Vec<String> = self.ask(&format!("reading the setting {name}"), &command).await?;
        Ok(pair.into_iter().nth(1).unwrap_or_default())
    }

    /// How users of this node survive a restart.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where they do not.
    pub(crate) async fn save(&mut self) -> Result<Save, Fault> {
        if !self.setting("aclfile").await?.is_empty() {
            return Ok(Save::AclFile);
        }
        if self.info("server").await?.get("config_file").is_some_and(|file| !file.is_empty()) {
            return Ok(Save::Config);
        }
        Err(Fault::invalid(format!(
            "users of {} would be lost in a restart; start it with a configuration file, and set `aclfile` there",
            self.node
        )))
    }

    /// Writes users down.
    ///
    /// # Errors
    /// A passing fault where the file cannot be written.
    pub(crate) async fn keep(&mut self, save: Save) -> Result<(), Fault> {
        match save.command().exec_async(&mut self.connection).await {
            Ok(()) => Ok(()),
            Err(error) if code_of(&error).as_deref() == Some("ERR") => Err(save.failed(&self.node)),
            Err(error) => Err(fault(&format!("saving users on {}", self.node), &error)),
        }
    }

    /// Waits until `replicas` have what this session wrote.
    ///
    /// # Errors
    /// A passing fault where they do not in time.
    pub(crate) async fn replicated(&mut self, replicas: usize) -> Result<(), Fault> {
        let limit = REPLICATION.as_millis().to_string();
        let there: usize =
            self.ask("waiting for replicas", redis::cmd("WAIT").arg(replicas).arg(limit)).await?;
        if there < replicas {
            return Err(Fault::transient(format!(
                "{there} of {replicas} replicas of {} follow in time; see its INFO replication",
                self.node
            )));
        }
        Ok(())
    }
}

impl Save {
    /// The command that writes users down.
    pub(crate) fn command(self) -> Cmd {
        let (command, how) = match self {
            Self::AclFile => ("ACL", "SAVE"),
            Self::Config => ("CONFIG", "REWRITE"),
        };
        redis::cmd(command).arg(how).clone()
    }

    /// Why it failed, without the server's words.
    pub(crate) fn failed(self, node: &str) -> Fault {
        let file = match self {
            Self::AclFile => "its `aclfile`",
            Self::Config => "its configuration file",
        };
        Fault::transient(format!("{node} cannot write {file}; see its log, and let it write there"))
    }
}

/// One line of `CLIENT LIST`.
fn client(line: &str) -> Option<Client> {
    let fields: BTreeMap<&str, &str> = line.split(' ').filter_map(|field| field.split_once('=')).collect();
    Some(Client {
        id: fields.get("id")?.parse().ok()?,
        user: (*fields.get("user")?).to_owned(),
        age: SignedDuration::from_secs(fields.get("age")?.parse().ok()?),
        replica: fields.get("flags")?.contains('S'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_clients_is_read() {
        let line = "id=10 addr=127.0.0.1:34624 laddr=127.0.0.1:7999 fd=7 name=a age=62 idle=0 flags=N db=0 \
            sub=0 cmd=client|list user=a\"b=c redir=-1 resp=2";
        let read = client(line).unwrap();
        assert_eq!(
            (read.id, read.user.as_str(), read.age.as_secs(), read.replica),
            (10, "a\"b=c", 62, false)
        );
        assert!(client("id=3 user=default age=1 flags=S").unwrap().replica);
        assert_eq!(client("nothing"), None);
    }
}
