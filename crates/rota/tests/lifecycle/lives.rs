//! Two whole lives in a row of every generated and handed-in secret of the runbooks, the
//! first value made from nothing, the others on their own cadence. After every single
//! record the store's content, labels, versions and slots are compared with the tables
//! below, which are written by hand; at the end the history is.
//!
//! What the examples say of values, names, consumers, overlaps and windows stays; the
//! cadence is one that lets all of a file live equally often.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_core::id::RotationId;
use rota_core::policy::model::{Healthy, Policy, PublishForm};
use rota_core::rotation::Rotation;
use rota_core::schedule::Schedule;
use rota_engine::ports::{Journal, Slot, SlotRole};
use rota_fakes::consumer::{Fleet, KeyReader};
use rota_fakes::vault::VaultFake;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::emulator::Emulator;
use crate::examples::{example, handed_in, in_place};
use crate::runbooks::{CUTOVER, DASHBOARD, JOBSWIPE, MGMT_VIBE, STARTER_KIT, Shown, Wanted};
use crate::support::World;
use crate::witness::{Witness, Witnessed};

/// What consumers read, the first to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Old,
    OldNew,
    NewOld,
    New,
}

use List::{New, NewOld, Old, OldNew};

/// What stands published when a rotation has come to a step: of a value that consumers
/// verify among each other, and of one that is verified elsewhere or has one name only.
const STANDS: [(&str, List, List); 13] = [
    ("keep", Old, Old),
    ("stage", Old, Old),
    ("prove", Old, Old),
    ("introduce", Old, Old),
    ("introduce_rollout", OldNew, Old),
    ("promote", OldNew, Old),
    ("promote_rollout", NewOld, NewOld),
    ("watch", NewOld, NewOld),
    ("withdraw", NewOld, NewOld),
    ("withdraw_rollout", New, New),
    ("confirm", New, New),
    ("prove_refused", New, New),
    ("purge", New, New),
];

/// What history tells of one rotation: `!` is an intent, the rest are outcomes.
const CREATED: &str = "stage! stage prove promote! promote promote_rollout watch purge! purge";
const VERIFIED_BY_EACH_OTHER: &str = "keep! keep stage! stage prove introduce! introduce introduce_rollout \
    promote! promote promote_rollout watch withdraw! withdraw withdraw_rollout prove_refused purge! purge";
const ONE_NAME: &str =
    "keep! keep stage! stage prove promote! promote promote_rollout watch prove_refused purge! purge";
const MADE_ELSEWHERE: &str = "keep! keep stage! stage prove promote! promote promote_rollout watch \
    withdraw! withdraw withdraw_rollout confirm prove_refused purge! purge";
const MADE_ELSEWHERE_ONE_NAME: &str =
    "keep! keep stage! stage prove promote! promote promote_rollout watch confirm prove_refused purge! purge";

fn story(wanted: &Wanted) -> &'static str {
    let pair = matches!(wanted.shown, Shown::Pair(..) | Shown::List(_));
    match (wanted.by_a_person, pair) {
        (false, true) => VERIFIED_BY_EACH_OTHER,
        (false, false) => ONE_NAME,
        (true, true) => MADE_ELSEWHERE,
        (true, false) => MADE_ELSEWHERE_ONE_NAME,
    }
}

/// A value by its parts, of which most have one.
type Parts = Vec<String>;

/// What every path holds: a text, or the fields of a document.
fn contents(shown: Shown, list: List, old: &Parts, new: &Parts) -> BTreeMap<String, Value> {
    let values: &[&Parts] = match list {
        Old => &[old],
        OldNew => &[old, new],
        NewOld => &[new, old],
        New => &[new],
    };
    let last = values[values.len() - 1];
    match shown {
        Shown::One(name) => BTreeMap::from([(name.to_owned(), json!(values[0][0]))]),
        Shown::Pair(first, second) => {
            BTreeMap::from([(first.to_owned(), json!(values[0][0])), (second.to_owned(), json!(last[0]))])
        }
        Shown::List(name) => {
            let all: Vec<&String> = values.iter().map(|value| &value[0]).collect();
            BTreeMap::from([(name.to_owned(), json!(serde_json::to_string(&all).unwrap()))])
        }
        Shown::Fields(names) => {
            let fields: BTreeMap<_, _> = names.iter().zip(values[0]).collect();
            BTreeMap::from([("stripe".to_owned(), json!(fields))])
        }
    }
}

