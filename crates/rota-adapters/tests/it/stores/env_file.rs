use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::stores::env_file::{EnvFileKey, EnvFileStore};
use rota_core::fault::Fault;
use rota_core::id::{RotationId, SecretId, StoreId, VersionRef};
use rota_core::policy::model::StorePolicy;
use rota_engine::ports::{SecretStore, Slot, SlotRole, SlotState};
use rota_engine::test_support::store_suite::StoreUnderTest;
use rota_fakes::wait;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{environment, fault, token, value};

/// A store with a folder of its own.
struct Subject {
    folder: TempDir,
    environment: AdapterEnvironment,
    paths: AtomicU32,
}

impl Subject {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        EnvFileKey::create(&key).unwrap();
        let environment = AdapterEnvironment { env_file_key: Some(key), ..environment() };
        Self { folder, environment, paths: AtomicU32::new(0) }
    }

    fn with(&self, settings: Value) -> Result<EnvFileStore, Fault> {
        EnvFileStore::new(&policy("/srv/acd.env", settings), &self.environment)
    }

    fn plain(&self) -> EnvFileStore {
        self.with(json!({})).unwrap()
    }

    /// A file of its own with this content and mode.
    fn file(&self, content: &str, mode: u32) -> PathBuf {
        let path = PathBuf::from(self.path());
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn policy(path: &str, settings: Value) -> StorePolicy {
    StorePolicy {
        id: StoreId::new("files").unwrap(),
        kind: "env-file".to_owned(),
        settings,
        path: path.parse().unwrap(),
    }
}

fn slot(beside: &str) -> Slot {
    Slot {
        rotation: RotationId(Uuid::new_v4()),
        secret: SecretId::new("JWT_SECRET").unwrap(),
        role: SlotRole::Candidate,
        beside: beside.to_owned(),
        shared: true,
    }
}

#[async_trait]
impl StoreUnderTest for Subject {
    fn store(&self) -> Arc<dyn SecretStore> {
        Arc::new(self.plain())
    }

    fn path(&self) -> String {
        let number = self.paths.fetch_add(1, Ordering::SeqCst);
        self.folder.path().join(format!("{number}.env")).to_str().unwrap().to_owned()
    }

    async fn write_by_hand(&self, path: &str, content: &str) {
        fs::write(path, content).unwrap();
    }
}

rota_engine::store_suite!(Subject::new());

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn state_of(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.rota", path.file_name().unwrap().to_str().unwrap()))
}

async fn replace(store: &EnvFileStore, path: &Path, content: &str) -> Result<VersionRef, Fault> {
    let base = store.read(&text(path)).await?.map(|stored| stored.version);
    store.write(&text(path), &value(content), base.as_ref(), &token()).await
}

#[tokio::test]
async fn consumers_read_one_comment_line_and_then_the_content() {
    let subject = Subject::new();
    let path = PathBuf::from(subject.path());
    let token = token();
    subject.plain().write(&text(&path), &value("A=1\nB='2 3'\n"), None, &token).await.unwrap();
    let written = fs::read_to_string(&path).unwrap();
    let (head, content) = written.split_once('\n').unwrap();
    let start = format!("# rota: write={} incarnation=1 epoch=5 effect=17 ", token.token);
    assert!(head.starts_with(&start), "{head}");
    assert_eq!(content, "A=1\nB='2 3'\n");
}

#[tokio::test]
async fn a_version_is_no_digest_that_a_guess_can_be_compared_with() {
    let (one, other) = (Subject::new(), Subject::new());
    let mut versions = Vec::new();
    for subject in [&one, &other] {
        let path = subject.file("PASSWORD=hunter2\n", 0o600);
        versions.push(subject.plain().read(&text(&path)).await.unwrap().unwrap().version);
    }
    assert_ne!(versions[0], versions[1], "the same file under another key has another version");
}

#[tokio::test]
async fn new_files_slots_and_backups_are_for_this_user_only() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), PathBuf::from(subject.path()));
    replace(&store, &path, "A=1\n").await.unwrap();
    replace(&store, &path, "A=2\n").await.unwrap();
    store.stage(&slot(&text(&path)), &value("candidate")).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&state_of(&path)), 0o700);
    let files: Vec<PathBuf> =
        fs::read_dir(state_of(&path)).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "a lock, a backup and a slot: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn an_existing_file_keeps_its_owner_and_mode_but_never_everybodys_rights() {
    let subject = Subject::new();
    for (before, after) in [(0o640, 0o640), (0o600, 0o600), (0o660, 0o660), (0o644, 0o640)] {
        let path = subject.file("A=1\n", before);
        replace(&subject.plain(), &path, "A=2\n").await.unwrap();
        assert_eq!(mode(&path), after);
    }
    let path = subject.file("A=1\n", 0o600);
    replace(&subject.with(json!({ "mode": "0640" })).unwrap(), &path, "A=2\n").await.unwrap();
    assert_eq!(mode(&path), 0o640);
}

