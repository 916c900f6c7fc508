//! A strict fake of the part of GitHub's REST API that dispatches workflows and shows their
//! runs, and a consumer that each run deploys.
//!
//! From GitHub's pages "Workflows", "Workflow runs" and "Getting started with the REST
//! API": a request without a User-Agent is refused, inputs that the workflow does not declare
//! are refused, a dispatch answers 204 without naming its run, and the run is shown later.
//!
//! Deliberately absent: everything else that GitHub does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::FakeClock;
use crate::http::{Listen, Script, Serving};

/// The only repository, workflow and branch.
pub const REPOSITORY: &str = "acme/backend";
/// See [`REPOSITORY`].
pub const WORKFLOW: &str = "deploy.yml";
/// See [`REPOSITORY`].
pub const BRANCH: &str = "main";

/// How many instances a run deploys, one a step.
const INSTANCES: usize = 3;

/// What the workflow declares.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The inputs that a dispatch may have.
    pub inputs: Vec<String>,
    /// The input that stands in the run's name; `None` without a `run-name`.
    pub named_by: Option<String>,
    /// How a run ends.
    pub conclusion: &'static str,
}

/// A running fake.
#[derive(Debug)]
pub struct GithubFake {
    server: Server,
    script: Script,
    serving: Serving,
}

#[derive(Clone, Debug)]
struct Server {
    state: Arc<Mutex<Inner>>,
    clock: FakeClock,
}

#[derive(Debug)]
struct Inner {
    token: String,
    workflow: Workflow,
    runs: Vec<Run>,
    /// When each instance was made.
    instances: Vec<Timestamp>,
}

#[derive(Debug)]
struct Run {
    id: usize,
    title: String,
    inputs: BTreeMap<String, String>,
    created: Timestamp,
    /// The runs that are dispatched are shown from the next step on.
    shown: bool,
    /// Instances that it has made; over when all are.
    made: usize,
    over: bool,
}

impl GithubFake {
    /// Starts a repository with one workflow, which `token` may dispatch.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(token: &str, listen: Listen) -> Result<Self> {
        let script = Script::with_clock(listen.clock.clone());
        let clock = script.clock().clone();
        let workflow = Workflow {
            inputs: vec!["rota".to_owned(), "service".to_owned()],
            named_by: Some("rota".to_owned()),
            conclusion: "success",
        };
        let inner = Inner {
            token: token.to_owned(),
            workflow,
            runs: Vec::new(),
            instances: vec![clock.now(); INSTANCES],
        };
        let server = Server { state: Arc::new(Mutex::new(inner)), clock };
        let router = Router::new()
            .route("/repos/{owner}/{name}/actions/workflows/{workflow}/dispatches", post(dispatch))
            .route("/repos/{owner}/{name}/actions/workflows/{workflow}/runs", get(runs))
            .with_state(server.clone());
        Ok(Self { server, serving: Serving::start(router, script.clone(), listen)?, script })
    }

    /// The base URL of the API.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// The faults and the clock.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Changes the workflow.
    pub fn set_workflow(&self, workflow: Workflow) {
        self.server.lock().workflow = workflow;
    }

    /// The inputs of every run, oldest first.
    pub fn dispatched(&self) -> Vec<BTreeMap<String, String>> {
        self.server.lock().runs.iter().map(|run| run.inputs.clone()).collect()
    }

    /// When the oldest instance was made.
    pub fn oldest_instance(&self) -> Timestamp {
        let oldest = self.server.lock().instances.iter().copied().min();
        oldest.expect("there are instances")
    }

    /// Shows what was dispatched, and lets each run go on by one instance.
    pub fn step(&self) {
        let now = self.server.clock.now();
        let mut inner = self.server.lock();
        let Inner { runs, instances, workflow, .. } = &mut *inner;
        for run in runs.iter_mut().filter(|run| !run.over) {
            if !std::mem::replace(&mut run.shown, true) {
                continue;
            }
            if run.made < instances.len() && workflow.conclusion == "success" {
                instances[run.made] = now;
                run.made += 1;
            } else {
                run.over = true;
            }
        }
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().expect("no holder of the repository panics")
    }
}

