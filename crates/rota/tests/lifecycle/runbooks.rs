//! What the five runbooks ask of every secret that is generated or handed in, and of every
//! login of a database, read from them by hand; and that the example policies say the same.

use jiff::{SignedDuration, Timestamp};
use rota_core::policy::model::SecretPolicy;
use rota_core::publication::names;
use rota_core::schedule::{Schedule, Start};

use crate::examples::example;
use crate::support::SystemRandom;

/// When the next value is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Days(i64),
    /// January, April, July and October 15.
    Quarterly,
}

/// The names that the runbook's code reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    One(&'static str),
    /// The one to use, and the one to accept.
    Pair(&'static str, &'static str),
    List(&'static str),
    /// Values that rotate as one.
    Fields(&'static [&'static str]),
}

/// One secret of a runbook.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) id: &'static str,
    /// True where a person makes the value at a provider.
    pub(crate) by_a_person: bool,
    due: Due,
    /// How long the old value is accepted beside the new one.
    overlap_days: i64,
    pub(crate) shown: Shown,
    /// How long a generated value is, in characters.
    pub(crate) length: usize,
}

const fn generated(id: &'static str, due: Due, overlap_days: i64, shown: Shown, length: usize) -> Wanted {
    Wanted { id, by_a_person: false, due, overlap_days, shown, length }
}

const fn made(id: &'static str, due: Due, overlap_days: i64, shown: Shown) -> Wanted {
    Wanted { id, by_a_person: true, due, overlap_days, shown, length: 0 }
}

use Due::{Days, Quarterly};
use Shown::{Fields, List, One, Pair};

/// 64 random bytes in hex, in base64, and a key in base62.
const HEX_64: usize = 128;
const BASE64_64: usize = 88;
const KEY: usize = 64;

pub(crate) const DASHBOARD: (&str, &[Wanted]) = (
    "autonomous-coding-dashboard.toml",
    &[
        generated("JWT_SECRET", Quarterly, 7, Pair("JWT_SECRET_NEW", "JWT_SECRET"), HEX_64),
        generated("SESSION_SECRET", Quarterly, 7, Pair("SESSION_SECRET_NEW", "SESSION_SECRET"), HEX_64),
        made("ANTHROPIC_API_KEY", Quarterly, 7, Pair("ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY_BACKUP")),
        made("META_APP_SECRET", Quarterly, 1, Pair("META_APP_SECRET", "META_APP_SECRET_OLD")),
        made("SLACK_WEBHOOK_URL", Days(180), 7, One("SLACK_WEBHOOK_URL")),
        made("GITHUB_TOKEN", Days(180), 7, One("GITHUB_TOKEN")),
        made(
            "supabase_service_role",
            Days(365),
            7,
            Pair("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_ROLE_KEY_OLD"),
        ),
        made("meta_system_user", Days(365), 7, Pair("META_SYSTEM_USER_TOKEN", "META_SYSTEM_USER_TOKEN_OLD")),
        made("github_actions", Days(365), 7, One("github_actions")),
    ],
);

pub(crate) const JOBSWIPE: (&str, &[Wanted]) = (
    "jobswipe.toml",
    &[
        generated("SECRET_KEY", Days(30), 7, Pair("SECRET_KEY", "SECRET_KEY_OLD"), HEX_64),
        generated(
            "OAUTH_STATE_SECRET",
            Days(90),
            7,
            Pair("OAUTH_STATE_SECRET", "OAUTH_STATE_SECRET_OLD"),
            HEX_64,
        ),
        generated("JWT_SECRET_KEY", Days(180), 7, Pair("JWT_SECRET_KEY", "JWT_SECRET_KEY_OLD"), HEX_64),
        generated("ANALYTICS_API_KEY", Days(90), 7, Pair("ANALYTICS_API_KEY", "ANALYTICS_API_KEY_OLD"), KEY),
        generated("INGESTION_API_KEY", Days(90), 7, Pair("INGESTION_API_KEY", "INGESTION_API_KEY_OLD"), KEY),
        generated(
            "DEDUPLICATION_API_KEY",
            Days(90),
            7,
            Pair("DEDUPLICATION_API_KEY", "DEDUPLICATION_API_KEY_OLD"),
            KEY,
        ),
        generated(
            "CATEGORIZATION_API_KEY",
            Days(90),
            7,
            Pair("CATEGORIZATION_API_KEY", "CATEGORIZATION_API_KEY_OLD"),
            KEY,
        ),
        generated(
            "AUTOMATION_API_KEY",
            Days(90),
            7,
            Pair("AUTOMATION_API_KEY", "AUTOMATION_API_KEY_OLD"),
            KEY,
        ),
    ],
);

