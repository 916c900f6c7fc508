//! What the database's errors mean to the caller.
//!
//! A server's error text can echo a value (`invalid input syntax ... "x"`, `Failing
//! row contains ...`), so messages carry the SQLSTATE and the constraint's name only.
//! The one exception is the class RT, whose texts are written in our migrations.

use rota_core::fault::Fault;

/// SQLSTATE class of the errors that our own SQL raises.
const OUR_CLASS: &str = "RT";

/// What our own SQL raises where the state forbids an order that is well-formed.
const FORBIDDEN: &str = "RT006";

/// Names the error by what the caller does next.
pub(crate) fn fault(doing: &str, error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            of_sqlstate(doing, &code, error.constraint(), error.message())
        }
        // How rustls reports a handshake that it refused.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            refused_certificate(doing)
        }
        sqlx::Error::Io(error) => {
            Fault::transient(format!("{doing}: the state database cannot be reached ({})", error.kind()))
        }
        sqlx::Error::PoolTimedOut => {
            Fault::transient(format!("{doing}: no connection to the state database became free in time"))
        }
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Fault::transient(format!("{doing}: the connections to the state database are closed"))
        }
        sqlx::Error::Protocol(_) => {
            Fault::transient(format!("{doing}: the state database broke off in the middle of an answer"))
        }
        sqlx::Error::Tls(_) => refused_certificate(doing),
        sqlx::Error::Configuration(_) => {
            Fault::invalid(format!("{doing}: the state database's connection settings cannot be used"))
        }
        _ => Fault::invalid(format!(
            "{doing}: a row of the state database cannot be read; is this binary as new as the schema"
        )),
    }
}

fn refused_certificate(doing: &str) -> Fault {
    Fault::invalid(format!(
        "{doing}: the state database's certificate was not accepted; check its name and the CA file"
    ))
}

fn of_sqlstate(doing: &str, code: &str, constraint: Option<&str>, message: &str) -> Fault {
    let named = constraint.map(|name| format!(", constraint {name}")).unwrap_or_default();
    let what = format!("{doing}: the state database answered SQLSTATE {code}{named}");
    match code.get(..2).unwrap_or_default() {
        OUR_CLASS if code == FORBIDDEN => Fault::conflict(message),
        OUR_CLASS => Fault::invalid(message),
        // Connection, resources, operator intervention, system error; serialization and deadlock.
        "08" | "53" | "57" | "58" | "40" | "55" => Fault::transient(what),
        "28" => Fault::denied(format!("{what}; check the login of the state database")),
        "25" if code == "25006" => Fault::transient(format!("{what}; it is a standby or read-only")),
        "23" => Fault::conflict(what),
        _ => match code {
            "42501" => Fault::denied(format!(
                "{what}; make the login a member of the role that this needs, see `rota doctor`"
            )),
            "42P01" | "3F000" | "42703" | "42883" => {
                Fault::invalid(format!("{what}; the schema is missing or old, run `rota migrate`"))
            }
            "3D000" => Fault::invalid(format!("{what}; create the database first")),
            _ => Fault::invalid(what),
        },
    }
}

/// A stored text that this binary cannot read.
pub(crate) fn unreadable(what: &str) -> Fault {
    Fault::invalid(format!(
        "the state database holds {what} that this binary cannot read; is it as new as the schema"
    ))
}

/// Attaches what was being done to a database's error.
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
    fn a_servers_text_is_repeated_only_where_we_wrote_it() {
        let said = of_sqlstate("recording", "22P02", None, "invalid input syntax: \"hunter2\"").to_string();
        assert!(said.contains("22P02") && !said.contains("hunter2"), "{said}");
        let said =
            of_sqlstate("recording", "23514", Some("rotations_check"), "Failing row contains (hunter2)");
        assert!(matches!(&said, Fault::Conflict { message } if message.contains("rotations_check")));
        assert!(!said.to_string().contains("hunter2"));
        assert_eq!(
            of_sqlstate("asking", "RT004", None, "no secret has that name").to_string(),
            "no secret has that name"
        );
        let forbidden = of_sqlstate("asking", "RT006", None, "a rotation is in flight");
        assert!(matches!(&forbidden, Fault::Conflict { message } if message == "a rotation is in flight"));
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_a_person_has_to_change() {
        for code in ["08006", "53300", "57P01", "40001", "40P01", "55P03", "25006"] {
            assert!(of_sqlstate("claiming", code, None, "").passes_by_itself(), "{code}");
        }
        for code in ["28P01", "42501"] {
            assert!(matches!(of_sqlstate("claiming", code, None, ""), Fault::Denied { .. }), "{code}");
        }
        for code in ["42P01", "3D000", "22P02"] {
            assert!(matches!(of_sqlstate("claiming", code, None, ""), Fault::Invalid { .. }), "{code}");
        }
    }
}
