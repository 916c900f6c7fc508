//! The key of the env files of one host.
//!
//! Two keys are derived from it (RFC 5869). One seals the replaced file
//! (AES-256-GCM). The other names versions: a version is a keyed digest of the
//! whole file, so that any edit by anybody makes another version, and a version in
//! the state database tells nothing about the values to whoever lacks the key.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac};
use rota_core::fault::Fault;
use rota_core::id::VersionRef;
use zeroize::Zeroizing;

use super::folder::io_fault;

/// The key, in bytes; in the file it stands as twice as many hex digits.
const KEY_BYTES: usize = 32;

/// A key file is one line; more is something else.
const MAX_KEY_FILE_BYTES: u64 = 200;

/// How much of the keyed digest names a version: 128 bits.
const VERSION_BYTES: usize = 16;

/// The key of the env files of one host.
pub struct EnvFileKey {
    versions: hmac::Key,
    backups: RandomizedNonceKey,
}

impl EnvFileKey {
    /// Writes a new random key to `path`, readable by this user only. Refuses to
    /// replace a file.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where the file exists; faults of the file system.
    pub fn create(path: &Path) -> Result<(), Fault> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => Fault::conflict(format!(
                "{} exists, a key is never replaced: without it the backups cannot be opened",
                path.display()
            )),
            _ => io_fault("write the key", path, &error),
        };
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| random_failed())?;
        let mut line = Zeroizing::new(hex::encode(*key));
        line.push('\n');
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Reads the key.
    ///
    /// # Errors
    /// [`Fault::Denied`] where others may read it; [`Fault::Invalid`] where it is
    /// missing or is not a key.
    pub fn load(path: &Path) -> Result<Self, Fault> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Fault::invalid(format!(
                "the env files' key {} is missing, restore it, or make the first one with `rota env-file key`",
                path.display()
            )),
            _ => io_fault("read the key", path, &error),
        };
        let mut file = fs::File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(Fault::denied(format!(
                "others may read the key {}, run chmod 600 on it",
                path.display()
            )));
        }
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 2));
        if metadata.len() <= MAX_KEY_FILE_BYTES {
            file.read_to_string(&mut text).map_err(failed)?;
        }
        let mut key = Zeroizing::new([0u8; KEY_BYTES]);
        hex::decode_to_slice(text.trim(), &mut *key).map_err(|_| {
            Fault::invalid(format!("{} is not a key: it holds {} hex digits", path.display(), 2 * KEY_BYTES))
        })?;
        Self::derive(&key)
    }

    fn derive(key: &[u8; KEY_BYTES]) -> Result<Self, Fault> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"rota env-file").extract(key);
        let part = |info: &'static [u8]| {
            let mut part = Zeroizing::new([0u8; KEY_BYTES]);
            root.expand(&[info], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut *part))
                .map_err(|_| random_failed())?;
            Ok::<_, Fault>(part)
        };
        let versions = hmac::Key::new(hmac::HMAC_SHA256, &*part(b"versions")?);
        let backups =
            RandomizedNonceKey::new(&AES_256_GCM, &*part(b"backups")?).map_err(|_| random_failed())?;
        Ok(Self { versions, backups })
    }

    /// The version of a file with these bytes.
    pub(super) fn version(&self, file: &[u8]) -> VersionRef {
        let digest = hmac::sign(&self.versions, file);
        VersionRef(hex::encode(&digest.as_ref()[..VERSION_BYTES]))
    }

    /// Encrypts `plain`; `name` is bound to it and has to be given again.
    pub(super) fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .backups
            .seal_in_place_append_tag(Aad::from(name), &mut sealed)
            .map_err(|_| random_failed())?;
        let mut whole = nonce.as_ref().to_vec();
        whole.append(&mut sealed);
        Ok(whole)
    }

    /// Decrypts what [`Self::seal`] made under the same name; `None` where it was
    /// made under another key or name, or was changed.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = self.backups.open_in_place(nonce, Aad::from(name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

fn random_failed() -> Fault {
    Fault::transient("the cryptographic library failed, nothing was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> EnvFileKey {
        EnvFileKey::derive(&[byte; KEY_BYTES]).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_name() {
        let sealed = key(1).seal("a", b"A=1\n").unwrap();
        assert_eq!(key(1).open("a", &sealed).unwrap().as_slice(), b"A=1\n");
        assert!(!sealed.windows(3).any(|part| part == b"A=1"));
        assert!(key(1).open("b", &sealed).is_none());
        assert!(key(2).open("a", &sealed).is_none());
        assert!(key(1).open("a", &sealed[..sealed.len() - 1]).is_none());
        assert!(key(1).open("a", b"short").is_none());
        assert_ne!(key(1).seal("a", b"A=1\n").unwrap(), sealed, "a nonce is not used twice");
    }

    #[test]
    fn a_version_depends_on_every_byte_and_on_the_key() {
        assert_eq!(key(1).version(b"A=1\n"), key(1).version(b"A=1\n"));
        assert_ne!(key(1).version(b"A=1\n"), key(1).version(b"A=2\n"));
        assert_ne!(key(1).version(b"A=1\n"), key(2).version(b"A=1\n"));
    }

    #[test]
    fn a_key_is_made_once_and_refused_when_others_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(EnvFileKey::load(&path), Err(Fault::Invalid { .. })));
        EnvFileKey::create(&path).unwrap();
        let version = EnvFileKey::load(&path).unwrap().version(b"x");
        assert!(matches!(EnvFileKey::create(&path), Err(Fault::Conflict { .. })));
        assert_eq!(EnvFileKey::load(&path).unwrap().version(b"x"), version);

        let mode = |mode| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode));
        mode(0o640).unwrap();
        assert!(matches!(EnvFileKey::load(&path), Err(Fault::Denied { .. })));
        mode(0o600).unwrap();
        for wrong in ["", "0123", &"0".repeat(65), &"x".repeat(64), &"0".repeat(10_000)] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(EnvFileKey::load(&path), Err(Fault::Invalid { .. })));
        }
    }
}
