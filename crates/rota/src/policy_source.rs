//! Where a policy is read from: a file, a folder of files, or an object in S3.
//!
//! Deliberately absent: any judgement of the text, which is `rota_core::policy`'s.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rota_core::fault::Fault;
use rota_core::policy::accept;
use rota_core::policy::diagnostic::Diagnostic;
use rota_core::policy::kinds::Kinds;
use rota_core::policy::{self, Loaded, MAX_PIECE_BYTES, MAX_PIECES, Piece};
use sha2::{Digest as _, Sha256};

use crate::aws::ObjectReader;
use crate::exit::Failure;

/// A policy's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PolicySource {
    /// A file or a folder; which one is seen when it is read.
    Path(PathBuf),
    Object {
        bucket: String,
        key: String,
    },
}

impl std::fmt::Display for PolicySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Object { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

/// Why a place gave no pieces.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// What was read is no policy.
    Refused(Box<Diagnostic>),
    /// It could not be read.
    Failed(Failure),
}

/// A policy and its name.
pub(crate) struct Read {
    pub(crate) loaded: Loaded,
    /// Of the accepted form, so that comments and spelling do not make another version.
    pub(crate) digest: Option<String>,
}

impl Read {
    /// What was read and is no policy.
    pub(crate) fn refused(diagnostic: Diagnostic) -> Self {
        Self { loaded: Loaded { policy: None, diagnostics: vec![diagnostic] }, digest: None }
    }
}

impl PolicySource {
    /// # Errors
    /// Where `text` begins like an object's address and is none.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let Some(rest) = text.strip_prefix("s3://") else { return Ok(Self::Path(PathBuf::from(text))) };
        match rest.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Self::Object { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(Failure::invalid(format!("`{text}` names no object")).hint("write s3://bucket/key")),
        }
    }

    /// Reads and judges the policy. `objects` is needed for S3 only.
    ///
    /// # Errors
    /// Where there is nothing that could be judged.
    pub(crate) async fn load(
        &self,
        kinds: &Kinds,
        objects: Option<&ObjectReader>,
    ) -> Result<Read, Unreadable> {
        Ok(judge(&self.read(objects).await?, kinds))
    }

    /// Reads the texts, without a look at what they say. `objects` is needed for S3 only.
    ///
    /// # Errors
    /// Where there is nothing that could be judged.
    pub(crate) async fn read(&self, objects: Option<&ObjectReader>) -> Result<Vec<Piece>, Unreadable> {
        match self {
            Self::Path(path) => read_path(path),
            Self::Object { bucket, key } => {
                let reader =
                    objects.ok_or_else(|| failed(Failure::invalid("this command reads no s3:// policy")))?;
                let name = format!("s3://{bucket}/{key}");
                let bytes = reader.read(bucket, key, MAX_PIECE_BYTES).await.map_err(unreadable)?;
                Ok(vec![Piece::from_bytes(name, bytes).map_err(Unreadable::Refused)?])
            }
        }
    }
}

/// Judges the texts of a policy.
pub(crate) fn judge(pieces: &[Piece], kinds: &Kinds) -> Read {
    let loaded = policy::load(pieces, kinds);
    let digest = loaded.policy.as_ref().map(accept::digest);
    Read { loaded, digest }
}

/// Names texts by their content and by the program that would judge them: another
/// version of it may fill in other defaults.
pub(crate) fn mark(pieces: &[Piece]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(env!("CARGO_PKG_VERSION"));
    for Piece { name, text } in pieces {
        for part in [name, text] {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
    }
    hex::encode(hasher.finalize())
}

fn failed(failure: Failure) -> Unreadable {
    Unreadable::Failed(failure)
}

fn unreadable(fault: Fault) -> Unreadable {
    failed(Failure::from(fault).while_doing("cannot read the policy"))
}

fn read_path(path: &Path) -> Result<Vec<Piece>, Unreadable> {
    if !path.is_dir() {
        return Ok(vec![read_piece(path)?]);
    }
    let refuse = |error: std::io::Error| {
        failed(Failure::invalid(format!("cannot read the folder {}: {error}", path.display())))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(refuse)? {
        let file = entry.map_err(refuse)?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
        if files.len() > MAX_PIECES {
            let message = format!("{} has more than {MAX_PIECES} files", path.display());
            return Err(failed(Failure::invalid(message)));
        }
    }
    if files.is_empty() {
        let message = format!("the folder {} has no *.toml file", path.display());
        return Err(failed(Failure::invalid(message)));
    }
    // The order of a folder is the file system's; findings and digests want one of their own.
    files.sort();
    files.iter().map(|file| read_piece(file)).collect()
}

fn read_piece(path: &Path) -> Result<Piece, Unreadable> {
    let refuse = |error: std::io::Error| {
        failed(
            Failure::invalid(format!("cannot read the policy {}: {error}", path.display()))
                .hint("name it with --policy, or set policy.source"),
        )
    };
    let file = std::fs::File::open(path).map_err(refuse)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_PIECE_BYTES).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(refuse)?;
    Piece::from_bytes(path.display().to_string(), bytes).map_err(Unreadable::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        assert_eq!(PolicySource::parse("etc/policy").unwrap(), PolicySource::Path("etc/policy".into()));
        let object = PolicySource::Object { bucket: "b".into(), key: "k/policy.toml".into() };
        assert_eq!(PolicySource::parse("s3://b/k/policy.toml").unwrap(), object);
        for bad in ["s3://", "s3://bucket", "s3:///key", "s3://bucket/"] {
            assert!(PolicySource::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_have_another_mark_when_anything_in_them_changes() {
        let pieces = |texts: &[(&str, &str)]| -> Vec<Piece> {
            texts.iter().map(|(name, text)| Piece::new(*name, *text)).collect()
        };
        let first = mark(&pieces(&[("a", "bc"), ("d", "")]));
        assert_eq!(first, mark(&pieces(&[("a", "bc"), ("d", "")])));
        for other in [
            &[("a", "bd"), ("d", "")][..],
            &[("ab", "c"), ("d", "")],
            &[("a", "bc")],
            &[("d", ""), ("a", "bc")],
        ] {
            assert_ne!(first, mark(&pieces(other)), "{other:?}");
        }
    }

    #[test]
    fn a_folder_gives_its_toml_files_in_order_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_path(folder.path()).is_err(), "an empty folder is no policy");
        for name in ["b.toml", "a.toml", ".hidden.toml", "notes.md"] {
            std::fs::write(folder.path().join(name), "version = 1\n").unwrap();
        }
        let pieces = read_path(folder.path()).unwrap();
        let names: Vec<_> = pieces.iter().map(|piece| piece.name.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["a.toml", "b.toml"]);
    }

    #[test]
    fn a_piece_over_the_limit_is_refused_without_being_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        assert!(matches!(read_path(&path), Err(Unreadable::Refused(_))));
    }
}