/// The new value, from where `list` shows it.
fn new_of(shown: Shown, list: List, stand: &BTreeMap<String, Value>) -> Parts {
    let text = |name: &str| stand[name].as_str().unwrap().to_owned();
    match shown {
        Shown::One(name) => vec![text(name)],
        Shown::Pair(first, second) => vec![text(if list == OldNew { second } else { first })],
        Shown::List(name) => {
            let all: Vec<String> = serde_json::from_str(&text(name)).unwrap();
            vec![all[usize::from(list == OldNew)].clone()]
        }
        Shown::Fields(names) => {
            names.iter().map(|name| stand["stripe"][name].as_str().unwrap().to_owned()).collect()
        }
    }
}

/// The store as somebody sees it who is not Rota.
#[derive(Clone)]
enum Reader {
    Emulator(Arc<Emulator>, String),
    Vault(Arc<VaultFake>, String),
    EnvFile(PathBuf),
}

impl Reader {
    /// What stands at a name now, as a text or as fields.
    async fn current(&self, name: &str) -> Option<Value> {
        match self {
            Self::Emulator(..) => self.labelled(name, "AWSCURRENT").await,
            Self::Vault(vault, prefix) => {
                let path = format!("secret/data/{prefix}/{name}");
                let data = vault.admin("GET", &path, Value::Null).await.ok()?["data"]["data"].take();
                Some(data.get("value").cloned().unwrap_or(data))
            }
            Self::EnvFile(file) => {
                let text = std::fs::read_to_string(file).ok()?;
                let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")))?.to_owned();
                Some(json!(line.trim_matches(['\'', '"'])))
            }
        }
    }

    async fn labelled(&self, name: &str, label: &str) -> Option<Value> {
        let Self::Emulator(emulator, prefix) = self else { return None };
        let fields = json!({ "SecretId": format!("{prefix}/{name}"), "VersionStage": label });
        let answer = emulator.call("GetSecretValue", fields).await?;
        let text = answer["SecretString"].as_str()?;
        let document = serde_json::from_str(text).ok().filter(Value::is_object);
        Some(document.unwrap_or_else(|| json!(text)))
    }

    /// The versions fit to what was published so far, oldest first.
    async fn assert_versions(&self, name: &str, published: &[Value], about: &str) {
        let Some(before) = published.len().checked_sub(2).map(|index| &published[index]) else { return };
        match self {
            Self::Emulator(..) => {
                let previous = self.labelled(name, "AWSPREVIOUS").await;
                assert!(previous.as_ref() == Some(before), "{about}: AWSPREVIOUS of {name}");
            }
            Self::Vault(vault, prefix) => {
                let path = format!("secret/metadata/{prefix}/{name}");
                let metadata = vault.admin("GET", &path, Value::Null).await.unwrap();
                assert_eq!(
                    metadata["data"]["current_version"],
                    published.len(),
                    "{about}: versions of {name}"
                );
            }
            Self::EnvFile(_) => {}
        }
    }

