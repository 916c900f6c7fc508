//! What every [`SecretStore`] promises, whatever product stands behind it.
//!
//! A promise is one function here; [`store_suite!`](crate::store_suite) makes a test of each. The same
//! promises are kept by the env file, by fakes, by emulators and by real servers.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join;
use jiff::Timestamp;
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, FieldName, Incarnation, RotationId, SecretId, VersionRef};
use rota_core::publication::Place;
use rota_core::value::{MAX_VALUE_BYTES, SecretValue};
use uuid::Uuid;

use crate::ports::{Fence, SecretStore, Slot, SlotRole, SlotState, Stored, Trail, WriteToken};

/// A store and what its suite has to know about it.
#[async_trait]
pub trait StoreUnderTest: Send + Sync {
    fn store(&self) -> Arc<dyn SecretStore>;

    /// A path of this test's own that nothing was written to.
    fn path(&self) -> String;

    /// Somebody else publishes `content`, as a person does in the store's own console.
    async fn write_by_hand(&self, path: &str, content: &str);

    /// True where of two calls at the same moment the store lets only one win.
    /// An emulator may not.
    fn decides_races(&self) -> bool {
        true
    }
}

/// Makes a test of every promise. `$subject` is evaluated in each test and gives a
/// [`StoreUnderTest`], in an async context.
#[macro_export]
macro_rules! store_suite {
    ($subject:expr) => {
        $crate::store_suite! { @ $subject;
            nothing_is_published_where_nothing_was_written
            a_first_write_is_read_back
            a_write_over_the_version_that_was_read_replaces_it
            a_write_over_a_stale_version_is_a_conflict_and_changes_nothing
            a_write_where_nothing_should_stand_is_a_conflict
            a_write_over_a_version_of_something_absent_is_a_conflict
            a_repeated_write_returns_the_first_version
            a_token_with_other_content_is_a_conflict
            no_version_ever_returns
            an_edit_by_hand_is_another_version
            an_edit_by_hand_is_never_overwritten
            of_two_writers_one_wins
            long_and_odd_values_survive
            a_slot_is_empty_then_filled_then_a_tombstone
            staging_again_returns_the_first_version
            a_slot_is_never_rewritten
            of_two_values_for_one_slot_one_wins
            a_purged_slot_stays_purged
            a_slot_can_be_purged_before_it_was_written
            slots_of_different_names_never_meet
            consumers_see_nothing_of_slots
            slots_outlive_publications
            a_slot_can_be_filled_before_anything_is_published
            the_slot_of_a_rotation_that_nobody_knows_shows
            a_write_shows_what_it_was_ordered_by_or_nothing
            looking_ahead_changes_nothing
            other_values_are_read_by_path_and_field
            an_inbox_is_emptied_once_and_can_be_used_again
        }
    };
    (@ $subject:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let subject = $subject;
                $crate::test_support::store_suite::$promise(&subject).await;
            }
        )*
    };
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.to_owned()).expect("a value of a test")
}

/// A token that no other write has.
fn token() -> WriteToken {
    WriteToken { token: Uuid::new_v4(), incarnation: Incarnation(1), epoch: Epoch(5), effect: EffectNo(17) }
}

fn slot(beside: &str, role: SlotRole) -> Slot {
    Slot {
        rotation: RotationId(Uuid::new_v4()),
        secret: SecretId::new("acd/JWT_SECRET").expect("a name"),
        role,
        beside: beside.to_owned(),
        shared: false,
    }
}

/// A document with one field, in the store's own format.
fn document(store: &dyn SecretStore, text: &str) -> SecretValue {
    value(&document_text(store, text))
}

fn document_text(store: &dyn SecretStore, text: &str) -> String {
    match store.document_format() {
        DocumentFormat::Json => format!("{{\"A\":\"{text}\"}}"),
        DocumentFormat::Dotenv => format!("A={text}\n"),
    }
}

/// Equal as a text, or as JSON: a store may write a document anew.
fn same(a: &SecretValue, b: &SecretValue) -> bool {
    let json = |value: &SecretValue| serde_json::from_str::<serde_json::Value>(value.expose()).ok();
    a.same_as(b) || json(a).is_some_and(|a| json(b).is_some_and(|b| a == b))
}

