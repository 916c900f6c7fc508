//! What consumers read: how an ordered list of values is written down, and where.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::id::FieldName;
use crate::policy::model::{PublishForm, SecretPolicy, StorePolicy};
use crate::rotation::List;
use crate::value::{Bundle, InvalidValue, SecretValue, push_json_string};

/// Where consumers read something: a path, or one field of the document at a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub path: String,
    pub field: Option<FieldName>,
}

/// Why a list cannot be written or read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicationError {
    #[error("the {0} value is needed and is not there")]
    Missing(&'static str),
    #[error("`{0}` is not published")]
    NotPublished(FieldName),
    #[error("the value has no field `{0}`")]
    NoField(FieldName),
    #[error("a pair or a list publishes one field, and this secret has several; publish a document instead")]
    SeveralFields,
    #[error("two different values are published under `{0}`; one of them has to be reconciled first")]
    ListOfTwo(FieldName),
    #[error(transparent)]
    Value(#[from] InvalidValue),
}

/// Both forms of one value: the parts that its rotator works with, and the fields
/// that consumers read. What a slot holds.
pub struct Material {
    pub parts: Bundle,
    pub fields: Bundle,
}

impl Material {
    /// The text of a slot: `{"fields":{...},"parts":{...}}`.
    ///
    /// # Errors
    /// Where it would be longer than a value may be.
    pub fn to_slot_text(&self) -> Result<SecretValue, InvalidValue> {
        let (fields, parts) = (self.fields.to_slot_text(), self.parts.to_slot_text());
        let mut text = String::with_capacity(fields.byte_len() + parts.byte_len() + 24);
        text.push_str("{\"fields\":");
        text.push_str(fields.expose());
        text.push_str(",\"parts\":");
        text.push_str(parts.expose());
        text.push('}');
        SecretValue::new(text)
    }

    /// Reads what [`Material::to_slot_text`] wrote; `None` for anything else.
    #[must_use]
    pub fn from_slot_text(text: &SecretValue) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Raw<'a> {
            #[serde(borrow)]
            fields: &'a serde_json::value::RawValue,
            #[serde(borrow)]
            parts: &'a serde_json::value::RawValue,
        }
        let raw: Raw<'_> = serde_json::from_str(text.expose()).ok()?;
        let bundle = |raw: &serde_json::value::RawValue| {
            Bundle::from_slot_text(&SecretValue::new(raw.get().to_owned()).ok()?)
        };
        Some(Self { fields: bundle(raw.fields)?, parts: bundle(raw.parts)? })
    }

    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.parts.same_as(&other.parts) && self.fields.same_as(&other.fields)
    }
}

/// The names that consumers know, in the order of writing.
#[must_use]
pub fn names(policy: &SecretPolicy) -> Vec<FieldName> {
    names_of(&policy.publish, policy)
}

fn names_of(form: &PublishForm, policy: &SecretPolicy) -> Vec<FieldName> {
    match form {
        PublishForm::Single => policy.fields.keys().cloned().collect(),
        PublishForm::Pair { first, second, .. } => vec![first.clone(), second.clone()],
        PublishForm::List { name } => vec![name.clone()],
        PublishForm::Document { inner, .. } => names_of(inner, policy),
    }
}

/// Where `name` lives in `store`. A store whose path has no `{name}` is a document
/// for all of its names, and so is the path of a document form.
#[must_use]
pub fn place(policy: &SecretPolicy, store: &StorePolicy, name: &FieldName) -> Place {
    match &policy.publish {
        PublishForm::Document { path, .. } => Place { path: path.clone(), field: Some(name.clone()) },
        PublishForm::Single | PublishForm::Pair { .. } | PublishForm::List { .. } => {
            // The loader refuses a path with any other hole.
            let filled = store.path.fill_text(&BTreeMap::from([("name", name.as_str())]));
            let path = filled.unwrap_or_else(|_| store.path.to_string());
            let field = (!store.path.holes().contains("name")).then(|| name.clone());
            Place { path, field }
        }
    }
}

/// The paths of `store` that this secret is written to, each with its names;
/// `None` for a name that is the whole content.
#[must_use]
pub fn paths(policy: &SecretPolicy, store: &StorePolicy) -> BTreeMap<String, Vec<(FieldName, Place)>> {
    let mut paths: BTreeMap<String, Vec<(FieldName, Place)>> = BTreeMap::new();
    for name in names(policy) {
        let place = place(policy, store, &name);
        paths.entry(place.path.clone()).or_default().push((name, place));
    }
    paths
}

/// Writes `list` down: the text under each name.
///
/// # Errors
/// Where a value that the list wants is missing, or the form cannot hold it.
pub fn render(
    policy: &SecretPolicy,
    list: List,
    old: Option<&Bundle>,
    new: Option<&Bundle>,
) -> Result<BTreeMap<FieldName, SecretValue>, PublicationError> {
    let old = || old.ok_or(PublicationError::Missing("old"));
    let new = || new.ok_or(PublicationError::Missing("new"));
    let (first, second) = match list {
        List::Nothing => return Ok(BTreeMap::new()),
        List::Old => (old()?, None),
        List::OldNew => (old()?, Some(new()?)),
        List::NewOld => (new()?, Some(old()?)),
        List::New => (new()?, None),
    };
    render_form(&policy.publish, policy, first, second)
}

