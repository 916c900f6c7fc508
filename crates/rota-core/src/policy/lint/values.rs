//! How strong values are.

use super::Subject;
use crate::format::Format;
use crate::policy::model::{Class, Environment};
use crate::policy::resolve::shared::Shared;
use crate::policy::rules;
use crate::policy::source::{At, Finding, Findings, Span};
use crate::rotation::Source;

/// Bytes of entropy of a signing secret: as many as HMAC-SHA-256 uses (RFC 2104, section 3).
const SIGNING_BYTES: u32 = 32;
/// What production is told to have: 512 bits, as for HMAC-SHA-512.
const SIGNING_BYTES_PRODUCTION: u32 = 64;
/// AES-256.
const ENCRYPTION_BYTES: u32 = 32;
const API_KEY_CHARS: u32 = 32;
const PASSWORD_CHARS: u32 = 16;

/// The kind whose values are nothing but generated: nobody else knows the format.
const GENERATED: &str = "generated";

/// The fewest characters of a value of `class` that a person supplies. Its entropy
/// is not ours to know.
pub(in crate::policy) fn supplied_chars(class: Class) -> u32 {
    match class {
        Class::Signing | Class::Encryption | Class::ApiKey => API_KEY_CHARS,
        Class::Password => PASSWORD_CHARS,
    }
}

/// What a class counts.
#[derive(Clone, Copy)]
enum Unit {
    Entropy,
    Chars,
}

impl Unit {
    fn words(self) -> &'static str {
        match self {
            Self::Entropy => "bytes of entropy",
            Self::Chars => "characters",
        }
    }

    /// How much of it `format` has at least; `None` where that is not known.
    fn of(self, format: &Format) -> Option<u32> {
        match self {
            Self::Entropy => format.entropy_bits().map(|bits| bits / 8),
            Self::Chars => Some(*format.length().start()),
        }
    }
}

pub(super) fn lint(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let generated = subject.resolved.facts.source == Source::Generated;
    for (format, span) in formats(subject) {
        if generated && matches!(format, Format::Text { .. }) {
            findings.push(
                Finding::new(
                    &rules::NO_FORMAT,
                    span,
                    "a `text` value is made elsewhere and cannot be generated",
                )
                .help("write a format such as `hex:64`, or `kind = \"operator\"`"),
            );
            continue;
        }
        match policy.class {
            Some(class) => strength(subject, class, format, span, findings),
            None if generated => least_of_all(format, span, findings),
            None => {}
        }
    }
    if policy.kind == GENERATED {
        complete(subject, findings);
    }
}

/// The formats of the secret and of its fields, each with its place.
fn formats<'a>(subject: &'a Subject<'_>) -> Vec<(&'a Format, Span)> {
    let fields = subject.layers.own.fields.iter().flat_map(|at| &at.value.0);
    let of_fields = fields.filter_map(|(_, form)| form.value.format.as_ref()).map(|at| (&at.value, at.span));
    let own = subject.layers.get(|t| &t.format).map(|at| (&at.value, at.span));
    own.into_iter().chain(of_fields).collect()
}

fn strength(subject: &Subject<'_>, class: Class, format: &Format, span: Span, findings: &mut Findings) {
    let rules = subject.shared.root.rules.as_ref().map(|at| &at.value);
    let raised = |at: Option<&At<u32>>, built_in: u32| at.map_or(built_in, |at| at.value.max(built_in));
    let (unit, least) = match class {
        Class::Encryption => return key_size(format, span, findings),
        Class::Signing => (Unit::Entropy, raised(rules.and_then(|r| r.signing.as_ref()), SIGNING_BYTES)),
        Class::ApiKey => (Unit::Chars, raised(rules.and_then(|r| r.api_key.as_ref()), API_KEY_CHARS)),
        Class::Password => (Unit::Chars, raised(rules.and_then(|r| r.password.as_ref()), PASSWORD_CHARS)),
    };
    let supplied = subject.resolved.facts.source == Source::Submitted;
    let unit = if supplied { Unit::Chars } else { unit };
    let Some(found) = unit.of(format) else { return };
    let least = match subject.layers.get(|t| &t.minimum) {
        // The provider decides how long its keys are.
        Some(at) if supplied => at.value,
        Some(at) => at.value.max(least),
        None => least,
    };
    if found < least {
        let help = if supplied {
            format!(
                "write a longer format, or `minimum = {found}` where the provider's values are that short"
            )
        } else {
            format!("write {}", suggestion(class, least))
        };
        let message =
            format!("`{format}` has {found} {}, and {} needs {least}", unit.words(), name_of(class));
        findings.push(Finding::new(&rules::TOO_WEAK, span, message).help(help));
    } else if class == Class::Signing
        && !supplied
        && found < SIGNING_BYTES_PRODUCTION
        && subject.shared.environment() == Environment::Production
    {
        let message = format!(
            "`{format}` has {found} bytes of entropy, and production should have {SIGNING_BYTES_PRODUCTION}"
        );
        let help = format!("write {}", suggestion(class, SIGNING_BYTES_PRODUCTION));
        findings.push(Finding::new(&rules::RATHER_WEAK, span, message).help(help));
    }
}