async fn read(store: &dyn SecretStore, path: &str) -> Stored {
    store.read(path).await.expect("the store reads").expect("something is published")
}

async fn write(
    store: &dyn SecretStore,
    path: &str,
    text: &str,
    base: Option<&VersionRef>,
) -> Result<VersionRef, Fault> {
    store.write(path, &document(store, text), base, &token()).await
}

async fn assert_published(store: &dyn SecretStore, path: &str, text: &str, version: &VersionRef) {
    let stored = read(store, path).await;
    assert!(same(&stored.value, &document(store, text)), "another value is published");
    assert_eq!(&stored.version, version);
}

fn assert_conflict<T>(result: Result<T, Fault>) {
    match result {
        Err(Fault::Conflict { .. }) => {}
        Err(fault) => panic!("another fault than a conflict: {fault}"),
        Ok(_) => panic!("no conflict"),
    }
}

async fn assert_filled(store: &dyn SecretStore, slot: &Slot, wanted: &SecretValue) {
    match store.read_slot(slot).await.expect("the slot is read") {
        SlotState::Filled { value, .. } => assert!(value.same_as(wanted), "the slot holds another value"),
        SlotState::Empty => panic!("the slot is empty"),
        SlotState::Tombstone => panic!("the slot is a tombstone"),
    }
}

async fn assert_empty(store: &dyn SecretStore, slot: &Slot) {
    let state = store.read_slot(slot).await.expect("the slot is read");
    assert!(matches!(state, SlotState::Empty), "the slot is not empty");
}

async fn assert_tombstone(store: &dyn SecretStore, slot: &Slot) {
    let state = store.read_slot(slot).await.expect("the slot is read");
    assert!(matches!(state, SlotState::Tombstone), "the slot is no tombstone");
}

/// Both calls, neither waiting for the other.
async fn at_once<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> [T; 2] {
    let (a, b) = join(pin!(a), pin!(b)).await;
    [a, b]
}

/// Reading a path that does not exist is `None`, not a fault.
pub async fn nothing_is_published_where_nothing_was_written(subject: &dyn StoreUnderTest) {
    let found = subject.store().read(&subject.path()).await.expect("the store reads");
    assert!(found.is_none());
}

/// What was written is what consumers read, under the version that the write named.
pub async fn a_first_write_is_read_back(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let version = write(&*store, &path, "1", None).await.unwrap();
    assert_published(&*store, &path, "1", &version).await;
}

/// A write from the version that was read succeeds, with a version of its own.
pub async fn a_write_over_the_version_that_was_read_replaces_it(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let first = write(&*store, &path, "1", None).await.unwrap();
    let second = write(&*store, &path, "2", Some(&first)).await.unwrap();
    assert_ne!(first, second);
    assert_published(&*store, &path, "2", &second).await;
}

/// Compare-and-set: who read before somebody else wrote publishes nothing.
pub async fn a_write_over_a_stale_version_is_a_conflict_and_changes_nothing(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let first = write(&*store, &path, "1", None).await.unwrap();
    let second = write(&*store, &path, "2", Some(&first)).await.unwrap();
    assert_conflict(write(&*store, &path, "3", Some(&first)).await);
    assert_published(&*store, &path, "2", &second).await;
}

/// Creating where something stands publishes nothing.
pub async fn a_write_where_nothing_should_stand_is_a_conflict(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let first = write(&*store, &path, "1", None).await.unwrap();
    assert_conflict(write(&*store, &path, "2", None).await);
    assert_published(&*store, &path, "1", &first).await;
}

/// A path that vanished is not made anew from what once stood there.
pub async fn a_write_over_a_version_of_something_absent_is_a_conflict(subject: &dyn StoreUnderTest) {
    let (store, path, absent) = (subject.store(), subject.path(), subject.path());
    let elsewhere = write(&*store, &path, "1", None).await.unwrap();
    assert_conflict(write(&*store, &absent, "2", Some(&elsewhere)).await);
    assert!(store.read(&absent).await.unwrap().is_none());
}

