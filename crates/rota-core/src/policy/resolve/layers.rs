//! One secret's keys from three layers: itself, its profile, the defaults.

use crate::policy::raw::tables::SecretTable;
use crate::policy::source::{At, Span};

/// The layers of one secret, nearest first.
pub(in crate::policy) struct Layers<'a> {
    /// The name as written, with the place of the table's head.
    pub(in crate::policy) name: &'a At<String>,
    pub(in crate::policy) own: &'a SecretTable,
    pub(in crate::policy) profile: Option<&'a SecretTable>,
    pub(in crate::policy) defaults: Option<&'a SecretTable>,
}

impl<'a> Layers<'a> {
    /// The layers that exist, nearest first.
    pub(in crate::policy) fn all(&self) -> impl Iterator<Item = &'a SecretTable> {
        [Some(self.own), self.profile, self.defaults].into_iter().flatten()
    }

    /// A key from the nearest layer that has it.
    pub(in crate::policy) fn get<T: 'a>(
        &self,
        key: impl Fn(&'a SecretTable) -> &'a Option<At<T>>,
    ) -> Option<&'a At<T>> {
        self.all().find_map(|layer| key(layer).as_ref())
    }

    /// A key that the secret or its profile states, leaving the defaults of the file aside.
    pub(in crate::policy) fn stated<T: 'a>(
        &self,
        key: impl Fn(&'a SecretTable) -> &'a Option<At<T>>,
    ) -> Option<&'a At<T>> {
        [Some(self.own), self.profile].into_iter().flatten().find_map(|layer| key(layer).as_ref())
    }

    /// Where a key stands, or the head of the secret where it is not written.
    pub(in crate::policy) fn span<T: 'a>(&self, key: impl Fn(&'a SecretTable) -> &'a Option<At<T>>) -> Span {
        self.get(key).map_or(self.name.span, |at| at.span)
    }
}
