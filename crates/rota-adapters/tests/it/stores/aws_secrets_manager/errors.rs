//! One test per documented error, and what the look ahead finds.

use rota_core::fault::Fault;
use rota_engine::ports::SecretStore;
use rota_fakes::http::{Effect, Fault as Scripted};
use serde_json::{Value, json};
use uuid::Uuid;

use super::strict::Subject;
use super::{KEY, KEY_ID, fresh_path, slot, store};
use crate::support::{fault, token, value};

/// Answers the next call of `operation` with an error of the service.
fn fail(subject: &Subject, operation: &str, status: u16, code: &str) {
    let body = json!({ "__type": code, "message": "hunter2", "Message": "hunter2" }).to_string();
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    subject.fake.script().add(Scripted::next(operation, Effect::Answer { status, headers, body }));
}

fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Transient { .. } => "transient",
        Fault::RateLimited { .. } => "rate limited",
        Fault::Denied { .. } => "denied",
        Fault::Conflict { .. } => "conflict",
        Fault::Invalid { .. } => "invalid",
    }
}

/// The errors on the page of each operation, and the common ones.
#[tokio::test]
async fn each_documented_error_becomes_the_fault_that_says_what_to_do_next() {
    let common = [
        (400, "AccessDeniedException", "denied"),
        (400, "ExpiredTokenException", "denied"),
        (403, "InvalidClientTokenId", "denied"),
        (400, "UnrecognizedClientException", "denied"),
        (400, "InvalidSignatureException", "denied"),
        (400, "RequestExpired", "denied"),
        (400, "ThrottlingException", "rate limited"),
        (500, "InternalServiceError", "transient"),
        (500, "InternalFailure", "transient"),
        (503, "ServiceUnavailable", "transient"),
        (400, "ValidationException", "invalid"),
        (400, "InvalidRequestException", "invalid"),
    ];
    let own = [
        ("GetSecretValue", 400, "DecryptionFailure", "denied"),
        ("GetSecretValue", 400, "InvalidParameterException", "invalid"),
        ("DescribeSecret", 400, "InvalidParameterException", "invalid"),
        ("ListSecretVersionIds", 400, "InvalidNextTokenException", "invalid"),
        ("CreateSecret", 400, "EncryptionFailure", "denied"),
        ("CreateSecret", 400, "DecryptionFailure", "denied"),
        ("CreateSecret", 400, "LimitExceededException", "invalid"),
        ("CreateSecret", 400, "MalformedPolicyDocumentException", "invalid"),
        ("CreateSecret", 400, "PreconditionNotMetException", "invalid"),
        ("CreateSecret", 400, "ResourceNotFoundException", "invalid"),
        ("PutSecretValue", 400, "EncryptionFailure", "denied"),
        ("PutSecretValue", 400, "LimitExceededException", "invalid"),
        ("PutSecretValue", 400, "ResourceExistsException", "conflict"),
        ("PutSecretValue", 400, "ResourceNotFoundException", "conflict"),
        ("UpdateSecretVersionStage", 400, "LimitExceededException", "invalid"),
    ];
    let operations = [
        "GetSecretValue",
        "DescribeSecret",
        "ListSecretVersionIds",
        "CreateSecret",
        "PutSecretValue",
        "UpdateSecretVersionStage",
    ];
    let everywhere = operations
        .iter()
        .flat_map(|operation| common.map(|(status, code, wanted)| (*operation, status, code, wanted)));
    let subject = Subject::new().await;
    for (operation, status, code, wanted) in everywhere.chain(own) {
        let (path, base) = subject.published("1").await;
        fail(&subject, operation, status, code);
        let aws = subject.aws();
        let failed = match operation {
            "GetSecretValue" => fault(aws.read(&path).await),
            "DescribeSecret" | "ListSecretVersionIds" => fault(aws.preflight(&path).await),
            "CreateSecret" => fault(aws.write(&fresh_path(), &value("2"), None, &token()).await),
            _ => fault(aws.write(&path, &value("2"), Some(&base), &token()).await),
        };
        assert_eq!(kind(&failed), wanted, "{operation} {code}: {failed}");
        assert!(!failed.to_string().contains("hunter2"), "{failed}");
        assert_eq!(subject.fake.script().pending(), 0, "{operation} was not called");
    }
}