    /// How many slots of the secret hold a value.
    async fn slots(&self, wanted: &Wanted) -> usize {
        let homes: Vec<String> = match wanted.shown {
            Shown::Fields(_) => vec!["stripe".to_owned()],
            shown => shown.names().iter().map(ToString::to_string).collect(),
        };
        match self {
            Self::Emulator(emulator, prefix) => {
                let own =
                    homes.clone().into_iter().map(|home| format!("rota-slots/{prefix}/{home}/{}", wanted.id));
                let beside = homes.iter().map(|home| format!("{prefix}/{home}"));
                let mut alive = 0;
                for home in beside.chain(own).collect::<Vec<_>>() {
                    let described = emulator.call("DescribeSecret", json!({ "SecretId": home })).await;
                    let versions = described.map(|mut shown| shown["VersionIdsToStages"].take());
                    let labels = versions.as_ref().and_then(Value::as_object).into_iter().flatten();
                    alive += labels
                        .flat_map(|(_, labels)| labels.as_array().into_iter().flatten())
                        .filter_map(Value::as_str)
                        .filter(|label| {
                            label.starts_with("rota-old-") || label.starts_with("rota-candidate-")
                        })
                        .count();
                }
                alive
            }
            Self::Vault(vault, prefix) => {
                let mut alive = 0;
                for home in homes {
                    let folder = format!("secret/metadata/rota-slots/{prefix}/{home}");
                    let Ok(listed) = vault.admin("LIST", &folder, Value::Null).await else { continue };
                    for key in
                        listed["data"]["keys"].as_array().into_iter().flatten().filter_map(Value::as_str)
                    {
                        let slot = vault.admin("GET", &format!("{folder}/{key}"), Value::Null).await.unwrap();
                        alive += usize::from(slot["data"]["versions"]["1"]["destroyed"] == false);
                    }
                }
                alive
            }
            Self::EnvFile(file) => {
                let name = format!(".{}.rota", file.file_name().unwrap().to_str().unwrap());
                let Ok(entries) = std::fs::read_dir(file.with_file_name(name)) else { return 0 };
                let of_ours = format!(" secret={} ", wanted.id);
                entries
                    .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
                    .filter_map(|text| text.lines().next().map(str::to_owned))
                    .filter(|head| head.starts_with("# rota slot: filled") && head.contains(&of_ours))
                    .count()
            }
        }
    }
}

/// What is known of one secret, from what was seen in its store and handed in.
#[derive(Default)]
struct Track {
    old: Option<Parts>,
    new: Option<Parts>,
    handed: Option<Parts>,
    /// Everything that each name ever held, oldest first: every publication is a new
    /// version of every name, also of one whose text stays.
    published: BTreeMap<String, Vec<Value>>,
    last: Option<List>,
    lives: usize,
}

/// Looks at the store after every record.
struct Auditor {
    reader: Reader,
    wanted: &'static [Wanted],
    tracks: Mutex<BTreeMap<&'static str, Track>>,
}

#[async_trait]
impl Witness for Auditor {
    async fn after(&self, _: &Rotation, now: &Rotation) {
        let Some(wanted) = self.wanted.iter().find(|wanted| wanted.id == now.secret.as_str()) else { return };
        let step = now.step().map_or("ended", |step| step.as_str());
        let mut tracks = self.tracks.lock().await;
        self.look(wanted, step, tracks.entry(wanted.id).or_default()).await;
    }
}