#[tokio::test]
async fn a_file_is_given_to_the_owner_that_the_policy_names() {
    let subject = Subject::new();
    let path = PathBuf::from(subject.path());
    let own = fs::metadata(subject.folder.path()).unwrap();
    let store = |owner: String| subject.with(json!({ "owner": owner })).unwrap();
    replace(&store(format!("{}:{}", own.uid(), own.gid())), &path, "A=1\n").await.unwrap();
    let other = store(format!("{}:{}", 54_321, 54_322));
    if own.uid() == 0 {
        replace(&other, &path, "A=2\n").await.unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid()), (54_321, 54_322));
        replace(&subject.plain(), &path, "A=3\n").await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().uid(), 54_321, "the owner is kept");
    } else {
        assert!(matches!(fault(other.preflight(&text(&path)).await), Fault::Denied { .. }));
        assert!(matches!(fault(replace(&other, &path, "A=2\n").await), Fault::Denied { .. }));
        assert!(fs::read_to_string(&path).unwrap().ends_with("A=1\n"));
    }
}

#[tokio::test]
async fn links_pipes_and_folders_are_refused_by_every_call() {
    let subject = Subject::new();
    let (store, target) = (subject.plain(), subject.file("A=1\n", 0o600));
    let [link, pipe, folder] = [0; 3].map(|_| PathBuf::from(subject.path()));
    symlink(&target, &link).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::create_dir(&folder).unwrap();
    for path in [&link, &pipe, &folder] {
        let path = text(path);
        for result in [
            store.preflight(&path).await,
            store.read(&path).await.map(|_| ()),
            store.write(&path, &value("A=2\n"), None, &token()).await.map(|_| ()),
            store.empty_inbox(&path).await,
        ] {
            assert!(matches!(fault(result), Fault::Invalid { .. }), "{path}");
        }
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "A=1\n");
}

#[tokio::test]
async fn a_link_in_place_of_the_slots_folder_is_not_followed() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), subject.file("A=1\n", 0o600));
    let elsewhere = subject.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, state_of(&path)).unwrap();
    fault(store.stage(&slot(&text(&path)), &value("candidate")).await);
    fault(replace(&store, &path, "A=2\n").await);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "A=1\n");
}

#[tokio::test]
async fn a_slots_folder_that_others_may_enter_is_not_used() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), subject.file("A=1\n", 0o600));
    fs::create_dir(state_of(&path)).unwrap();
    fs::set_permissions(state_of(&path), fs::Permissions::from_mode(0o755)).unwrap();
    let refused = store.stage(&slot(&text(&path)), &value("candidate")).await;
    assert!(matches!(fault(refused), Fault::Denied { .. }));
    assert!(matches!(fault(store.preflight(&text(&path)).await), Fault::Denied { .. }));
}

