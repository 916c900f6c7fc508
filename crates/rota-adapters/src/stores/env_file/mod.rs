//! A `KEY=value` file on this machine, read by services when they start.
//!
//! The file is replaced whole and atomically, under a lock, and only where it still
//! is what the writer has read. Beside it stands a folder of this store
//! (`.NAME.rota`, mode 0700) with the lock, the slots of running rotations, the
//! tombstones of past ones, and sealed copies of replaced files.
//!
//! A version is a keyed digest of the whole file, our comment line included. The
//! line names the write, so no version ever returns, and whoever edits the file by
//! hand makes another version. The key never leaves the machine: a version that is
//! kept in the state database says nothing about a value.
//!
//! Deliberately absent: understanding of what the file says (the engine merges),
//! following links, and any way to wipe a disk's blocks: purged values are
//! unlinked, as every file system does it.

mod backup;
mod folder;
mod header;
mod key;
mod owner;
mod settings;
mod slot;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::id::{StoreId, VersionRef};
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::StorePolicy;
use rota_core::publication::Place;
use rota_core::value::SecretValue;
use rota_engine::ports::{SecretStore, Slot, SlotState, Stored, Traces, Trail, WriteToken};
use zeroize::Zeroizing;

use super::{part_of, read_settings};
use crate::catalog::StoreKind;
use crate::environment::AdapterEnvironment;
pub use backup::Backup;
use folder::{Folder, Found, Lock, Ownership};
use header::Header;
pub use key::EnvFileKey;
use owner::Owner;
pub use settings::EnvFileSettings;

pub const KIND: StoreKind = StoreKind {
    spec: KindSpec::new(Port::Store, "env-file", "a KEY=value file on one machine")
        .inline::<EnvFileSettings>()
        .one_document()
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| Ok(Arc::new(EnvFileStore::new(policy, environment)?)),
};

/// A copy or two back is what people ask for; more only spreads old values.
const DEFAULT_BACKUPS: u32 = 3;
const MAX_BACKUPS: u32 = 100;

/// A disk with less room fills up before the rotation ends.
const MIN_FREE_BYTES: u64 = 1024 * 1024;

const LOCK: &str = "lock";

/// A store of env files.
#[derive(Clone)]
pub struct EnvFileStore {
    shared: Arc<Shared>,
}

struct Shared {
    id: StoreId,
    owner: Option<Owner>,
    mode: Option<u32>,
    backups: usize,
    key: EnvFileKey,
}

impl EnvFileStore {
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit or the store lives on another host.
    pub fn new(policy: &StorePolicy, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let id = &policy.id;
        let settings: EnvFileSettings = read_settings(policy)?;
        if policy.path.holes().contains("name") {
            return Err(Fault::invalid(format!(
                "store `{id}` has `{{name}}` in its path, an env file holds all names, write the path of one file"
            )));
        }
        if let Some(host) = &settings.host
            && environment.host.as_ref() != Some(host)
        {
            return Err(Fault::invalid(format!(
                "store `{id}` lives on host `{host}`, run a daemon there with `env_file.host = \"{host}\"`"
            )));
        }
        let mode = settings.mode.as_deref().map(|text| {
            owner::parse_mode(text).ok_or_else(|| {
                Fault::invalid(format!("mode `{text}` of store `{id}` is not like `0600` or `0640`"))
            })
        });
        let backups = settings.backups.unwrap_or(DEFAULT_BACKUPS);
        if backups > MAX_BACKUPS {
            return Err(Fault::invalid(format!("store `{id}` keeps at most {MAX_BACKUPS} backups")));
        }
        let key = environment.env_file_key.as_deref().ok_or_else(|| {
            Fault::invalid(
                "env files need a key, make one with `rota env-file key` and name it as `env_file.key_file`",
            )
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                id: id.clone(),
                owner: settings.owner.as_deref().map(owner::look_up).transpose()?,
                mode: mode.transpose()?,
                backups: backups as usize,
                key: EnvFileKey::load(key)?,
            }),
        })
    }

    /// The sealed copies of the file at `path`, oldest first.
    ///
    /// # Errors
    /// Faults of the file system.
    pub async fn backups(&self, path: &str) -> Result<Vec<Backup>, Fault> {
        let file = EnvFile::new(path)?;
        run(move || match file.folder()?.private_folder(&file.state)? {
            Some(state) => backup::list(&state),
            None => Ok(Vec::new()),
        })
        .await
    }

    /// Puts a sealed copy in place of the file at `path`, as a new version; what it
    /// replaces is sealed first. A running daemon sees a version that is not its own
    /// and holds the rotations of the file.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where there is no such copy or it does not open.
    pub async fn restore(&self, path: &str, number: u64, token: &WriteToken) -> Result<VersionRef, Fault> {
        let (file, shared, header) = (EnvFile::new(path)?, Arc::clone(&self.shared), Header::of(token));
        run(move || {
            let opened = file.open_locked()?;
            let plain = backup::open(&opened.state, &file.name, number, &shared.key)?;
            let (_, content) = Header::split(text(&plain, &opened.folder.path_of(&file.name))?);
            shared.publish(&file, &opened, content, &header)
        })
        .await
    }
}