impl Auditor {
    async fn look(&self, wanted: &Wanted, step: &str, track: &mut Track) {
        let about = format!("{} at {step}, life {}", wanted.id, track.lives);
        let first = track.old.is_none();
        let stands = STANDS.iter().find(|(name, ..)| *name == step);
        let by_each_other = story(wanted) == VERIFIED_BY_EACH_OTHER;
        let mut list =
            stands.map_or(New, |(_, signing, plain)| if by_each_other { *signing } else { *plain });
        if first && list != New && !["promote_rollout", "watch"].contains(&step) {
            for name in contents(wanted.shown, Old, &vec![String::new(); 2], &Vec::new()).into_keys() {
                assert!(self.reader.current(&name).await.is_none(), "{about}: {name} exists already");
            }
            self.assert_slots(wanted, step, first, &about).await;
            return;
        }
        let one_name = matches!(wanted.shown, Shown::One(_) | Shown::Fields(_));
        if first || (one_name && list == NewOld) {
            list = New;
        }
        let old = track.old.clone().unwrap_or_default();
        let mut stand = BTreeMap::new();
        let empty = vec![String::new(); 2];
        for name in contents(wanted.shown, Old, &empty, &empty).into_keys() {
            let content = self.reader.current(&name).await;
            stand.insert(name.clone(), content.unwrap_or_else(|| panic!("{about}: {name} is gone")));
        }
        if list != Old && track.new.is_none() {
            let new = new_of(wanted.shown, list, &stand);
            assert!(new != old, "{about}: the value did not change");
            assert!(
                track.handed.as_ref().is_none_or(|handed| *handed == new),
                "{about}: not what was handed in"
            );
            assert!(wanted.by_a_person || new[0].len() == wanted.length, "{about}: {} long", new[0].len());
            track.new = Some(new);
        }
        let new = track.new.clone().unwrap_or_default();
        let expected = contents(wanted.shown, list, &old, &new);
        // Values are compared and never shown.
        assert!(stand == expected, "{about}: the store does not hold {list:?}");
        for (name, content) in expected {
            let published = track.published.entry(name.clone()).or_default();
            if list != Old && track.last != Some(list) {
                published.push(content);
            }
            self.reader.assert_versions(&name, published, &about).await;
        }
        track.last = Some(list);
        self.assert_slots(wanted, step, first, &about).await;
        if step == "ended" {
            track.old = track.new.take();
            track.handed = None;
            track.lives += 1;
        }
    }

    async fn assert_slots(&self, wanted: &Wanted, step: &str, first: bool, about: &str) {
        let kept = usize::from(!first);
        let filled = match step {
            "keep" | "ended" => 0..=0,
            // A person fills it without a record of ours.
            "stage" => kept..=kept + usize::from(wanted.by_a_person),
            _ => kept + 1..=kept + 1,
        };
        let slots = self.reader.slots(wanted).await;
        assert!(filled.contains(&slots), "{about}: {slots} slots hold a value, not {filled:?}");
    }
}

/// The same policy with the waits that the test's time makes short, and a short cadence.
fn shorten(policy: &mut Policy, prefix: &str, wanted: &[Wanted]) {
    policy.secrets.retain(|id, _| wanted.iter().any(|wanted| wanted.id == id.as_str()));
    let longest = policy.secrets.values().map(|secret| secret.kept_overlap()).max().unwrap_or_default();
    for secret in policy.secrets.values_mut() {
        let overlap = secret.kept_overlap();
        secret.schedule = Schedule::Cadence { every: longest * 2 + SignedDuration::from_hours(14 * 24) };
        secret.healthy = Healthy { count: 3, every: overlap / 4, failures: 3 };
        if let PublishForm::Document { path, .. } = &mut secret.publish {
            *path = format!("{prefix}/stripe");
        }
    }
}

#[derive(Clone, Copy)]
enum Place {
    Emulator,
    Vault,
    EnvFile,
}

struct Lives {
    world: World,
    policy: Policy,
    auditor: Arc<Auditor>,
}

