//! Waiting for something real with a deadline, by polling.
//!
//! Deliberately absent: a fixed sleep. Whoever waits says for what and how
//! long at most.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a server may take to start on a machine that builds at the same
/// time; a healthy one needs a tenth of a second to three seconds.
pub const START_DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks: short beside a server's start, long beside a look.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `look` gives something.
///
/// # Errors
/// When `look` fails, or with `what` when the deadline passes first.
pub fn blocking<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = monotonic();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > deadline {
            bail!("{what} did not happen within {deadline:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Looks until `look` gives something, without blocking the runtime.
///
/// # Errors
/// When `look` fails, or with `what` when the deadline passes first.
pub async fn until<T, F>(deadline: Duration, what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let start = monotonic();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if start.elapsed() > deadline {
            bail!("{what} did not happen within {deadline:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "deadlines of a harness that polls real servers")]
fn monotonic() -> Instant {
    Instant::now()
}

/// How long a server that accepts may take to answer a trifle.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Says something to a port of 127.0.0.1 and gives the first bytes of the answer.
pub(crate) fn ask(port: u16, line: &str) -> Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(line.as_bytes())?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Whether a GET of `path` is answered with 200.
pub(crate) fn answers_ok(port: u16, path: &str) -> bool {
    let answer = ask(port, &format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"));
    answer.is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}
