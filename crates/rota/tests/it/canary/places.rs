//! Everything that is searched: what a run left behind anywhere but in its stores.

use std::collections::BTreeSet;
use std::path::Path;

use rota_fakes::postgres::PostgresServer;

use super::search::{Hit, Search};

/// Where a value must never be. The stores and their slots, the credentials' own server
/// while it is logged in to, and the standard input of a `prove` are where one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Every database of the server, as SQL. A SCRAM verifier stands there, which is no value.
    Dump,
    /// The server's files, its WAL among them.
    DataFolder,
    /// The server's log with every statement and parameter.
    ServerLog,
    OurLog,
    /// Metrics, and every page that the daemon shows.
    Pages,
    Slack,
    Webhook,
    /// What commands printed.
    Commands,
    /// Arguments and environment of every program that the daemon started.
    Children,
    /// Those of the daemon.
    Process,
    /// Files of the daemon's folder that are no store.
    Folder,
}

impl Place {
    pub(crate) const ALL: [Self; 11] = [
        Self::Dump,
        Self::DataFolder,
        Self::ServerLog,
        Self::OurLog,
        Self::Pages,
        Self::Slack,
        Self::Webhook,
        Self::Commands,
        Self::Children,
        Self::Process,
        Self::Folder,
    ];
}

/// What was found at the places.
#[derive(Default)]
pub(crate) struct Haystack(Vec<(Place, String, Vec<u8>)>);

impl Haystack {
    pub(crate) fn add(&mut self, place: Place, what: &str, bytes: impl Into<Vec<u8>>) {
        self.0.push((place, what.to_owned(), bytes.into()));
    }

    /// Dump, files and log of a server.
    pub(crate) fn add_server(&mut self, server: &PostgresServer) {
        let mut dump = std::process::Command::new(server.program("pg_dumpall"));
        let url = server.endpoint().unwrap().url().to_owned();
        let dump = dump.arg("--dbname").arg(url).output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        self.add(Place::Dump, "pg_dumpall", dump.stdout);
        self.add_files(Place::DataFolder, &server.data_folder(), &|_| true);
        self.add(Place::ServerLog, "log", server.log());
    }

    /// Every file under `folder` that `wanted` wants.
    pub(crate) fn add_files(&mut self, place: Place, folder: &Path, wanted: &dyn Fn(&Path) -> bool) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !wanted(&path) {
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add_files(place, &path, wanted);
            } else if let Ok(bytes) = std::fs::read(&path) {
                // One that goes away meanwhile was temporary.
                self.add(place, &path.display().to_string(), bytes);
            }
        }
    }

    /// Arguments and environment of a process, as everybody of its user may read them.
    pub(crate) fn add_process(&mut self, id: u32) {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{id}/{file}")).unwrap();
            assert!(!bytes.is_empty(), "{file} of {id} cannot be read");
            self.add(Place::Process, file, bytes);
        }
    }

    /// How many bytes there are of a place.
    pub(crate) fn size(&self, place: Place) -> usize {
        self.0.iter().filter(|(of, ..)| *of == place).map(|(.., bytes)| bytes.len()).sum()
    }

    pub(crate) fn hits(&self, search: &Search) -> BTreeSet<Hit> {
        let hits = |(place, what, bytes): &(Place, String, Vec<u8>)| {
            search.hits(&format!("{place:?}: {what}"), bytes)
        };
        self.0.iter().flat_map(hits).collect()
    }
}
