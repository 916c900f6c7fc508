//! Sentry: `https://docs.sentry.io/api/projects/` (client keys), its pagination by the `Link`
//! header, and the envelope endpoint that takes events.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, Key, Reply, State};

/// The organization and the project of every fake.
pub const ORGANIZATION: &str = "acme";
pub const PROJECT: &str = "backend";

/// The longest name of a key.
const LONGEST_NAME: usize = 64;

/// How many keys a page has.
const PAGE: usize = 100;

/// Where events go.
const INGEST: &str = "o4504765715316736.ingest.sentry.io/4505281256090153";

pub(super) fn admin() -> String {
    format!("sntryu_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

pub(super) fn id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// What an application is given: the public key is the id.
pub(super) fn dsn(key: &Key) -> String {
    format!("https://{}@{INGEST}", key.id)
}

fn detail(status: u16, text: &str) -> Reply {
    Reply::json(status, json!({ "detail": text }))
}

pub(super) fn answer(call: &Call<'_>, state: &mut State) -> Reply {
    if let ("POST", ["api", _, "envelope", ""]) = (call.method.as_str(), call.path.as_slice()) {
        return envelope(call, state);
    }
    match call.bearer() {
        None => return detail(401, "Authentication credentials were not provided."),
        Some(token) if token != state.admin => return detail(401, &format!("Invalid token {token}")),
        Some(_) => {}
    }
    let ["api", "0", "projects", organization, project, "keys", rest @ ..] = call.path.as_slice() else {
        return detail(404, "The requested resource does not exist");
    };
    if (*organization, *project) != (ORGANIZATION, PROJECT) {
        return detail(404, "The requested resource does not exist");
    }
    match (call.method.as_str(), rest) {
        ("GET", [""]) => list(call, state),
        ("POST", [""]) => create(call, state),
        (method, [id, ""]) => one(method, id, call, state),
        _ => detail(404, "The requested resource does not exist"),
    }
}

fn one(method: &str, id: &str, call: &Call<'_>, state: &mut State) -> Reply {
    let Some(key) = state.keys.iter_mut().find(|key| key.id == id) else {
        return detail(404, "The requested resource does not exist");
    };
    match method {
        "GET" => Reply::json(200, shown(key)),
        "PUT" => {
            let active = call.json().and_then(|body| body.get("isActive")?.as_bool());
            let Some(active) = active else { return detail(400, "This field is required.") };
            key.active = active;
            Reply::json(200, shown(key))
        }
        "DELETE" => {
            state.end(id);
            Reply::with(204, None)
        }
        _ => detail(405, &format!("Method \"{method}\" not allowed.")),
    }
}

/// Only the public key counts; a key that is not active takes no events.
fn envelope(call: &Call<'_>, state: &State) -> Reply {
    let shown = call.headers.get("x-sentry-auth").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = shown.split("sentry_key=").nth(1);
    match key.is_some_and(|id| state.keys.iter().any(|key| key.id == id && key.active)) {
        true => Reply::json(200, json!({ "id": Uuid::new_v4().simple().to_string() })),
        false => detail(403, "event submission rejected with_reason: ProjectId"),
    }
}

fn shown(key: &Key) -> Value {
    json!({
        "id": key.id, "name": key.name, "label": key.name, "public": key.id, "secret": key.secret,
        "projectId": 4_505_281_256_090_153_u64, "isActive": key.active, "rateLimit": null,
        "dsn": { "public": dsn(key), "secret": format!("https://{}:{}@{INGEST}", key.id, key.secret) },
        "dateCreated": key.created.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        "browserSdkVersion": "8.x", "useCase": "user",
    })
}

fn create(call: &Call<'_>, state: &mut State) -> Reply {
    let Some(Value::Object(body)) = call.json() else { return detail(400, "JSON parse error") };
    let name = body.get("name").and_then(Value::as_str).unwrap_or("Liked Pegasus").to_owned();
    if name.chars().count() > LONGEST_NAME {
        return Reply::json(400, json!({ "name": ["Ensure this field has no more than 64 characters."] }));
    }
    if state.keys.len() >= state.most {
        return detail(403, "No further keys can be made");
    }
    let key = state.new_key(&name, "", call.now);
    state.keys.push(key.clone());
    Reply::json(201, shown(&key))
}

/// Cursors count from the newest key on.
fn list(call: &Call<'_>, state: &State) -> Reply {
    let size = PAGE.min(state.longest_page);
    let start = match call.query.get("cursor").map(|cursor| cursor.split(':').nth(1)?.parse::<usize>().ok()) {
        None => 0,
        Some(Some(start)) => start,
        Some(None) => return detail(400, "Invalid cursor parameter."),
    };
    let keys: Vec<Value> = state.keys.iter().rev().skip(start).take(size).map(shown).collect();
    let more = state.keys.len() > start + size;
    let link = |start: usize, back: u8, rel: &str, results: bool| {
        let cursor = format!("0:{start}:{back}");
        let host = call.headers.get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
        format!(
            "<http://{host}/api/0/projects/{ORGANIZATION}/{PROJECT}/keys/?&cursor={cursor}>; rel=\"{rel}\"; \
             results=\"{results}\"; cursor=\"{cursor}\""
        )
    };
    let links =
        [link(start.saturating_sub(size), 1, "previous", start > 0), link(start + size, 0, "next", more)];
    let mut reply = Reply::json(200, Value::Array(keys));
    reply.headers.push(("link", links.join(", ")));
    reply
}
