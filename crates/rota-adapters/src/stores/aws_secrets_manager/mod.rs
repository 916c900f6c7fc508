//! AWS Secrets Manager: a published value is the version labelled `AWSCURRENT`.
//!
//! A publication is two calls: the version is added under a label of ours, and
//! `AWSCURRENT` moves to it from exactly the version that the list was made from. The
//! version's id is the write's token, so a call whose answer was lost is found again.
//! `AWSPREVIOUS` follows by itself. Where there is no secret, it is created.
//!
//! Reads name the label or the version, always. They may lag behind writes for some
//! seconds; what is missing then shows as absent, and the engine looks again.
//!
//! Deliberately absent: deleting a single version (AWS has no such call: labels are
//! taken away and AWS drops the version later), deleting secrets, replication, resource
//! policies, native rotation.

mod api;
mod settings;
mod slot;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use jiff::{SignedDuration, Timestamp};
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::id::{StoreId, VersionRef};
use rota_core::policy::kinds::{KindSpec, Port};
use rota_core::policy::model::StorePolicy;
use rota_core::publication::Place;
use rota_core::value::SecretValue;
use rota_engine::ports::{SecretStore, Slot, SlotState, Stored, Traces, Trail, WriteToken};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::{part_of, read_settings};
use crate::aws::AwsEnvironment;
use crate::catalog::StoreKind;
use crate::environment::AdapterEnvironment;
use api::{Api, Creation, Description, Move, NewSecret, Put, Which};
pub use settings::AwsSecretsManagerSettings;

pub const KIND: StoreKind = StoreKind {
    spec: KindSpec::new(Port::Store, "aws-secrets-manager", "secrets of AWS Secrets Manager")
        .inline::<AwsSecretsManagerSettings>()
        .lint(settings::lint)
        .facts(settings::facts),
    build: |policy, environment| Ok(Arc::new(AwsSecretsManagerStore::new(policy, environment)?)),
};

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// Native rotation's.
const AWS_PENDING: &str = "AWSPENDING";

/// Ours: on a version from its first moment, so that it is never without a label (AWS
/// may drop such a version), and so that adding it publishes nothing.
const PENDING: &str = "rota-pending";

/// "Staging labels attached across all versions of a secret", quotas page.
const LABEL_QUOTA: usize = 20;

/// What a rotation adds at most: three slots and [`PENDING`].
const LABELS_OF_A_ROTATION: usize = 4;

/// A secret has some 100 versions, and AWS drops none that is younger than a day. With
/// more than this made in a day, a rotation with its retries may not fit.
const BUSY_VERSIONS: usize = 80;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Stands in an inbox that was emptied; a secret cannot be empty.
const EMPTY_INBOX: &str = "(empty: paste the next value here)";

/// The secrets of one region of one account.
pub struct AwsSecretsManagerStore {
    id: StoreId,
    settings: AwsSecretsManagerSettings,
    aws: AwsEnvironment,
    api: OnceCell<Api>,
}

impl AwsSecretsManagerStore {
    /// Makes no call; the first use does.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the settings do not fit.
    pub fn new(policy: &StorePolicy, environment: &AdapterEnvironment) -> Result<Self, Fault> {
        let settings = read_settings(policy)?;
        Ok(Self { id: policy.id.clone(), settings, aws: environment.aws.clone(), api: OnceCell::new() })
    }

    async fn api(&self) -> &Api {
        let connect = async || Api::new(Client::new(&self.aws.account(&self.settings.account()).await));
        self.api.get_or_init(connect).await
    }

    /// Makes the secret, or gives one that was made without a value its first.
    async fn create(&self, path: &str, content: &SecretValue, token: &str) -> Result<VersionRef, Fault> {
        let api = self.api().await;
        let new = NewSecret {
            name: path,
            about: "Rotated by rota",
            value: content,
            token,
            kms_key: self.settings.kms_key.as_deref(),
            tags: self.settings.tags.as_ref().unwrap_or(empty_tags()),
        };
        match api.create(&new).await? {
            Creation::Created => return Ok(VersionRef(token.to_owned())),
            Creation::Exists => {}
        }
        match api.put(path, content, token, PENDING).await? {
            Put::Done { labels } if labels.iter().any(|label| label == CURRENT) => {
                return Ok(VersionRef(token.to_owned()));
            }
            Put::Done { .. } => {}
            Put::OtherContent => return Err(other_content(path)),
            Put::NoSecret => return Err(Fault::transient(format!("AWS secret `{path}` is being deleted"))),
        }
        // AWS refuses this where any version is current.
        self.make_current(path, None, token).await
    }

