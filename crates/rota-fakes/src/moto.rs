//! The AWS emulator (moto, from PyPI) for tests.
//!
//! It lies in places: the strict fakes of this crate stand in there.
//!
//! Deliberately absent: installing it. `scripts/test` makes the virtual
//! environment that is looked for here.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

use crate::process::{ServerFolder, Supervised, on_some_port};
use crate::wait;

/// Names the emulator's program where it is not in the repository's `.venv`.
pub const PROGRAM_VARIABLE: &str = "ROTA_TEST_MOTO_BIN";

/// Names the URL of an emulator that was started for a whole test run.
pub const ENDPOINT_VARIABLE: &str = "ROTA_TEST_MOTO";

/// Credentials that the emulator accepts while it checks none.
const UNCHECKED: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/iam/aws4_request, \
                         SignedHeaders=host, Signature=0";

/// A server of its own, which ends with its owner.
#[derive(Debug)]
pub struct MotoServer {
    _server: Supervised,
    _folder: ServerFolder,
    port: u16,
}

/// An access key of the emulator.
#[derive(Clone)]
pub struct AwsKey {
    /// Such as `AKIA...`.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl MotoServer {
    /// Starts an empty emulator; `environment` carries its settings, such as
    /// `MOTO_ECS_SERVICE_RUNNING`.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(environment: &[(&str, &str)]) -> Result<Self> {
        let program = program()?;
        let folder = ServerFolder::own("rota-moto-")?;
        let (server, port) = on_some_port(|port| {
            let arguments = ["-H", "127.0.0.1", "-p", &port.to_string()];
            let mut server = Supervised::start(&folder, &program, &arguments, environment, "KILL")?;
            server.wait_ready(|| Ok(wait::answers_ok(port, "/moto-api/").then_some(())))?;
            Ok(server)
        })?;
        Ok(Self { _server: server, _folder: folder, port })
    }

    /// The endpoint for every AWS service, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes an administrator and from then on checks every signature and
    /// policy, which the emulator does not do by itself.
    ///
    /// # Errors
    /// When the emulator does not answer as documented.
    pub async fn require_auth(&self) -> Result<AwsKey> {
        let allow =
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
        self.iam(&[("Action", "CreateUser"), ("UserName", "admin")]).await?;
        let policy = [("PolicyName", "everything"), ("PolicyDocument", allow)];
        self.iam(&[&[("Action", "PutUserPolicy"), ("UserName", "admin")], &policy[..]].concat()).await?;
        let key = self.iam(&[("Action", "CreateAccessKey"), ("UserName", "admin")]).await?;
        let key = AwsKey { id: tag(&key, "AccessKeyId")?, secret: tag(&key, "SecretAccessKey")? };
        let reset = format!("{}/moto-api/reset-auth", self.url());
        reqwest::Client::new().post(reset).body("0").send().await?.error_for_status()?;
        Ok(key)
    }

    async fn iam(&self, parameters: &[(&str, &str)]) -> Result<String> {
        let mut url = reqwest::Url::parse(&self.url())?;
        url.query_pairs_mut().append_pair("Version", "2010-05-08").extend_pairs(parameters);
        let form = url.query().unwrap_or_default().to_owned();
        url.set_query(None);
        let request = reqwest::Client::new()
            .post(url)
            .header("authorization", UNCHECKED)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        Ok(request.send().await?.error_for_status()?.text().await?)
    }
}

/// The URL of the emulator that the tests of this process share, so each test
/// names its things uniquely: the one named by `ROTA_TEST_MOTO`, else one that
/// the first caller starts and that ends with the process.
///
/// # Errors
/// When none can be started.
pub fn shared() -> Result<&'static str> {
    static SHARED: OnceLock<Result<(String, Option<MotoServer>), String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| start_shared().map_err(|error| format!("{error:#}")));
    match shared {
        Ok((url, _)) => Ok(url),
        Err(message) => bail!("no AWS emulator for tests: {message}"),
    }
}

fn start_shared() -> Result<(String, Option<MotoServer>)> {
    if let Ok(url) = std::env::var(ENDPOINT_VARIABLE) {
        return Ok((url, None));
    }
    let server = MotoServer::start(&[])?;
    Ok((server.url(), Some(server)))
}

fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(PROGRAM_VARIABLE) {
        return Ok(program.into());
    }
    in_environment("moto_server")
        .context("no moto_server in .venv/bin of the repository, run scripts/test, which makes it")
}

/// A program of the repository's virtual environment, which is looked for in
/// the working folder and above it.
pub fn in_environment(name: &str) -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|dir| dir.join(".venv/bin").join(name)).find(|file| file.is_file())
}

fn tag(xml: &str, name: &str) -> Result<String> {
    let content = xml.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
    let (content, _) = content.with_context(|| format!("the emulator's answer has no {name}"))?;
    Ok(content.to_owned())
}