/// After a lost answer the same call again finds what the first one did.
pub async fn a_repeated_write_returns_the_first_version(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let (creating, changing) = (token(), token());
    let first = store.write(&path, &document(&*store, "1"), None, &creating).await.unwrap();
    let again = store.write(&path, &document(&*store, "1"), None, &creating).await.unwrap();
    assert_eq!(first, again);
    let second = store.write(&path, &document(&*store, "2"), Some(&first), &changing).await.unwrap();
    let again = store.write(&path, &document(&*store, "2"), Some(&first), &changing).await.unwrap();
    assert_eq!(second, again);
    assert_published(&*store, &path, "2", &second).await;
}

/// A write's name stands for one content.
pub async fn a_token_with_other_content_is_a_conflict(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let (creating, changing) = (token(), token());
    let first = store.write(&path, &document(&*store, "1"), None, &creating).await.unwrap();
    assert_conflict(store.write(&path, &document(&*store, "x"), None, &creating).await);
    let second = store.write(&path, &document(&*store, "2"), Some(&first), &changing).await.unwrap();
    assert_conflict(store.write(&path, &document(&*store, "x"), Some(&first), &changing).await);
    assert_published(&*store, &path, "2", &second).await;
}

/// Going back to an earlier value is a new version, so that nobody who compares
/// versions takes it for the earlier one.
pub async fn no_version_ever_returns(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let first = write(&*store, &path, "1", None).await.unwrap();
    let second = write(&*store, &path, "2", Some(&first)).await.unwrap();
    let third = write(&*store, &path, "1", Some(&second)).await.unwrap();
    assert!(third != first && third != second);
    assert_published(&*store, &path, "1", &third).await;
    assert_conflict(write(&*store, &path, "4", Some(&first)).await);
}

/// Two reads of one version agree, and an edit in between shows.
pub async fn an_edit_by_hand_is_another_version(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    subject.write_by_hand(&path, &document_text(&*store, "1")).await;
    let first = read(&*store, &path).await.version;
    assert_published(&*store, &path, "1", &first).await;
    let ours = write(&*store, &path, "2", Some(&first)).await.unwrap();
    subject.write_by_hand(&path, &document_text(&*store, "3")).await;
    let edited = read(&*store, &path).await;
    assert!(edited.version != first && edited.version != ours);
    assert!(same(&edited.value, &document(&*store, "3")));
}

/// A person's edit is met as a conflict, by new writes and by repeated ones.
pub async fn an_edit_by_hand_is_never_overwritten(subject: &dyn StoreUnderTest) {
    let (store, path, last) = (subject.store(), subject.path(), token());
    let first = store.write(&path, &document(&*store, "1"), None, &last).await.unwrap();
    subject.write_by_hand(&path, &document_text(&*store, "2")).await;
    assert_conflict(store.write(&path, &document(&*store, "1"), None, &last).await);
    assert_conflict(write(&*store, &path, "3", Some(&first)).await);
    assert!(same(&read(&*store, &path).await.value, &document(&*store, "2")));
}

/// Two holders that both believe to be the only one.
pub async fn of_two_writers_one_wins(subject: &dyn StoreUnderTest) {
    if !subject.decides_races() {
        return;
    }
    let (store, path) = (subject.store(), subject.path());
    let mut base = None;
    for round in 0..5 {
        let (left, right) = (format!("left{round}"), format!("right{round}"));
        let writes = at_once(
            write(&*store, &path, &left, base.as_ref()),
            write(&*store, &path, &right, base.as_ref()),
        );
        let (text, version) = match writes.await {
            [Ok(version), Err(Fault::Conflict { .. })] => (left, version),
            [Err(Fault::Conflict { .. }), Ok(version)] => (right, version),
            [Ok(_), Ok(_)] => panic!("both won"),
            [Err(one), Err(other)] => panic!("nobody won: {one}; {other}"),
            [Ok(_), Err(fault)] | [Err(fault), Ok(_)] => panic!("lost with another fault: {fault}"),
        };
        assert_published(&*store, &path, &text, &version).await;
        base = Some(version);
    }
}

