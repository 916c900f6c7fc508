//! Sealed copies of replaced env files.
//!
//! For people who need yesterday's file back. The machine never reads them: what a
//! rollback needs is in its own slots.

use jiff::Timestamp;
use rota_core::fault::Fault;

use super::folder::{Folder, Ownership};
use super::key::EnvFileKey;

/// Under which a sealed file is written before it gets its name.
const TEMPORARY: &str = "new-backup";

/// One sealed copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backup {
    /// Grows with every replacement of the file.
    pub number: u64,
    /// When the file was replaced.
    pub taken_at: Timestamp,
}

/// The copies, oldest first.
pub(super) fn list(state: &Folder) -> Result<Vec<Backup>, Fault> {
    let mut found = Vec::new();
    for number in numbers(state)? {
        if let Some(file) = state.read(&name(number))? {
            let taken_at = Timestamp::from_second(file.modified).unwrap_or(Timestamp::UNIX_EPOCH);
            found.push(Backup { number, taken_at });
        }
    }
    Ok(found)
}

/// Seals `file`, the content of the env file called `of`.
pub(super) fn take(state: &Folder, of: &str, file: &[u8], key: &EnvFileKey) -> Result<(), Fault> {
    let number = numbers(state)?.last().map_or(1, |last| last + 1);
    let sealed = key.seal(&bound_to(of, number), file)?;
    state.replace(&name(number), TEMPORARY, &sealed, Ownership::private())
}

/// Removes all but the last `keep`.
pub(super) fn prune(state: &Folder, keep: usize) -> Result<(), Fault> {
    let numbers = numbers(state)?;
    for number in &numbers[..numbers.len().saturating_sub(keep)] {
        state.remove(&name(*number))?;
    }
    Ok(())
}

/// Opens a copy.
pub(super) fn open(
    state: &Folder,
    of: &str,
    number: u64,
    key: &EnvFileKey,
) -> Result<zeroize::Zeroizing<Vec<u8>>, Fault> {
    let sealed = state
        .read(&name(number))?
        .ok_or_else(|| Fault::invalid(format!("there is no backup {number} of {of}")))?;
    key.open(&bound_to(of, number), &sealed.bytes).ok_or_else(|| {
        Fault::invalid(format!(
            "backup {number} of {of} does not open: it was sealed with another key or is damaged"
        ))
    })
}

/// In ascending order.
fn numbers(state: &Folder) -> Result<Vec<u64>, Fault> {
    let mut numbers: Vec<u64> = state
        .names()?
        .iter()
        .filter_map(|name| name.strip_prefix("backup-")?.strip_suffix(".sealed")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn name(number: u64) -> String {
    format!("backup-{number:06}.sealed")
}

/// A copy cannot be passed off as another one or as that of another file.
fn bound_to(of: &str, number: u64) -> String {
    format!("rota env-file backup 1\n{of}\n{number}")
}
