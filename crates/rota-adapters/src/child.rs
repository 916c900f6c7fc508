//! Running a program of the user's: an argument list, no shell, an environment of a
//! few names, nothing of its output kept.
//!
//! A program runs in a process group of its own, which ends with it when its time
//! is up. What it prints may hold secrets of its own, so it goes nowhere; its exit
//! code is all that it says, but where it is asked for an answer.
//! Deliberately absent: values in arguments or environment.

mod dialogue;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use dialogue::Said;
use rota_core::fault::Fault;
use rota_core::policy::kinds::KindProblem;
use rota_core::value::SecretValue;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// What every program gets of the daemon's environment: where programs and the
/// user's files are, and how to write text and time.
const ALWAYS_PASSED: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ"];

/// The daemon's own settings, some of them secret, have this prefix.
const NEVER_PASSED_PREFIX: &str = "ROTA__";

/// How long a program that was told to end may take for it.
const GRACE: Duration = Duration::from_secs(2);

/// How long one look at a run waits for its end, so that short programs need one look.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to run.
pub(crate) struct Program {
    /// The program and its arguments; not empty.
    pub(crate) argv: Vec<String>,
    pub(crate) directory: Option<PathBuf>,
    /// Names taken over from the daemon's environment beside [`ALWAYS_PASSED`].
    pub(crate) environment: Vec<String>,
    /// Set for the program; never a value.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// Written to its standard input.
    pub(crate) input: Option<SecretValue>,
    pub(crate) timeout: Duration,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Code(i32),
    Signal(i32),
    TimedOut(Duration),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::TimedOut(limit) => write!(f, "did not end within {limit:?} and was stopped"),
        }
    }
}

impl Program {
    /// The program's name, without the folder it is in.
    pub(crate) fn name(&self) -> String {
        let first = self.argv.first().map_or("", String::as_str);
        Path::new(first).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Runs to the end, or to the end of its time. A caller that goes away earlier
    /// ends it too.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where there is no such program or folder, [`Fault::Denied`]
    /// where it may not be run.
    pub(crate) async fn run(mut self) -> Result<End, Fault> {
        let input = self.input.take();
        let child = self.start(&mut self.command(input.is_some())?)?;
        self.see_through(child, input, async {}).await.map(|(end, _)| end)
    }

    /// Waits for the end, or for the end of its time, while `beside` goes on; what that
    /// came to is `None` where the time was up.
    async fn see_through<T>(
        &self,
        mut child: Child,
        input: Option<SecretValue>,
        beside: impl Future<Output = T>,
    ) -> Result<(End, Option<T>), Fault> {
        let mut group = Group::of(&child);
        let whole = async { tokio::join!(finish(&mut child, input), beside) };
        let (status, said) = match tokio::time::timeout(self.timeout, whole).await {
            Ok(ended) => ended,
            Err(_elapsed) => {
                group.signal(Signal::TERM);
                if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
                    group.signal(Signal::KILL);
                    // A killed process is reaped at once; its exit code says nothing.
                    let _ = child.wait().await;
                }
                // What the program left behind in its group ends too.
                group.signal(Signal::KILL);
                group.forget();
                return Ok((End::TimedOut(self.timeout), None));
            }
        };
        group.forget();
        let status =
            status.map_err(|_| Fault::transient(format!("`{}` could not be waited for", self.name())))?;
        Ok((end_of(status), Some(said)))
    }

    fn command(&self, with_input: bool) -> Result<Command, Fault> {
        let (first, rest) = self
            .argv
            .split_first()
            .ok_or_else(|| Fault::invalid("a command is empty, write its program and arguments"))?;
        let mut command = Command::new(first);
        command
            .args(rest)
            .env_clear()
            .envs(self.passed())
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .stdin(if with_input { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        Ok(command)
    }

    fn start(&self, command: &mut Command) -> Result<Child, Fault> {
        let name = self.name();
        command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Fault::invalid(format!(
                "`{name}` cannot be started: there is no such program or folder, write its whole path"
            )),
            ErrorKind::PermissionDenied => {
                Fault::denied(format!("`{name}` cannot be started: the daemon's user may not run it"))
            }
            _ => Fault::transient(format!("`{name}` cannot be started now")),
        })
    }

