//! Checking chains, checkpoints and anchors against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Anchor, Checkpoint, Hash, Head, Row, Sealed};

/// The first thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("row {seq} of chain `{chain}` {problem}")]
    Row { chain: String, seq: i64, problem: RowProblem },
    #[error("checkpoint {number} {problem}")]
    Checkpoint { number: i64, problem: CheckpointProblem },
    /// Rows at the end are gone.
    #[error("chain `{chain}` ends at row {found}, but checkpoint {checkpoint} sealed its row {sealed}")]
    CutTail { chain: String, found: i64, checkpoint: i64, sealed: i64 },
    /// All rows are gone.
    #[error("chain `{chain}` is gone, but checkpoint {checkpoint} sealed its row {sealed}")]
    DeletedChain { chain: String, checkpoint: i64, sealed: i64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    #[error("is missing")]
    Missing,
    #[error("stands twice, or not in its place")]
    Misplaced,
    #[error("does not have the hash of its bytes")]
    Hash,
    #[error("has bytes that are not those of a row")]
    Form,
    #[error("has the bytes of another row")]
    Content,
    #[error("does not follow on the row before it")]
    Follows,
    #[error("is not the row that checkpoint {0} sealed")]
    Sealed(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointProblem {
    #[error("is missing")]
    Missing,
    #[error("does not have the hash of its bytes")]
    Hash,
    #[error("has bytes that are not those of a checkpoint")]
    Form,
    #[error("has the bytes of another checkpoint")]
    Content,
    #[error("does not follow on the checkpoint before it")]
    Follows,
    #[error("counts other chains or rows than it seals")]
    Count,
    #[error("seals less than the checkpoint before it")]
    Shrinks,
    #[error("is not the one that was anchored")]
    Anchor,
}

/// What was checked and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub chains: u64,
    pub rows: u64,
    pub checkpoints: u64,
    /// Rows that no anchor covers: whoever owns the database could still have
    /// rewritten them.
    pub not_anchored: u64,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chains, rows, checkpoints, not_anchored } = self;
        write!(
            f,
            "{rows} rows in {chains} chains hold, {checkpoints} checkpoints; {not_anchored} rows are not anchored"
        )
    }
}

/// Checks one chain alone, from its first row on.
///
/// # Errors
/// The first bad row. A cut tail does not show here: that takes checkpoints.
pub fn verify_chain<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Result<Verified, Broken> {
    let mut verifier = Verifier::new(&[], &[])?;
    for row in rows {
        verifier.row(row)?;
    }
    verifier.finish()
}

/// Checks a whole history row by row, in little memory. Rows come in the order of
/// (chain, seq).
pub struct Verifier {
    /// What checkpoints seal, by chain, in the order of rows.
    sealed: BTreeMap<String, Vec<Seal>>,
    /// The last anchored row of each chain.
    anchored: BTreeMap<String, i64>,
    checkpoints: u64,
    /// Chains that are over.
    done: BTreeSet<String>,
    /// The last row of the chain that is being checked.
    current: Option<Head>,
    rows: u64,
    not_anchored: u64,
}

#[derive(Clone, Copy)]
struct Seal {
    seq: i64,
    hash: Hash,
    checkpoint: i64,
}

impl Verifier {
    /// Takes all checkpoints, in order, and what is known of them from outside. Without
    /// anchors the checkpoints are only as good as the database that holds them.
    ///
    /// # Errors
    /// The first checkpoint that does not hold, or that is not the anchored one.
    pub fn new(checkpoints: &[Sealed], anchors: &[Anchor]) -> Result<Self, Broken> {
        let mut sealed: BTreeMap<String, Vec<Seal>> = BTreeMap::new();
        let mut anchored = BTreeMap::new();
        let mut before = None;
        let last_anchored = anchors.iter().map(|anchor| anchor.number).max();
        for (number, found) in (1..).zip(checkpoints) {
            let content = check_checkpoint(number, found, before)?;
            let broken = |problem| Broken::Checkpoint { number, problem };
            if anchors.iter().any(|anchor| anchor.number == number && anchor.hash != found.hash) {
                return Err(broken(CheckpointProblem::Anchor));
            }
            let seals = sealed.values().filter_map(|seals| seals.last().map(|seal| seal.seq));
            let (chains, rows) = (sealed.len(), seals.sum::<i64>());
            let mut grown = (0, 0);
            for head in &content.heads {
                let seals = sealed.entry(head.chain.clone()).or_default();
                let last = seals.last().map_or(0, |seal| seal.seq);
                if last > 0 {
                    grown = (grown.0 + 1, grown.1 + last);
                }
                if last > head.seq {
                    return Err(broken(CheckpointProblem::Shrinks));
                }
                // A chain at rest is sealed once.
                if seals.last().is_none_or(|seal| (seal.seq, seal.hash) != (head.seq, head.hash)) {
                    seals.push(Seal { seq: head.seq, hash: head.hash, checkpoint: number });
                }
            }
            // Every chain that was sealed before is sealed again.
            if grown != (chains, rows) {
                return Err(broken(CheckpointProblem::Shrinks));
            }
            if last_anchored == Some(number) {
                anchored = content.heads.into_iter().map(|head| (head.chain, head.seq)).collect();
            }
            before = Some(found);
        }
        let count = checkpoints.len() as u64;
        if let Some(missing) = last_anchored.filter(|number| number.unsigned_abs() > count) {
            return Err(Broken::Checkpoint { number: missing, problem: CheckpointProblem::Missing });
        }
        Ok(Self {
            sealed,
            anchored,
            checkpoints: count,
            done: BTreeSet::new(),
            current: None,
            rows: 0,
            not_anchored: 0,
        })
    }

