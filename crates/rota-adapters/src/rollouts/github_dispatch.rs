//! `github-dispatch`: a workflow of GitHub Actions that deploys the consumer anew.
//!
//! It is dispatched once with an input that names this rollout, is found again by that name
//! in its own (`run-name`), and followed to its end. A dispatch whose answer was lost is
//! looked for first. Success of the run is what the workflow says of itself, so it has to wait for
//! the old instances to be gone. Facts from the GitHub REST API's pages "Workflows" and
//! "Workflow runs".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Rollout, RolloutContext, RolloutStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalog::RolloutKind;
use crate::checks::{address_problem, bearer_login, reference_problem};
use crate::credential::{Credentials, Reference};
use crate::http::{self, HttpClient};
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "github-dispatch";

/// The kind as policies see it.
pub const KIND: RolloutKind = RolloutKind {
    spec: KindSpec::new(Port::Rollout, NAME, "a workflow of GitHub Actions that deploys the consumer")
        .inline::<GithubSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(GithubRollout {
            settings: settings::read(NAME, &policy.settings)?,
            http: environment.client.clone(),
            credentials: Arc::new(environment.credentials.clone()),
        }))
    },
};

const WHAT: &str = "GitHub";
const API: &str = "https://api.github.com";
const VERSION: &str = "2022-11-28";

/// The input that names the rollout where the policy does not say.
const DEFAULT_INPUT: &str = "rota";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A page of runs has 100, each with its repository twice.
const MOST_BODY_BYTES: usize = 8 * 1_048_576;

/// Runs of one workflow since a publication; more would not be one rollout's.
const RUNS_AT_ONCE: u32 = 100;

/// GitHub shows a run some seconds after it was dispatched.
const SHOWN_WITHIN: SignedDuration = SignedDuration::from_mins(2);

/// GitHub's clock may be behind the journal's.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(5);

/// `{ kind = "github-dispatch", repository = "acme/backend", workflow = "deploy.yml", ref = "main", token = "aws:prod/acd/github" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GithubSettings {
    /// Owner and name, as in `acme/backend`.
    repository: String,
    /// The workflow's file name, as in `deploy.yml`.
    workflow: String,
    /// The branch or tag whose workflow runs.
    #[serde(rename = "ref")]
    git_ref: String,
    /// Where a token with the right `actions: write` is kept (`store:path#field`).
    token: Reference,
    /// Inputs of the workflow.
    #[serde(default)]
    inputs: BTreeMap<String, String>,
    /// The input that names the rollout and stands in `run-name`; `rota` where nothing is said.
    input: Option<String>,
    /// The API of a GitHub Enterprise Server, such as `https://github.internal/api/v3`.
    api: Option<String>,
    /// How long an answer may take; 10s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// What [`GithubRollout::begin`] leaves.
#[derive(Debug, Serialize, Deserialize)]
struct Handle {
    /// Stands in the run's name.
    mark: String,
    dispatched_at: Timestamp,
}

/// How far a run is ("List workflow runs for a workflow").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Going,
    Succeeded,
    Failed,
}

/// The rollout.
struct GithubRollout {
    settings: GithubSettings,
    http: HttpClient,
    credentials: Arc<dyn Credentials>,
}

/// Names a rollout: generations begin anew with a new state database, times do not.
fn mark(context: &RolloutContext) -> String {
    format!("{}-{}-{}", context.consumer, context.generation, context.published_at.as_second())
}

impl GithubRollout {
    async fn request(&self, method: Method, rest: &str) -> Result<RequestBuilder, Fault> {
        let api = self.settings.api.as_deref().unwrap_or(API).trim_end_matches('/');
        let GithubSettings { repository, workflow, .. } = &self.settings;
        let url = format!("{api}/repos/{repository}/actions/workflows/{workflow}/{rest}");
        let token = self.credentials.read(&self.settings.token).await?;
        Ok(self
            .http
            .request(method, &url)?
            .timeout(settings::timeout(self.settings.timeout, DEFAULT_TIMEOUT))
            .header(AUTHORIZATION, bearer_login(token.expose())?)
            .header(ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", VERSION))
    }

    /// Every run that carries `mark`.
    async fn runs(&self, mark: &str, context: &RolloutContext) -> Result<Vec<Run>, Fault> {
        let since = (context.published_at - CLOCKS_APART).strftime("%Y-%m-%dT%H:%M:%SZ");
        let rest = format!("runs?event=workflow_dispatch&per_page={RUNS_AT_ONCE}&created=%3E%3D{since}");
        let answer = self.http.send(WHAT, self.request(Method::GET, &rest).await?).await?;
        if answer.status() != StatusCode::OK {
            return Err(self.refusal(&answer));
        }
        let body = http::read_body(WHAT, answer, MOST_BODY_BYTES).await?;
        runs_in(&body, mark)
    }

    async fn dispatch(&self, mark: &str) -> Result<(), Fault> {
        let mut inputs = self.settings.inputs.clone();
        inputs.insert(self.input().to_owned(), mark.to_owned());
        let body = json!({ "ref": self.settings.git_ref, "inputs": inputs }).to_string();
        let request = self.request(Method::POST, "dispatches").await?;
        let request = request.header("content-type", "application/json").body(body);
        let answer = self.http.send(WHAT, request).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::UNPROCESSABLE_ENTITY => Err(Fault::invalid(format!(
                "GitHub does not take the dispatch: `{}` needs `on: workflow_dispatch` with the input `{}` and \
                 those of the policy, on the ref `{}`",
                self.settings.workflow,
                self.input(),
                self.settings.git_ref
            ))),
            _ => Err(self.refusal(&answer)),
        }
    }

    fn input(&self) -> &str {
        self.settings.input.as_deref().unwrap_or(DEFAULT_INPUT)
    }

    fn refusal(&self, answer: &Response) -> Fault {
        let (status, headers) = (answer.status(), answer.headers());
        match status {
            StatusCode::FORBIDDEN if is_limited(headers) => Fault::RateLimited {
                message: "GitHub asks for slower calls".to_owned(),
                retry_after: http::retry_after(headers),
            },
            StatusCode::NOT_FOUND => Fault::invalid(format!(
                "GitHub shows no workflow `{}` in `{}`; correct them, or let the token see the repository",
                self.settings.workflow, self.settings.repository
            )),
            _ => http::status_fault(WHAT, status, headers),
        }
    }
}

/// A spent limit answers 403 ("Rate limits for the REST API").
fn is_limited(headers: &HeaderMap) -> bool {
    headers.contains_key("retry-after")
        || headers.get("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0")
}

fn runs_in(body: &[u8], mark: &str) -> Result<Vec<Run>, Fault> {
    let unreadable = || Fault::transient("GitHub answered with something else than workflow runs");
    let json: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let runs = json["workflow_runs"].as_array().ok_or_else(unreadable)?;
    let ours = runs.iter().filter(|run| {
        run["display_title"].as_str().is_some_and(|title| title.split_whitespace().any(|word| word == mark))
    });
    Ok(ours
        .map(|run| match (run["status"].as_str(), run["conclusion"].as_str()) {
            (Some("completed"), Some("success")) => Run::Succeeded,
            (Some("completed"), _) => Run::Failed,
            (Some(_) | None, _) => Run::Going,
        })
        .collect())
}

#[async_trait]
impl Rollout for GithubRollout {
    async fn begin(&self, context: &RolloutContext) -> Result<Value, Fault> {
        let mark = mark(context);
        if self.runs(&mark, context).await?.is_empty() {
            self.dispatch(&mark).await?;
        }
        Ok(json!(Handle { mark, dispatched_at: context.now }))
    }

