//! Logs: JSON or text on standard error, through an allow-list.
//!
//! Deliberately absent: `RUST_LOG`, and the bridge from the `log` crate. Both would
//! be ways around [`filter`], which is what keeps other crates' debug output (SDK
//! request bodies, connection options) away from the log.

mod filter;

use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;

pub(crate) use filter::Filter;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Starts logging. What the filter refused is logged as a warning.
pub(crate) fn start(format: Format, directives: &str) {
    let (filter, refused) = Filter::parse(directives);
    // A second start (which no path of the program makes) would keep the first one.
    let _ = tracing::subscriber::set_global_default(subscriber(format, filter, std::io::stderr));
    for message in refused {
        tracing::warn!(message, "part of telemetry.filter was refused");
    }
}

/// The whole pipeline, with a writer of the caller's.
fn subscriber<W>(format: Format, filter: Filter, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let most = LevelFilter::from_level(filter.most_verbose().unwrap_or(Level::ERROR));
    let allowed = filter_fn(move |metadata| filter.allows(metadata.target(), *metadata.level()))
        .with_max_level_hint(most);
    let registry = tracing_subscriber::registry().with(allowed);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        Format::Json => Box::new(registry.with(layer.json().flatten_event(true).with_current_span(false))),
        Format::Text => Box::new(registry.with(layer.with_ansi(false).with_target(false))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, directives: &str, act: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(format, Filter::parse(directives).0, move || writer.clone());
        tracing::subscriber::with_default(subscriber, act);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn chatter() {
        tracing::trace!(target: "aws_smithy_runtime::client", body = "leaked-1", "request");
        tracing::debug!(target: "sqlx::query", statement = "leaked-2", "slow");
        tracing::debug!(target: "hyper::proto", "leaked-3");
        tracing::error!(target: "rustify::clients", "leaked-4");
        tracing::error!(target: "vaultrs::api", "leaked-5");
        tracing::warn!(target: "sqlx::query", "leaked-6");
        tracing::debug!(target: "rota_unrelated", "leaked-7");
        let span = tracing::debug_span!(target: "h2", "frame", data = "leaked-8");
        let _entered = span.enter();
        tracing::debug!(target: "rota_engine::drive", "ours");
    }

    #[test]
    fn a_hostile_filter_raises_nobody_but_rota() {
        for hostile in [
            "trace",
            "rota=trace,trace",
            "aws_smithy_runtime=trace,sqlx=trace,hyper=trace,rustify=trace,vaultrs=trace,h2=trace,rota_engine=trace",
            "aws_smithy_runtime::client=trace,rota=debug",
            "TRACE",
            "rota_unrelated=trace,rota=trace",
            "[{body}]=trace,trace",
            ",,,=,==trace,rota==trace,trace",
        ] {
            for format in [Format::Json, Format::Text] {
                let log = logged(format, hostile, chatter);
                assert!(!log.contains("leaked"), "{hostile} let through: {log}");
            }
        }
    }

    #[test]
    fn our_own_crates_can_be_raised() {
        assert!(!logged(Format::Json, "info", chatter).contains("ours"));
        assert!(logged(Format::Json, "debug", chatter).contains("ours"));
        assert!(logged(Format::Json, "rota_engine=debug", chatter).contains("ours"));
    }

    #[test]
    fn other_crates_warnings_are_heard() {
        let log = logged(Format::Json, "info", || {
            tracing::info!(target: "some_library::part", "scheduled");
            tracing::info!(target: "hyper_util::client", "pooled");
            tracing::warn!(target: "hyper_util::client", "reset");
        });
        assert!(log.contains("scheduled") && log.contains("reset") && !log.contains("pooled"), "{log}");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let log = logged(Format::Json, "info", || tracing::info!(target: "rota", secret = "A", "rotated"));
        let line: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
        assert_eq!(line["message"], "rotated");
        assert_eq!(line["secret"], "A");
        assert_eq!(line["level"], "INFO");
    }
}