/// Quotes, line ends, other scripts and the longest value come back as they were.
pub async fn long_and_odd_values_survive(subject: &dyn StoreUnderTest) {
    let store = subject.store();
    let odd = "quo\"te ' back\\slash $HOME `x` \u{e9}\u{1f511} line\nend\ttab # = {}";
    let long = "x".repeat(MAX_VALUE_BYTES);
    for text in [odd, " ", "[\"a\",\"b\"]", "{", "null", "7", &long] {
        let slot = slot(&subject.path(), SlotRole::Candidate);
        store.stage(&slot, &value(text)).await.unwrap();
        assert_filled(&*store, &slot, &value(text)).await;
        let path = subject.path();
        store.write(&path, &value(text), None, &token()).await.unwrap();
        assert!(read(&*store, &path).await.value.same_as(&value(text)), "{:.20} was changed", text);
    }
}

/// The life of a slot.
pub async fn a_slot_is_empty_then_filled_then_a_tombstone(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    write(&*store, &path, "1", None).await.unwrap();
    for shared in [false, true] {
        let slot = Slot { shared, ..slot(&path, SlotRole::Candidate) };
        assert_empty(&*store, &slot).await;
        store.stage(&slot, &value("candidate")).await.unwrap();
        assert_filled(&*store, &slot, &value("candidate")).await;
        store.purge(&slot).await.unwrap();
        assert_tombstone(&*store, &slot).await;
    }
}

/// After a lost answer the same value again is the same slot.
pub async fn staging_again_returns_the_first_version(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    write(&*store, &path, "1", None).await.unwrap();
    for shared in [false, true] {
        let slot = Slot { shared, ..slot(&path, SlotRole::Old) };
        let first = store.stage(&slot, &value("old")).await.unwrap();
        assert_eq!(store.stage(&slot, &value("old")).await.unwrap(), first);
        match store.read_slot(&slot).await.unwrap() {
            SlotState::Filled { version, .. } => assert_eq!(version, first),
            SlotState::Empty | SlotState::Tombstone => panic!("the slot is not filled"),
        }
    }
}

/// Write-once: another value is a conflict and the first one stays.
pub async fn a_slot_is_never_rewritten(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    write(&*store, &path, "1", None).await.unwrap();
    for shared in [false, true] {
        let slot = Slot { shared, ..slot(&path, SlotRole::Candidate) };
        store.stage(&slot, &value("first")).await.unwrap();
        assert_conflict(store.stage(&slot, &value("second")).await);
        assert_filled(&*store, &slot, &value("first")).await;
    }
}

/// Two holders that generated different candidates.
pub async fn of_two_values_for_one_slot_one_wins(subject: &dyn StoreUnderTest) {
    if !subject.decides_races() {
        return;
    }
    let (store, path) = (subject.store(), subject.path());
    write(&*store, &path, "1", None).await.unwrap();
    for shared in [false, true, false, true] {
        let slot = Slot { shared, ..slot(&path, SlotRole::Candidate) };
        let (left, right) = (value("left"), value("right"));
        let winner = match at_once(store.stage(&slot, &left), store.stage(&slot, &right)).await {
            [Ok(_), Err(Fault::Conflict { .. })] => &left,
            [Err(Fault::Conflict { .. }), Ok(_)] => &right,
            [Ok(_), Ok(_)] => panic!("both won"),
            [Err(one), Err(other)] => panic!("nobody won: {one}; {other}"),
            [Ok(_), Err(fault)] | [Err(fault), Ok(_)] => panic!("lost with another fault: {fault}"),
        };
        assert_filled(&*store, &slot, winner).await;
    }
}

/// A tombstone is neither filled nor purged again, and purging twice is fine.
pub async fn a_purged_slot_stays_purged(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    write(&*store, &path, "1", None).await.unwrap();
    for shared in [false, true] {
        let slot = Slot { shared, ..slot(&path, SlotRole::Candidate) };
        store.stage(&slot, &value("candidate")).await.unwrap();
        store.purge(&slot).await.unwrap();
        store.purge(&slot).await.unwrap();
        assert_conflict(store.stage(&slot, &value("candidate")).await);
        assert_conflict(store.stage(&slot, &value("another")).await);
        assert_tombstone(&*store, &slot).await;
    }
}