impl Shared {
    fn stored(&self, found: &Found, path: &Path) -> Result<Stored, Fault> {
        let (_, content) = Header::split(text(&found.bytes, path)?);
        // An empty file is a document without fields; a value is never empty.
        let content = if content.is_empty() { "\n" } else { content };
        let value = SecretValue::new(content.to_owned())
            .map_err(|error| Fault::invalid(format!("{}: {error}", path.display())))?;
        Ok(Stored { version: self.key.version(&found.bytes), value })
    }

    fn write(
        &self,
        file: &EnvFile,
        content: &SecretValue,
        base: Option<&VersionRef>,
        header: &Header,
    ) -> Result<VersionRef, Fault> {
        let opened = file.open_locked()?;
        let path = opened.folder.path_of(&file.name);
        let found = opened.found.as_ref();
        let version = found.map(|found| self.key.version(&found.bytes));
        if let (Some(found), Some(version)) = (found, &version)
            && let (Some(written), there) = Header::split(text(&found.bytes, &path)?)
            && written.token == header.token
        {
            return if there == content.expose() {
                Ok(version.clone())
            } else {
                Err(Fault::conflict(format!("{} was edited after this write", path.display())))
            };
        }
        if version.as_ref() != base {
            return Err(Fault::conflict(format!("{} is not what it was when it was read", path.display())));
        }
        self.publish(file, &opened, content.expose(), header)
    }

    /// Replaces the file, keeping a sealed copy.
    fn publish(
        &self,
        file: &EnvFile,
        opened: &Opened,
        content: &str,
        header: &Header,
    ) -> Result<VersionRef, Fault> {
        let Opened { folder, state, found, lock: _ } = opened;
        let line = header.line();
        let mut bytes = Zeroizing::new(Vec::with_capacity(line.len() + content.len()));
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(content.as_bytes());
        if let Some(found) = found
            && self.backups > 0
        {
            backup::take(state, &file.name, &found.bytes, &self.key)?;
        }
        folder.replace(&file.name, &file.temporary, &bytes, self.ownership(found.as_ref()))?;
        backup::prune(state, self.backups)?;
        Ok(self.key.version(&bytes))
    }

    /// What the policy says, else what the file has, else this user alone.
    fn ownership(&self, found: Option<&Found>) -> Ownership {
        let kept = found.map_or_else(Ownership::private, |found| found.ownership);
        Ownership {
            uid: self.owner.map_or(kept.uid, |owner| owner.uid),
            gid: self.owner.map_or(kept.gid, |owner| owner.gid),
            mode: self.mode.unwrap_or(kept.mode & owner::WIDEST_MODE),
        }
    }

    fn preflight(&self, file: &EnvFile) -> Result<(), Fault> {
        let folder = file.folder()?;
        let (path, shown) = (folder.path_of(&file.name), file.folder.display());
        let stat = folder.stat()?;
        if stat.st_mode & 0o1002 == 0o0002 {
            return Err(Fault::denied(format!(
                "everybody may replace files in {shown}, run chmod o-w on it"
            )));
        }
        if !folder.writable() {
            return Err(Fault::denied(format!(
                "rota's user may not make files in {shown}, which replacing one needs, give it the right"
            )));
        }
        if folder.free_bytes()? < MIN_FREE_BYTES {
            return Err(Fault::transient(format!("the disk of {shown} is full, make room")));
        }
        let state = folder.private_folder(&file.state)?;
        let found = folder.read(&file.name)?;
        if let Some(found) = &found {
            self.stored(found, &path)?;
            if self.mode.is_none() && found.ownership.mode & 0o007 != 0 {
                return Err(Fault::denied(format!(
                    "everybody may read {}, run chmod o= on it or set `mode` of store `{}`",
                    path.display(),
                    self.id
                )));
            }
        }
        let (wanted, own) = (self.ownership(found.as_ref()), Ownership::private());
        if own.uid != 0 && wanted.uid != own.uid {
            return Err(Fault::denied(format!(
                "{} belongs to user {} and rota runs as user {}, run it as that user or as root",
                path.display(),
                wanted.uid,
                own.uid
            )));
        }
        state.map_or(Ok(()), |state| slot_folder_works(&state))
    }
}

fn slot_folder_works(state: &Folder) -> Result<(), Fault> {
    if state.writable() {
        return Ok(());
    }
    Err(Fault::denied(format!(
        "rota's user may not write in {}, run chmod 700 on it",
        state.path_of("").display()
    )))
}

/// Where the parts of one env file are.
#[derive(Clone)]
struct EnvFile {
    folder: PathBuf,
    name: String,
    state: String,
    temporary: String,
}

/// An env file that nobody else writes while this lives.
struct Opened {
    folder: Folder,
    state: Folder,
    found: Option<Found>,
    #[expect(dead_code, reason = "held, not read")]
    lock: Lock,
}

