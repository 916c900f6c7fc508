//! Points at which a test ends the process, or panics in one of its tasks.
//!
//! Each line of history has two: right before the record that writes it, and right after.
//! So `step.intended` has one before and one after the intent, `step.done` one after the
//! effect and one after its outcome. Whoever starts the process names points in its
//! environment. Only debug builds with the feature `test-support` look there; in every
//! other build nothing of this is left in the program.

#[cfg(all(feature = "test-support", debug_assertions))]
pub(crate) use armed::Records;
#[cfg(not(all(feature = "test-support", debug_assertions)))]
pub(crate) use disarmed::Records;

#[cfg(not(all(feature = "test-support", debug_assertions)))]
mod disarmed {
    use crate::ports::HistoryEntry;

    /// Nothing, twice.
    pub(crate) struct Records;

    impl Records {
        pub(crate) const fn about_to_make(_: &[HistoryEntry]) -> Self {
            Self
        }

        pub(crate) const fn made(self) {}

        pub(crate) const fn about_to_call(_: &str) {}
    }
}

#[cfg(all(feature = "test-support", debug_assertions))]
mod armed {
    use std::io::Write as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use rota_core::rotation::Step;

    use crate::ports::HistoryEntry;

    /// `abort@POINT` or `panic@POINT`, several with commas between them; each strikes once.
    /// `abort@*` strikes at the first point of history. A point is `KIND/STEP/before` or
    /// `.../after`, without a step where the line has none (`rollout.begun//before`), and
    /// `call/NAME` for the calls that look for work. `POINT#2` is the second time that this
    /// process passes it.
    const POINTS: &str = "ROTA_TEST_FAILPOINTS";

    /// A file to which each point is written when it is passed.
    const PASSED: &str = "ROTA_TEST_FAILPOINTS_PASSED";

    /// A file that holds what a panic says, so that a test can look for it where it must not be.
    const TEXT: &str = "ROTA_TEST_FAILPOINTS_TEXT";

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Strike {
        Abort,
        Panic,
    }

    struct Point {
        strike: Strike,
        name: String,
        /// How often it is passed before it strikes.
        spared: u32,
    }

    struct Armed {
        points: Mutex<Vec<Point>>,
        passed: Option<Mutex<std::fs::File>>,
    }

    /// The points of one record.
    pub(crate) struct Records {
        names: Vec<String>,
    }

    impl Records {
        /// Passes the points before the record of `lines`.
        pub(crate) fn about_to_make(lines: &[HistoryEntry]) -> Self {
            if armed().is_none() {
                return Self { names: Vec::new() };
            }
            let names = lines.iter().map(|line| name(&line.kind, line.step));
            let records = Self { names: names.collect() };
            records.pass("before");
            records
        }

        /// Passes the points after it.
        pub(crate) fn made(self) {
            self.pass("after");
        }

        /// Passes the point before a call that writes no history.
        pub(crate) fn about_to_call(name: &str) {
            if let Some(armed) = armed() {
                armed.pass(&format!("call/{name}"), false);
            }
        }

        fn pass(&self, when: &str) {
            let Some(armed) = armed() else { return };
            for name in &self.names {
                armed.pass(&format!("{name}/{when}"), true);
            }
        }
    }

    fn name(kind: &str, step: Option<Step>) -> String {
        format!("{kind}/{}", step.map_or("", Step::as_str))
    }

    impl Armed {
        fn pass(&self, point: &str, is_history: bool) {
            if let Some(passed) = self.passed.as_ref().filter(|_| is_history) {
                let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
                // A test that misses a line says so.
                let _ = writeln!(passed, "{point}");
            }
            let strike = {
                let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
                let is_here = |armed: &Point| armed.name == point || (armed.name == "*" && is_history);
                let found = points.iter().position(|armed| is_here(armed) && armed.spared == 0);
                let strike = found.map(|index| points.remove(index).strike);
                points.iter_mut().filter(|armed| is_here(armed)).for_each(|armed| armed.spared -= 1);
                strike
            };
            match strike {
                None => {}
                // As a kill does: nothing is finished, dropped or flushed.
                Some(Strike::Abort) => std::process::abort(),
                Some(Strike::Panic) => {
                    let text = std::env::var_os(TEXT).and_then(|file| std::fs::read_to_string(file).ok());
                    let text = text.unwrap_or_default();
                    panic!("a test wanted this panic at {point}: {text}");
                }
            }
        }
    }

    /// What the environment names; read once.
    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        ARMED.get_or_init(read).as_ref()
    }

    fn read() -> Option<Armed> {
        let points = std::env::var(POINTS).ok();
        let file = std::env::var_os(PASSED);
        if points.is_none() && file.is_none() {
            return None;
        }
        let points = points.unwrap_or_default().split(',').filter_map(point).collect();
        let open = |file| std::fs::File::options().create(true).append(true).open(file).ok();
        Some(Armed { points: Mutex::new(points), passed: file.and_then(open).map(Mutex::new) })
    }

    fn point(text: &str) -> Option<Point> {
        let (strike, point) = text.trim().split_once('@')?;
        let strike = match strike {
            "abort" => Strike::Abort,
            "panic" => Strike::Panic,
            _ => return None,
        };
        let (name, spared) = match point.rsplit_once('#') {
            Some((name, time)) => (name, time.parse::<u32>().ok()?.checked_sub(1)?),
            None => (point, 0),
        };
        Some(Point { strike, name: name.to_owned(), spared })
    }
}