/// An undo purges a slot whose write may still be on its way: it comes too late.
pub async fn a_slot_can_be_purged_before_it_was_written(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    write(&*store, &path, "1", None).await.unwrap();
    for shared in [false, true] {
        let slot = Slot { shared, ..slot(&path, SlotRole::Candidate) };
        store.purge(&slot).await.unwrap();
        assert_tombstone(&*store, &slot).await;
        assert_conflict(store.stage(&slot, &value("late")).await);
    }
}

/// Every part of a slot's name counts.
pub async fn slots_of_different_names_never_meet(subject: &dyn StoreUnderTest) {
    let (store, path, other_path) = (subject.store(), subject.path(), subject.path());
    write(&*store, &path, "1", None).await.unwrap();
    write(&*store, &other_path, "1", None).await.unwrap();
    for shared in [false, true] {
        let first = Slot { shared, ..slot(&path, SlotRole::Candidate) };
        let others = [
            Slot { role: SlotRole::Old, ..first.clone() },
            Slot { role: SlotRole::Canary, ..first.clone() },
            Slot { rotation: RotationId(Uuid::new_v4()), ..first.clone() },
            Slot { secret: SecretId::new("acd/JWT_SECRET_2").expect("a name"), ..first.clone() },
            Slot { beside: other_path.clone(), ..first.clone() },
        ];
        store.stage(&first, &value("first")).await.unwrap();
        for (number, other) in others.iter().enumerate() {
            assert_empty(&*store, other).await;
            store.stage(other, &value(&format!("other {number}"))).await.unwrap();
        }
        store.purge(&first).await.unwrap();
        for (number, other) in others.iter().enumerate() {
            assert_filled(&*store, other, &value(&format!("other {number}"))).await;
        }
    }
}

/// Neither filling nor purging a slot changes what is published.
pub async fn consumers_see_nothing_of_slots(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let version = write(&*store, &path, "1", None).await.unwrap();
    for shared in [false, true] {
        for role in [SlotRole::Old, SlotRole::Candidate, SlotRole::Canary] {
            let slot = Slot { shared, ..slot(&path, role) };
            store.stage(&slot, &value("hidden")).await.unwrap();
            assert_published(&*store, &path, "1", &version).await;
            store.purge(&slot).await.unwrap();
            assert_published(&*store, &path, "1", &version).await;
        }
    }
}

/// A whole rotation publishes several times while its slots wait.
pub async fn slots_outlive_publications(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let mut version = write(&*store, &path, "old", None).await.unwrap();
    let slots: Vec<Slot> =
        [(SlotRole::Old, false), (SlotRole::Candidate, true), (SlotRole::Candidate, false)]
            .map(|(role, shared)| Slot { shared, ..slot(&path, role) })
            .into();
    for slot in &slots {
        store.stage(slot, &value(slot.role.as_str())).await.unwrap();
    }
    for text in ["old,new", "new,old", "new", "other"] {
        version = write(&*store, &path, text, Some(&version)).await.unwrap();
        for slot in &slots {
            assert_filled(&*store, slot, &value(slot.role.as_str())).await;
        }
    }
    for slot in &slots {
        store.purge(slot).await.unwrap();
    }
    assert_published(&*store, &path, "other", &version).await;
}

/// A secret that is created has its candidate first.
pub async fn a_slot_can_be_filled_before_anything_is_published(subject: &dyn StoreUnderTest) {
    let store = subject.store();
    for shared in [false, true] {
        let path = subject.path();
        let slot = Slot { shared, ..slot(&path, SlotRole::Candidate) };
        assert_empty(&*store, &slot).await;
        let first = store.stage(&slot, &value("candidate")).await.unwrap();
        assert!(store.read(&path).await.unwrap().is_none(), "the candidate was published");
        let version = write(&*store, &path, "1", None).await.unwrap();
        assert_filled(&*store, &slot, &value("candidate")).await;
        assert_eq!(store.stage(&slot, &value("candidate")).await.unwrap(), first);
        assert_conflict(store.stage(&slot, &value("another")).await);
        store.purge(&slot).await.unwrap();
        assert_tombstone(&*store, &slot).await;
        assert_published(&*store, &path, "1", &version).await;
    }
}

