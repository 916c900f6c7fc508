//! What is wrong, risky or better done otherwise in a policy that can be read.
//!
//! Each rule has a stable code in `rules`. Rules look at resolved secrets and
//! point at the key that decides, in whichever layer it stands. Deliberately
//! absent: rules about one product, which kinds bring.

mod consumers;
mod publication;
mod time;
mod unique;
pub(super) mod values;

use super::load::Names;
use super::resolve::layers::Layers;
use super::resolve::secret::Resolved;
use super::resolve::shared::{Shared, unused};
use super::rules;
use super::source::Findings;
pub(super) use unique::Crowd;

/// One secret with everything that the rules look at.
pub(super) struct Subject<'a> {
    pub(super) resolved: &'a Resolved,
    pub(super) layers: &'a Layers<'a>,
    pub(super) shared: &'a Shared,
}

/// The rules about one secret, and about it beside those before it.
pub(super) fn secret(subject: &Subject<'_>, crowd: &mut Crowd, findings: &mut Findings) {
    time::lint(subject, findings);
    values::lint(subject, findings);
    publication::lint(subject, findings);
    consumers::lint(subject, findings);
    crowd.meet(subject, findings);
}

/// The rules about the policy as a whole.
pub(super) fn whole(shared: &Shared, names: &Names, findings: &mut Findings) {
    values::lint_rules(shared, findings);
    time::lint_calendars(shared, findings);
    consumers::lint_all(shared, findings);
    unique::look_alikes(shared, names, findings);
    unused("store", &shared.stores, &rules::UNUSED, findings);
    unused("owner", &shared.owners, &rules::UNUSED, findings);
    unused("calendar", &shared.calendars, &rules::UNUSED, findings);
    unused("consumer", &shared.consumers, &rules::UNUSED, findings);
    unused("profile", &shared.profiles, &rules::UNUSED, findings);
}