type Refusal = (StatusCode, Json<Value>);

fn refuse(status: u16, message: &str) -> Refusal {
    let status = StatusCode::from_u16(status).expect("a status of ours");
    (status, Json(json!({ "message": message, "documentation_url": "https://docs.github.com/rest" })))
}

/// What every call has to show.
fn admit(inner: &Inner, headers: &HeaderMap, place: &(String, String, String)) -> Result<(), Refusal> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("user-agent").is_empty() {
        return Err(refuse(403, "Request forbidden by administrative rules."));
    }
    if header("accept") != "application/vnd.github+json" || header("x-github-api-version") != "2022-11-28" {
        return Err(refuse(400, "the fake wants the documented headers"));
    }
    if header("authorization") != format!("Bearer {}", inner.token) {
        return Err(refuse(401, "Bad credentials"));
    }
    let (owner, name, workflow) = place;
    if format!("{owner}/{name}") != REPOSITORY || workflow != WORKFLOW {
        return Err(refuse(404, "Not Found"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dispatch {
    r#ref: String,
    #[serde(default)]
    inputs: BTreeMap<String, String>,
}

async fn dispatch(
    State(server): State<Server>,
    Path(place): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let now = server.clock.now();
    let mut inner = server.lock();
    if let Err(refusal) = admit(&inner, &headers, &place) {
        return refusal.into_response();
    }
    let Ok(Dispatch { r#ref, inputs }) = serde_json::from_slice(&body) else {
        return refuse(400, "Problems parsing JSON").into_response();
    };
    if r#ref != BRANCH {
        return refuse(422, &format!("No ref found for: {}", r#ref)).into_response();
    }
    if inputs.keys().any(|input| !inner.workflow.inputs.contains(input)) {
        return refuse(422, "Unexpected inputs provided").into_response();
    }
    let named = inner.workflow.named_by.as_ref().and_then(|input| inputs.get(input));
    let title = named.map_or_else(|| "Deploy".to_owned(), |name| format!("Deploy {name}"));
    let id = inner.runs.len() + 1;
    inner.runs.push(Run { id, title, inputs, created: now, shown: false, made: 0, over: false });
    StatusCode::NO_CONTENT.into_response()
}

async fn runs(
    State(server): State<Server>,
    Path(place): Path<(String, String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let inner = server.lock();
    if let Err(refusal) = admit(&inner, &headers, &place) {
        return refusal.into_response();
    }
    let since = query.get("created").map(|created| created.trim_start_matches(">=").parse::<Timestamp>());
    let since = match since.transpose() {
        Ok(since) => since.unwrap_or(Timestamp::MIN),
        Err(_) => return refuse(422, "Validation Failed").into_response(),
    };
    if query.get("event").is_some_and(|event| event != "workflow_dispatch") {
        return Json(json!({ "total_count": 0, "workflow_runs": [] })).into_response();
    }
    let shown = inner.runs.iter().rev().filter(|run| run.shown && run.created >= since);
    let runs: Vec<Value> = shown.map(|run| shown_run(run, inner.workflow.conclusion)).collect();
    Json(json!({ "total_count": runs.len(), "workflow_runs": runs })).into_response()
}

fn shown_run(run: &Run, conclusion: &str) -> Value {
    let status = match (run.over, run.made) {
        (true, _) => "completed",
        (false, 0) => "queued",
        (false, _) => "in_progress",
    };
    json!({
        "id": run.id,
        "name": "Deploy",
        "display_title": run.title,
        "event": "workflow_dispatch",
        "status": status,
        "conclusion": run.over.then_some(conclusion),
        "created_at": run.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    })
}
