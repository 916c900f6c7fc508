//! Resend: `https://resend.com/docs/api-reference/api-keys`, its errors and its pagination.
//!
//! A key that is not known is answered as the live API does: 400 `validation_error`, "API
//! key is invalid"; the reference says 403 `invalid_api_key`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, Key, Reply, State};

/// The longest name of a key.
const LONGEST_NAME: usize = 50;

/// What a key may do.
const SCOPES: [&str; 2] = ["full_access", "sending_access"];

pub(super) fn token() -> String {
    let bits = Uuid::new_v4().simple().to_string();
    format!("re_{}_{}", &bits[..8], &bits[8..])
}

fn error(status: u16, name: &str, message: &str) -> Reply {
    Reply::json(status, json!({ "statusCode": status, "message": message, "name": name }))
}

/// Who calls.
enum Caller {
    Full,
    Sending,
}

fn caller(call: &Call<'_>, state: &State) -> Result<Caller, Reply> {
    if call.headers.get("user-agent").is_none() {
        return Err(Reply::json(403, json!({ "error_code": 1010 })));
    }
    let Some(token) = call.bearer() else {
        return Err(error(401, "missing_api_key", "Missing API Key"));
    };
    if token == state.admin {
        return Ok(Caller::Full);
    }
    match state.keys.iter().find(|key| key.secret == token) {
        Some(key) if key.scope == "full_access" => Ok(Caller::Full),
        Some(_) => Ok(Caller::Sending),
        None => Err(error(400, "validation_error", "API key is invalid")),
    }
}

pub(super) fn answer(call: &Call<'_>, state: &mut State) -> Reply {
    let caller = match caller(call, state) {
        Ok(caller) => caller,
        Err(refused) => return refused,
    };
    match (call.method.as_str(), call.path.as_slice(), caller) {
        ("POST", ["emails"], _) => Reply::json(200, json!({ "id": Uuid::new_v4() })),
        (_, _, Caller::Sending) => {
            error(401, "restricted_api_key", "This API key is restricted to only send emails")
        }
        ("GET", ["domains"], Caller::Full) => {
            Reply::json(200, json!({ "object": "list", "has_more": false, "data": [] }))
        }
        ("POST", ["api-keys"], Caller::Full) => create(call, state),
        ("GET", ["api-keys"], Caller::Full) => list(call, state),
        ("DELETE", ["api-keys", id], Caller::Full) => match state.end(id) {
            true => Reply::json(200, json!({})),
            false => error(404, "not_found", "API key not found"),
        },
        (_, ["api-keys" | "domains" | "emails", ..], Caller::Full) => {
            error(405, "method_not_allowed", "Method is not allowed for the requested path")
        }
        _ => error(404, "not_found", "The requested endpoint does not exist"),
    }
}

fn create(call: &Call<'_>, state: &mut State) -> Reply {
    let Some(Value::Object(mut body)) = call.json() else {
        return error(422, "missing_required_field", "Missing `name` field");
    };
    let Some(name) = body.remove("name").and_then(|name| name.as_str().map(str::to_owned)) else {
        return error(422, "missing_required_field", "Missing `name` field");
    };
    if name.is_empty() || name.chars().count() > LONGEST_NAME {
        return error(400, "validation_error", "The `name` must have 1 to 50 characters");
    }
    let scope = body.remove("permission").unwrap_or_else(|| json!("full_access"));
    let Some(scope) = SCOPES.into_iter().find(|known| scope == *known) else {
        return error(422, "invalid_access", "Access must be full_access or sending_access");
    };
    let domain = body.remove("domain_id");
    if domain.is_some() && scope != "sending_access" {
        return error(422, "invalid_parameter", "`domain_id` is for sending_access only");
    }
    if !body.is_empty() {
        return error(422, "invalid_parameter", "The body has fields that are not known");
    }
    if state.keys.len() >= state.most {
        return error(422, "validation_error", "You have reached the limit of API keys");
    }
    let key = state.new_key(&name, scope, call.now);
    state.keys.push(key.clone());
    Reply::json(201, json!({ "id": key.id, "token": key.secret }))
}

fn list(call: &Call<'_>, state: &State) -> Reply {
    let limit = match call.query.get("limit").map(|limit| limit.parse::<usize>()) {
        None => usize::MAX,
        Some(Ok(limit)) if (1..=100).contains(&limit) => limit,
        Some(_) => return error(422, "validation_error", "`limit` must be between 1 and 100"),
    };
    let Some((keys, more)) =
        state.page(call.query.get("after").map(String::as_str), limit.min(state.longest_page))
    else {
        return error(422, "validation_error", "The pagination cursor is invalid");
    };
    let shown = |key: &&Key| {
        let created = key.created.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string();
        json!({ "id": key.id, "name": key.name, "created_at": created, "last_used_at": null })
    };
    let data: Vec<Value> = keys.iter().map(shown).collect();
    Reply::json(200, json!({ "object": "list", "has_more": more, "data": data }))
}
