//! What a Redis server's errors mean to the caller.
//!
//! A server's text can echo a command, and with it a hash, so messages carry the code of
//! the error and names that we know, never the text.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};
use rota_core::fault::Fault;

/// The first word of an error that the server sent, also of one inside a transaction.
pub(crate) fn code_of(error: &RedisError) -> Option<String> {
    match error.code() {
        Some(code) => Some(code.to_owned()),
        None => error.clone().into_server_errors().and_then(|all| Some(all.first()?.1.code().to_owned())),
    }
}

/// Names the error by what the caller does next. `doing` says what and where.
pub(crate) fn fault(doing: &str, error: &RedisError) -> Fault {
    if let Some(code) = code_of(error) {
        return of_code(doing, &code);
    }
    if is_untrusted(error) {
        return Fault::invalid(format!(
            "{doing}: the server's certificate was not accepted; check that it holds the host's name, and set `ca`"
        ));
    }
    match error.kind() {
        ErrorKind::Io => Fault::transient(format!("{doing}: the server cannot be reached or broke off")),
        ErrorKind::InvalidClientConfig => {
            Fault::invalid(format!("{doing}: the connection's settings cannot be used, check url and ca"))
        }
        _ => Fault::invalid(format!("{doing}: the server's answer cannot be read, is it Redis 6 or newer")),
    }
}

/// How rustls reports a handshake that it refused; the client shares what it wraps.
fn is_untrusted(error: &RedisError) -> bool {
    let shared = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let io = shared.and_then(|shared| shared.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

fn of_code(doing: &str, code: &str) -> Fault {
    let what = format!("{doing}: the server answered {code}");
    match code {
        "WRONGPASS" | "NOAUTH" => Fault::denied(format!("{what}; correct the administrator's login")),
        "NOPERM" => Fault::denied(format!(
            "{what}; the administrator lacks a right, see the rights that `redis-acl` needs"
        )),
        "READONLY" => Fault::transient(format!("{what}; it is a replica by now, and is asked again")),
        "MISCONF" => {
            Fault::transient(format!("{what}; it takes no writes since it cannot save, see its log"))
        }
        "OOM" => Fault::transient(format!("{what}; its memory is full, so that no fence can be written")),
        "LOADING" | "BUSY" | "MASTERDOWN" | "NOREPLICAS" | "TRYAGAIN" | "CLUSTERDOWN" => {
            Fault::transient(what)
        }
        "MOVED" | "ASK" | "CROSSSLOT" => {
            Fault::invalid(format!("{what}; Redis Cluster is not supported, name servers that stand alone"))
        }
        _ => Fault::invalid(format!("{what}; is it Redis 6 or newer, and are its commands not renamed")),
    }
}

/// Attaches what was being done to a server's error.
pub(crate) trait Doing<T> {
    /// # Errors
    /// The error as a [`Fault`].
    fn doing(self, what: &str) -> Result<T, Fault>;
}

impl<T> Doing<T> for Result<T, RedisError> {
    fn doing(self, what: &str) -> Result<T, Fault> {
        self.map_err(|error| fault(what, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_a_person_has_to_change() {
        for code in ["LOADING", "READONLY", "MISCONF", "OOM", "MASTERDOWN"] {
            assert!(of_code("asking", code).passes_by_itself(), "{code}");
        }
        for code in ["WRONGPASS", "NOAUTH", "NOPERM"] {
            assert!(matches!(of_code("asking", code), Fault::Denied { .. }), "{code}");
        }
        for code in ["ERR", "MOVED", "WRONGTYPE"] {
            assert!(matches!(of_code("asking", code), Fault::Invalid { .. }), "{code}");
        }
    }

    #[test]
    fn what_the_server_says_is_never_told() {
        let said = RedisError::from((ErrorKind::Extension, "ERR", "modifier '#cafe' refused".to_owned()));
        assert!(!fault("asking", &said).to_string().contains("cafe"));
    }
}