    async fn make_current(&self, path: &str, from: Option<&str>, to: &str) -> Result<VersionRef, Fault> {
        let api = self.api().await;
        if api.move_label(path, CURRENT, from, Some(to)).await? == Move::Done {
            return Ok(VersionRef(to.to_owned()));
        }
        let current = api.get(path, Which::Label(CURRENT)).await?;
        if current.is_some_and(|current| current.id == to) {
            return Ok(VersionRef(to.to_owned()));
        }
        // What lost is not kept alive. Should this fail, the next publication takes the
        // label away.
        let _ = api.move_label(path, PENDING, Some(to), None).await;
        Err(moved(path))
    }

    fn check(&self, path: &str, found: &Description) -> Result<(), Fault> {
        let refuse = |why: String| Err(Fault::invalid(format!("AWS secret `{path}` {why}")));
        if found.being_deleted {
            return refuse("is marked for deletion, run `aws secretsmanager restore-secret`".to_owned());
        }
        if let Some(service) = &found.owned_by {
            return refuse(format!(
                "is managed by {service}, which rotates it itself, take it out of the policy"
            ));
        }
        if found.native_rotation {
            return refuse(
                "is rotated by AWS itself, run `aws secretsmanager cancel-rotate-secret` first".to_owned(),
            );
        }
        if let Some(region) = found.primary_region.as_ref().filter(|region| **region != self.settings.region)
        {
            return refuse(format!("is a replica, name the store of its primary region {region}"));
        }
        let has = |labels: &[String], label: &str| labels.iter().any(|one| one == label);
        if let Some((version, _)) =
            found.labels.iter().find(|(_, labels)| has(labels, AWS_PENDING) && !has(labels, CURRENT))
        {
            return refuse(format!(
                "has a version {version} labelled AWSPENDING by somebody else's rotation, finish that or take the \
                 label away with `aws secretsmanager update-secret-version-stage`"
            ));
        }
        let labels: usize = found.labels.values().map(Vec::len).sum();
        if labels + LABELS_OF_A_ROTATION > LABEL_QUOTA {
            return refuse(format!(
                "has {labels} staging labels of the {LABEL_QUOTA} that AWS allows, and a rotation needs \
                 {LABELS_OF_A_ROTATION}, take some away"
            ));
        }
        Ok(())
    }
}

fn moved(path: &str) -> Fault {
    Fault::conflict(format!("AWS secret `{path}` is not what it was when it was read"))
}

fn other_content(path: &str) -> Fault {
    Fault::conflict(format!("this write of AWS secret `{path}` was done with another content"))
}

fn empty_tags() -> &'static BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    &NONE
}

/// A text of ours in place of a value.
fn constant_text(text: &'static str) -> SecretValue {
    SecretValue::new(text.to_owned()).expect("a constant text is a value")
}

#[async_trait]
impl SecretStore for AwsSecretsManagerStore {
    fn id(&self) -> &StoreId {
        &self.id
    }

    fn document_format(&self) -> DocumentFormat {
        DocumentFormat::Json
    }

    /// Rights to write show only when they are used; reading shows the rest.
    async fn preflight(&self, path: &str) -> Result<(), Fault> {
        if !settings::is_name(path) {
            return Err(Fault::invalid(format!(
                "`{path}` is no name for a secret, write up to 512 letters, digits and `/_+=.@-`"
            )));
        }
        let api = self.api().await;
        let Some(found) = api.describe(path).await? else { return Ok(()) };
        self.check(path, &found)?;
        let made: Vec<_> = api.versions(path).await?.into_iter().map(|version| version.at).collect();
        let newest = made.iter().max().copied().unwrap_or(Timestamp::UNIX_EPOCH);
        let busy = made.iter().filter(|made| newest.duration_since(**made) < DAY).count();
        if busy > BUSY_VERSIONS {
            return Err(Fault::transient(format!(
                "AWS secret `{path}` got {busy} versions within a day and may have some 100, see who writes so often"
            )));
        }
        api.get(path, Which::Label(CURRENT)).await.map(|_| ())
    }

