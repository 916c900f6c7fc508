//! Keeps the accepted policy up to date with its source.
//!
//! The source is read at an interval. A policy that nobody ever accepted becomes the
//! accepted one; a bad one changes nothing and is told; one that was accepted before and
//! replaced since (an old file on another replica, a restart with an old image) is told
//! too, so that two replicas with different files do not take turns. Deliberately
//! absent: consent to losing many secrets, which only `rota policy accept` gives.

use std::sync::Arc;

use jiff::SignedDuration;
use metrics::gauge;
use rota_core::fault::Fault;
use rota_core::policy::accept::{diff, removals_need_consent};
use rota_core::policy::diagnostic::{Diagnostic, Level, summary};
use rota_core::policy::kinds::Kinds;
use rota_core::policy::model::Policy;
use rota_engine::ports::{AcceptedPolicy, Journal as _};
use rota_postgres::{PgJournal, PolicyConsent};

use super::board::{Board, Trouble};
use super::work::Crew;
use crate::aws::ObjectReader;
use crate::commands::count_of;
use crate::exit::Failure;
use crate::policy_notices;
use crate::policy_source::{self, PolicySource, Read, Unreadable, judge};

/// The part of the daemon that speaks of the policy in `/readyz`.
const PART: &str = "policy";

/// Reads the source and acts on it, again and again.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) journal: PgJournal,
    pub(super) source: PolicySource,
    pub(super) kinds: Arc<Kinds>,
    pub(super) objects: Option<Arc<ObjectReader>>,
    pub(super) every: SignedDuration,
    pub(super) replica: String,
}

/// What the source holds, compared with what is accepted.
enum Found {
    Current,
    /// Neither accepted nor ever accepted before, or changed under this process's eyes.
    New {
        policy: Box<Policy>,
        digest: String,
        /// Of a person, where a daemon would not take it by itself.
        consent: Option<PolicyConsent>,
        /// Of the texts that it was read from.
        mark: String,
    },
    /// What is wrong with it, in one line, and what to do.
    Refused {
        why: String,
        command: String,
    },
}

impl Keeper {
    /// Until its first look the daemon is not ready: nothing says yet what it rotates.
    pub(super) fn announce(&self, board: &Board) {
        let message = format!("{} was not read yet", self.source);
        board.report(PART, Some(Trouble { message, blocks: true }));
    }

    pub(super) async fn run(self, crew: Crew) {
        let mut seen = Seen::default();
        while !crew.stop.is_cancelled() {
            match self.look(&crew, &mut seen).await {
                Ok(()) => crew.pause(self.every).await,
                Err(fault) => crew.after_fault(&fault).await,
            }
        }
    }

    async fn look(&self, crew: &Crew, seen: &mut Seen) -> Result<(), Fault> {
        let accepted = crew.engine.refresh_policy().await?;
        let refused = match self.find(accepted.as_deref(), seen).await? {
            Found::Current => None,
            Found::New { policy, digest, consent, mark } => {
                let version = self.accept(crew, accepted.as_deref(), &policy, &digest, consent).await?;
                self.journal.keep_policy_source(version, &mark).await?;
                seen.digest = Some(digest);
                None
            }
            Found::Refused { why, command } => Some((why, command)),
        };
        gauge!("rota_policy_rejected").set(if refused.is_some() { 1.0 } else { 0.0 });
        let version = accepted.as_ref().map(|accepted| accepted.version);
        let trouble = refused.as_ref().map(|(why, command)| Trouble {
            message: match version {
                Some(version) => format!("{why}; version {version} goes on; {command}"),
                None => format!("{why}; no policy was ever accepted; {command}"),
            },
            blocks: version.is_none(),
        });
        let news = crew.board.report(PART, trouble);
        if let Some((why, command)) = refused.filter(|_| news) {
            tracing::error!(reason = %why, "the policy's source was refused; the last good policy goes on");
            let now = self.journal.now().await?;
            self.journal.notify(vec![policy_notices::rejected(&why, command, version, now)]).await?;
        }
        Ok(())
    }

