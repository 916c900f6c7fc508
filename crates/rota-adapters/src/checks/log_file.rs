//! `log-file`: how often a pattern stands in a file that a consumer on this host logs to,
//! per minute.
//!
//! Lines are placed by the times that they begin with, so nothing is remembered between two
//! looks, and a file that was rotated or truncated is what it holds now. Reading has a
//! limit; what lies beyond it was not seen. No line gets into a message.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use regex::bytes::Regex;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Check, CheckContext, Reading, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bounds::{Bounds, Change};
use super::cloudwatch::window_problem;
use super::{unknown, unread};
use crate::catalog::CheckKind;
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "log-file";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "how often a pattern stands in a log file on this host")
        .inline::<LogFileSettings>()
        .lint(lint),
    build: |policy, environment| Ok(Arc::new(LogFileCheck::new(&policy.settings, environment.host.clone())?)),
};

/// How far back a look goes where the policy does not say.
const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// A window of a day is more than a tail of [`MOST_BYTES`] holds in most logs.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// What one look reads of a file: a service that logs more in its window is too loud for this.
const MOST_BYTES: u64 = 16 * 1_048_576;

/// What a rate is made of at least.
const SHORTEST_COVER: SignedDuration = SignedDuration::from_mins(1);

/// A line's time stands near its beginning; JSON has other fields before it.
const TIME_WITHIN: usize = 256;

/// RFC 3339, and the same with a space or slashes, as most loggers write it.
const TIME: &str = r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,]\d+)?(Z| ?[+-]\d\d:?\d\d)?";

/// `{ kind = "log-file", path = "/srv/acd/logs/backend-error.log", pattern = "JWT", max = 3.0 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFileSettings {
    /// The machine that the file is on, as `host` of its daemon's configuration names it.
    host: Option<String>,
    /// The file. Where it begins within the window, `PATH.1` is read, too.
    path: PathBuf,
    /// A regular expression; a line counts once.
    pattern: String,
    /// How far back a look goes; 5m where nothing is said, 24h at most.
    window: Option<DurationText>,
    /// The zone of times without one; UTC where nothing is said.
    zone: Option<String>,
    /// Nothing at all may be logged while the consumer is well, as in a log of errors.
    #[serde(default)]
    may_be_silent: bool,
    /// Below it, per minute, is unhealthy.
    min: Option<f64>,
    /// Above it, per minute, is unhealthy.
    max: Option<f64>,
    /// How far it may fall from its number before the promotion.
    max_drop: Option<Change>,
    /// How far it may rise from its number before the promotion.
    max_rise: Option<Change>,
}

/// The check.
pub struct LogFileCheck {
    settings: LogFileSettings,
    here: Option<String>,
    scan: Arc<Scan>,
}

/// What lines are looked at with.
struct Scan {
    pattern: Regex,
    time: Regex,
    zone: TimeZone,
}

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    /// Lines of the window.
    lines: u32,
    /// Those that match.
    matches: u32,
    /// The first time in what was read.
    first: Option<Timestamp>,
    /// The time that a line without one belongs to.
    current: Option<Timestamp>,
    /// The beginning was left out, because there is too much.
    cut: bool,
    /// Anything but a time was read.
    any: bool,
}