/// Whatever it is for, it is as long as the shortest class asks.
fn least_of_all(format: &Format, span: Span, findings: &mut Findings) {
    let found = *format.length().start();
    if found < PASSWORD_CHARS {
        let message =
            format!("`{format}` has {found} characters, and a generated value needs {PASSWORD_CHARS}");
        let help = format!("write {}", suggestion(Class::Password, PASSWORD_CHARS));
        findings.push(Finding::new(&rules::TOO_WEAK, span, message).help(help));
    }
}

fn key_size(format: &Format, span: Span, findings: &mut Findings) {
    let fits = match format {
        Format::Hex { bytes } | Format::Base64 { bytes } | Format::Base64Url { bytes } => {
            *bytes == ENCRYPTION_BYTES
        }
        Format::Base62 { .. } | Format::Password { .. } | Format::Uuid | Format::Text { .. } => false,
    };
    if !fits {
        let message = format!("`{format}` is no encryption key: that has exactly {ENCRYPTION_BYTES} bytes");
        findings.push(
            Finding::new(&rules::KEY_SIZE, span, message)
                .help("write `hex:32` (64 hex digits), `base64:32` or `base64url:32`"),
        );
    }
}

fn name_of(class: Class) -> &'static str {
    match class {
        Class::Signing => "a signing secret",
        Class::Encryption => "an encryption key",
        Class::ApiKey => "an API key",
        Class::Password => "a password",
    }
}

fn suggestion(class: Class, least: u32) -> String {
    match class {
        Class::Signing | Class::Encryption => format!("`hex:{least}` or `base64url:{least}`"),
        Class::ApiKey => format!("`base62:{}`", least.max(40)),
        Class::Password => format!("`password:{}`", least.max(24)),
    }
}

/// A generated secret says what to generate and what for.
fn complete(subject: &Subject<'_>, findings: &mut Findings) {
    let policy = &subject.resolved.policy;
    let name = subject.layers.name;
    let unknown = policy.fields.values().any(|field| field.template.is_none() && field.format.is_none());
    if policy.format.is_none() && unknown {
        let (what, span) = match subject.layers.own.fields.as_ref() {
            Some(at) => ("each field", at.span),
            None => ("the secret", name.span),
        };
        findings.push(
            Finding::new(
                &rules::NO_FORMAT,
                span,
                format!("`{}` does not say what it looks like", name.value),
            )
            .help(format!("give {what} a `format` such as \"hex:64\"")),
        );
    }
    if policy.class.is_none() {
        findings.push(
            Finding::new(
                &rules::NO_CLASS,
                name.span,
                format!("only the least minimum holds for `{}`: it has no class", name.value),
            )
            .help("add `class = \"signing\"`, `\"api-key\"` or `\"password\"`"),
        );
    }
}

/// `[rules]` may raise, never lower.
pub(super) fn lint_rules(shared: &Shared, findings: &mut Findings) {
    let Some(table) = shared.root.rules.as_ref().map(|at| &at.value) else { return };
    let keys = [
        ("signing", &table.signing, SIGNING_BYTES),
        ("api-key", &table.api_key, API_KEY_CHARS),
        ("password", &table.password, PASSWORD_CHARS),
    ];
    for (key, at, least) in keys {
        if let Some(at) = at.as_ref().filter(|at| at.value < least) {
            let message = format!("the minimum of `{key}` is {least} and cannot be lowered");
            findings.push(
                Finding::new(&rules::RULE_LOWERED, at.span, message)
                    .help(format!("write {least} or more, or remove the line")),
            );
        }
    }
}