    fn passed(&self) -> impl Iterator<Item = (String, OsString)> {
        let names = ALWAYS_PASSED.into_iter().chain(self.environment.iter().map(String::as_str));
        names
            .filter(|name| !name.starts_with(NEVER_PASSED_PREFIX))
            .filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?)))
    }
}

async fn finish(child: &mut Child, input: Option<SecretValue>) -> std::io::Result<ExitStatus> {
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that does not read its input is judged by its exit code.
        let _ = pipe.write_all(input.expose().as_bytes()).await;
    }
    child.wait().await
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Code(code),
        (None, Some(signal)) => End::Signal(signal),
        (None, None) => End::Code(-1),
    }
}

/// What is wrong with an argument list.
pub(crate) fn problems(pointer: &str, argv: &[String]) -> Option<KindProblem> {
    let program = argv.first().map_or("", String::as_str);
    if program.is_empty() {
        return Some(KindProblem::error(
            "command",
            pointer,
            "no program is named",
            "write the program and its arguments: `[\"pm2\", \"reload\", \"backend\"]`",
        ));
    }
    let one_text = argv.len() == 1 && program.contains(' ');
    (one_text || argv.iter().any(|argument| argument.contains('\0'))).then(|| {
        KindProblem::error(
            "command",
            pointer,
            "no shell reads this, so a whole command line is not a program's name",
            "write each argument as a text of its own: `[\"pm2\", \"reload\", \"backend\"]`",
        )
    })
}

/// What is wrong with the names that are passed on.
pub(crate) fn environment_problem(pointer: &str, names: &[String]) -> Option<KindProblem> {
    let illegal = |name: &&String| {
        name.is_empty() || name.contains(['=', '\0']) || name.starts_with(NEVER_PASSED_PREFIX)
    };
    let name = names.iter().find(illegal)?;
    Some(KindProblem::error(
        "environment",
        pointer,
        format!("`{name}` is not passed on"),
        "name variables that the program needs; those of the daemon itself (ROTA__...) stay with it",
    ))
}

/// A program's process group, ended when its owner goes away.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.0 {
            // Nothing is left to signal where the group has ended.
            let _ = kill_process_group(id, signal);
        }
    }

    /// Its leader was waited for: what it left running on purpose (a process
    /// manager's own daemon) goes on.
    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

type Outcome = Option<Result<End, Fault>>;

/// Programs that run longer than one call may take. They live as long as this
/// process; another process that takes over starts them again.
#[derive(Clone)]
pub struct Runs {
    running: Arc<Mutex<HashMap<String, watch::Receiver<Outcome>>>>,
    patience: Duration,
}

impl Default for Runs {
    fn default() -> Self {
        Self { running: Arc::default(), patience: PATIENCE }
    }
}

impl Runs {
    /// Starts the run called `key` where it does not run yet and waits a moment for
    /// its end; `None` while it goes on. The end is told once: after that the same
    /// key starts another run.
    ///
    /// # Errors
    /// Those of [`Program::run`].
    pub(crate) async fn look(
        &self,
        key: &str,
        program: impl FnOnce() -> Program,
    ) -> Result<Option<End>, Fault> {
        let mut outcome = self.entry(key, program);
        let ended = tokio::time::timeout(self.patience, outcome.wait_for(Option::is_some)).await;
        let end = match ended {
            Err(_elapsed) => return Ok(None),
            Ok(Ok(end)) => end.clone(),
            // The task that ran it is gone without a word: it panicked or was stopped.
            Ok(Err(_gone)) => Some(Err(Fault::transient("a command was broken off"))),
        };
        self.lock().remove(key);
        end.transpose()
    }

    fn entry(&self, key: &str, program: impl FnOnce() -> Program) -> watch::Receiver<Outcome> {
        let mut running = self.lock();
        if let Some(outcome) = running.get(key) {
            return outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let run = program().run();
        tokio::spawn(async move {
            // Nobody may be listening any more; the run is over all the same.
            let _ = tell.send(Some(run.await));
        });
        running.insert(key.to_owned(), outcome.clone());
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Outcome>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