    async fn observe(
        &self,
        handle: &Value,
        _: &Value,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        let Handle { mark, dispatched_at } = Handle::deserialize(handle)
            .map_err(|_| Fault::invalid("what the start of the rollout left cannot be read"))?;
        let runs = self.runs(&mark, context).await?;
        let under_way = |detail: String| RolloutStatus::UnderWay { detail };
        let status = if runs.contains(&Run::Going) {
            under_way(format!("the run {mark} of `{}` goes on", self.settings.workflow))
        } else if runs.contains(&Run::Succeeded) {
            RolloutStatus::Finished
        } else if runs.contains(&Run::Failed) {
            RolloutStatus::Failed { detail: format!("the run {mark} of `{}` failed", self.settings.workflow) }
        } else if context.now.duration_since(dispatched_at) < SHOWN_WITHIN {
            under_way(format!("GitHub does not show the run {mark} yet"))
        } else {
            let detail = format!(
                "GitHub shows no run whose name holds {mark}; write `run-name: deploy ${{{{ inputs.{} }}}}` into `{}`",
                self.input(),
                self.settings.workflow
            );
            RolloutStatus::Failed { detail }
        };
        Ok((status, json!({})))
    }
}

/// True for a name that stands in an address as it is.
fn is_plain(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !text.is_empty() && text.bytes().all(legal) && !text.bytes().all(|byte| byte == b'.')
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = GithubSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    let mut wrong = |pointer: &str, message: &str, help: &str| {
        problems.push(KindProblem::error("name", pointer, message, help));
    };
    if !settings.repository.split_once('/').is_some_and(|(owner, name)| is_plain(owner) && is_plain(name)) {
        wrong("/repository", "this is not a repository", "write owner and name: `acme/backend`");
    }
    if !is_plain(&settings.workflow) {
        wrong("/workflow", "this is not a workflow's file", "write its name without a folder: `deploy.yml`");
    }
    if settings.git_ref.is_empty() {
        wrong("/ref", "no branch or tag is named", "write `ref = \"main\"`");
    }
    let input = settings.input.as_deref().unwrap_or(DEFAULT_INPUT);
    if settings.inputs.contains_key(input) {
        wrong("/inputs", "this input names the rollout", "name another one in `input`, or leave it out here");
    }
    problems.extend(settings.api.as_deref().and_then(|api| address_problem("/api", api)));
    problems.extend(reference_problem("/token", &settings.token.to_string(), context));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_ours_only_where_its_name_holds_the_whole_mark() {
        let run = |title: &str, status: &str, conclusion: Option<&str>| json!({ "display_title": title, "status": status, "conclusion": conclusion });
        let body = json!({ "workflow_runs": [
            run("deploy backend-7-100", "completed", Some("success")),
            run("deploy backend-7-1001", "completed", Some("failure")),
            run("deploy xbackend-7-100", "completed", Some("failure")),
            run("deploy", "in_progress", None),
            run("backend-7-100", "queued", None),
            run("backend-7-100", "completed", Some("cancelled")),
            run("backend-7-100", "a_status_of_tomorrow", None),
        ]});
        let found = runs_in(body.to_string().as_bytes(), "backend-7-100").unwrap();
        assert_eq!(found, [Run::Succeeded, Run::Going, Run::Failed, Run::Going]);
        assert!(matches!(runs_in(b"<html>", "x"), Err(Fault::Transient { .. })));
    }

    #[test]
    fn names_that_would_leave_their_place_in_the_address_are_refused() {
        for bad in ["", "..", "a/b", "a b", "a?b", "a%2F"] {
            assert!(!is_plain(bad), "{bad}");
        }
        assert!(is_plain("deploy.yml") && is_plain(".github"));
    }
}