pub(crate) const MGMT_VIBE: (&str, &[Wanted]) = (
    "mgmt-vibe.toml",
    &[
        generated("SESSION_SECRET", Days(90), 1, List("SESSION_SECRETS"), HEX_64),
        made("STRIPE", Days(90), 1, Fields(&["STRIPE_PUBLISHABLE_KEY", "STRIPE_SECRET_KEY"])),
    ],
);

pub(crate) const CUTOVER: (&str, &[Wanted]) = (
    "production-cutover.toml",
    &[
        generated("JWT_SECRET", Days(90), 1, One("JWT_SECRET"), HEX_64),
        generated("HMAC_SECRET", Days(90), 1, One("HMAC_SECRET"), HEX_64),
    ],
);

pub(crate) const STARTER_KIT: (&str, &[Wanted]) = (
    "starter-kit.toml",
    &[
        generated(
            "JWT_ACCESS_SECRET",
            Days(90),
            1,
            Pair("JWT_ACCESS_SECRET", "JWT_ACCESS_SECRET_OLD"),
            BASE64_64,
        ),
        generated(
            "JWT_REFRESH_SECRET",
            Days(90),
            30,
            Pair("JWT_REFRESH_SECRET", "JWT_REFRESH_SECRET_OLD"),
            BASE64_64,
        ),
        generated(
            "METRICS_AUTH_TOKEN",
            Days(180),
            1,
            Pair("METRICS_AUTH_TOKEN", "METRICS_AUTH_TOKEN_OLD"),
            KEY,
        ),
        made("SMTP_PASSWORD", Days(180), 1, One("SMTP_PASSWORD")),
    ],
);

/// A login of a database that a runbook names, which rotates as one: file, id, when it is
/// due, how long the old one is accepted, and the names that its code reads.
const LOGINS: [(&str, &str, Due, i64, &[&str]); 4] = [
    ("autonomous-coding-dashboard.toml", "DATABASE_URL", Quarterly, 1, &["DATABASE_URL"]),
    ("jobswipe.toml", "DATABASE_URL", Days(30), 1, &["DATABASE_URL", "POSTGRES_PASSWORD", "POSTGRES_USER"]),
    ("mgmt-vibe.toml", "DATABASE_URL", Days(30), 1, &["DATABASE_URL"]),
    ("starter-kit.toml", "DATABASE_URL", Days(180), 1, &["DATABASE_URL"]),
];

/// A key that a provider makes by a call, in the same form. The id is published for Rota.
const KEYS: [(&str, &str, Due, i64, &[&str]); 4] = [
    (
        "autonomous-coding-dashboard.toml",
        "RESEND_API_KEY",
        Days(180),
        7,
        &["RESEND_API_KEY", "RESEND_API_KEY_ID"],
    ),
    ("autonomous-coding-dashboard.toml", "SENTRY_DSN", Days(180), 7, &["SENTRY_DSN"]),
    ("mgmt-vibe.toml", "OPENAI_API_KEY", Days(90), 1, &["OPENAI_API_KEY", "OPENAI_API_KEY_ID"]),
    ("starter-kit.toml", "TWILIO_API_KEY", Days(180), 1, &["TWILIO_API_KEY_SECRET", "TWILIO_API_KEY_SID"]),
];

