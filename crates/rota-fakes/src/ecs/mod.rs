//! A strict fake of Amazon ECS for rollouts: deployments that really replace
//! tasks, one event at a time; old tasks that drain; a circuit breaker that
//! fails or rolls back; tasks that read their secrets only between creation
//! and start.
//!
//! Nothing moves by itself: a test calls [`EcsFake::step`], or lets it run with
//! [`EcsFake::automatic`].
//!
//! Deliberately absent: creating services through the API, blue/green
//! deployments, scaling, capacity.

mod model;
mod operations;
mod process;
mod rollout;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use serde_json::{Map, Value};

use crate::aws_json::{self, Gate};
use crate::clock::FakeClock;
use crate::http::{Listen, Script, Serving};

pub use model::{Status, Task, Values};
pub use process::reader_of;
pub use rollout::{Event, Reader, reader_from};

use model::Service;
use rollout::Ecs;

/// A rollout that needs more steps than this goes round in circles.
const STEPS_MOST: usize = 10_000;

/// A running fake: one account in one region.
#[derive(Debug)]
pub struct EcsFake {
    server: Server,
    script: Script,
    serving: Serving,
    automatic: Mutex<Option<Automatic>>,
}

#[derive(Clone, Debug)]
struct Server {
    ecs: Arc<Mutex<Ecs>>,
    gate: Gate,
    clock: FakeClock,
}

/// How a service is set up.
#[derive(Clone, Debug)]
pub struct ServiceSetup<'a> {
    /// Its cluster, which is made where it is missing.
    pub cluster: &'a str,
    /// Its name.
    pub name: &'a str,
    /// `family`, `family:revision` or an ARN of a registered definition.
    pub definition: &'a str,
    /// How many tasks it has.
    pub desired: usize,
    /// Whether failing starts end a deployment.
    pub breaker: bool,
    /// Whether that puts the last good deployment back.
    pub rolls_back: bool,
}