impl LogFileCheck {
    /// `here` is what the daemon's configuration calls its host.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, here: Option<String>) -> Result<Self, Fault> {
        let settings: LogFileSettings = settings::read(NAME, settings)?;
        let unusable = |what: &str| Fault::invalid(format!("the check's {what} cannot be read, correct it"));
        let scan = Scan {
            pattern: Regex::new(&settings.pattern).map_err(|_| unusable("pattern"))?,
            time: Regex::new(TIME).map_err(|_| unusable("time"))?,
            zone: zone(settings.zone.as_deref()).ok_or_else(|| unusable("zone"))?,
        };
        Ok(Self { settings, here, scan: Arc::new(scan) })
    }

    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        settings::must_be_here("check", self.settings.host.as_ref(), self.here.as_ref())?;
        let (scan, path) = (Arc::clone(&self.scan), self.settings.path.clone());
        let from = context.now - self.settings.window();
        let read = tokio::task::spawn_blocking(move || scan.files(&path, from));
        let found = read.await.map_err(|_| Fault::transient("reading the log was broken off"))?;
        Ok(self.judge(&found?, context))
    }

    fn judge(&self, found: &Found, context: &CheckContext) -> Reading {
        let path = self.settings.path.display();
        let window = self.settings.window();
        if found.any && found.first.is_none() {
            return unknown(format!("no line of {path} has a time such as 2026-01-15T10:00:00Z"));
        }
        if found.lines == 0 && !self.settings.may_be_silent {
            return unknown(format!("nothing at all was written to {path} in the window"));
        }
        // A log that was begun anew in the window covers less of it.
        let since = found.first.map_or(window, |first| context.now.duration_since(first));
        let covered = since.clamp(SignedDuration::ZERO, window);
        if covered < SHORTEST_COVER && found.lines > 0 {
            return unknown(format!("{path} goes back less than a minute"));
        }
        let minutes = covered.max(SHORTEST_COVER).as_secs_f64() / 60.0;
        let judged = self.settings.bounds().judge(f64::from(found.matches) / minutes, context.baseline);
        if found.cut && judged.verdict != Verdict::Unhealthy {
            return unknown(format!("{path} has more lines in the window than one look reads"));
        }
        judged
    }
}

#[async_trait]
impl Check for LogFileCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        self.look(context).await.or_else(unread)
    }
}

impl LogFileSettings {
    fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max, max_drop: self.max_drop, max_rise: self.max_rise }
    }

    fn window(&self) -> SignedDuration {
        self.window.map_or(DEFAULT_WINDOW, |window| window.0)
    }
}

impl Scan {
    /// The file, and the one before it where it was rotated within the window.
    fn files(&self, path: &Path, from: Timestamp) -> Result<Found, Fault> {
        let newest = tail(path)?
            .ok_or_else(|| Fault::transient(format!("{} is not there at the moment", path.display())))?;
        let alone = self.lines(Found::default(), &newest, from);
        let reaches_back = alone.cut || alone.first.is_some_and(|first| first <= from);
        let mut before = path.as_os_str().to_owned();
        before.push(".1");
        match tail(Path::new(&before))? {
            Some(older) if !reaches_back => {
                let older = self.lines(Found::default(), &older, from);
                Ok(self.lines(older, &newest, from))
            }
            Some(_) | None => Ok(alone),
        }
    }

    fn lines(&self, mut found: Found, text: &Tail, from: Timestamp) -> Found {
        found.cut |= text.cut;
        for line in text.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            found.any = true;
            if let Some(time) = self.time(line) {
                found.current = Some(time);
                found.first = found.first.or(Some(time));
            }
            if found.current.is_some_and(|time| time > from) {
                found.lines = found.lines.saturating_add(1);
                found.matches = found.matches.saturating_add(u32::from(self.pattern.is_match(line)));
            }
        }
        // With what was left out, the window may be whole all the same.
        found.cut &= found.first.is_none_or(|first| first > from);
        found
    }

    fn time(&self, line: &[u8]) -> Option<Timestamp> {
        let parts = self.time.captures(&line[..line.len().min(TIME_WITHIN)])?;
        let part =
            |number: usize| parts.get(number).and_then(|part| std::str::from_utf8(part.as_bytes()).ok());
        let civil = format!("{}-{}-{}T{}", part(1)?, part(2)?, part(3)?, part(4)?);
        match part(5).map(str::trim) {
            Some("Z") => format!("{civil}Z").parse().ok(),
            Some(offset) => format!("{civil}{offset}").parse().ok(),
            None => {
                let civil: DateTime = civil.parse().ok()?;
                civil.to_zoned(self.zone.clone()).ok().map(|zoned| zoned.timestamp())
            }
        }
    }
}

/// The end of a file.
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

