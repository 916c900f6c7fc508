//! What a database server's errors mean to the caller.
//!
//! A server's text can echo a statement, and with it a verifier, so messages carry the
//! SQLSTATE and names that we know, never the text.

use rota_core::fault::Fault;

/// What sqlx says of a server that answers the wish for TLS with no.
const NO_TLS: &str = "server does not support TLS";

/// The SQLSTATE of an error that the server sent.
pub(super) fn code_of(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// Names the error by what the caller does next. `doing` says what and where.
pub(super) fn fault(doing: &str, error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(error) => of_sqlstate(doing, &error.code().unwrap_or_default()),
        sqlx::Error::Tls(error) if error.to_string() == NO_TLS => Fault::invalid(format!(
            "{doing}: the server does not speak TLS; set `ssl = on` and a certificate there"
        )),
        sqlx::Error::Tls(_) => untrusted(doing),
        // How rustls reports a handshake that it refused.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => untrusted(doing),
        sqlx::Error::Io(error) => {
            Fault::transient(format!("{doing}: the server cannot be reached ({})", error.kind()))
        }
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Fault::transient(format!("{doing}: the server broke off in the middle of an answer"))
        }
        sqlx::Error::Configuration(_) => {
            Fault::invalid(format!("{doing}: the connection's settings cannot be used, check host and ca"))
        }
        _ => {
            Fault::invalid(format!("{doing}: the server's answer cannot be read, is it Postgres 12 or newer"))
        }
    }
}

fn untrusted(doing: &str) -> Fault {
    Fault::invalid(format!(
        "{doing}: the server's certificate was not accepted; check that it holds the host's name, and set `ca`"
    ))
}

fn of_sqlstate(doing: &str, code: &str) -> Fault {
    let what = format!("{doing}: the server answered SQLSTATE {code}");
    match code {
        "25006" => Fault::transient(format!("{what}; it is a standby or read-only, and is asked again")),
        "42501" => {
            Fault::denied(format!("{what}; the login lacks a right, see the rights that `postgres` needs"))
        }
        "3D000" => Fault::invalid(format!("{what}; the database does not exist, correct `database`")),
        // Somebody made the same thing at the same moment: it is there when asked again.
        "23505" | "42710" | "42P06" | "42P07" | "XX000" => Fault::transient(what),
        _ => match code.get(..2).unwrap_or_default() {
            // Connection, resources, operator intervention, system error, locks; serialization and deadlock.
            "08" | "53" | "57" | "58" | "55" | "40" => Fault::transient(what),
            "28" => Fault::denied(format!("{what}; correct the login")),
            _ => Fault::invalid(what),
        },
    }
}

/// Attaches what was being done to a server's error.
pub(crate) trait Doing<T> {
    /// # Errors
    /// The error as a [`Fault`].
    fn doing(self, what: &str) -> Result<T, Fault>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, what: &str) -> Result<T, Fault> {
        self.map_err(|error| fault(what, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_a_person_has_to_change() {
        for code in ["08006", "25006", "53300", "57P01", "57P03", "40P01", "55P03", "23505"] {
            assert!(of_sqlstate("asking", code).passes_by_itself(), "{code}");
        }
        for code in ["42501", "28P01"] {
            assert!(matches!(of_sqlstate("asking", code), Fault::Denied { .. }), "{code}");
        }
        for code in ["3D000", "42601", "2BP01"] {
            assert!(matches!(of_sqlstate("asking", code), Fault::Invalid { .. }), "{code}");
        }
    }
}
