//! What the running process forbids itself, read from outside of it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::world::Daemon;

/// The usual number of `nobody`; the name does not matter, only that it is not root.
const NOBODY: u32 = 65_534;

/// A daemon of an ordinary user that waits for a database that nobody runs. The binary is
/// copied, because that user may not be allowed into the folder that it was built in.
fn daemon_of_nobody(folder: &Path, is_root: bool) -> Daemon {
    let binary = folder.join("rota");
    std::fs::copy(env!("CARGO_BIN_EXE_rota"), &binary).unwrap();
    for path in [folder, &binary] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(binary);
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(folder)
        .env_clear()
        .env("ROTA__DATABASE__URL", "postgres://rota:pw@127.0.0.1:1/rota?sslmode=disable")
        .env("ROTA__TELEMETRY__FORMAT", "json");
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    Daemon::spawn(command)
}

#[test]
fn nobody_gets_the_memory_of_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    let user = if own == 0 { NOBODY } else { own };
    let daemon = daemon_of_nobody(folder.path(), own == 0);
    let proc = Path::new("/proc").join(daemon.id().to_string());

    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let core: Vec<&str> = core.split_whitespace().skip(4).collect();
    assert_eq!(core[..2], ["0", "0"], "neither the limit nor what it may be raised to");

    // "The files inside each /proc/pid directory are normally owned by the effective user
    // of the process", and by root where it is not dumpable: proc(5).
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    assert!(status.lines().any(|line| line.starts_with("Uid:") && line.contains(&user.to_string())));
    assert_ne!(user, 0);
    assert_eq!(std::fs::metadata(proc.join("mem")).unwrap().uid(), 0, "it is not dumpable");
}
