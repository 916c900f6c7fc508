//! Twilio: `https://www.twilio.com/docs/usage/api/keys` (v2010), its errors and its lists.

use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Call, Key, Reply, State, pairs};

/// The account of every fake.
pub const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

/// The longest friendly name.
const LONGEST_NAME: usize = 64;

/// What pages hold where the call does not say, and at most.
const USUAL_PAGE: usize = 50;
const LONGEST_PAGE: usize = 1000;

/// The login of the account itself: its SID and its auth token.
pub(super) fn admin() -> String {
    json!({ "username": ACCOUNT, "password": Uuid::new_v4().simple().to_string() }).to_string()
}

pub(super) fn id() -> String {
    format!("SK{}", Uuid::new_v4().simple())
}

pub(super) fn secret() -> String {
    Uuid::new_v4().simple().to_string()
}

fn error(status: u16, code: u32, message: &str) -> Reply {
    let more = format!("https://www.twilio.com/docs/errors/{code}");
    Reply::json(status, json!({ "code": code, "message": message, "more_info": more, "status": status }))
}

/// True for the account's own login, false for a standard key's.
fn is_admin(call: &Call<'_>, state: &State) -> Result<bool, Reply> {
    let refused = |shown: &str| Err(error(401, 20003, &format!("Authenticate {shown}")));
    let basic = call.header(header::AUTHORIZATION).and_then(|text| text.strip_prefix("Basic "));
    let Some(pair) = basic.and_then(|coded| String::from_utf8(STANDARD.decode(coded).ok()?).ok()) else {
        return refused("");
    };
    let Some((username, password)) = pair.split_once(':') else { return refused(&pair) };
    let admin: Value = serde_json::from_str(&state.admin).unwrap_or_default();
    if admin["username"] == username && admin["password"] == password {
        return Ok(true);
    }
    match state.keys.iter().any(|key| key.id == username && key.secret == password) {
        true => Ok(false),
        // The real one does not repeat what was shown; a proxy before it may.
        false => refused(&pair),
    }
}

pub(super) fn answer(call: &Call<'_>, state: &mut State) -> Reply {
    let is_admin = match is_admin(call, state) {
        Ok(is_admin) => is_admin,
        Err(refused) => return refused,
    };
    let ["2010-04-01", "Accounts", account, rest @ ..] = call.path.as_slice() else {
        return error(404, 20404, "The requested resource was not found");
    };
    if *account != ACCOUNT {
        return error(404, 20404, &format!("The requested resource /Accounts/{account} was not found"));
    }
    match (call.method.as_str(), rest, is_admin) {
        ("GET", ["IncomingPhoneNumbers.json"], _) => {
            Reply::json(200, json!({ "incoming_phone_numbers": [], "next_page_uri": null, "page": 0 }))
        }
        ("POST", ["Messages.json"], _) => {
            Reply::json(201, json!({ "sid": format!("SM{}", Uuid::new_v4().simple()) }))
        }
        (_, ["Keys.json" | "Keys", ..], false) => {
            error(401, 20003, "Standard API keys cannot manage keys, use a main key")
        }
        ("POST", ["Keys.json"], true) => create(call, state),
        ("GET", ["Keys.json"], true) => list(call, state),
        ("DELETE", ["Keys", named], true) => {
            match named.strip_suffix(".json").is_some_and(|id| state.end(id)) {
                true => Reply::with(204, None),
                false => error(404, 20404, "The requested resource was not found"),
            }
        }
        _ => error(405, 20004, "Method not allowed"),
    }
}

fn date(key: &Key) -> String {
    key.created.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

fn create(call: &Call<'_>, state: &mut State) -> Reply {
    let is_form = call.header(header::CONTENT_TYPE) == Some("application/x-www-form-urlencoded");
    let mut form = std::str::from_utf8(call.body).map(pairs).unwrap_or_default();
    let name = form.remove("FriendlyName").unwrap_or_default();
    if !is_form || !form.is_empty() || name.chars().count() > LONGEST_NAME {
        return error(400, 20001, "Parameters are not valid");
    }
    if state.keys.len() >= state.most {
        return error(400, 20008, "No further keys can be made");
    }
    let key = state.new_key(&name, "standard", call.now);
    state.keys.push(key.clone());
    let dates = date(&key);
    Reply::json(
        201,
        json!({ "sid": key.id, "friendly_name": name, "secret": key.secret, "date_created": dates, "date_updated": dates }),
    )
}

fn list(call: &Call<'_>, state: &State) -> Reply {
    let number = |name: &str| call.query.get(name).map(|text| text.parse::<usize>());
    let (Ok(size), Ok(page)) =
        (number("PageSize").unwrap_or(Ok(USUAL_PAGE)), number("Page").unwrap_or(Ok(0)))
    else {
        return error(400, 20001, "Page and PageSize are numbers");
    };
    let size = size.clamp(1, LONGEST_PAGE).min(state.longest_page);
    let after = call.query.get("PageToken").and_then(|token| token.strip_prefix("PA"));
    let Some((keys, more)) = state.page(after, size) else {
        return error(400, 20001, "The page token is wrong");
    };
    let shown: Vec<Value> = keys
        .iter()
        .map(|key| {
            let dates = date(key);
            json!({ "sid": key.id, "friendly_name": key.name, "date_created": dates, "date_updated": dates })
        })
        .collect();
    let uri = |page: usize, token: &str| {
        format!("/2010-04-01/Accounts/{ACCOUNT}/Keys.json?PageSize={size}&Page={page}{token}")
    };
    let next = keys.last().filter(|_| more).map(|last| uri(page + 1, &format!("&PageToken=PA{}", last.id)));
    Reply::json(
        200,
        json!({
            "keys": shown, "page": page, "page_size": size, "first_page_uri": uri(0, ""),
            "next_page_uri": next, "previous_page_uri": null, "uri": uri(page, ""),
        }),
    )
}
