//! Redis servers: their addresses, connections, users and clients.
//!
//! Each node has users of its own, so everything is asked of every node. A call makes its
//! connections and closes them. A clear password is only ever sent in AUTH; what sets one
//! sends its hash.
//!
//! Deliberately absent: Redis Cluster and Sentinel, pools, retries.

mod address;
mod fault;
mod login;
mod session;
mod user;

pub(crate) use address::{Servers, TlsUse, endpoint, servers_problems};
pub(crate) use login::LoginOutcome;
pub(crate) use session::{Client, Role, Save, Session};
pub(crate) use user::{User, hash};

/// One node and how it is reached.
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: TlsUse,
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
