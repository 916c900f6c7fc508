//! `rota env-file`: the key that seals copies of replaced env files, and those copies.
//!
//! Works without the state database: after a mistake by hand that may be all there is.

use std::path::PathBuf;

use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::stores::env_file::{self, EnvFileKey, EnvFileStore};
use rota_core::id::{EffectNo, Epoch, Incarnation, StoreId};
use rota_core::policy::model::StorePolicy;
use rota_engine::ports::WriteToken;
use rota_postgres::{Asked, Orders, RestoredFile};
use serde_json::json;
use uuid::Uuid;

use super::Context;
use super::orders::asked;
use super::status::utc;
use crate::cli::{Consent, EnvFile, PolicyOption};
use crate::database::Right;
use crate::exit::{Exit, Failure, Outcome};
use crate::{prompt, wiring};

/// What `pg_stat_activity` shows.
const WHO: &str = "rota env-file";

pub(super) async fn run(context: &Context, command: &EnvFile) -> Outcome {
    match command {
        EnvFile::Key { path } => key(context, path.as_ref()),
        EnvFile::Backups { store, policy } => {
            backups(context, &File::find(context, store, policy).await?).await
        }
        EnvFile::Restore { store, number, consent, policy } => {
            restore(context, &File::find(context, store, policy).await?, *number, consent).await
        }
    }
}

fn key(context: &Context, path: Option<&PathBuf>) -> Outcome {
    let configured =
        || -> Result<Option<PathBuf>, Failure> { Ok(context.configuration(&[])?.settings.env_file.key_file) };
    let path = match path {
        Some(path) => path.clone(),
        None => configured()?
            .ok_or_else(|| Failure::invalid("no path is named").hint("give one, or set env_file.key_file"))?,
    };
    EnvFileKey::create(&path)?;
    let out = context.output;
    if out.json {
        out.document(&json!({ "key_file": path }))?;
    } else {
        out.line(format!("made {}; keep a copy where the backups are not", path.display()))?;
    }
    Ok(Exit::Success)
}

/// One env file of the policy.
struct File {
    id: StoreId,
    path: String,
    store: EnvFileStore,
}

impl File {
    async fn find(context: &Context, id: &StoreId, policy: &PolicyOption) -> Result<Self, Failure> {
        let configuration = context.configuration(&[])?;
        let (policy, _) = super::policy::good(context, policy.source.as_ref()).await?;
        let is_env_file = |store: &&StorePolicy| store.kind == env_file::KIND.spec.name;
        let Some(found) = policy.stores.get(id).filter(is_env_file) else {
            let names: Vec<&str> =
                policy.stores.values().filter(is_env_file).map(|store| store.id.as_str()).collect();
            let hint = match names.as_slice() {
                [] => "the policy has no store of the kind env-file".to_owned(),
                names => format!("the policy's env files are {}", names.join(", ")),
            };
            return Err(Failure::new(Exit::NotFound, format!("no env file is called `{id}`")).hint(hint));
        };
        let environment: AdapterEnvironment = wiring::environment(&configuration.settings)?;
        let store = EnvFileStore::new(found, &environment)?;
        Ok(Self { id: id.clone(), path: found.path.to_string(), store })
    }
}

async fn backups(context: &Context, file: &File) -> Outcome {
    let backups = file.store.backups(&file.path).await?;
    let out = context.output;
    if out.json {
        let backups: Vec<_> = backups
            .iter()
            .map(|backup| json!({ "number": backup.number, "replaced_at": backup.taken_at }))
            .collect();
        out.document(&json!({ "store": file.id, "file": file.path, "backups": backups }))?;
        return Ok(Exit::Success);
    }
    if backups.is_empty() {
        out.note(format!("{} was not replaced yet, or keeps no copies", file.path));
        return Ok(Exit::Success);
    }
    let rows =
        backups.iter().map(|backup| [backup.number.to_string(), utc(backup.taken_at), file.path.clone()]);
    out.table(&["number", "replaced", "file"], rows)?;
    Ok(Exit::Success)
}

async fn restore(context: &Context, file: &File, number: u64, consent: &Consent) -> Outcome {
    let known = file.store.backups(&file.path).await?;
    if !known.iter().any(|backup| backup.number == number) {
        return Err(Failure::new(Exit::NotFound, format!("{} has no copy {number}", file.path))
            .hint(format!("`rota env-file backups {}` lists them", file.id)));
    }
    if !consent.yes {
        let plan = format!(
            "{} becomes what it was in copy {number}, every name in it. What stands there now is sealed first.\n\
             A rotation in flight that uses the file finds a version that is not its own, and is held.\n\
             Consumers read it when they are restarted.",
            file.path
        );
        prompt::confirm(file.id.as_str(), &plan)?;
    }
    let asked = asked(consent, None)?;
    // No rotation makes this write: a token of its own, and numbers below every real one.
    let token = WriteToken {
        token: Uuid::new_v4(),
        incarnation: Incarnation(0),
        epoch: Epoch(0),
        effect: EffectNo(0),
    };
    let version = file.store.restore(&file.path, number, &token).await?;
    let restored = RestoredFile {
        store: file.id.clone(),
        file: file.path.clone(),
        backup: number,
        version: version.clone(),
    };
    // A file is put back without a database, too: that may be what is broken.
    let recorded = keep_in_history(context, &restored, &asked).await;
    let out = context.output;
    if out.json {
        out.document(&json!({
            "store": file.id, "file": file.path, "restored": number, "version": version,
            "recorded": recorded.is_ok(),
        }))?;
    } else {
        out.line(format!("{} is what it was in copy {number}; restart its consumers", file.path))?;
    }
    if let Err(failure) = recorded {
        out.note(format!("history does not know of it: {}", failure.message));
    }
    Ok(Exit::Success)
}

async fn keep_in_history(context: &Context, restored: &RestoredFile, asked: &Asked) -> Result<(), Failure> {
    let pool = context.connect(WHO, &[Right::Order]).await?;
    Ok(Orders::new(pool).restored_file(restored, asked).await?)
}