    /// Reads the source's texts; what they say only where they are other texts than
    /// before, or another policy was accepted meanwhile.
    async fn find(&self, accepted: Option<&AcceptedPolicy>, seen: &mut Seen) -> Result<Found, Fault> {
        let pieces = match self.source.read(self.objects.as_deref()).await {
            Ok(pieces) => pieces,
            Err(Unreadable::Refused(diagnostic)) => return Ok(self.refuse(diagnostic.headline())),
            Err(Unreadable::Failed(Failure { message, .. })) => return Ok(self.refuse(message)),
        };
        let mark = policy_source::mark(&pieces);
        let version = accepted.map(|accepted| accepted.version);
        if let Some(judged) = seen.judged.as_ref().filter(|it| it.mark == mark && it.version == version) {
            return Ok(judged.refused.clone().map_or(Found::Current, |why| self.refuse(why)));
        }
        let known = match version {
            Some(version) => self.journal.policy_source(version).await?,
            None => None,
        };
        if known.as_ref() == Some(&mark) {
            seen.judged = Some(Judged { mark, version, refused: None });
            return Ok(Found::Current);
        }
        let kinds = Arc::clone(&self.kinds);
        let read = tokio::task::spawn_blocking(move || judge(&pieces, &kinds)).await;
        let read =
            read.map_err(|_| Fault::transient("reading the policy panicked; please report the bug"))?;
        let Read { loaded, digest } = read;
        let (Some(policy), Some(digest)) = (loaded.policy, digest) else {
            let first = loaded.diagnostics.iter().find(|finding| finding.level == Level::Error);
            let first = first.map(place_and_headline).unwrap_or_default();
            let why = format!("the policy has {}{first}", summary(&loaded.diagnostics));
            seen.judged = Some(Judged { mark, version, refused: Some(why.clone()) });
            return Ok(self.refuse(why));
        };
        if accepted.is_some_and(|accepted| accepted.digest == digest) {
            if let Some(version) = version {
                self.journal.keep_policy_source(version, &mark).await?;
            }
            seen.judged = Some(Judged { mark, version, refused: None });
            return Ok(Found::Current);
        }
        self.compare(accepted, policy, digest, mark, seen.digest.as_deref()).await
    }

    fn refuse(&self, why: String) -> Found {
        Found::Refused { why, command: format!("rota policy lint {}", self.source) }
    }

    /// Whether a good policy that is not the accepted one may become it. A person's
    /// consent can come at any time, so this is asked at every look.
    async fn compare(
        &self,
        accepted: Option<&AcceptedPolicy>,
        policy: Policy,
        digest: String,
        mark: String,
        seen: Option<&str>,
    ) -> Result<Found, Fault> {
        let Some(accepted) = accepted else {
            return Ok(Found::New { policy: Box::new(policy), digest, consent: None, mark });
        };
        let consent = self.journal.policy_consent(&digest, accepted.version).await?;
        let to_removals = consent.as_ref().is_some_and(|consent| consent.removals);
        if !to_removals && removals_need_consent(accepted.policy.ids(), &policy) {
            let changes = diff(&accepted.policy.unpack(), &policy);
            return Ok(Found::Refused {
                why: format!("the policy would lose more than a fifth of its secrets ({changes})"),
                command: format!("rota policy accept --policy {} --accept-removals", self.source),
            });
        }
        let stale = match seen {
            _ if consent.is_some() => false,
            Some(seen) => seen == digest,
            None => self.journal.policy_was_accepted(&digest).await?,
        };
        if stale {
            return Ok(Found::Refused {
                why: format!(
                    "the source holds an earlier policy than the accepted version {} (by {})",
                    accepted.version, accepted.by
                ),
                command: format!("rota policy accept --policy {}", self.source),
            });
        }
        Ok(Found::New { policy: Box::new(policy), digest, consent, mark })
    }

    async fn accept(
        &self,
        crew: &Crew,
        before: Option<&AcceptedPolicy>,
        policy: &Policy,
        digest: &str,
        consent: Option<PolicyConsent>,
    ) -> Result<i64, Fault> {
        let source = format!("{} ({})", self.replica, self.source);
        let by = match consent {
            Some(consent) => format!("{}: {}; taken by {source}", consent.by, consent.reason),
            None => source,
        };
        let changes = match before {
            Some(before) => diff(&before.policy.unpack(), policy).to_string(),
            None => count_of(policy),
        };
        let tell = |accepted: &AcceptedPolicy| policy_notices::accepted(accepted, &changes);
        let accepted = self.journal.accept_and_tell(policy, digest, &by, tell).await?;
        tracing::info!(version = accepted.version, %changes, "accepted the policy");
        crew.engine.refresh_policy().await?;
        crew.wake.up("policy");
        Ok(accepted.version)
    }
}

/// What this process saw in the source.
#[derive(Default)]
struct Seen {
    /// The policy that it last accepted; a change is acted on, a stale file is not.
    digest: Option<String>,
    judged: Option<Judged>,
}

/// Texts that need not be judged again.
struct Judged {
    mark: String,
    /// The accepted version that they were compared with.
    version: Option<i64>,
    /// What is wrong with them; `None` where they are the accepted policy.
    refused: Option<String>,
}

/// Where the first mistake stands, and what it is.
fn place_and_headline(finding: &Diagnostic) -> String {
    let place = finding.place.as_ref();
    let place = place.map(|place| format!(", the first in {}, line {}", finding.file, place.line));
    format!("{}: {}", place.unwrap_or_default(), finding.headline())
}
