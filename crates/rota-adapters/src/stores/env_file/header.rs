//! The comment line that Rota writes at the head of an env file.
//!
//! It makes every publication a version of its own, even where the values return,
//! and says by which write the file came about.

use rota_core::id::{EffectNo, Epoch, Incarnation};
use rota_engine::ports::{Fence, WriteToken};
use uuid::Uuid;

const START: &str = "# rota: ";

/// Who wrote the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) token: Uuid,
    incarnation: Incarnation,
    epoch: Epoch,
    effect: EffectNo,
}

impl Header {
    pub(super) fn of(token: &WriteToken) -> Self {
        let WriteToken { token, incarnation, epoch, effect } = token;
        Self { token: *token, incarnation: *incarnation, epoch: *epoch, effect: *effect }
    }

    /// What the write was ordered by.
    pub(super) fn fence(&self) -> Fence {
        Fence { incarnation: self.incarnation, epoch: self.epoch, effect: self.effect }
    }

    /// The line with its end.
    pub(super) fn line(&self) -> String {
        let Self { token, incarnation, epoch, effect } = self;
        format!(
            "{START}write={token} incarnation={} epoch={} effect={} (made by rota, kept to recognise edits)\n",
            incarnation.0, epoch.0, effect.0
        )
    }

    /// Divides a file into its header and what consumers put there. A first line that
    /// is not ours belongs to the content.
    pub(super) fn split(file: &str) -> (Option<Self>, &str) {
        let (line, content) = file.split_once('\n').unwrap_or((file, ""));
        match Self::parse(line) {
            Some(header) => (Some(header), content),
            None => (None, file),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix(START)?.split(' ');
        let mut word = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        Some(Self {
            token: word("write")?.parse().ok()?,
            incarnation: Incarnation(word("incarnation")?.parse().ok()?),
            epoch: Epoch(word("epoch")?.parse().ok()?),
            effect: EffectNo(word("effect")?.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_only_once() {
        let header = Header {
            token: Uuid::from_u128(7),
            incarnation: Incarnation(1),
            epoch: Epoch(5),
            effect: EffectNo(17),
        };
        let file = format!("{}{}A=1\n", header.line(), header.line());
        let (found, content) = Header::split(&file);
        assert_eq!(found, Some(header.clone()));
        assert_eq!(content, format!("{}A=1\n", header.line()));
    }

    #[test]
    fn a_line_that_is_not_ours_is_content() {
        for file in
            ["", "A=1", "# rota: hello\nA=1\n", "# rota: write=x incarnation=1 epoch=1 effect=1\n", "\n"]
        {
            assert_eq!(Header::split(file), (None, file));
        }
    }
}