#[tokio::test]
async fn looking_ahead_names_what_would_fail_later() {
    let subject = Subject::new();
    let store = subject.plain();
    let readable_by_all = subject.file("A=1\n", 0o644);
    assert!(matches!(fault(store.preflight(&text(&readable_by_all)).await), Fault::Denied { .. }));
    subject.with(json!({ "mode": "0600" })).unwrap().preflight(&text(&readable_by_all)).await.unwrap();

    let binary = PathBuf::from(subject.path());
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    let huge = subject.file(&"x".repeat(70_000), 0o600);
    let missing = subject.folder.path().join("no-such-folder/x.env");
    for path in [binary, huge, missing] {
        assert!(matches!(fault(store.preflight(&text(&path)).await), Fault::Invalid { .. }));
    }

    let open = subject.folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(fault(store.preflight(&text(&open.join("x.env"))).await), Fault::Denied { .. }));
    for path in ["relative.env", "", "/", "/srv/..", "/srv/"] {
        assert!(matches!(fault(store.preflight(path).await), Fault::Invalid { .. }), "{path}");
    }
}

#[test]
fn settings_that_cannot_work_here_are_refused_when_the_store_is_made() {
    let mut subject = Subject::new();
    for settings in [
        json!({ "mode": "0644" }),
        json!({ "owner": "nobody-of-that-name:root" }),
        json!({ "backups": 101 }),
        json!({ "host": "web-2" }),
        json!({ "colour": "red" }),
    ] {
        assert!(matches!(fault(subject.with(settings)), Fault::Invalid { .. }));
    }
    let per_name = EnvFileStore::new(&policy("/srv/{name}", json!({})), &subject.environment);
    assert!(matches!(fault(per_name), Fault::Invalid { .. }));

    subject.environment.host = Some("web-2".to_owned());
    subject.with(json!({ "host": "web-2" })).unwrap();
    subject.environment.env_file_key = None;
    assert!(matches!(fault(subject.with(json!({}))), Fault::Invalid { .. }));
}

#[tokio::test]
async fn replaced_files_are_sealed_and_can_be_restored_as_a_new_version() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), PathBuf::from(subject.path()));
    for text in ["A=hunter1\n", "A=hunter2\n", "A=hunter3\n", "A=hunter4\n", "A=hunter5\n"] {
        replace(&store, &path, text).await.unwrap();
    }
    let backups = store.backups(&text(&path)).await.unwrap();
    let numbers: Vec<u64> = backups.iter().map(|backup| backup.number).collect();
    assert_eq!(numbers, [2, 3, 4], "the last three");
    for entry in fs::read_dir(state_of(&path)).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"hunter"), "a backup is readable without the key");
    }

    let before = store.read(&text(&path)).await.unwrap().unwrap().version;
    let restored = store.restore(&text(&path), 3, &token()).await.unwrap();
    assert_ne!(restored, before);
    let now = store.read(&text(&path)).await.unwrap().unwrap();
    assert!(now.version == restored && now.value.same_as(&value("A=hunter3\n")));
    store.restore(&text(&path), 5, &token()).await.unwrap();
    let now = store.read(&text(&path)).await.unwrap().unwrap();
    assert!(now.value.same_as(&value("A=hunter5\n")), "what the restore replaced was sealed too");

    assert!(matches!(fault(store.restore(&text(&path), 1, &token()).await), Fault::Invalid { .. }));
    let other = Subject::new();
    let stolen = other.plain().restore(&text(&path), 5, &token()).await;
    assert!(matches!(fault(stolen), Fault::Invalid { .. }), "another key opens nothing");
}

#[tokio::test]
async fn without_backups_nothing_is_kept() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), PathBuf::from(subject.path()));
    replace(&store, &path, "A=1\n").await.unwrap();
    replace(&store, &path, "A=2\n").await.unwrap();
    assert_eq!(store.backups(&text(&path)).await.unwrap().len(), 1);
    replace(&subject.with(json!({ "backups": 0 })).unwrap(), &path, "A=3\n").await.unwrap();
    assert_eq!(store.backups(&text(&path)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_damaged_slot_is_told_and_can_be_purged() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), PathBuf::from(subject.path()));
    let slot = slot(&text(&path));
    let VersionRef(name) = store.stage(&slot, &value("candidate")).await.unwrap();
    fs::write(state_of(&path).join(name), "").unwrap();
    assert!(matches!(fault(store.read_slot(&slot).await), Fault::Invalid { .. }));
    store.purge(&slot).await.unwrap();
    assert!(matches!(store.read_slot(&slot).await.unwrap(), SlotState::Tombstone));
}