    async fn read(&self, path: &str) -> Result<Option<Stored>, Fault> {
        let current = self.api().await.get(path, Which::Label(CURRENT)).await?;
        Ok(current.map(|current| Stored { version: VersionRef(current.id), value: current.value }))
    }

    async fn write(
        &self,
        path: &str,
        content: &SecretValue,
        base: Option<&VersionRef>,
        token: &WriteToken,
    ) -> Result<VersionRef, Fault> {
        let token = token.token.hyphenated().to_string();
        let current = self.read(path).await?;
        if let Some(current) = current.as_ref().filter(|current| current.version.0 == token) {
            return match current.value.same_as(content) {
                true => Ok(current.version.clone()),
                false => Err(other_content(path)),
            };
        }
        if current.as_ref().map(|current| &current.version) != base {
            return Err(moved(path));
        }
        let Some(VersionRef(base)) = base else { return self.create(path, content, &token).await };
        match self.api().await.put(path, content, &token, PENDING).await? {
            Put::Done { .. } => self.make_current(path, Some(base), &token).await,
            Put::OtherContent => Err(other_content(path)),
            Put::NoSecret => Err(moved(path)),
        }
    }

    async fn stage(&self, slot: &Slot, value: &SecretValue) -> Result<VersionRef, Fault> {
        slot::stage(self.api().await, &self.settings, slot, value).await
    }

    async fn read_slot(&self, slot: &Slot) -> Result<SlotState, Fault> {
        slot::read(self.api().await, &self.settings, slot).await
    }

    async fn purge(&self, slot: &Slot) -> Result<(), Fault> {
        slot::purge(self.api().await, &self.settings, slot).await
    }

    async fn read_other(&self, place: &Place) -> Result<Option<SecretValue>, Fault> {
        match self.read(&place.path).await? {
            Some(stored) if stored.value.expose() == EMPTY_INBOX => Ok(None),
            Some(stored) => part_of(place, DocumentFormat::Json, &stored.value),
            None => Ok(None),
        }
    }

    /// Publishes a text of ours until the value is neither current nor previous.
    async fn empty_inbox(&self, path: &str) -> Result<(), Fault> {
        let (api, empty) = (self.api().await, constant_text(EMPTY_INBOX));
        for _ in [CURRENT, PREVIOUS] {
            let Some(current) = api.get(path, Which::Label(CURRENT)).await? else { return Ok(()) };
            let previous = api.get(path, Which::Label(PREVIOUS)).await?;
            if current.value.same_as(&empty) && previous.is_none_or(|previous| previous.value.same_as(&empty))
            {
                return Ok(());
            }
            let token = Uuid::new_v5(&Uuid::NAMESPACE_OID, current.id.as_bytes()).hyphenated().to_string();
            let emptied = match api.put(path, &empty, &token, PENDING).await? {
                Put::Done { .. } => self.make_current(path, Some(&current.id), &token).await,
                Put::OtherContent | Put::NoSecret => Err(moved(path)),
            };
            emptied.map_err(|fault| match fault {
                Fault::Conflict { message } => Fault::transient(message),
                other => other,
            })?;
        }
        Ok(())
    }

    async fn clock(&self) -> Result<Option<Timestamp>, Fault> {
        let name = format!("{}/clock", self.settings.slots());
        self.api().await.date(&name).await.map(Some)
    }

    /// The labels of the slots: a write has no place for what it was ordered by.
    async fn traces(&self, trail: &Trail) -> Result<Traces, Fault> {
        let strange = slot::strange(self.api().await, &self.settings, trail).await?;
        Ok(Traces { fence: None, strange })
    }

    /// As `valueFrom` of an ECS task definition takes it: the ARN, no JSON key, no
    /// label, the version's id ("Pass Secrets Manager secrets through Amazon ECS
    /// environment variables", Amazon ECS Developer Guide).
    async fn pinned_reference(&self, path: &str, version: &VersionRef) -> Result<Option<String>, Fault> {
        match self.api().await.describe(path).await? {
            Some(found) => Ok(Some(format!("{}:::{version}", found.arn))),
            None => Err(Fault::invalid(format!("AWS secret `{path}` does not exist"))),
        }
    }
}
