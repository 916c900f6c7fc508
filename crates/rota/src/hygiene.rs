//! What the process forbids itself before it touches a value.
//!
//! Core dumps and `/proc/self/mem` would show every value that is in memory, and a
//! panic's message may hold one. Deliberately absent: anything that can be switched
//! off by configuration.

use std::panic::PanicHookInfo;

use crate::exit::{Exit, Failure};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps and being read by other processes of the same user, and
/// makes panics keep their messages to themselves.
///
/// # Errors
/// Where the system refuses; nothing that holds values should go on then.
pub(crate) fn protect() -> Result<(), std::io::Error> {
    std::panic::set_hook(Box::new(|info| tracing::error!(target: "rota", "{}", describe(info))));
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Where it happened, and the message only where it is a literal of the program:
/// a formatted one may hold whatever was being worked on.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    match info.payload().downcast_ref::<&'static str>() {
        Some(literal) => format!("a bug: panicked at {place}: {literal}"),
        None => format!("a bug: panicked at {place}; its message is not shown, it may hold a value"),
    }
}

/// What to tell a person where [`protect`] failed.
pub(crate) fn refuse(error: std::io::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot forbid core dumps: {error}"))
        .hint("rota does not run where its memory could be written to disk; allow setrlimit and prctl")
}