impl Lives {
    async fn begin((file, wanted): (&str, &'static [Wanted]), place: Place) -> Self {
        let world = match place {
            Place::Emulator => World::emulated().await,
            Place::Vault | Place::EnvFile => World::simulated().await,
        };
        let prefix = format!("lives/{}", uuid::Uuid::new_v4().simple());
        let reader = match place {
            Place::Emulator => Reader::Emulator(world.emulator.clone().unwrap(), prefix.clone()),
            Place::Vault => Reader::Vault(Arc::clone(&world.vault), prefix.clone()),
            Place::EnvFile => Reader::EnvFile(world.folder.path().join("app.env")),
        };
        let mut policy = example(file);
        in_place(&mut policy);
        shorten(&mut policy, &prefix, wanted);
        for store in policy.stores.values_mut() {
            let (kind, settings, path) = match &reader {
                Reader::Emulator(..) => {
                    ("aws-secrets-manager", json!({ "region": "us-east-1" }), format!("{prefix}/{{name}}"))
                }
                Reader::Vault(..) => {
                    ("vault-kv2", json!({ "mount": "secret" }), format!("{prefix}/{{name}}"))
                }
                Reader::EnvFile(file) => ("env-file", json!({}), file.to_str().unwrap().to_owned()),
            };
            store.kind = kind.to_owned();
            store.settings = settings;
            store.path = path.parse().unwrap();
        }
        world.accept_loaded(&policy).await;
        let auditor = Arc::new(Auditor { reader, wanted, tracks: Mutex::default() });
        Self { world, policy, auditor }
    }

    /// People do what rotations wait for.
    async fn people(&self) {
        let sql = "SELECT secret, id, step FROM rota.rotations WHERE step IN ('stage', 'confirm') AND ended_at IS NULL";
        let waiting: Vec<(String, uuid::Uuid, String)> =
            sqlx::query_as(sql).fetch_all(&self.world.operator).await.unwrap();
        for (id, rotation, step) in waiting {
            let Some(wanted) = self.auditor.wanted.iter().find(|wanted| wanted.id == id) else { continue };
            let mut tracks = self.auditor.tracks.lock().await;
            let track = tracks.entry(wanted.id).or_default();
            if step == "confirm" {
                track.old.iter().flatten().for_each(|key| self.world.consumers.revoke(key));
                self.world.order("confirm", &id).await;
            } else if wanted.by_a_person && track.handed.is_none() {
                let secret = &self.policy.secrets[&id.parse().unwrap()];
                let entry = self.policy.entry(&secret.id).unwrap();
                let slot = Slot::of(&entry, RotationId(rotation), SlotRole::Candidate).unwrap();
                let store = &entry.stores[secret.primary_store().unwrap()];
                let (value, parts) = handed_in(secret);
                let store = self.world.adapters.store(store).unwrap();
                store.stage(&slot, &value).await.unwrap();
                track.handed = Some(parts);
            }
        }
    }

    async fn until_lives(&self, lives: usize) {
        let journal = Arc::clone(&self.world.journal) as Arc<dyn Journal>;
        let witness = Arc::clone(&self.auditor) as Arc<dyn Witness>;
        let engine = self.world.engine_on(Witnessed::over(journal, witness), "audited");
        let enough = || async {
            self.people().await;
            let tracks = self.auditor.tracks.lock().await;
            tracks.len() == self.auditor.wanted.len() && tracks.values().all(|track| track.lives >= lives)
        };
        self.world.work_with(&[&engine], self.auditor.wanted[0].id, enough).await;
    }

    /// Whoever verifies each other shares one address from now on.
    fn run_consumers(&self) -> Vec<(&'static Wanted, Arc<Fleet>)> {
        let generated = self.auditor.wanted.iter().filter(|wanted| !wanted.by_a_person);
        generated
            .map(|wanted| {
                let secret = &self.policy.secrets[&wanted.id.parse().unwrap()];
                let consumers: Vec<&str> = secret.consumers.names().iter().map(|id| id.as_str()).collect();
                let ttl = secret.token_ttl.max(SignedDuration::from_mins(15));
                (wanted, self.world.consumers.run(&consumers, ttl, self.keys_of(wanted)))
            })
            .collect()
    }

    /// As the runbooks' code does: the first of the list or of the two names is to sign with.
    fn keys_of(&self, wanted: &'static Wanted) -> KeyReader {
        let reader = self.auditor.reader.clone();
        Arc::new(move || {
            let read = async {
                let mut keys = Vec::new();
                for name in wanted.shown.names() {
                    let text = reader.current(name).await;
                    keys.extend(text.as_ref().and_then(Value::as_str).map(str::to_owned));
                }
                keys
            };
            let keys = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(read));
            Ok(match wanted.shown {
                Shown::List(_) => serde_json::from_str(&keys[0])?,
                Shown::One(_) | Shown::Pair(..) | Shown::Fields(_) => keys,
            })
        })
    }

