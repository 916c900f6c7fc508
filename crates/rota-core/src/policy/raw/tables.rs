//! The tables of the policy file, each key once. The lines of documentation here
//! are what an editor shows, and what the JSON Schema says.

use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Cadence, ConsumerList, Decode, Entries, FieldForm, Name, Reading, Reminders, Rest, WindowForm};
use crate::format::{Format, Template};
use crate::policy::model::{Class, HookPoint, OnFailure, Priority};
use crate::policy::rules;
use crate::policy::source::{At, Finding, Findings, Span};

/// Declares a table: its keys, their types and their documentation. An `open`
/// table keeps what it does not know for the kind that it names; a `closed` one refuses it.
macro_rules! table {
    (
        $(#[doc = $about:literal])*
        $mode:ident $name:ident, $title:literal {
            $($(#[doc = $doc:literal])+ $field:ident $key:literal: $type:ty,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub(crate) struct $name {
            $($(#[doc = $doc])+ pub(crate) $field: Option<At<$type>>,)*
            /// The keys that are not the core's.
            pub(crate) rest: Rest,
        }

        impl $name {
            pub(crate) const KEYS: &'static [&'static str] = &[$($key),*];

            pub(crate) fn read(table: &DeTable<'_>, reading: &mut Reading<'_>) -> Self {
                Self::read_but(table, &[], reading)
            }

            /// As [`Self::read`], leaving aside the keys that somebody else reads.
            pub(crate) fn read_but(table: &DeTable<'_>, others: &[&str], reading: &mut Reading<'_>) -> Self {
                let mut found = Self::default();
                for (key, value) in table.iter().filter(|(key, _)| !others.contains(&key.get_ref().as_ref())) {
                    match key.get_ref().as_ref() {
                        $($key => found.$field = At::decode(value, reading),)*
                        _ => found.rest.take(key, value, reading),
                    }
                }
                found
            }

            /// The schema of each key.
            pub(crate) fn properties() -> Map<String, Value> {
                let mut properties = Map::new();
                $(
                    let mut schema = <$type as Decode>::schema();
                    let text = [$($doc.trim()),+].join(" ");
                    if let Some(schema) = schema.as_object_mut() {
                        schema.insert("description".to_owned(), Value::String(text));
                    }
                    properties.insert($key.to_owned(), schema);
                )*
                properties
            }
        }

        impl Decode for $name {
            fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
                let table = reading.table(value, concat!("a table: ", $title))?;
                let found = Self::read(table, reading);
                table!(@$mode found, reading, $title);
                Some(found)
            }

            fn schema() -> Value {
                table!(@schema $mode $name)
            }
        }
    };
    (@open $found:ident, $reading:ident, $title:literal) => {};
    (@closed $found:ident, $reading:ident, $title:literal) => {
        $found.rest.refuse($title, Self::KEYS, $reading.findings);
    };
    (@schema open $name:ident) => {
        json!({ "$ref": concat!("#/$defs/", stringify!($name)) })
    };
    (@schema closed $name:ident) => {
        json!({ "type": "object", "properties": Self::properties(), "additionalProperties": false })
    };
}

table! {
    /// A secret, a profile, or the defaults: they share their keys.
    open SecretTable, "`[secret.NAME]`" {
        /// The profile whose keys stand in for those that are missing here.
        profile "profile": Name,
        /// How a new value comes to be: generated here, supplied by an operator, or made on a target.
        kind "kind": String,
        /// What kind of use the value has; sets the minimums.
        class "class": Class,
        /// How the value is generated, or for a value made elsewhere, what it looks like: hex:64 is 64 random bytes in 128 hex digits.
        format "format": Format,
        /// A minimum of its own for this secret: bytes of entropy for signing, characters otherwise.
        minimum "minimum": u32,
        /// What consumers read, by name: a template such as "postgresql://{username}:{password:url}@{host}/db", or a table with a format.
        fields "fields": Entries<FieldForm>,
        /// The stores that the value is published to: first the primary, then its mirrors.
        stores "stores": Vec<At<Name>>,
        /// How old and new are written down for consumers. Without it, one value at {name}.
        publish "publish": PublishTable,
        /// From promotion to promotion, such as "90d", or "on-request".
        cadence "cadence": Cadence,
        /// Where the cadence comes from: a provider's rule, a control of an audit. Shown in reports.
        cadence_basis "cadence_basis": String,
        /// The calendar whose dates are the due dates, in place of a cadence.
        calendar "calendar": Name,
        /// How long before the due date a rotation starts.
        lead "lead": SignedDuration,
        /// How long old and new stand side by side after everybody uses the new one.
        overlap "overlap": SignedDuration,
        /// How long something signed with the value is accepted. The overlap cannot be shorter.
        token_ttl "token_ttl": SignedDuration,
        /// How long a disabled credential waits before it is revoked for good.
        revoke_after "revoke_after": SignedDuration,
        /// When rotations may start and old values be disabled, such as "Mon-Thu 09:00-16:00 Europe/Amsterdam", or "always".
        window "window": WindowForm,
        /// How many healthy observations are wanted, and how far apart.
        healthy "healthy": HealthyTable,
        /// What happens where a check fails or a deadline passes: a person decides, or it is rolled back.
        on_failure "on_failure": OnFailure,
        /// How long a step may take before the rotation is held, by step.
        deadline "deadline": Entries<SignedDuration>,
        /// Who uses the secret, or "none".
        consumers "consumers": ConsumerList,
        /// The target or the consumers cannot take two values at once, and the team accepts the gap.
        accept_gap "accept_gap": bool,
        /// Order of catch-up, escalation and reports.
        priority "priority": Priority,
        /// Who is told.
        owner "owner": Name,
        /// How long before the due date to remind.
        remind "remind": Reminders,
        /// Where a person makes or revokes the value.
        page "page": String,
        /// How the value is proven by really using it.
        prove "prove": CheckTable,
        /// The field whose value the proof uses, where there are several.
        prove_with "prove_with": Name,
        /// What must succeed before or after a phase.
        hooks "hooks": Vec<At<HookTable>>,
        /// The path where a person pastes the new value in the store's own console.
        inbox "inbox": String,
        /// The daemon itself uses this secret.
        own "self": bool,
    }
}

impl SecretTable {
    /// The keys that `[defaults]` may have: those that mean the same for every secret.
    pub(crate) const DEFAULTS: &'static [&'static str] = &[
        "stores",
        "cadence",
        "cadence_basis",
        "calendar",
        "lead",
        "overlap",
        "revoke_after",
        "window",
        "healthy",
        "on_failure",
        "deadline",
        "consumers",
        "priority",
        "owner",
        "remind",
    ];

    /// The keys that belong to one secret and never to a profile.
    pub(crate) const SECRET_ONLY: &'static [&'static str] =
        &["profile", "fields", "prove_with", "inbox", "self"];
}

table! {
    /// How the ordered list (first to use, the rest to accept) is written down.
    closed PublishTable, "`publish`" {
        /// The name that holds the value to use.
        first "first": Name,
        /// The name that holds the value to accept as well.
        second "second": Name,
        /// The rollout pins both names to exact versions, so that no instance sees them torn.
        pinned "pinned": bool,
        /// The name that holds a JSON list, the value to use first.
        list "list": Name,
        /// The path of the JSON document that the names are fields of, shared with other secrets.
        document "document": Name,
        /// Consumers read the document in one request, so that its fields are always of one version.
        whole "whole": bool,
    }
}

table! {
    /// The observations that promotion is judged by.
    closed HealthyTable, "`healthy`" {
        /// How many healthy observations are wanted.
        count "count": u32,
        /// How far apart they are.
        every "every": SignedDuration,
        /// How many unhealthy ones in a row end the watch.
        failures "failures": u32,
    }
}

table! {
    /// One field of a secret.
    closed FieldTable, "a field" {
        /// How the field is made from the parts of the secret, such as "{username}:{password:url}".
        template "template": Template,
        /// A generation format of its own.
        format "format": Format,
    }
}

table! {
    /// A check; what else it takes is its kind's.
    open CheckTable, "a check" {
        /// The kind of check.
        kind "kind": String,
        /// What messages call it; its kind where it is the only one.
        name "name": Name,
    }
}

table! {
    /// A hook; what else it takes is its kind's.
    open HookTable, "a hook" {
        /// The kind of hook.
        kind "kind": String,
        /// When it runs.
        at "at": HookPoint,
    }
}

table! {
    /// A rollout; what else it takes is its kind's.
    open RolloutTable, "a rollout" {
        /// The kind of rollout.
        kind "kind": String,
        /// A rollout that has not finished by then has failed.
        deadline "deadline": SignedDuration,
    }
}

table! {
    /// A service that uses secrets.
    closed ConsumerTable, "`[consumer.NAME]`" {
        /// How it is made to read anew.
        rollout "rollout": RolloutTable,
        /// How we know that it is well.
        checks "checks": Vec<At<CheckTable>>,
        /// Why it has no checks.
        unmonitored "unmonitored": String,
        /// How long a published value takes to reach every place where an instance may read it, clock error included.
        settle "settle": SignedDuration,
    }
}

table! {
    /// A store; what else it takes is its kind's.
    open StoreTable, "`[store.NAME]`" {
        /// The kind of store.
        kind "kind": String,
        /// Where a name lives, such as "prod/acd/{name}".
        path "path": Template,
        /// Where a person pastes an operator-supplied value, such as "inbox/acd/{name}".
        inbox "inbox": Template,
    }
}

table! {
    /// Who is told about a secret.
    closed OwnerTable, "`[owner.NAME]`" {
        /// The Slack id of a user (U...), a group (S...) or a channel (C...).
        slack_mention "slack_mention": String,
        /// The Slack id of a user (U...) or a group (S...) who is called beside the owner where a secret of high or critical priority is held, overdue, leaked or abandoned.
        slack_escalation "slack_escalation": String,
    }
}

table! {
    /// Due dates in civil time.
    closed CalendarTable, "`[calendar.NAME]`" {
        /// Minute, hour, day of month, month, day of week, such as "0 10 15 1,4,7,10 *".
        cron "cron": String,
        /// The IANA time zone of the dates, such as "Europe/Amsterdam".
        zone "zone": String,
        /// The age that is promised; no two dates may be further apart.
        max_age "max_age": SignedDuration,
    }
}

table! {
    /// Higher minimums than the built-in ones.
    closed RulesTable, "`[rules]`" {
        /// Bytes of entropy of signing secrets; at least 32.
        signing "signing": u32,
        /// Characters of API keys; at least 32.
        api_key "api-key": u32,
        /// Characters of passwords; at least 16.
        password "password": u32,
    }
}

table! {
    /// The top level, without the tables of named things.
    open RootTable, "a policy" {
        /// The version of this format.
        version "version": u32,
        /// The application whose secrets these are.
        application "application": Name,
        /// Where it runs; the minimums differ.
        environment "environment": crate::policy::model::Environment,
        /// What holds for every secret that does not say otherwise.
        defaults "defaults": SecretTable,
        /// Higher minimums.
        rules "rules": RulesTable,
    }
}

/// The tables of named things at the top level.
pub(crate) const NAMED: &[&str] = &["store", "owner", "calendar", "consumer", "profile", "secret"];

/// Refuses keys that belong elsewhere. `what` is "`[defaults]`" or "a profile".
pub(crate) fn refuse_misplaced(
    table: &DeTable<'_>,
    allowed: impl Fn(&str) -> bool,
    what: &str,
    reading: &mut Reading<'_>,
) {
    for (key, _) in table {
        let name = key.get_ref().as_ref();
        if SecretTable::KEYS.contains(&name) && !allowed(name) {
            let span = reading.span(key);
            misplaced(name, what, span, reading.findings);
        }
    }
}

fn misplaced(name: &str, what: &str, span: Span, findings: &mut Findings) {
    findings.push(
        Finding::new(&rules::UNKNOWN_KEY, span, format!("`{name}` has no place in {what}"))
            .help("write it in each `[secret.NAME]` that needs it"),
    );
}