impl EcsFake {
    /// Starts an empty one in a region such as `us-east-1`; starting tasks
    /// resolve their `secrets` with `reader`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(region: &str, reader: Reader, listen: Listen) -> Result<Self> {
        let script = Script::with_clock(listen.clock.clone());
        let ecs = Ecs {
            region: region.to_owned(),
            services: Vec::new(),
            definitions: Vec::new(),
            tasks: Vec::new(),
            clusters: vec!["default".to_owned()],
            reader,
            exit_codes: std::collections::BTreeMap::new(),
            run_tokens: std::collections::BTreeMap::new(),
        };
        let server = Server {
            ecs: Arc::new(Mutex::new(ecs)),
            gate: Gate::new("ecs", region),
            clock: script.clock().clone(),
        };
        let router = Router::new().fallback(handle).with_state(server.clone());
        let router = router.merge(process::controls(server.clone()));
        let serving = Serving::start(router, script.clone(), listen)?;
        Ok(Self { server, script, serving, automatic: Mutex::new(None) })
    }

    /// The endpoint URL.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The faults and the clock that tasks and deployments are dated by.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Makes a key known. From the first one on, signatures are computed anew.
    pub fn add_key(&self, id: &str, secret: &str) {
        self.server.gate.add_key(id, secret);
    }

    /// Answers the next calls of an operation with a throttling error.
    pub fn throttle(&self, operation: &str, times: u32) {
        self.script.add(aws_json::fault(operation, times, 400, "ThrottlingException", "Rate exceeded"));
    }

    /// Carries out an operation without the network and without a signature.
    ///
    /// # Errors
    /// When it is refused; the message holds the code.
    pub fn call(&self, operation: &str, fields: Value) -> Result<Value> {
        self.server.call(operation, fields)
    }

    /// Makes a service whose tasks run and have read their secrets.
    ///
    /// # Errors
    /// When the definition is not registered or its secrets cannot be read.
    pub fn create_service(&self, setup: &ServiceSetup<'_>) -> Result<()> {
        self.server.create_service(setup)
    }

    /// The next event of a service; None where nothing is left to do.
    pub fn step(&self, service: &str) -> Option<Event> {
        let mut ecs = self.server.lock();
        let index = ecs.services.iter().position(|candidate| candidate.name == service)?;
        ecs.step_service(index, self.server.clock.now())
    }

    /// All events of a service until nothing is left to do.
    pub fn settle(&self, service: &str) -> Vec<Event> {
        std::iter::from_fn(|| self.step(service)).take(STEPS_MOST).collect()
    }

    /// The next event of a task that runs once; None where it has ended.
    pub fn step_task(&self, arn: &str) -> Option<Event> {
        self.server.lock().step_task(arn, self.server.clock.now())
    }

    /// Steps everything that can move, again and again, with this pause, until
    /// the fake is dropped or this is called with `None`.
    pub fn automatic(&self, pause: Option<Duration>) {
        let server = self.server.clone();
        let next = pause.map(|pause| Automatic::start(pause, move || server.step_all()));
        *self.automatic.lock().expect("no holder of the stepper panics") = next;
    }

    /// Makes the next starts of a service's tasks fail.
    pub fn fail_starts(&self, service: &str, count: u32) {
        self.change(service, |service| service.failing_starts = count);
    }

    /// Keeps tasks that were told to stop draining, or lets them go.
    pub fn hold_draining(&self, service: &str, hold: bool) {
        self.change(service, |service| service.holds_draining = hold);
    }

    /// How tasks of a family that run once end; 0 where nothing is said.
    pub fn exit_code(&self, family: &str, code: i64) {
        self.server.lock().exit_codes.insert(family.to_owned(), code);
    }

    /// The tasks of a service that have not ended, oldest first.
    pub fn tasks(&self, service: &str) -> Vec<Task> {
        let group = format!("service:{service}");
        let ecs = self.server.lock();
        ecs.tasks_of(&group).into_iter().filter(|task| task.status != Status::Stopped).cloned().collect()
    }

    fn change(&self, service: &str, change: impl FnOnce(&mut Service)) {
        let mut ecs = self.server.lock();
        if let Some(service) = ecs.services.iter_mut().find(|candidate| candidate.name == service) {
            change(service);
        }
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Ecs> {
        self.ecs.lock().expect("no holder of the state panics")
    }

    fn call(&self, operation: &str, fields: Value) -> Result<Value> {
        let fields: Map<String, Value> = serde_json::from_value(fields)?;
        let answer = self.lock().call(operation, &fields, self.clock.now());
        answer.map_err(|error| anyhow::anyhow!("{error:?}"))
    }

    fn create_service(&self, setup: &ServiceSetup<'_>) -> Result<()> {
        let described = serde_json::json!({"taskDefinition": setup.definition});
        let definition = self.call("DescribeTaskDefinition", described)?;
        let definition =
            definition["taskDefinition"]["taskDefinitionArn"].as_str().context("no definition")?;
        let now = self.clock.now();
        // One lock for all of it: the automatic stepper must not take events away.
        let mut ecs = self.lock();
        if !ecs.clusters.iter().any(|cluster| cluster == setup.cluster) {
            ecs.clusters.push(setup.cluster.to_owned());
        }
        let service = Service {
            cluster: setup.cluster.to_owned(),
            name: setup.name.to_owned(),
            desired: setup.desired,
            deployments: Vec::new(),
            last_good: definition.to_owned(),
            breaker: setup.breaker,
            rolls_back: setup.rolls_back,
            failing_starts: 0,
            holds_draining: false,
            events: Vec::new(),
            created: now,
        };
        let group = service.group();
        ecs.services.push(service);
        let index = ecs.services.len() - 1;
        ecs.deploy(index, definition.to_owned(), "ECS deployment in progress.".to_owned(), now);
        for _ in 0..STEPS_MOST {
            match ecs.step_service(index, now) {
                Some(Event::Completed(_)) => return Ok(()),
                Some(Event::StartFailed(task) | Event::Failed(task)) => {
                    ecs.services.pop();
                    ecs.tasks.retain(|task| task.group != group);
                    anyhow::bail!("the first task of the service cannot start: {task}");
                }
                _ => {}
            }
        }
        anyhow::bail!("the service does not reach a steady state")
    }

    fn step_all(&self) {
        let now = self.clock.now();
        let mut ecs = self.lock();
        for index in 0..ecs.services.len() {
            ecs.step_service(index, now);
        }
        let once: Vec<String> = ecs
            .tasks
            .iter()
            .filter(|task| task.group.starts_with("family:"))
            .map(|task| task.arn.clone())
            .collect();
        for arn in once {
            ecs.step_task(&arn, now);
        }
    }
}

/// A thread that steps until it is dropped.
#[derive(Debug)]
struct Automatic {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Automatic {
    fn start(pause: Duration, step: impl Fn() + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                step();
                std::thread::sleep(pause);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Automatic {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A step that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

async fn handle(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let now = server.clock.now();
    let opened = server.gate.open(&method, &uri, &headers, &body, now);
    let answer = opened.and_then(|(operation, fields)| server.lock().call(&operation, &fields, now));
    aws_json::respond(answer)
}