    /// Each rotation's steps, as history tells them.
    async fn assert_history(&self) {
        for wanted in self.auditor.wanted {
            let sql = "SELECT h.kind, b.entry ->> 'step' FROM rota.rotation_history h \
                JOIN rota.rotations r ON r.id = h.rotation AND r.phase = 'completed', \
                LATERAL (SELECT convert_from(h.canonical, 'UTF8')::jsonb -> 'entry' AS entry) AS b \
                WHERE h.chain = 'secret:' || $1 AND h.kind IN ('step.intended', 'step.done', 'rotation.ended', \
                    'step.failed', 'rotation.held', 'rotation.turned_back') ORDER BY h.seq";
            let rows: Vec<(String, Option<String>)> =
                sqlx::query_as(sql).bind(wanted.id).fetch_all(&self.world.operator).await.unwrap();
            let told: Vec<String> = rows
                .into_iter()
                .map(|(kind, step)| match kind.as_str() {
                    "step.intended" => format!("{}!", step.unwrap()),
                    "step.done" | "rotation.ended" => step.unwrap(),
                    other => format!("({other})"),
                })
                .collect();
            let lives = self.auditor.tracks.lock().await[wanted.id].lives;
            let mut expected = vec![CREATED];
            expected.extend(std::iter::repeat_n(story(wanted), lives - 1));
            assert_eq!(told.join(" "), expected.join(" "), "{}", wanted.id);
        }
        self.world.assert_history_has_no_hole().await;
    }
}

async fn two_lives(of: (&'static str, &'static [Wanted]), place: Place) {
    let lives = Lives::begin(of, place).await;
    for wanted in of.1 {
        lives.world.order("rotate", wanted.id).await;
    }
    lives.until_lives(1).await;
    let fleets = lives.run_consumers();
    lives.until_lives(3).await;
    lives.assert_history().await;
    for (wanted, fleet) in fleets {
        assert!(fleet.verifications() > 100, "{}: {} verifications", wanted.id, fleet.verifications());
        if story(wanted) == VERIFIED_BY_EACH_OTHER {
            assert_eq!(fleet.failures(), [], "{}", wanted.id);
        } else {
            // One name, and a gap that the policy accepts.
            let refused = fleet.failures().len();
            let _ = writeln!(
                std::io::stderr(),
                "{}, {}: {refused} refused in its accepted gaps",
                of.0,
                wanted.id
            );
            assert!(refused > 0, "{}: a gap that does not show was not measured", wanted.id);
        }
    }
}

macro_rules! lives {
    ($($name:ident: $of:expr, $place:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            two_lives($of, $place).await;
        })*
    };
}

lives! {
    every_secret_of_the_dashboard_lives_twice_in_the_emulator: DASHBOARD, Place::Emulator;
    every_secret_of_jobswipe_lives_twice_in_the_emulator: JOBSWIPE, Place::Emulator;
    every_secret_of_mgmt_vibe_lives_twice_in_the_emulator: MGMT_VIBE, Place::Emulator;
    every_secret_of_the_cutover_lives_twice_in_the_emulator: CUTOVER, Place::Emulator;
    every_secret_of_the_starter_kit_lives_twice_in_the_emulator: STARTER_KIT, Place::Emulator;
    every_secret_of_mgmt_vibe_lives_twice_in_vault: MGMT_VIBE, Place::Vault;
    every_secret_of_the_dashboard_lives_twice_in_vault: DASHBOARD, Place::Vault;
    every_secret_of_the_dashboard_lives_twice_in_its_env_file: DASHBOARD, Place::EnvFile;
    every_secret_of_jobswipe_lives_twice_in_its_env_file: JOBSWIPE, Place::EnvFile;
}
