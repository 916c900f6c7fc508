//! A folder in which files are replaced whole or not at all.
//!
//! Everything is done relative to the open folder, and no symbolic link is
//! followed: the daemon may have more rights than whoever can write there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rota_core::fault::Fault;
use rota_core::value::MAX_VALUE_BYTES;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use zeroize::Zeroizing;

/// A value and room for our own lines.
pub(super) const MAX_FILE_BYTES: usize = MAX_VALUE_BYTES + 1024;

/// A holder works for milliseconds; past this one is stuck.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const LOCK_TRIES: u32 = 500;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ownership {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The nine permission bits.
    pub(super) mode: u32,
}

impl Ownership {
    /// This process's user, nobody else.
    pub(super) fn private() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode: 0o600,
        }
    }

    fn of(stat: &Stat) -> Self {
        Self { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o777 }
    }
}

/// A file as it was read.
pub(super) struct Found {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) ownership: Ownership,
    /// Seconds since 1970.
    pub(super) modified: i64,
}

/// An open folder.
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// Held until dropped; also against other processes.
pub(super) struct Lock {
    _file: File,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens the folder at `path`; links on the way there are followed, since
    /// releases are often switched by a link to a folder.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let fd = rustix::fs::open(path, FOLDER, Mode::empty())
            .map_err(|error| io_fault("open the folder", path, &error.into()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens a folder in this one that belongs to this process's user alone.
    pub(super) fn private_folder(&self, name: &str) -> Result<Option<Self>, Fault> {
        let path = self.path.join(name);
        let fd = match rustix::fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(io_fault("open the folder", &path, &error.into())),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| io_fault("look at", &path, &error.into()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(Fault::denied(format!(
                "{} holds pending values and others may enter it, give it to rota's user and run chmod 700 on it",
                path.display()
            )));
        }
        Ok(Some(Self { fd, path }))
    }

    /// As [`Self::private_folder`], and makes it where it is missing.
    pub(super) fn make_private_folder(&self, name: &str) -> Result<Self, Fault> {
        if let Some(folder) = self.private_folder(name)? {
            return Ok(folder);
        }
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(io_fault("make the folder", &self.path.join(name), &error.into())),
        }
        self.sync()?;
        self.private_folder(name)?.ok_or_else(|| {
            Fault::transient(format!("the folder {} vanished while in use", self.path.join(name).display()))
        })
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn stat(&self) -> Result<Stat, Fault> {
        rustix::fs::fstat(&self.fd).map_err(|error| io_fault("look at the folder", &self.path, &error.into()))
    }

    /// Bytes that this user may still write here.
    pub(super) fn free_bytes(&self) -> Result<u64, Fault> {
        let fs = rustix::fs::fstatvfs(&self.fd)
            .map_err(|error| io_fault("look at the disk of", &self.path, &error.into()))?;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    /// Whether this process may make and replace files here.
    pub(super) fn writable(&self) -> bool {
        use rustix::fs::Access;
        rustix::fs::accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    }

    /// Reads a regular file; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Found>, Fault> {
        let path = self.path_of(name);
        let failed = |error: io::Error| io_fault("read", &path, &error);
        // Not waiting for the other end of a pipe that somebody put there.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => return Err(symlink(&path)),
            Err(error) => return Err(failed(error.into())),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| failed(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Fault::invalid(format!("{} is not a regular file", path.display())));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
        File::from(fd).take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Fault::invalid(format!(
                "{} has more than {MAX_FILE_BYTES} bytes, which is more than a document may have",
                path.display()
            )));
        }
        Ok(Some(Found { bytes, ownership: Ownership::of(&stat), modified: stat.st_mtime }))
    }

