//! OpenAI: `https://platform.openai.com/docs/api-reference/project-service-accounts`, and its
//! errors, which repeat the key that was shown.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, Key, Reply, State};

/// The project of every fake.
pub const PROJECT: &str = "proj_abc";

/// What pages hold where the call does not say, and at most.
const USUAL_PAGE: usize = 20;
const LONGEST_PAGE: usize = 100;

pub(super) fn admin() -> String {
    format!("sk-admin-{}", Uuid::new_v4().simple())
}

pub(super) fn id() -> String {
    format!("user-{}", Uuid::new_v4().simple())
}

pub(super) fn secret() -> String {
    format!("sk-svcacct-{}", Uuid::new_v4().simple())
}

fn error(status: u16, code: Option<&str>, message: &str) -> Reply {
    let inner = json!({ "message": message, "type": "invalid_request_error", "param": null, "code": code });
    Reply::json(status, json!({ "error": inner }))
}

pub(super) fn answer(call: &Call<'_>, state: &mut State) -> Reply {
    let Some(token) = call.bearer() else {
        return error(
            401,
            None,
            "You didn't provide an API key. You need to provide your API key in an Authorization header",
        );
    };
    let is_admin = token == state.admin;
    if !is_admin && !state.keys.iter().any(|key| key.secret == token) {
        let said = format!(
            "Incorrect API key provided: {token}. You can find your API key at https://platform.openai.com/account/api-keys."
        );
        return error(401, Some("invalid_api_key"), &said);
    }
    match (call.method.as_str(), call.path.as_slice()) {
        ("GET", ["v1", "models"]) if !is_admin => {
            Reply::json(200, json!({ "object": "list", "data": [{ "id": "gpt-4o", "object": "model" }] }))
        }
        ("POST", ["v1", "responses"]) if !is_admin => {
            Reply::json(200, json!({ "id": "resp_1", "status": "completed" }))
        }
        (_, ["v1", "organization", ..]) if !is_admin => error(
            403,
            Some("insufficient_permissions"),
            "You have insufficient permissions for this operation. Missing scopes: api.management.write",
        ),
        ("POST", ["v1", "organization", "projects", PROJECT, "service_accounts"]) => create(call, state),
        ("GET", ["v1", "organization", "projects", PROJECT, "service_accounts"]) => list(call, state),
        ("DELETE", ["v1", "organization", "projects", PROJECT, "service_accounts", id]) => {
            match state.end(id) {
                true => Reply::json(
                    200,
                    json!({ "object": "organization.project.service_account.deleted", "id": id, "deleted": true }),
                ),
                false => error(404, Some("not_found"), "No such service account"),
            }
        }
        _ => error(404, None, "Invalid URL"),
    }
}

fn shown(key: &Key) -> Value {
    json!({
        "object": "organization.project.service_account", "id": key.id, "name": key.name, "role": "member",
        "created_at": key.created.as_second(),
    })
}

fn create(call: &Call<'_>, state: &mut State) -> Reply {
    let Some(Value::Object(mut body)) = call.json() else {
        return error(400, None, "We could not parse the JSON body");
    };
    let name =
        body.remove("name").and_then(|name| name.as_str().map(str::to_owned)).filter(|name| !name.is_empty());
    let Some(name) = name else {
        return error(400, Some("missing_required_parameter"), "Missing required parameter: 'name'.");
    };
    if let Some(unknown) = body.keys().next() {
        return error(400, Some("unknown_parameter"), &format!("Unknown parameter: '{unknown}'."));
    }
    if state.keys.len() >= state.most {
        return error(
            400,
            Some("service_account_limit"),
            "The project has as many service accounts as it may",
        );
    }
    let key = state.new_key(&name, "member", call.now);
    state.keys.push(key.clone());
    let mut answer = shown(&key);
    answer["api_key"] = json!({
        "object": "organization.project.service_account.api_key", "value": key.secret, "name": "Secret Key",
        "created_at": key.created.as_second(), "id": format!("key_{}", Uuid::new_v4().simple()),
    });
    Reply::json(200, answer)
}

fn list(call: &Call<'_>, state: &State) -> Reply {
    let limit = match call.query.get("limit").map(|limit| limit.parse::<usize>()) {
        None => USUAL_PAGE,
        Some(Ok(limit)) if (1..=LONGEST_PAGE).contains(&limit) => limit,
        Some(_) => {
            return error(400, Some("invalid_value"), "Invalid 'limit': integer from 1 to 100 expected");
        }
    };
    let after = call.query.get("after").map(String::as_str);
    let Some((keys, more)) = state.page(after, limit.min(state.longest_page)) else {
        return error(400, Some("invalid_value"), "Invalid 'after'");
    };
    let data: Vec<Value> = keys.iter().map(|key| shown(key)).collect();
    let end = |key: Option<&&Key>| key.map(|key| key.id.clone());
    let (first, last) = (end(keys.first()), end(keys.last()));
    Reply::json(
        200,
        json!({ "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more }),
    )
}
