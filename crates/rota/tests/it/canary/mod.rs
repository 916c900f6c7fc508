//! No value reaches any place where it does not belong, however loud everybody is.
//!
//! A daemon of the built binary rotates secrets of every kind on real servers: whole
//! rotations, an emergency, rollbacks, panics, failing commands, stores whose errors repeat
//! what they were sent. Every value that was ever in a store is then searched for in
//! everything else. That the search finds what is there is tested with leaks that are real.

mod places;
mod run;
mod search;
mod values;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rota_fakes::http::{Effect, Fault};

use places::{Haystack, Place};
use run::{Pages, Run};
use search::{Form, Search};

use crate::poke::Poke;
use crate::subjects::{Store, word};
use crate::support::finish;
use crate::world::{LIMIT, Login, World};

/// A panic's message, formatted from what was being worked on.
const PANICS: &str = "panic@call/due,panic@call/claim,panic@call/claim_rollout,panic@call/claim_notices,\
    panic@call/upcoming,panic@rotation.opened//after";

/// These stay in their watch until somebody gives an order.
const LONG: [&str; 3] = ["API_KEY", "OTHER_KEY", "REPORTS_URL"];

fn times(name: &str) -> String {
    let overlap = if LONG.contains(&name) { "1h" } else { "2s" };
    let cadence = if name == "SESSION_SECRET" { "15s" } else { "90d" };
    let disables = name.ends_with("_URL") || name == "S3_KEY";
    let revoke = if disables { "revoke_after = \"1s\"\n" } else { "" };
    format!("overlap = \"{overlap}\"\ncadence = \"{cadence}\"\nlead = \"5s\"\n{revoke}")
}

/// A key that wants to be escaped wherever it stands.
fn awkward_key() -> String {
    format!("sk-\"{}\" \\ /+=&é%", word())
}

impl Run {
    /// How often a rotation of the secret ended as `outcome`.
    fn ended(&self, name: &str, outcome: &str) -> usize {
        let history = self.world.ok(&["history", name, "--json"]).json();
        let rotations = history["rotations"].as_array().unwrap();
        rotations.iter().filter(|rotation| rotation["outcome"] == outcome).count()
    }

    fn wait_for_ended(&self, name: &str, outcome: &str, times: usize) {
        let look = || Ok((self.ended(name, outcome) >= times).then_some(()));
        rota_fakes::wait::blocking(LIMIT, &format!("{name} to be {outcome}"), look)
            .unwrap_or_else(|error| panic!("{error}: {:#}", self.world.status(name)));
    }

    fn rotate(&self, name: &str) {
        self.ok(&["rotate", name, "--reason", "the canary"], "");
    }

    /// Commands that fail with a value in their hands.
    fn fail_with_values(&self) -> Vec<String> {
        let values: Vec<String> = (0..4).map(|_| awkward_key()).collect();
        let too_long = format!("{}{}", values[1], word().repeat(10));
        let wrong_store =
            [("ROTA__AWS__ENDPOINT", "http://127.0.0.1:1"), ("ROTA__VAULT__TOKEN", "no-token-of-anybody")];
        for (secret, value) in [("PROVIDER_KEY", &too_long), ("S3_KEY", &values[2]), ("NOBODY", &values[3])] {
            let ran = self.command(&["submit", secret], value);
            assert_ne!(ran.code, 0, "{secret}");
        }
        let mut unreachable = self.world.command(Login::Operator, &["submit", "PROVIDER_KEY", "--json"]);
        unreachable.envs(self.settings.iter().cloned()).envs(wrong_store);
        let file = self.world.write("input", &values[0]);
        unreachable.stdin(std::fs::File::open(&file).unwrap());
        std::fs::remove_file(file).unwrap();
        let ran = finish(unreachable.output().unwrap());
        assert_ne!(ran.code, 0, "{}", ran.stdout);
        self.keep_printed(&ran);
        values.into_iter().chain([too_long]).collect()
    }

    /// Hands in a value for a rotation that waits for one.
    fn submit(&self, name: &str) -> String {
        let value = awkward_key();
        self.world.wait_for_step(name, "stage");
        self.ok(&["submit", name], &value);
        value
    }

    /// What stands in the stores before the first rotation, as Vault repeats it in errors.
    fn first_value_of(&self, store: Store) -> String {
        let of_store = self.subjects.iter().find(|subject| subject.store == store).unwrap();
        of_store.before[0].1.clone()
    }
}