/// At most [`MOST_BYTES`] of the end of a file, from the beginning of a line.
fn tail(path: &Path) -> Result<Option<Tail>, Fault> {
    let shown = path.display();
    let unreadable = || Fault::transient(format!("{shown} cannot be read at the moment"));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(Fault::denied(format!("{shown} may not be read by the daemon's user")));
        }
        Err(_) => return Err(unreadable()),
    };
    let about = file.metadata().map_err(|_| unreadable())?;
    if !about.is_file() {
        return Err(Fault::invalid(format!("{shown} is not a file, correct the check's path")));
    }
    let skipped = about.len().saturating_sub(MOST_BYTES);
    file.seek(SeekFrom::Start(skipped)).map_err(|_| unreadable())?;
    let mut bytes = Vec::new();
    // What is appended meanwhile is of the next look.
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|_| unreadable())?;
    let cut = skipped > 0;
    if cut {
        let whole = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
        bytes.drain(..whole);
    }
    Ok(Some(Tail { bytes, cut }))
}

fn zone(name: Option<&str>) -> Option<TimeZone> {
    name.map_or(Some(TimeZone::UTC), |name| TimeZone::get(name).ok())
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = LogFileSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        window_problem(settings.window, LONGEST_WINDOW).into_iter().collect();
    problems.extend(settings.bounds().problem());
    if !settings.path.is_absolute() {
        let help = "write the whole path: `/srv/acd/logs/backend-error.log`";
        problems.push(KindProblem::error("path", "/path", "the path does not begin with /", help));
    }
    if Regex::new(&settings.pattern).is_err() || settings.pattern.is_empty() {
        let help = "write a pattern such as `JWT|unauthorized`; Rust's regex crate has no backreferences";
        problems.push(KindProblem::error(
            "pattern",
            "/pattern",
            "this is not a regular expression that finds anything",
            help,
        ));
    }
    if zone(settings.zone.as_deref()).is_none() {
        let help = "write a name such as `Europe/Amsterdam`";
        problems.push(KindProblem::error("zone", "/zone", "there is no such time zone", help));
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-01-15T10:00:00Z";

    struct Log(tempfile::TempDir);

    impl Log {
        fn new(text: &str) -> Self {
            let log = Self(tempfile::tempdir().unwrap());
            log.write("log", text);
            log
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.path().join(name), text).unwrap();
        }

        async fn look(&self, more: Value) -> Result<Reading, Fault> {
            let mut settings = json!({ "path": self.0.path().join("log"), "pattern": "JWT", "max": 1.0 });
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let check = LogFileCheck::new(&settings, Some("web-1".to_owned())).unwrap();
            check.observe(&CheckContext { now: NOW.parse().unwrap(), baseline: None, value: None }).await
        }

        async fn rate(&self, more: Value) -> Option<f64> {
            self.look(more).await.unwrap().value
        }
    }

    #[tokio::test]
    async fn lines_of_the_window_are_counted_per_minute_and_never_shown() {
        let log = Log::new(
            "2026-01-15T09:54:59Z JWT too old\n2026-01-15T09:55:01Z fine\n2026-01-15T09:58:00Z JWT hunter2\n\
             2026-01-15 09:59:00,123 JWT hunter2\n    at JWT.verify (hunter2)\n",
        );
        let reading = log.look(json!({})).await.unwrap();
        assert_eq!((reading.verdict, reading.value), (Verdict::Healthy, Some(0.6)), "{}", reading.detail);
        assert!(!reading.detail.contains("hunter2"));
        let strict = log.look(json!({ "max": 0.5 })).await.unwrap();
        assert_eq!(strict.verdict, Verdict::Unhealthy);
        assert!(!strict.detail.contains("hunter2"));
    }

    #[tokio::test]
    async fn times_are_read_in_the_forms_of_loggers() {
        for line in [
            "2026-01-15T09:59:00Z JWT",
            "2026-01-15T09:59:00.123456Z JWT",
            "[2026-01-15T11:59:00+02:00] JWT",
            "2026-01-15 11:59:00 +0200 JWT",
            "2026/01/15 09:59:00 [error] JWT",
            "{\"level\":\"error\",\"timestamp\":\"2026-01-15T09:59:00.000Z\",\"message\":\"JWT\"}",
        ] {
            let log = Log::new(&format!("2026-01-15T09:50:00Z begin\n{line}\n"));
            assert_eq!(log.rate(json!({})).await, Some(0.2), "{line}");
        }
        let local = Log::new("2026-01-15T10:50:00 begin\n2026-01-15T10:59:00 JWT\n");
        assert_eq!(local.rate(json!({ "zone": "Europe/Amsterdam" })).await, Some(0.2));
    }

    #[tokio::test]
    async fn a_log_that_was_rotated_goes_on_in_the_one_before() {
        let log = Log::new("2026-01-15T09:58:00Z JWT\n");
        log.write("log.1", "2026-01-15T09:00:00Z JWT\n2026-01-15T09:56:00Z JWT\n");
        assert_eq!(log.rate(json!({})).await, Some(0.4));
        log.write("log", "");
        assert_eq!(log.rate(json!({})).await, Some(0.2), "truncated");
        std::fs::remove_file(log.0.path().join("log.1")).unwrap();
        assert_eq!(log.look(json!({})).await.unwrap().verdict, Verdict::Unknown);
        log.write("log", "2026-01-15T09:58:00Z JWT\n");
        assert_eq!(log.rate(json!({})).await, Some(0.5), "two minutes are covered");
        log.write("log", "2026-01-15T09:59:30Z JWT\n");
        assert_eq!(log.look(json!({})).await.unwrap().verdict, Verdict::Unknown, "half a minute is");
    }

    #[tokio::test]
    async fn what_cannot_be_told_is_unknown() {
        let silent = Log::new("2026-01-15T09:00:00Z started\n");
        assert_eq!(silent.look(json!({})).await.unwrap().verdict, Verdict::Unknown);
        assert_eq!(silent.look(json!({ "may_be_silent": true })).await.unwrap().verdict, Verdict::Healthy);
        let timeless = Log::new("JWT\nJWT\n");
        for more in [json!({}), json!({ "may_be_silent": true })] {
            assert_eq!(timeless.look(more).await.unwrap().verdict, Verdict::Unknown);
        }
        std::fs::remove_file(timeless.0.path().join("log")).unwrap();
        assert_eq!(timeless.look(json!({ "may_be_silent": true })).await.unwrap().verdict, Verdict::Unknown);
        let elsewhere = silent.look(json!({ "host": "web-2", "may_be_silent": true })).await.unwrap();
        assert_eq!(elsewhere.verdict, Verdict::Unknown);
        std::fs::create_dir(timeless.0.path().join("log")).unwrap();
        assert!(matches!(timeless.look(json!({})).await, Err(Fault::Invalid { .. })));
    }

    #[tokio::test]
    async fn a_log_too_loud_to_be_read_is_unhealthy_or_unknown() {
        let line = format!("2026-01-15T09:59:00Z {}\n", "x".repeat(1_000));
        let lines = usize::try_from(MOST_BYTES).unwrap() / line.len() + 10;
        let log = Log::new(&line.repeat(lines));
        assert_eq!(log.look(json!({})).await.unwrap().verdict, Verdict::Unknown);
        assert_eq!(log.look(json!({ "pattern": "x" })).await.unwrap().verdict, Verdict::Unhealthy);
        // What lies beyond the limit is older than the window.
        let old = "2026-01-15T08:00:00Z old\n";
        let enough = usize::try_from(MOST_BYTES).unwrap() / old.len() + 10;
        let log = Log::new(&format!("{}2026-01-15T09:59:00Z JWT\n", old.repeat(enough)));
        assert_eq!(log.rate(json!({})).await, Some(0.2));
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let stores = Default::default();
        let context = KindContext {
            environment: rota_core::policy::model::Environment::Production,
            stores: &stores,
            secret: None,
        };
        let rules = |more: Value| {
            let mut settings = json!({ "path": "/var/log/x", "pattern": "JWT", "max": 1.0 });
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            lint(&settings, &context).into_iter().map(|problem| problem.rule).collect::<Vec<_>>()
        };
        assert_eq!(rules(json!({})), Vec::<&str>::new());
        assert_eq!(rules(json!({ "path": "log" })), ["path"]);
        assert_eq!(rules(json!({ "pattern": "(" })), ["pattern"]);
        assert_eq!(rules(json!({ "zone": "Nowhere/Town" })), ["zone"]);
        assert_eq!(rules(json!({ "window": "10s" })), ["window"]);
        assert_eq!(rules(json!({ "max": null })), ["no-bound"]);
    }
}