impl EnvFile {
    fn new(path: &str) -> Result<Self, Fault> {
        let split = path.strip_prefix('/').map(|rest| rest.rsplit_once('/').unwrap_or(("", rest)));
        let Some((folder, name)) = split.filter(|(_, name)| !matches!(*name, "" | "." | "..")) else {
            return Err(Fault::invalid(format!(
                "`{path}` is not a file, write its path from the root, such as `/srv/acd/.env`"
            )));
        };
        Ok(Self {
            folder: Path::new("/").join(folder),
            name: name.to_owned(),
            state: format!(".{name}.rota"),
            temporary: format!(".{name}.rota-new"),
        })
    }

    fn folder(&self) -> Result<Folder, Fault> {
        Folder::open(&self.folder)
    }

    fn open_locked(&self) -> Result<Opened, Fault> {
        let folder = self.folder()?;
        let state = folder.make_private_folder(&self.state)?;
        let lock = state.lock(LOCK)?;
        let found = folder.read(&self.name)?;
        Ok(Opened { folder, state, found, lock })
    }
}

fn text<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str, Fault> {
    str::from_utf8(bytes).map_err(|_| Fault::invalid(format!("{} is not UTF-8 text", path.display())))
}

/// File systems block; a call that is given up on ends by itself, and what it still
/// does is compared with what it has read.
async fn run<T, F>(work: F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Fault> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Fault::transient("the work on the env file broke off")))
}

#[async_trait]
impl SecretStore for EnvFileStore {
    fn id(&self) -> &StoreId {
        &self.shared.id
    }

    fn document_format(&self) -> DocumentFormat {
        DocumentFormat::Dotenv
    }

    async fn preflight(&self, path: &str) -> Result<(), Fault> {
        let (file, shared) = (EnvFile::new(path)?, Arc::clone(&self.shared));
        run(move || shared.preflight(&file)).await
    }

    async fn read(&self, path: &str) -> Result<Option<Stored>, Fault> {
        let (file, shared) = (EnvFile::new(path)?, Arc::clone(&self.shared));
        run(move || {
            let folder = file.folder()?;
            let found = folder.read(&file.name)?;
            found.map(|found| shared.stored(&found, &folder.path_of(&file.name))).transpose()
        })
        .await
    }

    async fn write(
        &self,
        path: &str,
        content: &SecretValue,
        base: Option<&VersionRef>,
        token: &WriteToken,
    ) -> Result<VersionRef, Fault> {
        let (file, shared) = (EnvFile::new(path)?, Arc::clone(&self.shared));
        let (content, base, header) = (content.duplicate(), base.cloned(), Header::of(token));
        run(move || shared.write(&file, &content, base.as_ref(), &header)).await
    }

    async fn stage(&self, slot: &Slot, value: &SecretValue) -> Result<VersionRef, Fault> {
        let (file, slot, value) = (EnvFile::new(&slot.beside)?, slot.clone(), value.duplicate());
        run(move || slot::stage(&file.open_locked()?.state, &slot, &value)).await
    }

    async fn read_slot(&self, slot: &Slot) -> Result<SlotState, Fault> {
        let (file, slot) = (EnvFile::new(&slot.beside)?, slot.clone());
        run(move || slot::read(file.folder()?.private_folder(&file.state)?.as_ref(), &slot)).await
    }

    async fn purge(&self, slot: &Slot) -> Result<(), Fault> {
        let (file, slot) = (EnvFile::new(&slot.beside)?, slot.clone());
        run(move || slot::purge(&file.open_locked()?.state, &slot)).await
    }

    async fn read_other(&self, place: &Place) -> Result<Option<SecretValue>, Fault> {
        match self.read(&place.path).await? {
            Some(stored) => part_of(place, DocumentFormat::Dotenv, &stored.value),
            None => Ok(None),
        }
    }

    async fn empty_inbox(&self, path: &str) -> Result<(), Fault> {
        let file = EnvFile::new(path)?;
        run(move || {
            let opened = file.open_locked()?;
            match &opened.found {
                Some(found) if !found.bytes.is_empty() => {
                    opened.folder.replace(&file.name, &file.temporary, b"", found.ownership)
                }
                Some(_) | None => Ok(()),
            }
        })
        .await
    }

    /// None: the machine's clock is the daemon's own.
    async fn clock(&self) -> Result<Option<Timestamp>, Fault> {
        Ok(None)
    }

    /// The line in the file, and the names of the slots beside it.
    async fn traces(&self, trail: &Trail) -> Result<Traces, Fault> {
        let (file, trail) = (EnvFile::new(trail.path())?, trail.clone());
        run(move || {
            let folder = file.folder()?;
            let fence = match folder.read(&file.name)? {
                Some(found) => Header::split(text(&found.bytes, &folder.path_of(&file.name))?).0,
                None => None,
            };
            let state = folder.private_folder(&file.state)?;
            let strange = state.map_or(Ok(None), |state| slot::strange(&state, &trail))?;
            Ok(Traces { fence: fence.map(|line| line.fence()), strange })
        })
        .await
    }

    /// None: whoever reads the file reads what stands there.
    async fn pinned_reference(&self, _path: &str, _version: &VersionRef) -> Result<Option<String>, Fault> {
        Ok(None)
    }
}