/// A second replica, which writes its log for people; it ends with this.
struct Second {
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Second {
    fn start(run: &Run) -> Self {
        let mut command = run.world.daemon_command();
        command.envs(run.settings.iter().cloned()).env("ROTA__TELEMETRY__FORMAT", "text");
        command.env("ROTA__TELEMETRY__FILTER", "trace").env("RUST_LOG", "trace");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        Self { child, log: Some(log) }
    }

    fn log(mut self) -> String {
        self.child.kill().unwrap();
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two lives of most secrets, with all that may happen to them.
fn live(run: &Run, handed_in: &mut Vec<String>) {
    for subject in &run.subjects {
        run.rotate(subject.name);
    }
    for name in ["PROVIDER_KEY", "OTHER_KEY"] {
        run.world.wait_for_step(name, "stage");
    }
    handed_in.extend(run.fail_with_values());
    handed_in.extend(["PROVIDER_KEY", "OTHER_KEY"].map(|name| run.submit(name)));
    run.world.wait_for_step("REPORTS_URL", "watch");
    let leaked = run.world.status("REPORTS_URL")["old_version"].as_str().unwrap().to_owned();
    let emergency =
        ["rotate", "REPORTS_URL", "--emergency", "--suspect", &leaked, "--yes", "--reason", "a leak"];
    run.ok(&emergency, "");
    let echo = serde_json::json!({ "errors": [run.first_value_of(Store::Vault)] }).to_string();
    let answer = Effect::Answer { status: 500, headers: Vec::new(), body: echo };
    run.vault.script().add(Fault::next("/v1/secret/", answer).times(2));
    for name in ["API_KEY", "OTHER_KEY"] {
        run.world.wait_for_step(name, "watch");
        run.ok(&["rollback", name, "--yes", "--reason", "it was wrong"], "");
        run.wait_for_ended(name, "rolled_back", 1);
    }
    run.world.wait_for_step("PROVIDER_KEY", "confirm");
    run.ok(&["confirm", "PROVIDER_KEY", "--yes", "--reason", "revoked"], "");
    let whole =
        ["SESSION_SECRET", "PASSWORD", "PROVIDER_KEY", "DATABASE_URL", "CACHE_URL", "QUEUE_URL", "S3_KEY"];
    for name in whole.into_iter().chain(["REPORTS_URL"]) {
        run.wait_for_ended(name, "completed", 1);
    }
    run.ok(
        &["rotate", "QUEUE_URL", "--emergency", "--suspect", "current", "--yes", "--reason", "a leak"],
        "",
    );
    run.rotate("CACHE_URL");
    run.wait_for_ended("QUEUE_URL", "completed", 2);
    run.wait_for_ended("CACHE_URL", "completed", 2);
    run.wait_for_ended("SESSION_SECRET", "completed", 3);
}

/// How many values the rotations of a run must have made, and those that were there before.
fn made(run: &Run) -> usize {
    run.subjects.iter().fold(0, |sum, subject| {
        let rotations =
            ["completed", "rolled_back", "superseded"].map(|outcome| run.ended(subject.name, outcome));
        sum + rotations.iter().sum::<usize>() + subject.before.len()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_is_anywhere_but_in_the_stores() {
    let run = Run::new().await;
    run.write_policy(times);
    let panics_say = awkward_key();
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&elsewhere, &panics_say).unwrap();
    let mut daemon = run.daemon(|command| {
        command.env("ROTA_TEST_FAILPOINTS", PANICS).env("ROTA_TEST_FAILPOINTS_TEXT", elsewhere.path());
    });
    daemon.wait_for("/readyz", "\"ready\":true");
    let second = Second::start(&run);
    let (pages, poke) = (Pages::of(daemon.address().parse().unwrap()), Poke::of(&run.world.database));
    let mut handed_in = vec![panics_say];
    live(&run, &mut handed_in);
    let made = made(&run);
    poke.end();
    for subject in &run.subjects {
        let published = run.published(subject).await;
        assert!(subject.accepts(&published).await, "{}: what is published is refused", subject.name);
        assert_eq!(subject.alive().await, 1, "{}: on the target", subject.name);
    }

    let mut haystack = run.haystack();
    haystack.add_process(daemon.id());
    haystack.add_process(second.child.id());
    for page in pages.seen() {
        haystack.add(Place::Pages, "page", page);
    }
    daemon.signal("ABRT");
    let ended = daemon.end();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false), "its memory was written to disk");
    let panicked = daemon.log().matches("a bug: panicked at").count();
    assert_eq!(panicked, PANICS.split(',').count(), "not every task panicked");
    haystack.add(Place::OurLog, "json", daemon.log());
    haystack.add(Place::OurLog, "text", second.log());
    let cores = std::fs::read_dir(run.world.folder.path()).unwrap().flatten();
    let cores = cores.filter(|entry| entry.file_name().to_string_lossy().starts_with("core"));
    assert_eq!(cores.count(), 0);

    // Each place was really looked at.
    for place in Place::ALL {
        assert!(haystack.size(place) > 100, "nothing is there of {place:?}");
    }
    let mut values = run.values();
    let seen = values.len();
    assert!(seen >= made, "{seen} values were seen, and {made} were made");
    handed_in.iter().for_each(|value| values.add("handed in", value));
    assert_eq!(haystack.hits(&values.search()), BTreeSet::new());
    let sizes: Vec<String> =
        Place::ALL.iter().map(|place| format!("{place:?} {} KiB", haystack.size(*place) / 1024)).collect();
    say(&format!("the canary: {} values, of {made} made by rotations; {}", values.len(), sizes.join(", ")));
}

#[expect(clippy::print_stderr, reason = "the figures of a test")]
fn say(figures: &str) {
    eprintln!("{figures}");
}

/// What leaks in the tests of the search.
const LEAK: &str = "L3aked/value+with:all;that(needs)escapes";

fn leak_in_every_form() -> String {
    let forms = Form::ALL.map(|form| String::from_utf8(form.write(LEAK.as_bytes()).remove(0)).unwrap());
    forms.join(" ")
}

/// Finds the leak in every form at each of `places`. It looks the same in JSON as it is.
fn assert_found(haystack: &Haystack, places: &[Place]) {
    let hits = haystack.hits(&Search::of([("leak", LEAK)]));
    let wanted = BTreeSet::from([Form::Plain, Form::Base64, Form::Hex, Form::Url]);
    for place in places {
        let start = format!("{place:?}: ");
        let found = hits.iter().filter(|hit| hit.place.starts_with(&start));
        assert_eq!(found.map(|hit| hit.form).collect::<BTreeSet<_>>(), wanted, "{place:?}");
    }
}

/// A person who writes a key into the reason of an order has it in the database and in
/// everything that tells of the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leak_into_an_order_is_found_everywhere_where_orders_are_told() {
    let run = Run::new().await;
    run.write_policy(times);
    let leak = leak_in_every_form();
    let daemon = run.daemon(|_| {});
    daemon.wait_for("/readyz", "\"ready\":true");
    let _poke = Poke::of(&run.world.database);
    run.ok(&["rotate", "PASSWORD", "--reason", &leak], "");
    run.world.wait("PASSWORD", "a hold", |status| !status["phase"].is_null());
    run.ok(&["hold", "PASSWORD", "--reason", &leak], "");
    run.world.wait("PASSWORD", "a hold", |status| !status["held"].is_null());
    run.command(&["status", "PASSWORD"], "");
    let told = |whole: &str| whole.contains(LEAK);
    rota_fakes::wait::blocking(LIMIT, "messages", || {
        let slack = run.slack.received().iter().any(|message| told(&message.whole()));
        let webhook = run.webhook.received().iter().any(|delivery| told(&delivery.body.to_string()));
        Ok((slack && webhook).then_some(()))
    })
    .unwrap();
    let page = daemon.wait_for("/status.json", LEAK);
    let mut haystack = run.haystack();
    haystack.add(Place::Pages, "page", page);
    use Place::{Commands, DataFolder, Dump, Pages, ServerLog, Slack, Webhook};
    assert_found(&haystack, &[Dump, DataFolder, ServerLog, Slack, Webhook, Commands, Pages]);
}

#[tokio::test]
async fn a_leak_into_arguments_environment_log_or_files_is_found() {
    let world = World::new().await;
    let leak = leak_in_every_form();
    let mut haystack = Haystack::default();
    let daemon = world.daemon_with(|command| {
        command.env("ROTA__TELEMETRY__FILTER", format!("info,{leak}")).env("LEAK", &leak);
    });
    haystack.add(Place::OurLog, "json", daemon.log());
    haystack.add_process(daemon.id());
    world.write("left", &leak);
    haystack.add_files(Place::Folder, world.folder.path(), &|_| true);
    assert_found(&haystack, &[Place::OurLog, Place::Process, Place::Folder]);
    drop(daemon);

    for (argument, variable) in [(leak.as_str(), "none"), ("none", &leak)] {
        let folder = tempfile::tempdir().unwrap();
        run::write_record(folder.path());
        let mut child = Command::new(folder.path().join("record"));
        child.env_clear().env("PATH", "/usr/bin:/bin").arg(argument).env("LEAK", variable);
        assert!(child.stdin(Stdio::null()).status().unwrap().success());
        let mut haystack = Haystack::default();
        haystack.add(Place::Children, "children", std::fs::read(folder.path().join("children")).unwrap());
        assert_found(&haystack, &[Place::Children]);
    }
}

#[test]
fn a_process_that_may_write_its_memory_to_disk_is_told_from_one_that_may_not() {
    let abort = |limit: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("ulimit -c {limit} && kill -s ABRT $$")]).current_dir(folder.path());
        let status = shell.status().unwrap();
        (status.signal(), status.core_dumped())
    };
    assert_eq!(abort("0"), (Some(6), false));
    assert_eq!(abort("unlimited"), (Some(6), true), "this machine writes no core dumps at all");
}
