//! Which log events are let through.
//!
//! An allow-list: Rota's own crates are as loud as the user asks, everybody else
//! has a ceiling that no filter lifts. Deliberately absent: filtering by span or
//! field, which would let a directive name something other than a crate.

use tracing::Level;

/// The crates that a filter may raise.
const OURS: [&str; 6] = ["rota", "rota_core", "rota_engine", "rota_postgres", "rota_adapters", "rota_sim"];

/// Crates that are kept below the general ceiling, each for a reason.
/// `None` is silence.
const QUIET: [(&str, Option<Level>); 9] = [
    // Log ERROR for an ordinary compare-and-set miss, with the server's body.
    ("rustify", None),
    ("vaultrs", None),
    // Slow statements come as WARN with their whole text.
    ("sqlx", Some(Level::ERROR)),
    // Request and response bodies; the prefix covers every crate of the SDK.
    ("aws_", Some(Level::WARN)),
    // Tells of its own parts at INFO.
    ("tokio_cron_scheduler", Some(Level::WARN)),
    ("hyper", Some(Level::WARN)),
    ("hyper_util", Some(Level::WARN)),
    ("h2", Some(Level::WARN)),
    ("rustls", Some(Level::WARN)),
];

/// Every other crate's ceiling.
const CEILING: Level = Level::INFO;

/// More directives than anybody writes; bounds the work for each event.
const MAX_DIRECTIVES: usize = 64;

/// What the user asked for, within what may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// For Rota's crates and, up to their ceiling, for the others. `None` is silence.
    general: Option<Level>,
    /// `crate::module` and its level, longest first, so that the first match is the closest.
    targets: Vec<(String, Option<Level>)>,
}

impl Filter {
    /// Reads `level` and `crate::module=level` directives, separated by commas. What
    /// cannot be used is left out and told in the second part.
    pub(crate) fn parse(directives: &str) -> (Self, Vec<String>) {
        let mut filter = Self { general: Some(Level::INFO), targets: Vec::new() };
        let mut refused = Vec::new();
        for directive in directives.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            if filter.targets.len() == MAX_DIRECTIVES {
                refused.push(format!("more than {MAX_DIRECTIVES} directives; the rest is ignored"));
                break;
            }
            match directive.split_once('=') {
                None => match level(directive) {
                    Some(level) => filter.general = level,
                    None => refused.push(format!("`{directive}` is not a level")),
                },
                Some((target, text)) => match level(text) {
                    Some(asked) if is_path(target) => {
                        let allowed = asked.min_with(ceiling(target));
                        if allowed != asked {
                            refused.push(format!(
                                "`{directive}`: only rota's own crates can be raised so far, {target} stays at {}",
                                show(allowed)
                            ));
                        }
                        filter.targets.push((target.to_owned(), allowed));
                    }
                    Some(_) => refused.push(format!("`{target}` is not a crate or module")),
                    None => refused.push(format!("`{text}` is not a level")),
                },
            }
        }
        filter.targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        (filter, refused)
    }

    /// True where an event of `target` at `level` is let through.
    pub(crate) fn allows(&self, target: &str, level: Level) -> bool {
        let asked = self
            .targets
            .iter()
            .find(|(prefix, _)| covers(prefix, target))
            .map_or(self.general, |(_, level)| *level);
        // The ceiling is asked again for the event's own target: a directive can
        // name less than what it matches.
        asked.min_with(ceiling(target)).is_some_and(|most| level <= most)
    }

    /// The most verbose level that can be let through at all.
    pub(crate) fn most_verbose(&self) -> Option<Level> {
        self.targets.iter().map(|(_, level)| *level).chain([self.general]).flatten().max()
    }
}

/// The quieter of two levels; silence is the quietest. In `tracing`, more verbose is greater.
trait Quieter {
    fn min_with(self, ceiling: Self) -> Self;
}

impl Quieter for Option<Level> {
    fn min_with(self, ceiling: Self) -> Self {
        Some(self?.min(ceiling?))
    }
}

/// How loud `target` may be at most.
fn ceiling(target: &str) -> Option<Level> {
    let name = target.split("::").next().unwrap_or(target);
    if OURS.contains(&name) {
        return Some(Level::TRACE);
    }
    let quiet =
        QUIET.iter().find(|(quiet, _)| name == *quiet || (quiet.ends_with('_') && name.starts_with(quiet)));
    quiet.map_or(Some(CEILING), |(_, level)| *level)
}

/// True where `target` is the crate or module `prefix`, or inside it.
fn covers(prefix: &str, target: &str) -> bool {
    target.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// A level's name in any case; the outer `None` is no level, the inner one silence.
#[expect(clippy::option_option, reason = "`off` is a level that lets nothing through")]
fn level(text: &str) -> Option<Option<Level>> {
    match text.to_ascii_lowercase().as_str() {
        "off" => Some(None),
        "error" => Some(Some(Level::ERROR)),
        "warn" => Some(Some(Level::WARN)),
        "info" => Some(Some(Level::INFO)),
        "debug" => Some(Some(Level::DEBUG)),
        "trace" => Some(Some(Level::TRACE)),
        _ => None,
    }
}

fn show(level: Option<Level>) -> String {
    level.map_or_else(|| "off".to_owned(), |level| level.to_string().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_directive_wins() {
        let (filter, refused) = Filter::parse("rota_engine=warn, rota_engine::drive=trace, debug");
        assert!(refused.is_empty(), "{refused:?}");
        assert!(filter.allows("rota_engine::drive", Level::TRACE));
        assert!(!filter.allows("rota_engine::outbox", Level::INFO));
        assert!(!filter.allows("rota_engine::driver", Level::INFO), "a module's name is matched whole");
        assert!(filter.allows("rota", Level::DEBUG));
        assert!(!filter.allows("tokio", Level::DEBUG));
    }

    #[test]
    fn others_can_be_made_quieter_and_never_louder() {
        let (filter, refused) = Filter::parse("tokio_cron_scheduler=off,sqlx=trace");
        assert!(!filter.allows("tokio_cron_scheduler::x", Level::ERROR));
        assert!(!filter.allows("sqlx::query", Level::WARN));
        assert!(filter.allows("sqlx", Level::ERROR));
        assert_eq!(
            refused,
            ["`sqlx=trace`: only rota's own crates can be raised so far, sqlx stays at error"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_and_changes_nothing() {
        let (filter, refused) = Filter::parse("loud,rota=very,a b=info");
        assert_eq!(filter, Filter::parse("info").0);
        assert_eq!(
            refused,
            ["`loud` is not a level", "`very` is not a level", "`a b` is not a crate or module"]
        );
    }

    #[test]
    fn no_crate_of_others_is_let_through_below_its_ceiling_by_any_directive() {
        let (filter, _) = Filter::parse("trace,rota=trace");
        for (name, most) in QUIET {
            let name = name.strip_suffix('_').map_or(name.to_owned(), |prefix| format!("{prefix}_sdk_ecs"));
            for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                assert_eq!(
                    filter.allows(&name, level),
                    most.is_some_and(|most| level <= most),
                    "{name} {level}"
                );
            }
        }
    }
}