impl Shown {
    pub(crate) fn names(self) -> Vec<&'static str> {
        match self {
            One(name) | List(name) => vec![name],
            Pair(first, second) => vec![first, second],
            Fields(names) => names.to_vec(),
        }
    }
}

/// The due dates of two years that follow when every value is promoted on its due date.
fn dates(schedule: &Schedule) -> Vec<String> {
    let start = Start { lead: SignedDuration::ZERO, window: None };
    let mut at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut dates = Vec::new();
    while let Some(due) = schedule.next_due(at, None, start).filter(|_| dates.len() < 8) {
        at = due.at;
        dates.push(at.strftime("%F").to_string());
    }
    dates
}

fn assert_due(secret: &SecretPolicy, due: Due, about: &str) {
    match due {
        Days(days) => {
            let every = SignedDuration::from_hours(24 * days);
            assert_eq!(secret.schedule, Schedule::Cadence { every }, "{about}");
        }
        Quarterly => assert_eq!(
            dates(&secret.schedule),
            [
                "2026-01-15",
                "2026-04-15",
                "2026-07-15",
                "2026-10-15",
                "2027-01-15",
                "2027-04-15",
                "2027-07-15",
                "2027-10-15"
            ],
            "{about}"
        ),
    }
}

#[test]
fn the_example_policies_have_every_login_of_the_runbooks() {
    assert_all_of("postgres", &LOGINS);
}

#[test]
fn the_example_policies_have_every_key_that_a_provider_makes() {
    assert_all_of("provider", &KEYS);
}

/// The examples have these secrets of a kind, and no others.
fn assert_all_of(kind: &str, wanted: &[(&str, &str, Due, i64, &[&str])]) {
    let mut found = 0;
    for (file, ..) in [DASHBOARD, JOBSWIPE, MGMT_VIBE, CUTOVER, STARTER_KIT] {
        found += example(file).secrets.values().filter(|secret| secret.kind == kind).count();
    }
    assert_eq!(found, wanted.len());
    for (file, id, due, overlap_days, read) in wanted {
        let policy = example(file);
        let secret = &policy.secrets[&id.parse().unwrap()];
        let about = format!("{file}: {id}");
        assert_eq!(secret.kind, kind, "{about}");
        assert_eq!(secret.kept_overlap(), SignedDuration::from_hours(24 * overlap_days), "{about}");
        assert_due(secret, *due, &about);
        assert_eq!(names(secret).iter().map(ToString::to_string).collect::<Vec<_>>(), *read, "{about}");
    }
}

#[test]
fn the_example_policies_say_what_the_runbooks_say() {
    for (file, wanted) in [DASHBOARD, JOBSWIPE, MGMT_VIBE, CUTOVER, STARTER_KIT] {
        let policy = example(file);
        let mut ids: Vec<&str> = wanted.iter().map(|wanted| wanted.id).collect();
        ids.sort_unstable();
        let kinds = ["generated", "operator"];
        let of_these = policy.secrets.values().filter(|secret| kinds.contains(&secret.kind.as_str()));
        assert_eq!(of_these.map(|secret| secret.id.as_str()).collect::<Vec<_>>(), ids, "{file}");
        for wanted in wanted {
            let secret = &policy.secrets[&wanted.id.parse().unwrap()];
            let about = format!("{file}: {}", wanted.id);
            assert_eq!(secret.kind, if wanted.by_a_person { "operator" } else { "generated" }, "{about}");
            assert_eq!(
                secret.kept_overlap(),
                SignedDuration::from_hours(24 * wanted.overlap_days),
                "{about}"
            );
            let read: Vec<String> = names(secret).iter().map(ToString::to_string).collect();
            assert_eq!(read, wanted.shown.names(), "{about}");
            assert_due(secret, wanted.due, &about);
            if !wanted.by_a_person {
                let value = secret.format.as_ref().unwrap().generate(&mut SystemRandom).unwrap();
                assert_eq!(value.expose().len(), wanted.length, "{about}");
            }
        }
    }
}
