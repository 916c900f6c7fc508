//! The providers that there are: those of this program, and those of a folder that the
//! daemon's own configuration names.
//!
//! A policy names a provider and never describes one: whoever edits a policy cannot send
//! Rota's login to a host of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rota_core::fault::Fault;
use rota_core::format::Template;

use super::file::ProviderFile;
use super::lint::{self, Problem};

/// The files of this program.
const SHIPPED: [(&str, &str); 4] = [
    ("openai.toml", include_str!("../../../../../config/providers/openai.toml")),
    ("resend.toml", include_str!("../../../../../config/providers/resend.toml")),
    ("sentry.toml", include_str!("../../../../../config/providers/sentry.toml")),
    ("twilio.toml", include_str!("../../../../../config/providers/twilio.toml")),
];

/// Far more than any file says; bounds what is read from a wrong path.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// A provider whose file was accepted.
#[derive(Debug)]
pub struct Provider {
    pub(super) file: ProviderFile,
    pub(super) key_name: Template,
}

/// Why a file is not accepted, with everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}", self.said())]
pub struct Refused {
    pub origin: String,
    /// The text is not a provider's file at all, with line and column.
    pub unreadable: Option<String>,
    pub problems: Vec<Problem>,
}

impl Refused {
    fn said(&self) -> String {
        let problems = self.problems.iter().map(ToString::to_string);
        self.unreadable.iter().cloned().chain(problems).collect::<Vec<_>>().join("; ")
    }
}

impl Provider {
    /// Reads a file. `origin` is how messages call it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(origin: &str, text: &str) -> Result<Self, Refused> {
        let refused = |unreadable: Option<String>, problems: Vec<Problem>| Refused {
            origin: origin.to_owned(),
            unreadable,
            problems,
        };
        let unreadable = |message: String| refused(Some(message), Vec::new());
        let file: ProviderFile = toml::from_str(text).map_err(|error| unreadable(one_line(&error, text)))?;
        let problems = lint::problems(&file);
        if !problems.is_empty() {
            return Err(refused(None, problems));
        }
        let usual = || "{label}-{rotation}".parse::<Template>();
        let key_name = file.key_name.clone().map_or_else(usual, Ok);
        let key_name = key_name.map_err(|error| unreadable(error.to_string()))?;
        Ok(Self { file, key_name })
    }

    /// What a policy calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// The file itself.
    #[must_use]
    pub fn file(&self) -> &ProviderFile {
        &self.file
    }

    /// What templates of a policy may be filled with.
    pub(super) fn parts(&self) -> Vec<&str> {
        std::iter::once(lint::ID).chain(self.file.create.parts.keys().map(String::as_str)).collect()
    }

    /// True where a key can be refused for a while.
    pub(super) fn reversible(&self) -> bool {
        self.file.disable.is_some()
    }
}

/// The parser's message in one line, with where it stands.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: {}", error.message().replace('\n', " "))
}

/// Providers by name; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Providers(Arc<BTreeMap<String, Arc<Provider>>>);

impl Providers {
    /// The providers of files, each with how messages call it.
    ///
    /// # Errors
    /// The first file that is not accepted, or whose name another has.
    pub fn of<'t>(files: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Self, Refused> {
        let mut found = BTreeMap::new();
        for (origin, text) in files {
            add(&mut found, origin, text)?;
        }
        Ok(Self(Arc::new(found)))
    }

    /// The providers of this program.
    ///
    /// # Errors
    /// A mistake in one of its files, which a test looks for.
    pub fn shipped() -> Result<Self, Refused> {
        static SHELF: OnceLock<Result<Providers, Refused>> = OnceLock::new();
        SHELF.get_or_init(|| Self::of(SHIPPED)).clone()
    }

    /// Those and the `*.toml` files of a folder.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where a file cannot be read or is not accepted.
    pub fn with_folder(folder: Option<&Path>) -> Result<Self, Fault> {
        let shipped = Self::shipped().map_err(|refused| Fault::invalid(refused.to_string()))?;
        let Some(folder) = folder else { return Ok(shipped) };
        let mut found = (*shipped.0).clone();
        for (origin, text) in files_of(folder)? {
            add(&mut found, &origin, &text).map_err(|refused| Fault::invalid(refused.to_string()))?;
        }
        Ok(Self(Arc::new(found)))
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.0.get(name)
    }

    /// Each provider, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.0.values().map(|provider| &**provider)
    }

    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self.0.keys().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    }
}

fn add(found: &mut BTreeMap<String, Arc<Provider>>, origin: &str, text: &str) -> Result<(), Refused> {
    let provider = Provider::parse(origin, text)?;
    let name = provider.name().to_owned();
    if found.insert(name, Arc::new(provider)).is_some() {
        let problem = Problem {
            place: "name".to_owned(),
            message: "another provider has this name".to_owned(),
            help: "write one of its own, so that nobody takes the one for the other".to_owned(),
        };
        return Err(Refused { origin: origin.to_owned(), unreadable: None, problems: vec![problem] });
    }
    Ok(())
}

/// The files of a folder, sorted by name.
fn files_of(folder: &Path) -> Result<Vec<(String, String)>, Fault> {
    let unreadable = |path: &Path, error: &std::io::Error| {
        Fault::invalid(format!("{} cannot be read, check `providers.folder`: {error}", path.display()))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let length = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
            if length > MAX_FILE_BYTES {
                return Err(Fault::invalid(format!(
                    "{} is no provider's file: it is too long",
                    path.display()
                )));
            }
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
            Ok((path.display().to_string(), text))
        })
        .collect()
}