#[tokio::test]
async fn a_call_is_made_once_whatever_it_is_answered() {
    for effect in [Effect::CutBefore, Effect::CutAfter] {
        let subject = Subject::new().await;
        subject.fake.script().add(Scripted::next("CreateSecret", effect));
        fault(subject.aws().write(&fresh_path(), &value("1"), None, &token()).await);
        assert_eq!(subject.fake.script().count("CreateSecret"), 1);
    }
    let subject = Subject::new().await;
    subject.fake.throttle("CreateSecret", 1);
    fault(subject.aws().write(&fresh_path(), &value("1"), None, &token()).await);
    assert_eq!(subject.fake.script().count("CreateSecret"), 1);
}

#[tokio::test]
async fn a_wrong_address_or_key_is_told() {
    let subject = Subject::new().await;
    let wrong_key = super::environment_at(&subject.fake.url(), KEY_ID, "another").await;
    assert!(matches!(fault(store(&wrong_key).read("x").await), Fault::Denied { .. }));
    let unknown_key = super::environment_at(&subject.fake.url(), "AKIDUNKNOWN", KEY).await;
    assert!(matches!(fault(store(&unknown_key).read("x").await), Fault::Denied { .. }));
    let nowhere = super::environment_at("http://127.0.0.1:1", KEY_ID, KEY).await;
    assert!(matches!(fault(store(&nowhere).read("x").await), Fault::Transient { .. }));
}

#[tokio::test]
async fn a_clock_that_is_far_off_is_told() {
    let subject = Subject::new().await;
    subject.fake.script().clock().advance(jiff::SignedDuration::from_hours(-1));
    let Fault::Denied { message } = fault(subject.aws().read("x").await) else { panic!("another fault") };
    assert!(message.contains("clock"), "{message}");
}

/// Looks ahead at a secret with this value after `change` was made to it.
async fn preflight_after(change: impl AsyncFnOnce(&Subject, &str)) -> Result<(), Fault> {
    let subject = Subject::new().await;
    let (path, _) = subject.published("1").await;
    change(&subject, &path).await;
    subject.aws().preflight(&path).await
}

fn call(subject: &Subject, operation: &str, mut fields: Value, path: &str) {
    fields["SecretId"] = path.into();
    subject.fake.call(operation, fields).unwrap();
}

/// Another version under these labels.
fn put(subject: &Subject, path: &str, labels: &[String]) {
    let token = Uuid::new_v4().to_string();
    let fields = json!({ "SecretString": "x", "ClientRequestToken": token, "VersionStages": labels });
    call(subject, "PutSecretValue", fields, path);
}

#[tokio::test]
async fn native_rotation_that_is_switched_on_is_refused() {
    let found = preflight_after(async |subject, path| subject.fake.switch_rotation_on(path).unwrap()).await;
    let Fault::Invalid { message } = fault(found) else { panic!("another fault") };
    assert!(message.contains("cancel-rotate-secret"), "{message}");
}

#[tokio::test]
async fn a_foreign_pending_label_is_refused_unless_its_version_is_current() {
    let foreign = preflight_after(async |subject, path| put(subject, path, &["AWSPENDING".to_owned()])).await;
    let Fault::Invalid { message } = fault(foreign) else { panic!("another fault") };
    assert!(message.contains("AWSPENDING"), "{message}");
    let both = ["AWSPENDING".to_owned(), "AWSCURRENT".to_owned()];
    preflight_after(async |subject, path| put(subject, path, &both)).await.unwrap();
}

