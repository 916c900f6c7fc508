//! The file that describes a provider: its calls, what their answers mean, its limits.
//!
//! Deliberately absent: code. What a file cannot say needs the kind `command`.

use std::collections::BTreeMap;

use rota_core::format::Template;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use serde_json_path::JsonPath;

/// A provider whose keys are made, listed, tried and ended by HTTP calls.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderFile {
    /// What a policy calls it: lower-case letters, digits and `-`.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// The pages of the provider's own reference that the file was written from.
    pub sources: Vec<String>,
    /// Where a person sees the keys.
    pub page: String,
    /// Scheme and host of every call: `https://api.example.com`.
    pub base: String,
    /// Other bases, by the name that a policy gives as `region`.
    #[serde(default)]
    pub regions: BTreeMap<String, String>,
    /// What the provider allows.
    pub limits: Limits,
    /// How Rota itself logs in: filled with `{admin}`, or with `{username}` and `{password}`.
    pub login: LoginForm,
    /// What a policy says with `with`, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
    /// What keys are called: `{label}` of the policy and `{rotation}`, 32 hex digits;
    /// `{label}-{rotation}` without it.
    #[schemars(with = "Option<String>")]
    pub key_name: Option<Template>,
    pub create: Create,
    pub list: List,
    pub verify: Verify,
    pub revoke: Change,
    /// The key refused, in a way that `enable` takes back.
    pub disable: Option<Change>,
    pub enable: Option<Change>,
    /// What answers to calls of Rota's own login mean, beside the usual statuses.
    #[serde(default)]
    pub meaning: Meaning,
}

/// What the provider allows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Two keys are accepted at once. Without it a policy needs `accept_gap = true`.
    pub overlap: bool,
    /// How many keys an account has at most, where the provider says so.
    pub max_keys: Option<usize>,
    /// The longest name of a key, in characters.
    pub name_length: usize,
    /// How many requests the provider takes, in its own words.
    pub requests: String,
}

/// How a call shows who makes it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LoginForm {
    /// `Authorization: Bearer ...`
    Bearer(#[schemars(with = "String")] Template),
    /// `Authorization: Basic ...`
    Basic {
        #[schemars(with = "String")]
        username: Template,
        #[schemars(with = "String")]
        password: Template,
    },
    /// A header of the provider's own.
    Header {
        name: String,
        #[schemars(with = "String")]
        value: Template,
    },
}

/// Something that a policy says: an account, a project, what a key may do.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// One line for people.
    pub about: String,
    /// What it is where the policy does not say.
    pub default: Option<String>,
    /// Nothing fills it where the policy does not say: what holds it is left out.
    #[serde(default)]
    pub optional: bool,
    /// The only words that fit.
    #[serde(default)]
    pub values: Vec<String>,
}

/// The methods of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// One HTTP call.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub method: Method,
    /// Begins with a slash; the host is always `base`.
    #[schemars(with = "String")]
    pub path: Template,
    /// What stands behind the question mark, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub query: BTreeMap<String, Template>,
    /// Headers beside the login's.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub headers: BTreeMap<String, Template>,
    /// A body in JSON, whose texts are templates.
    pub json: Option<Value>,
    /// A body as forms send it, by name.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    pub form: Option<BTreeMap<String, Template>>,
}

/// A JSONPath (RFC 9535).
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Path(pub JsonPath);

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        JsonPath::parse(&text)
            .map(Self)
            .map_err(|_| format!("`{text}` is not a JSONPath, write one such as `$.data` or `$.id`"))
    }
}

impl JsonSchema for Path {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Path".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "A JSONPath (RFC 9535).", "pattern": "^\\$" })
    }
}

/// An answer that means something: its status, and where that is not enough, its JSON.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub status: u16,
    /// What `equals` is compared with.
    pub path: Option<Path>,
    pub equals: Option<Value>,
}

/// Makes a key, whose secret is shown this once.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub request: Request,
    /// The statuses of success.
    pub done: Vec<u16>,
    /// The provider's own name of the key.
    pub id: Path,
    /// What templates of a policy are filled with beside `{id}`, by name.
    pub parts: BTreeMap<String, Path>,
    /// A part that holds the id, where consumers do not read the id itself.
    pub id_in: Option<IdIn>,
}

/// `id_in = { part = "dsn", template = "https://{id}@{rest}" }`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdIn {
    pub part: String,
    #[schemars(with = "String")]
    pub template: Template,
}

/// Every key of the account, whoever made it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub request: Request,
    /// The array of a page's keys. Where it is missing, the answer is not taken for an empty list.
    pub items: Path,
    /// Within a key.
    pub id: Path,
    pub name: Path,
    /// When it was made: RFC 3339, RFC 2822 or Unix seconds.
    pub created: Option<Path>,
    /// When it was last used, in the same forms; without it the provider does not tell.
    pub last_used: Option<Path>,
    /// Whether it is accepted: a key that `disable` has refused is not.
    pub active: Option<Selected>,
    /// Where the next page is; without it there is only one.
    pub next: Option<Next>,
}

/// `{ path = "$.isActive", equals = true }`
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selected {
    pub path: Path,
    pub equals: Value,
}

/// Where the next page of a list is: one of `after`, `address` and `link`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// The query parameter that takes the id of the page's last key; `more` says whether there is another page.
    pub after: Option<String>,
    /// True where another page follows.
    pub more: Option<Path>,
    /// The next page's address, absolute or from the slash; nothing on the last page.
    pub address: Option<Path>,
    /// The `Link` header (RFC 8288) has it, as `rel="next"` without `results="false"`.
    #[serde(default)]
    pub link: bool,
}

/// Uses a key for real.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    pub request: Request,
    /// How consumers log in, filled with the parts of the key. Without it Rota's own login
    /// asks after the key, and the provider's word stands in for its use.
    pub login: Option<LoginForm>,
    /// Answers of which the first that fits counts; what fits nothing says nothing.
    pub accepted: Vec<Rule>,
    pub refused: Vec<Rule>,
}

/// Changes or ends exactly one key, `{id}`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub request: Request,
    /// The statuses of success.
    pub done: Vec<u16>,
}

/// What an answer means, where the usual meaning of its status (401 and 403 denied, 404
/// gone, 429 slow down, 5xx try again) does not say it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meaning {
    /// There is no such key (any more).
    #[serde(default)]
    pub gone: Vec<Rule>,
    /// No further key fits; a person ends one.
    #[serde(default)]
    pub quota: Vec<Rule>,
    /// The login is not valid or lacks a right.
    #[serde(default)]
    pub denied: Vec<Rule>,
    /// The same call may succeed a little later.
    #[serde(default)]
    pub not_yet: Vec<Rule>,
}
