//! Reading a policy: pieces in, policy or findings out.

use std::collections::{BTreeMap, HashMap};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Level};
use super::kinds::Kinds;
use super::lint;
use super::model::{Policy, SecretPolicy};
use super::raw::tables::SecretTable;
use super::raw::{Reading, bad_name};
use super::resolve::layers::Layers;
use super::resolve::secret::resolve;
use super::resolve::shared::{Shared, duplicate, refer};
use super::rules;
use super::source::{
    At, Finding, Findings, MAX_PIECE_BYTES, MAX_PIECES, MAX_SECRETS, Piece, Span, too_large,
};
use crate::id::{SecretId, check_name};

/// What came of loading.
#[derive(Debug)]
pub struct Loaded {
    /// The accepted form; `None` where there is an error.
    pub policy: Option<Policy>,
    /// By file and place; may hold warnings and hints beside a policy.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    fn refused(diagnostics: Vec<Diagnostic>) -> Self {
        Self { policy: None, diagnostics }
    }

    /// The findings of one level.
    pub fn of(&self, level: Level) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(move |diagnostic| diagnostic.level == level)
    }
}

/// Loads a policy from one text.
#[must_use]
pub fn load_str(text: &str, kinds: &Kinds) -> Loaded {
    load(&[Piece::new("policy.toml", text)], kinds)
}

/// Loads a policy from its pieces. Their order does not matter.
#[must_use]
pub fn load(pieces: &[Piece], kinds: &Kinds) -> Loaded {
    let mut findings = Findings::default();
    if pieces.len() > MAX_PIECES {
        let message = format!("the policy has {} files, over the limit of {MAX_PIECES}", pieces.len());
        findings
            .push(Finding::new(&rules::TOO_MANY, None, message).help("put several secrets into one file"));
        return Loaded::refused(findings.finish(pieces));
    }
    let large: Vec<Diagnostic> = pieces
        .iter()
        .filter(|piece| piece.text.len() > MAX_PIECE_BYTES)
        .map(|piece| too_large(&piece.name, piece.text.len()))
        .collect();
    if !large.is_empty() {
        return Loaded::refused(large);
    }
    let Some(shared) = read_shared(pieces, kinds, &mut findings) else {
        return Loaded::refused(findings.finish(pieces));
    };
    let (secrets, names) = read_secrets(pieces, &shared, kinds, &mut findings);
    lint::whole(&shared, &names, &mut findings);
    drop(names);
    if findings.has_errors() {
        return Loaded::refused(findings.finish(pieces));
    }
    // Made at once from all of them, the map is packed; one by one it is half empty.
    let policy = assemble(shared, secrets.into_iter().map(|policy| (policy.id.clone(), policy)).collect());
    Loaded { policy, diagnostics: findings.finish(pieces) }
}

/// The first pass: everything but the secrets. `None` where a piece is no TOML or
/// there is nothing to read: more would only be consequences.
fn read_shared(pieces: &[Piece], kinds: &Kinds, findings: &mut Findings) -> Option<Shared> {
    let mut shared = Shared::default();
    let mut empty = true;
    for (file, piece) in (0..).zip(pieces) {
        let (tree, errors) = DeTable::parse_recoverable(&piece.text);
        for error in &errors {
            findings.push_syntax(syntax(file, piece, error));
        }
        if !errors.is_empty() {
            continue;
        }
        let tree = tree.get_ref();
        empty &= tree.is_empty();
        if let Some(DeValue::Table(table)) = tree.get("secret").map(Spanned::get_ref) {
            shared.secrets += table.len();
        }
        shared.read(tree, &mut Reading { file, findings });
    }
    if findings.has_syntax_errors() {
        return None;
    }
    if empty {
        findings.push(Finding::new(&rules::NOTHING, None, "the policy is empty").help(
            "begin with `version = 1`, `application = ...` and `environment = ...`, then a `[secret.NAME]`",
        ));
        return None;
    }
    if shared.secrets > MAX_SECRETS {
        let message = format!("the policy has {} secrets, over the limit of {MAX_SECRETS}", shared.secrets);
        findings.push(Finding::new(&rules::TOO_MANY, None, message).help("split it by application"));
        return None;
    }
    shared.resolve(kinds, findings);
    Some(shared)
}

fn syntax(file: u32, piece: &Piece, error: &toml::de::Error) -> Finding {
    let span = error.span().unwrap_or(piece.text.len()..piece.text.len());
    let message = error.message().lines().next().unwrap_or_default().trim_end_matches('.').to_owned();
    if message.contains("duplicate key") {
        return Finding::new(&rules::DUPLICATE, Span::new(file, span), "the name is defined twice")
            .help("rename or remove one of them");
    }
    Finding::new(&rules::NOT_TOML, Span::new(file, span), format!("not TOML: {message}"))
        .help("texts stand in double quotes, lists in square brackets, one `key = value` a line")
}

/// Where the name of each secret stands, for the rules that compare them.
pub(super) type Names = HashMap<SecretId, Span>;

/// The second pass: the secrets one by one.
fn read_secrets(
    pieces: &[Piece],
    shared: &Shared,
    kinds: &Kinds,
    findings: &mut Findings,
) -> (Vec<SecretPolicy>, Names) {
    let mut secrets = Vec::with_capacity(shared.secrets);
    let mut names = Names::with_capacity(shared.secrets);
    let mut crowd = lint::Crowd::default();
    for (file, piece) in (0..).zip(pieces) {
        let Ok(tree) = DeTable::parse(&piece.text) else { continue };
        let Some(value) = tree.get_ref().get("secret") else { continue };
        let mut reading = Reading { file, findings };
        let Some(table) = reading.table(value, "tables `[secret.NAME]`") else { continue };
        // As written, so that of two that clash the later one is told.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            secrets.extend(read_secret(key, value, shared, kinds, &mut names, &mut crowd, &mut reading));
        }
    }
    (secrets, names)
}

fn read_secret(
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    shared: &Shared,
    kinds: &Kinds,
    names: &mut Names,
    crowd: &mut lint::Crowd,
    reading: &mut Reading<'_>,
) -> Option<SecretPolicy> {
    let name = At { value: key.get_ref().to_string(), span: reading.span(key) };
    let table = reading.table(value, "keys such as `kind = \"generated\"`")?;
    if let Err(error) = check_name(&name.value) {
        reading.findings.push(bad_name(name.span, &error));
    }
    let own = SecretTable::read(table, reading);
    let findings = &mut *reading.findings;
    let profile = own.profile.as_ref().and_then(|at| refer("profile", at, &shared.profiles, findings));
    let layers = Layers {
        name: &name,
        own: &own,
        profile: profile.and_then(|p| p.table.as_ref()),
        defaults: shared.defaults(),
    };
    let resolved = resolve(&layers, shared, kinds, findings)?;
    let id = resolved.policy.id.clone();
    if let Some(first) = names.get(&id) {
        findings.push(duplicate("secret", id.as_str(), name.span, *first));
        return None;
    }
    lint::secret(&lint::Subject { resolved: &resolved, layers: &layers, shared }, crowd, findings);
    names.insert(id, name.span);
    Some(resolved.policy)
}

/// The head was checked before, so all of it is there.
fn assemble(shared: Shared, secrets: BTreeMap<SecretId, SecretPolicy>) -> Option<Policy> {
    Some(Policy {
        application: shared.root.application?.value.0,
        environment: shared.root.environment?.value,
        secrets,
        consumers: shared.resolved_consumers,
        stores: shared.resolved_stores,
        owners: shared.resolved_owners,
    })
}