    /// Makes or replaces `name` in one step, through `temporary` in the same folder:
    /// whatever happens, `name` is whole, old or new. The caller holds the lock.
    pub(super) fn replace(
        &self,
        name: &str,
        temporary: &str,
        bytes: &[u8],
        ownership: Ownership,
    ) -> Result<(), Fault> {
        let path = self.path_of(name);
        let written = self.write_new(temporary, bytes, ownership).and_then(|()| {
            rustix::fs::renameat(&self.fd, temporary, &self.fd, name)
                .map_err(|error| io_fault("replace", &path, &error.into()))
        });
        if written.is_err() {
            // The fault above is what matters; a leftover is removed by the next write.
            let _ = rustix::fs::unlinkat(&self.fd, temporary, AtFlags::empty());
        }
        written?;
        self.sync()
    }

    fn write_new(&self, name: &str, bytes: &[u8], ownership: Ownership) -> Result<(), Fault> {
        let path = self.path_of(name);
        let failed = |error: io::Error| io_fault("write", &path, &error);
        self.remove(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| failed(error.into()))?;
        let mut file = File::from(fd);
        file.write_all(bytes).map_err(failed)?;
        let Ownership { uid, gid, mode } = ownership;
        let now = Ownership::of(&rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?);
        if (now.uid, now.gid) != (uid, gid) {
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|_| {
                Fault::denied(format!(
                    "{} belongs to user {uid}, group {gid}, and rota may not give files to them, run it as that user",
                    path.display()
                ))
            })?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|error| failed(error.into()))?;
        file.sync_all().map_err(failed)
    }

    /// Removes a file; a missing one is fine.
    pub(super) fn remove(&self, name: &str) -> Result<(), Fault> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(io_fault("remove", &self.path_of(name), &error.into())),
        }
    }

    /// The names of all files here.
    pub(super) fn names(&self) -> Result<Vec<String>, Fault> {
        let failed = |error: rustix::io::Errno| io_fault("list", &self.path, &error.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Waits until nobody else writes here.
    pub(super) fn lock(&self, name: &str) -> Result<Lock, Fault> {
        let path = self.path_of(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| io_fault("lock", &path, &error.into()))?;
        let file = File::from(fd);
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(std::fs::TryLockError::Error(error)) => return Err(io_fault("lock", &path, &error)),
            }
        }
        Err(Fault::transient(format!(
            "{} stays locked by another process, see who holds it with `fuser`",
            path.display()
        )))
    }

    /// Makes renames and removals here outlive a power cut.
    fn sync(&self) -> Result<(), Fault> {
        rustix::fs::fsync(&self.fd).map_err(|error| io_fault("sync", &self.path, &error.into()))
    }
}

fn symlink(path: &Path) -> Fault {
    Fault::invalid(format!(
        "{} is a symbolic link, which replacing would cut, name the file that it points to",
        path.display()
    ))
}

/// What an error of the file system asks for. Its text holds no content.
pub(super) fn io_fault(action: &str, path: &Path, error: &io::Error) -> Fault {
    use io::ErrorKind;
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => Fault::invalid(format!("cannot {action} {path}: it does not exist")),
        ErrorKind::NotADirectory => Fault::invalid(format!("cannot {action} {path}: not a folder")),
        ErrorKind::PermissionDenied => Fault::denied(format!("cannot {action} {path}: rota's user may not")),
        ErrorKind::ReadOnlyFilesystem => {
            Fault::denied(format!("cannot {action} {path}: mounted read-only, mount its folder writable"))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            Fault::transient(format!("cannot {action} {path}: the disk is full, make room"))
        }
        ErrorKind::ResourceBusy | ErrorKind::CrossesDevices => Fault::invalid(format!(
            "cannot {action} {path}: it is a mount of its own, mount its folder instead of the file"
        )),
        ErrorKind::IsADirectory => Fault::invalid(format!("cannot {action} {path}: it is a folder")),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Fault::invalid(format!("cannot {action} {path}: it is a symbolic link, which is not followed"))
        }
        kind => Fault::transient(format!("cannot {action} {path}: {kind}")),
    }
}