fn render_form(
    form: &PublishForm,
    policy: &SecretPolicy,
    first: &Bundle,
    second: Option<&Bundle>,
) -> Result<BTreeMap<FieldName, SecretValue>, PublicationError> {
    match form {
        PublishForm::Single => policy
            .fields
            .keys()
            .map(|name| {
                let value = first.get(name).ok_or_else(|| PublicationError::NoField(name.clone()))?;
                Ok((name.clone(), value.duplicate()))
            })
            .collect(),
        PublishForm::Pair { first: use_name, second: accept_name, .. } => {
            let used = only_field(policy, first)?;
            let accepted = second.map_or(Ok(used), |bundle| only_field(policy, bundle))?;
            Ok(BTreeMap::from([
                (use_name.clone(), used.duplicate()),
                (accept_name.clone(), accepted.duplicate()),
            ]))
        }
        PublishForm::List { name } => {
            let mut text = Zeroizing::new(String::from("["));
            push_json_string(&mut text, only_field(policy, first)?.expose());
            if let Some(second) = second {
                text.push(',');
                push_json_string(&mut text, only_field(policy, second)?.expose());
            }
            text.push(']');
            let value = SecretValue::new(std::mem::take(&mut *text))?;
            Ok(BTreeMap::from([(name.clone(), value)]))
        }
        PublishForm::Document { inner, .. } => render_form(inner, policy, first, second),
    }
}

fn only_field<'a>(policy: &SecretPolicy, bundle: &'a Bundle) -> Result<&'a SecretValue, PublicationError> {
    let mut names = policy.fields.keys();
    match (names.next(), names.next()) {
        (Some(name), None) => bundle.get(name).ok_or_else(|| PublicationError::NoField(name.clone())),
        _ => Err(PublicationError::SeveralFields),
    }
}

/// Reads the value in use, whatever stands behind it: the first of the list. Only an
/// emergency that replaces both values may start from this.
///
/// # Errors
/// [`PublicationError::NotPublished`] where a name is missing.
pub fn read_first(
    policy: &SecretPolicy,
    published: &BTreeMap<FieldName, SecretValue>,
) -> Result<Bundle, PublicationError> {
    match read_back(policy, published) {
        Err(PublicationError::ListOfTwo(name)) => {
            let text = published.get(&name).ok_or_else(|| PublicationError::NotPublished(name.clone()))?;
            let field = policy.fields.keys().next().ok_or(PublicationError::SeveralFields)?;
            let first = serde_json::from_str::<Vec<Zeroizing<String>>>(text.expose())
                .ok()
                .and_then(|mut values| (!values.is_empty()).then(|| std::mem::take(&mut *values[0])));
            let value = match first {
                Some(first) => SecretValue::new(first)?,
                None => text.duplicate(),
            };
            Ok(Bundle::single(field.clone(), value))
        }
        read => read,
    }
}

/// Reads the value in use back from what is published: the inverse of [`render`]
/// for a list of one. A plain text where a list is expected, or only the accepting
/// name of a pair, is a value from before Rota and is taken as it stands.
///
/// # Errors
/// [`PublicationError::NotPublished`] where a name is missing,
/// [`PublicationError::ListOfTwo`] where two values stand.
pub fn read_back(
    policy: &SecretPolicy,
    published: &BTreeMap<FieldName, SecretValue>,
) -> Result<Bundle, PublicationError> {
    read_back_form(&policy.publish, policy, published)
}

fn read_back_form(
    form: &PublishForm,
    policy: &SecretPolicy,
    published: &BTreeMap<FieldName, SecretValue>,
) -> Result<Bundle, PublicationError> {
    let one = |value: SecretValue| match policy.fields.keys().next() {
        Some(name) if policy.fields.len() == 1 => Ok(Bundle::single(name.clone(), value)),
        _ => Err(PublicationError::SeveralFields),
    };
    match form {
        PublishForm::Single => policy
            .fields
            .keys()
            .map(|name| {
                let value =
                    published.get(name).ok_or_else(|| PublicationError::NotPublished(name.clone()))?;
                Ok((name.clone(), value.duplicate()))
            })
            .collect::<Result<BTreeMap<_, _>, _>>()
            .map(Bundle::new),
        PublishForm::Pair { first, second, .. } => match (published.get(first), published.get(second)) {
            (None, None) => Err(PublicationError::NotPublished(first.clone())),
            (Some(a), Some(b)) if !a.same_as(b) => Err(PublicationError::ListOfTwo(first.clone())),
            (Some(value), _) | (None, Some(value)) => one(value.duplicate()),
        },
        PublishForm::List { name } => {
            let text = published.get(name).ok_or_else(|| PublicationError::NotPublished(name.clone()))?;
            match serde_json::from_str::<Vec<Zeroizing<String>>>(text.expose()) {
                Ok(mut values) if values.len() == 1 => {
                    one(SecretValue::new(std::mem::take(&mut *values.remove(0)))?)
                }
                Ok(_) => Err(PublicationError::ListOfTwo(name.clone())),
                Err(_) => one(text.duplicate()),
            }
        }
        PublishForm::Document { inner, .. } => read_back_form(inner, policy, published),
    }
}