#[tokio::test]
async fn a_leftover_of_a_killed_writer_is_cleared_away() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), subject.file("A=1\n", 0o600));
    let leftover = path.with_file_name(format!(".{}.rota-new", path.file_name().unwrap().to_str().unwrap()));
    fs::write(&leftover, "A=half").unwrap();
    replace(&store, &path, "A=2\n").await.unwrap();
    assert!(!leftover.exists());
    assert!(fs::read_to_string(&path).unwrap().ends_with("\nA=2\n"));
}

#[tokio::test]
async fn an_empty_file_is_a_document_without_fields() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), subject.file("", 0o600));
    let stored = store.read(&text(&path)).await.unwrap().unwrap();
    assert!(stored.value.expose().trim().is_empty());
    store.write(&text(&path), &value("A=1\n"), Some(&stored.version), &token()).await.unwrap();
}

/// Set in the child of the next test, to the file that it writes.
const FULL_DISK: &str = "ROTA_TEST_FULL_DISK";

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    let Ok(path) = std::env::var(FULL_DISK) else {
        let subject = Subject::new();
        let path = subject.file(&format!("A={}\n", "o".repeat(3000)), 0o600);
        // No file of the child may grow beyond 4 KiB: the write breaks off in the middle,
        // as on a disk that runs full, whoever runs the tests.
        let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
        // The output goes through pipes: a log file that it is redirected to has the limit, too.
        let child = Command::new("sh")
            .args(["-c", limited])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "stores::env_file::a_full_disk_leaves_the_old_file_whole"])
            .env(FULL_DISK, &path)
            .env("ROTA_TEST_KEY", subject.environment.env_file_key.as_ref().unwrap())
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("A={}\n", "o".repeat(3000)));
        let leftovers: Vec<String> = fs::read_dir(subject.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with("-new"))
            .collect();
        assert_eq!(leftovers, Vec::<String>::new());
        return;
    };
    let key = PathBuf::from(std::env::var("ROTA_TEST_KEY").unwrap());
    let environment = AdapterEnvironment { env_file_key: Some(key), ..environment() };
    let store = EnvFileStore::new(&policy("/srv/acd.env", json!({})), &environment).unwrap();
    let big = format!("A={}\n", "n".repeat(6000));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let before = store.read(&path).await.unwrap().unwrap();
        let failed = fault(replace(&store, Path::new(&path), &big).await);
        assert!(matches!(&failed, Fault::Transient { .. }), "{failed}");
        assert!(failed.to_string().contains("full"), "{failed}");
        assert_eq!(store.read(&path).await.unwrap().unwrap().version, before.version);

        let slot = slot(&path);
        let failed = fault(store.stage(&slot, &value(&big)).await);
        assert!(matches!(failed, Fault::Transient { .. }), "{failed}");
        assert!(matches!(store.read_slot(&slot).await.unwrap(), SlotState::Empty));
    });
}

#[tokio::test]
async fn writers_in_different_processes_take_turns() {
    let subject = Subject::new();
    let (store, path) = (subject.plain(), subject.file("A=1\n", 0o600));
    replace(&store, &path, "A=2\n").await.unwrap();
    let lock = File::options().write(true).open(state_of(&path).join("lock")).unwrap();
    lock.lock().unwrap();
    let waiting = tokio::spawn({
        let (store, path) = (store.clone(), path.clone());
        async move { replace(&store, &path, "A=3\n").await }
    });
    let opened = async || Ok((open_files(&state_of(&path).join("lock")) > 1).then_some(()));
    wait::until(Duration::from_secs(10), "the second writer at the lock", opened).await.unwrap();
    assert!(!waiting.is_finished() && fs::read_to_string(&path).unwrap().ends_with("\nA=2\n"));
    lock.unlock().unwrap();
    waiting.await.unwrap().unwrap();
    assert!(fs::read_to_string(&path).unwrap().ends_with("\nA=3\n"));
}

/// How many descriptors of this process refer to `path`.
fn open_files(path: &Path) -> usize {
    let path = fs::canonicalize(path).unwrap();
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.filter(|link| fs::read_link(link.path()).is_ok_and(|target| target == path)).count()
}
