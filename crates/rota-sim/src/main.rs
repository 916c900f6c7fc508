//! Runs seeds of the simulator, and shows the shortest story of one that goes wrong.

#![expect(clippy::print_stdout, reason = "a report for a person is what this program is for")]

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clap::Parser;
use rota_engine::test_support::Guard;
use rota_sim::figures::Figures;
use rota_sim::mutants;
use rota_sim::swarm::{Failure, Report, Swarm};

/// Simulates Rota under faults: each seed is a world of its own, and repeats exactly.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Which seeds, the last not included: `0..1000`.
    #[arg(long, value_parser = seeds, default_value = "0..200")]
    seeds: Range<u64>,
    /// Run one seed twice and compare, and print its numbers.
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    replay: Option<u64>,
    /// Take away one protection after the other, and say which seed of so many notices.
    #[arg(long, value_name = "SEEDS", conflicts_with_all = ["seeds", "replay"])]
    mutants: Option<u64>,
    /// Only those whose name has this in it.
    #[arg(long, value_name = "NAME", requires = "mutants")]
    mutant: Option<String>,
    /// How many calls a failure shows.
    #[arg(long, default_value_t = 60)]
    last_calls: usize,
    /// Go on after a seed that goes wrong.
    #[arg(long)]
    keep_going: bool,
    /// How many seeds run at once; as many as there are processors.
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("`{text}` is not a range of seeds; write one like `0..1000`");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    Ok(from.parse().map_err(|_| wrong())?..to.parse().map_err(|_| wrong())?)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seeds) = arguments.mutants {
        return hunt(seeds, arguments.mutant.as_deref());
    }
    match arguments.replay {
        Some(seed) => replay(seed, arguments.last_calls),
        None => {
            let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok());
            run(arguments.seeds, arguments.keep_going, jobs.map_or(1, NonZero::get))
        }
    }
}

/// What the workers share: the next seed, and what came of the others.
struct Runs {
    seeds: Range<u64>,
    next: AtomicU64,
    stop: AtomicBool,
    reports: Mutex<Vec<Report>>,
    failures: Mutex<BTreeMap<u64, Box<Failure>>>,
}

impl Runs {
    fn of(seeds: Range<u64>) -> Self {
        Self {
            next: AtomicU64::new(seeds.start),
            seeds,
            stop: AtomicBool::new(false),
            reports: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// Runs seeds until none is left, or until one failed and `keep_going` is not wanted.
    fn work(&self, keep_going: bool) {
        while !self.stop.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if !self.seeds.contains(&seed) {
                break;
            }
            match Swarm::new(seed).run() {
                Ok(report) => locked(&self.reports).push(report),
                Err(failure) => {
                    println!("seed {seed}: {}", failure.what);
                    locked(&self.failures).insert(seed, failure);
                    self.stop.store(!keep_going, Ordering::Relaxed);
                }
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "how long it took is told to a person and decides nothing")]
fn run(seeds: Range<u64>, keep_going: bool, jobs: usize) -> ExitCode {
    let started = Instant::now();
    let runs = Runs::of(seeds);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| runs.work(keep_going));
        }
    });
    let (reports, mut failures) = (locked(&runs.reports), locked(&runs.failures));
    let mut figures = Figures::default();
    reports.iter().for_each(|report| figures.add(&report.figures));
    let failed = failures.len();
    if let Some((seed, failure)) = failures.pop_first().filter(|_| !keep_going) {
        show(&Swarm::new(seed), failure);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{figures}");
    println!(
        "{} seeds passed, {failed} failed; {:.1} seeds a second on {jobs} processors",
        reports.len(),
        f64::from(u32::try_from(reports.len() + failed).unwrap_or(u32::MAX)) / seconds
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a line for each protection; fails where one is not missed.
fn hunt(seeds: u64, only: Option<&str>) -> ExitCode {
    let chosen = |guard: &&Guard| only.is_none_or(|only| format!("{guard:?}").contains(only));
    let guards: Vec<Guard> = Guard::ALL.iter().filter(chosen).copied().collect();
    let next = AtomicU64::new(0);
    let survivors = AtomicU64::new(0);
    let jobs = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(guard) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
                    .ok()
                    .and_then(|index| guards.get(index))
                {
                    match mutants::hunt(*guard, seeds) {
                        Some(kill) => println!("{guard:?}: {}: {}", kill.by, kill.what),
                        None => {
                            survivors.fetch_add(1, Ordering::Relaxed);
                            println!("{guard:?}: SURVIVES {seeds} seeds");
                        }
                    }
                }
            });
        }
    });
    if survivors.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64, last_calls: usize) -> ExitCode {
    let swarm = Swarm { last_calls, ..Swarm::new(seed) };
    match (swarm.run(), swarm.run()) {
        (Ok(first), Ok(second)) => {
            println!("{first:?}");
            if first == second {
                return ExitCode::SUCCESS;
            }
            println!("the second run was another one: {second:?}");
        }
        (Err(failure), _) | (_, Err(failure)) => show(&swarm, failure),
    }
    ExitCode::FAILURE
}

fn show(swarm: &Swarm, failure: Box<Failure>) {
    let shortest = swarm.minimal(failure);
    println!("seed {} with {:?} only:", shortest.seed, shortest.troubles);
    println!("  {}", shortest.what);
    println!("the last calls:\n{}", shortest.trace);
}
