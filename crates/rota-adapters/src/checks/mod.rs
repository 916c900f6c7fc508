//! How we know that a consumer is well.
//!
//! A check looks once. What it cannot read is unknown, and unknown never passes.

pub mod auth_failures;
mod bounds;
pub mod cloudwatch;
pub mod command;
pub mod http;
pub mod iam_last_used;
pub mod json_metric;
pub mod log_file;
pub mod postgres_sessions;
pub mod prometheus;
pub mod redis_clients;
mod request;

use std::time::Duration;

use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::KindProblem;
use rota_engine::ports::{Reading, Verdict};

pub(crate) use http::status_problem;
pub(crate) use request::{
    address_problem, basic_login, bearer_login, header_name, header_problems, header_value, reference_problem,
};

use crate::settings;

/// How long a look may take where the policy does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A metrics page or a health answer is far smaller.
const MAX_BODY_BYTES: usize = 1_048_576;

/// The limit of one look.
pub(crate) fn timeout(said: Option<DurationText>) -> Duration {
    settings::timeout(said, DEFAULT_TIMEOUT)
}

fn reading(verdict: Verdict, value: Option<f64>, detail: impl Into<String>) -> Reading {
    Reading { verdict, value, detail: detail.into() }
}

fn unknown(detail: impl Into<String>) -> Reading {
    reading(Verdict::Unknown, None, detail)
}

/// Turns what could not be read into an unknown reading; what never can is a fault.
fn unread(fault: Fault) -> Result<Reading, Fault> {
    match fault {
        Fault::Transient { message } | Fault::RateLimited { message, .. } => Ok(unknown(message)),
        Fault::Denied { .. } | Fault::Conflict { .. } | Fault::Invalid { .. } => Err(fault),
    }
}

/// What is wrong with a JSONPath that cannot be read.
pub(crate) fn path_problem(pointer: &str) -> KindProblem {
    KindProblem::error(
        "path",
        pointer,
        "this is not a JSONPath (RFC 9535)",
        "write a path such as `$.checks.database`",
    )
}