    /// Checks the next row.
    ///
    /// # Errors
    /// Where it is not the row that belongs here.
    pub fn row(&mut self, row: &Row) -> Result<(), Broken> {
        let starts = self.current.as_ref().is_none_or(|current| current.chain != row.chain);
        if starts {
            self.end_chain()?;
        }
        let before = self.current.as_ref().filter(|_| !starts);
        let broken = |seq, problem| Err(Broken::Row { chain: row.chain.clone(), seq, problem });
        let expected = before.map_or(0, |before| before.seq) + 1;
        if row.seq < expected || self.done.contains(&row.chain) {
            return broken(row.seq, RowProblem::Misplaced);
        }
        if row.seq > expected {
            return broken(expected, RowProblem::Missing);
        }
        if row.hash != Hash::of(&row.canonical) {
            return broken(row.seq, RowProblem::Hash);
        }
        let Some(content) = row.content() else { return broken(row.seq, RowProblem::Form) };
        if (&content.chain, content.seq) != (&row.chain, row.seq) {
            return broken(row.seq, RowProblem::Content);
        }
        if content.prev != before.map_or(Hash::ZERO, |before| before.hash) {
            return broken(row.seq, RowProblem::Follows);
        }
        let seals = self.sealed.get(&row.chain).map_or(&[][..], Vec::as_slice);
        let here = &seals[seals.partition_point(|seal| seal.seq < row.seq)..];
        let here = here.iter().take_while(|seal| seal.seq == row.seq);
        if let Some(seal) = here.into_iter().find(|seal| seal.hash != row.hash) {
            return broken(row.seq, RowProblem::Sealed(seal.checkpoint));
        }
        self.rows += 1;
        if self.anchored.get(&row.chain).is_none_or(|anchored| *anchored < row.seq) {
            self.not_anchored += 1;
        }
        self.current = Some(Head { chain: content.chain, seq: row.seq, hash: row.hash });
        Ok(())
    }

    fn end_chain(&mut self) -> Result<(), Broken> {
        let Some(Head { chain, seq: found, .. }) = self.current.take() else { return Ok(()) };
        let seals = self.sealed.get(&chain).into_iter().flatten();
        if let Some(Seal { seq: sealed, checkpoint, .. }) = seals.copied().find(|seal| seal.seq > found) {
            return Err(Broken::CutTail { chain, found, checkpoint, sealed });
        }
        self.done.insert(chain);
        Ok(())
    }

    /// Ends the check after the last row.
    ///
    /// # Errors
    /// Where a checkpoint sealed rows that did not come.
    pub fn finish(mut self) -> Result<Verified, Broken> {
        self.end_chain()?;
        let gone = self.sealed.iter().find(|(chain, _)| !self.done.contains(*chain));
        if let Some((chain, Seal { seq: sealed, checkpoint, .. })) =
            gone.and_then(|(chain, seals)| Some((chain.clone(), *seals.first()?)))
        {
            return Err(Broken::DeletedChain { chain, checkpoint, sealed });
        }
        Ok(Verified {
            chains: self.done.len() as u64,
            rows: self.rows,
            checkpoints: self.checkpoints,
            not_anchored: self.not_anchored,
        })
    }
}

/// Checks one checkpoint for itself and against the one before it.
fn check_checkpoint(number: i64, found: &Sealed, before: Option<&Sealed>) -> Result<Checkpoint, Broken> {
    let broken = |problem| Err(Broken::Checkpoint { number, problem });
    if found.number != number {
        return broken(CheckpointProblem::Missing);
    }
    if found.hash != Hash::of(&found.canonical) {
        return broken(CheckpointProblem::Hash);
    }
    let Some(content) = found.content() else { return broken(CheckpointProblem::Form) };
    if content.number != number {
        return broken(CheckpointProblem::Content);
    }
    if content.prev != before.map_or(Hash::ZERO, |before| before.hash) {
        return broken(CheckpointProblem::Follows);
    }
    let sorted = content.heads.windows(2).all(|pair| pair[0].chain < pair[1].chain);
    let rows =
        content.heads.iter().try_fold(0i64, |sum, head| (head.seq > 0).then(|| sum.checked_add(head.seq))?);
    if !sorted || Some(content.rows) != rows || usize::try_from(content.chains) != Ok(content.heads.len()) {
        return broken(CheckpointProblem::Count);
    }
    Ok(content)
}