#[tokio::test]
async fn a_secret_that_is_being_deleted_is_refused_by_every_call() {
    let subject = Subject::new().await;
    let (path, base) = subject.published("1").await;
    call(&subject, "DeleteSecret", json!({ "RecoveryWindowInDays": 7 }), &path);
    let aws = subject.aws();
    let slot = slot(&path, false);
    for failed in [
        fault(aws.preflight(&path).await),
        fault(aws.read(&path).await),
        fault(aws.write(&path, &value("2"), Some(&base), &token()).await),
        fault(aws.stage(&slot, &value("2")).await),
        fault(aws.read_slot(&slot).await),
        fault(aws.purge(&slot).await),
    ] {
        assert!(
            matches!(&failed, Fault::Invalid { message } if message.contains("restore-secret")),
            "{failed}"
        );
    }
}

#[tokio::test]
async fn too_few_free_labels_are_refused_before_they_run_out() {
    let labels = |count: usize| (0..count).map(|number| format!("theirs-{number}")).collect::<Vec<_>>();
    preflight_after(async |subject, path| put(subject, path, &labels(15))).await.unwrap();
    let found = preflight_after(async |subject, path| put(subject, path, &labels(16))).await;
    assert!(matches!(fault(found), Fault::Invalid { .. }));
}

#[tokio::test]
async fn a_secret_that_is_written_all_day_is_refused_before_its_versions_run_out() {
    let write_often = async |subject: &Subject, path: &str| {
        for _ in 0..80 {
            put(subject, path, &["AWSCURRENT".to_owned()]);
        }
    };
    assert!(matches!(fault(preflight_after(write_often).await), Fault::Transient { .. }));
    let and_then_rests = async |subject: &Subject, path: &str| {
        write_often(subject, path).await;
        subject.fake.script().clock().advance(jiff::SignedDuration::from_hours(25));
        put(subject, path, &["AWSCURRENT".to_owned()]);
        subject.fake.script().clock().advance(jiff::SignedDuration::from_hours(-25));
    };
    preflight_after(and_then_rests).await.unwrap();
}

#[tokio::test]
async fn versions_beyond_the_first_page_are_counted_too() {
    // AWS keeps what is younger than a day beyond the quota, and answers with a page at a time.
    let after_a_page_of = |count: usize| {
        preflight_after(async move |subject: &Subject, path: &str| {
            for _ in 0..30 {
                put(subject, path, &["AWSCURRENT".to_owned()]);
            }
            let now = subject.fake.script().clock().now().as_second();
            let version = |number| json!({ "VersionId": format!("{number:032}"), "CreatedDate": now });
            let page: Vec<_> = (0..count).map(version).collect();
            let body = json!({ "ARN": "x", "Name": path, "Versions": page, "NextToken": "0" }).to_string();
            let answer = Effect::Answer { status: 200, headers: Vec::new(), body };
            subject.fake.script().add(Scripted::next("ListSecretVersionIds", answer));
        })
    };
    after_a_page_of(40).await.unwrap();
    assert!(matches!(fault(after_a_page_of(60).await), Fault::Transient { .. }));
}

#[tokio::test]
async fn bytes_and_impossible_names_are_refused() {
    let subject = Subject::new().await;
    let path = fresh_path();
    let token = Uuid::new_v4().to_string();
    let fields = json!({ "Name": path, "SecretBinary": "AAEC", "ClientRequestToken": token });
    subject.fake.call("CreateSecret", fields).unwrap();
    assert!(matches!(fault(subject.aws().preflight(&path).await), Fault::Invalid { .. }));
    for name in ["with space", "ü", "", &"x".repeat(513)] {
        assert!(matches!(fault(subject.aws().preflight(name).await), Fault::Invalid { .. }), "{name:.20}");
    }
    let too_long = slot(&"x".repeat(500), true);
    assert!(matches!(fault(subject.aws().read_slot(&too_long).await), Fault::Invalid { .. }));
}
