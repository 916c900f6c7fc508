//! Programs that are given values and answer: a question on standard input, values on
//! descriptor 3, an answer on standard output, values that it made on descriptor 4.
//!
//! Both answers have a limit. Past it the pipe is closed, so that a program that goes on
//! printing ends by its own signal. Nothing of either is kept or shown here.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use command_fds::{CommandFdExt as _, FdMapping};
use rota_core::fault::Fault;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use zeroize::Zeroizing;

use super::{End, Program};

/// Where a program reads the values.
const VALUES_FD: i32 = 3;
/// Where it writes the values that it made.
const MADE_FD: i32 = 4;

/// An answer is a few fields.
const MOST_SAID: usize = 65_536;
/// A value is at most 64 KiB; as JSON each byte may be six.
const MOST_MADE: usize = 524_288;

/// Answers are short.
const FIRST_READ: usize = 4_096;

/// What a program said, and how it ended.
pub(crate) struct Said {
    pub(crate) end: End,
    /// Its standard output; `None` where its time was up, or it said more than an answer is.
    pub(crate) answer: Option<Zeroizing<Vec<u8>>>,
    /// What it wrote to descriptor 4; `None` as above.
    pub(crate) made: Option<Zeroizing<Vec<u8>>>,
}

impl Program {
    /// Runs to the end, or to the end of its time, and hears what it says.
    ///
    /// # Errors
    /// Those of [`Program::run`].
    pub(crate) async fn talk(mut self, values: Zeroizing<String>) -> Result<Said, Fault> {
        let input = self.input.take();
        let no_pipe = |_| Fault::transient("no pipe can be made now: the process has too many files open");
        let (mut tell, values_end) = pipe::pipe().map_err(no_pipe)?;
        let (made_end, made) = pipe::pipe().map_err(no_pipe)?;
        // Programs do not expect descriptors that refuse to wait.
        let values_end = values_end.into_blocking_fd().map_err(no_pipe)?;
        let made_end = made_end.into_blocking_fd().map_err(no_pipe)?;
        let mut child = {
            let mut command = self.command(true)?;
            command.stdout(Stdio::piped());
            give(command.as_std_mut(), values_end, made_end)?;
            // With the command our copies of its ends are closed.
            self.start(&mut command)?
        };
        let answer = child.stdout.take();
        let beside = async move {
            let told = async move {
                // A program that does not read them is judged by what it says.
                let _ = tell.write_all(values.as_bytes()).await;
            };
            let answer = async {
                match answer {
                    Some(answer) => read(answer, MOST_SAID).await,
                    None => None,
                }
            };
            let ((), answer, made) = tokio::join!(told, answer, read(made, MOST_MADE));
            (answer, made)
        };
        let (end, said) = self.see_through(child, input, beside).await?;
        let (answer, made) = said.unwrap_or_default();
        Ok(Said { end, answer, made })
    }
}

fn give(command: &mut std::process::Command, values: OwnedFd, made: OwnedFd) -> Result<(), Fault> {
    let mappings =
        [(values, VALUES_FD), (made, MADE_FD)].map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command
        .fd_mappings(mappings.into())
        .map(|_| ())
        .map_err(|_| Fault::invalid("two descriptors are the same"))
}

/// Everything up to the end; `None` past `most`, or where it cannot be read.
async fn read(mut from: impl AsyncRead + Unpin, most: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut heard = Zeroizing::new(vec![0; FIRST_READ]);
    let mut length = 0;
    loop {
        if length == heard.len() {
            // The smaller one is wiped, which a buffer that grows by itself would not do.
            let mut larger = Zeroizing::new(vec![0; 2 * length]);
            larger[..length].copy_from_slice(&heard);
            heard = larger;
        }
        match from.read(&mut heard[length..]).await {
            Ok(0) => {
                heard.truncate(length);
                return Some(heard);
            }
            Ok(more) if length + more <= most => length += more,
            Ok(_) | Err(_) => return None,
        }
    }
}
