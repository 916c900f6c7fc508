//! What `scripts/crash-matrix` asks for in the environment, and what it is told.

use std::io::Write as _;

use serde_json::json;

use super::lane::{Survived, Way};

/// `all`, or the kind that alone is wanted.
const WANTED: &str = "ROTA_CRASH_MATRIX";

/// `once` or `thrice` where one of the two alone is wanted.
const CRASHES: &str = "ROTA_CRASH_MATRIX_CRASHES";

/// The way that alone is wanted.
const WAY: &str = "ROTA_CRASH_MATRIX_WAY";

/// A file that gets one line of JSON for each kind and way.
const FIGURES: &str = "ROTA_CRASH_MATRIX_FIGURES";

/// The points of a run.
pub(super) struct Extent(Option<String>);

impl Extent {
    pub(super) fn asked_for() -> Self {
        Self(std::env::var(WANTED).ok())
    }

    /// Every point, every way.
    pub(super) fn is_whole(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn wants(&self, kind: &str) -> bool {
        self.0.as_deref().is_none_or(|wanted| wanted == "all" || wanted == kind)
    }

    /// The whole matrix goes every way, unless one alone is wanted.
    pub(super) fn goes(&self, way: Way) -> bool {
        match (self.is_whole(), std::env::var(WAY).as_deref()) {
            (false, _) => way == Way::Forward,
            (true, Ok(wanted)) => wanted == way.name() || wanted == "all",
            (true, Err(_)) => true,
        }
    }

    /// How often the process is killed in a row: at the point, or there and twice in its
    /// recovery.
    pub(super) fn crashes(&self) -> &'static [u32] {
        match (self.is_whole(), std::env::var(CRASHES).as_deref()) {
            (false, _) | (true, Ok("once")) => &[1],
            (true, Ok("thrice")) => &[3],
            (true, _) => &[1, 3],
        }
    }
}

/// How many points of one kind and way were survived.
pub(super) struct Figures {
    kind: String,
    way: Way,
    total: usize,
    hit: usize,
    recovered: usize,
    kills: u32,
}

impl Figures {
    pub(super) fn of(kind: &str, way: Way, total: usize) -> Self {
        Self { kind: kind.to_owned(), way, total, hit: 0, recovered: 0, kills: 0 }
    }

    pub(super) fn count(&mut self, crashes: u32, survived: Survived) {
        if crashes == 1 {
            self.hit += 1;
        } else {
            self.recovered += 1;
        }
        self.kills += survived.kills;
    }

    /// Prints the figures, and writes them where they are asked for.
    #[expect(clippy::print_stderr, reason = "the figures of a test")]
    pub(super) fn tell(&self) {
        let Self { kind, way, total, hit, recovered, kills } = self;
        let way = way.name();
        eprintln!(
            "crash matrix: {kind} {way}: {hit}/{total} points, {recovered} with crashes in recovery, {kills} kills"
        );
        let Some(file) = std::env::var_os(FIGURES) else { return };
        let line = json!({
            "kind": kind, "way": way, "hit": hit, "total": total, "recovered": recovered, "kills": kills,
        });
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}
