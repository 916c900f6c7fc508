//! Instances of one consumer or of several behind one address: each signs with the first
//! of the keys that it read at its start, and verifies what every other one signed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Result, bail};
use jiff::SignedDuration;
use rota_fakes::clock::FakeClock;
use rota_fakes::consumer::{Fleet, KeyReader};
use rota_fakes::http::Listen;

/// How long one instance takes to be replaced: what a cut lasts is measured by it.
const REPLACED_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// Those that serve now, by id, each with the keys that it read at its start.
pub(crate) type Serving = Arc<dyn Fn() -> Vec<(String, Vec<String>)> + Send + Sync>;

/// Who shares one secret.
pub(crate) struct Mesh {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) token_ttl: SignedDuration,
    read: KeyReader,
    running: Mutex<Vec<Running>>,
    started: AtomicU64,
    elsewhere: Option<Serving>,
}

#[derive(Clone)]
struct Running {
    consumer: String,
    id: String,
    keys: Vec<String>,
}

impl Mesh {
    /// `each` instances of every consumer, which read their keys now.
    pub(crate) fn start(
        consumers: &[&str],
        each: usize,
        token_ttl: SignedDuration,
        read: KeyReader,
        clock: &FakeClock,
    ) -> Result<Self> {
        let mesh = Self::empty(token_ttl, read, clock)?;
        for consumer in consumers {
            for _ in 0..each {
                mesh.add(consumer)?;
            }
        }
        Ok(mesh)
    }

    /// Instances that somebody else starts and stops; `serving` is asked before each use.
    pub(crate) fn of(serving: Serving, token_ttl: SignedDuration, clock: &FakeClock) -> Result<Self> {
        let read: KeyReader = Arc::new(|| bail!("these instances are started elsewhere"));
        Ok(Self { elsewhere: Some(serving), ..Self::empty(token_ttl, read, clock)? })
    }

    fn empty(token_ttl: SignedDuration, read: KeyReader, clock: &FakeClock) -> Result<Self> {
        let listen = Listen { clock: clock.clone(), ..Listen::default() };
        let fleet = Arc::new(Fleet::start(0, token_ttl, Arc::clone(&read), listen)?);
        let (running, started) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { fleet, token_ttl, read, running, started, elsewhere: None })
    }

    /// Every instance signs, every instance verifies.
    pub(crate) fn drive(&self) {
        if let Some(serving) = &self.elsewhere {
            self.fleet.follow(serving());
        }
        self.fleet.drive();
    }

    fn add(&self, consumer: &str) -> Result<()> {
        let keys = (self.read)()?;
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let id = format!("{consumer}-{number}");
        self.running.lock().unwrap().push(Running { consumer: consumer.to_owned(), id, keys });
        self.show();
        Ok(())
    }

    fn show(&self) {
        let running = self.running.lock().unwrap().clone();
        self.fleet.follow(running.into_iter().map(|instance| (instance.id, instance.keys)));
    }

    /// Replaces the consumer's instances one by one, each new one before the old one
    /// goes; all are used in between, and `pass` lets time go on.
    ///
    /// # Errors
    /// When a new instance cannot read its keys; the rest stays as it was.
    pub(crate) async fn restart<F: Future<Output = ()>>(
        &self,
        consumer: &str,
        pass: impl Fn(SignedDuration) -> F,
    ) -> Result<()> {
        let old: Vec<String> = {
            let running = self.running.lock().unwrap();
            running.iter().filter(|one| one.consumer == consumer).map(|one| one.id.clone()).collect()
        };
        for id in old {
            self.add(consumer)?;
            self.drive();
            pass(REPLACED_WITHIN).await;
            self.drive();
            self.running.lock().unwrap().retain(|instance| instance.id != id);
            self.show();
            self.drive();
        }
        Ok(())
    }
}