/// The look ahead passes where all is well, published or not, and only reads.
pub async fn looking_ahead_changes_nothing(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    store.preflight(&path).await.unwrap();
    assert!(store.read(&path).await.unwrap().is_none());
    let version = write(&*store, &path, "1", None).await.unwrap();
    store.preflight(&path).await.unwrap();
    assert_published(&*store, &path, "1", &version).await;
}

/// Administrators' credentials and inboxes are read whole or by field.
pub async fn other_values_are_read_by_path_and_field(subject: &dyn StoreUnderTest) {
    let (store, path, absent) = (subject.store(), subject.path(), subject.path());
    let field = |name: &str| Some(FieldName::new(name).expect("a name"));
    subject.write_by_hand(&path, &document_text(&*store, "admin")).await;
    let found = store.read_other(&Place { path: path.clone(), field: field("A") }).await.unwrap();
    assert!(found.expect("the field is there").same_as(&value("admin")));
    let missing = store.read_other(&Place { path: path.clone(), field: field("B") }).await;
    assert!(matches!(missing, Err(Fault::Invalid { .. })));
    for field in [None, field("A")] {
        assert!(store.read_other(&Place { path: absent.clone(), field }).await.unwrap().is_none());
    }
    let plain = subject.path();
    subject.write_by_hand(&plain, "pasted").await;
    let found = store.read_other(&Place { path: plain, field: None }).await.unwrap();
    assert!(found.expect("the value is there").same_as(&value("pasted")));
}

/// What was taken over is gone from the inbox, and the next value finds room.
pub async fn an_inbox_is_emptied_once_and_can_be_used_again(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let inbox = Place { path: path.clone(), field: None };
    store.empty_inbox(&path).await.unwrap();
    for text in ["first", "second"] {
        subject.write_by_hand(&path, text).await;
        let found = store.read_other(&inbox).await.unwrap();
        assert!(found.expect("the value is there").same_as(&value(text)));
        store.empty_inbox(&path).await.unwrap();
        store.empty_inbox(&path).await.unwrap();
        assert!(store.read_other(&inbox).await.unwrap().is_none());
    }
}

pub async fn the_slot_of_a_rotation_that_nobody_knows_shows(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    write(&*store, &path, "one", None).await.expect("a first write");
    // As the engine makes them: the id says when the rotation was opened.
    let id = uuid::Builder::from_unix_timestamp_millis(
        1_768_471_200_000,
        &Uuid::new_v4().into_bytes()[..10].try_into().expect("ten bytes"),
    );
    let rotation = RotationId(id.into_uuid());
    let mine = Slot { rotation, ..slot(&path, SlotRole::Candidate) };
    let strange = async |known: &[RotationId], since: Timestamp| {
        let trail = Trail::new(mine.clone(), known.iter().copied().collect(), since);
        store.traces(&trail).await.expect("the store can be asked").strange
    };
    let ever = Timestamp::UNIX_EPOCH;
    assert_eq!(strange(&[], ever).await, None, "nothing is there yet");
    store.stage(&mine, &value("a candidate")).await.expect("an empty slot");
    assert!(strange(&[], ever).await.is_some());
    assert_eq!(strange(&[rotation], ever).await, None, "a known rotation");
    assert_eq!(strange(&[], Timestamp::MAX).await, None, "from before this life of the journal");
    let other = Slot { secret: SecretId::new("acd/OTHER").expect("a name"), shared: true, ..mine.clone() };
    let trail = Trail::new(other, BTreeSet::new(), ever);
    assert_eq!(store.traces(&trail).await.expect("the store can be asked").strange, None, "another secret's");
}

pub async fn a_write_shows_what_it_was_ordered_by_or_nothing(subject: &dyn StoreUnderTest) {
    let (store, path) = (subject.store(), subject.path());
    let trail = Trail::new(slot(&path, SlotRole::Old), BTreeSet::new(), Timestamp::UNIX_EPOCH);
    let fence = async || store.traces(&trail).await.expect("the store can be asked").fence;
    assert_eq!(fence().await, None);
    write(&*store, &path, "one", None).await.expect("a first write");
    let WriteToken { token: _, incarnation, epoch, effect } = token();
    let shown = fence().await;
    assert!(shown.is_none_or(|fence| fence == Fence { incarnation, epoch, effect }), "{shown:?}");
}
