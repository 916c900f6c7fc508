//! The rules of Block Kit, from Slack's reference of each block and from
//! "Formatting text for app surfaces".

use serde_json::{Map, Value};

use super::{Refusal, refuse};

const BLOCKS: usize = 50;
const BLOCK_ID: usize = 255;
const SECTION_TEXT: usize = 3_000;
const SECTION_FIELDS: usize = 10;
const FIELD_TEXT: usize = 2_000;
const HEADER_TEXT: usize = 150;
const CONTEXT_ELEMENTS: usize = 10;
const ACTION_ELEMENTS: usize = 25;
const BUTTON_TEXT: usize = 75;
const BUTTON_URL: usize = 3_000;
/// Measured, not documented: above it Slack answers `msg_blocks_too_long`.
const ALL_TEXT: usize = 13_000;

const WRONG: &str = "invalid_blocks";

type Checked = Result<(), Refusal>;

/// Checks a message's `blocks`.
pub(super) fn check(blocks: &Value) -> Checked {
    let Some(list) = blocks.as_array() else {
        return refuse("invalid_blocks_format", "`blocks` is not an array");
    };
    if list.is_empty() || list.len() > BLOCKS {
        return refuse(WRONG, format!("{} blocks, 1 to {BLOCKS} are allowed", list.len()));
    }
    let mut ids = Vec::new();
    let mut total = 0;
    for block in list {
        let Some(block) = block.as_object() else { return refuse(WRONG, "a block is not an object") };
        if let Some(id) = block.get("block_id") {
            let Some(id) = id.as_str().filter(|id| !id.is_empty() && id.chars().count() <= BLOCK_ID) else {
                return refuse(WRONG, "a block_id is empty or too long");
            };
            if ids.contains(&id) {
                return refuse(WRONG, "a block_id appears twice");
            }
            ids.push(id);
        }
        check_block(block, &mut total)?;
    }
    if total > ALL_TEXT {
        return refuse("msg_blocks_too_long", format!("{total} characters in all blocks"));
    }
    Ok(())
}

fn check_block(block: &Map<String, Value>, total: &mut usize) -> Checked {
    match block.get("type").and_then(Value::as_str) {
        Some("divider") => only(block, &[]),
        Some("header") => {
            only(block, &["text"])?;
            check_text(block.get("text"), HEADER_TEXT, &["plain_text"], total)
        }
        Some("section") => check_section(block, total),
        Some("context") => {
            only(block, &["elements"])?;
            for element in elements(block, CONTEXT_ELEMENTS)? {
                check_text(Some(element), FIELD_TEXT, &["plain_text", "mrkdwn"], total)?;
            }
            Ok(())
        }
        Some("actions") => {
            only(block, &["elements"])?;
            elements(block, ACTION_ELEMENTS)?.iter().try_for_each(|button| check_button(button, total))
        }
        kind => refuse(WRONG, format!("a block of type {kind:?}, which is not used here")),
    }
}

fn check_section(block: &Map<String, Value>, total: &mut usize) -> Checked {
    only(block, &["text", "fields", "accessory", "expand"])?;
    if block.get("text").is_none() && block.get("fields").is_none() {
        return refuse(WRONG, "a section without text and fields");
    }
    let both = ["plain_text", "mrkdwn"];
    if let Some(text) = block.get("text") {
        check_text(Some(text), SECTION_TEXT, &both, total)?;
    }
    if let Some(fields) = block.get("fields") {
        let fields = fields.as_array().filter(|list| (1..=SECTION_FIELDS).contains(&list.len()));
        let Some(fields) = fields else { return refuse(WRONG, "a section has 1 to 10 fields") };
        for field in fields {
            check_text(Some(field), FIELD_TEXT, &both, total)?;
        }
    }
    block.get("accessory").map_or(Ok(()), |button| check_button(button, total))
}

fn check_button(button: &Value, total: &mut usize) -> Checked {
    let Some(button) = button.as_object().filter(|button| button.get("type") == Some(&"button".into()))
    else {
        return refuse(WRONG, "an element that is not a button");
    };
    only(button, &["text", "url", "action_id", "style", "value"])?;
    check_text(button.get("text"), BUTTON_TEXT, &["plain_text"], total)?;
    match button.get("url").and_then(Value::as_str) {
        Some(url) if url.len() <= BUTTON_URL && url.starts_with("https://") => Ok(()),
        Some(_) => refuse(WRONG, "a button's url is too long or not https"),
        // A webhook has nobody to answer an interaction.
        None => refuse(WRONG, "a button without a url"),
    }
}

fn elements(block: &Map<String, Value>, most: usize) -> Result<&Vec<Value>, Refusal> {
    let list = block.get("elements").and_then(Value::as_array);
    match list.filter(|list| (1..=most).contains(&list.len())) {
        Some(list) => Ok(list),
        None => refuse(WRONG, format!("a block wants 1 to {most} elements")),
    }
}

fn check_text(text: Option<&Value>, most: usize, kinds: &[&str], total: &mut usize) -> Checked {
    let Some(object) = text.and_then(Value::as_object) else {
        return refuse(WRONG, "a text object is missing");
    };
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    if !kinds.contains(&kind) {
        return refuse(WRONG, format!("a text of type {kind:?} where {kinds:?} is allowed"));
    }
    only(object, if kind == "mrkdwn" { &["text", "verbatim"] } else { &["text", "emoji"] })?;
    let text = object.get("text").and_then(Value::as_str).unwrap_or_default();
    let length = text.chars().count();
    if length == 0 || length > most {
        return refuse(WRONG, format!("a text of {length} characters, 1 to {most} are allowed"));
    }
    *total += length;
    if kind == "mrkdwn" { check_markup(text) } else { Ok(()) }
}

fn only(object: &Map<String, Value>, allowed: &[&str]) -> Checked {
    let unknown = object.keys().find(|key| {
        let key = key.as_str();
        key != "type" && key != "block_id" && !allowed.contains(&key)
    });
    match unknown {
        Some(key) => refuse(WRONG, format!("`{key}` is not allowed there")),
        None => Ok(()),
    }
}

/// `&`, `<` and `>` are written as entities unless they form a mention or a
/// link; Slack would show something else than was meant.
pub(super) fn check_markup(text: &str) -> Checked {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>']) {
        let (mark, after) = rest[at..].split_at(1);
        let taken = match mark {
            "&" => ["amp;", "lt;", "gt;"].iter().find(|entity| after.starts_with(**entity)).map(|e| e.len()),
            "<" => after.find('>').filter(|end| is_reference(&after[..*end])).map(|end| end + 1),
            _ => None,
        };
        let Some(taken) = taken else {
            return refuse("invalid_payload", format!("an unescaped `{mark}`"));
        };
        rest = &after[taken..];
    }
    Ok(())
}

/// What may stand between angle brackets.
fn is_reference(inside: &str) -> bool {
    let target = inside.split('|').next().unwrap_or_default();
    let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let has_id =
        |prefixes: &[&str]| prefixes.iter().any(|prefix| target.strip_prefix(prefix).is_some_and(is_id));
    ["!here", "!channel", "!everyone"].contains(&target)
        || has_id(&["@U", "@W", "#C", "!subteam^S"])
        || target.starts_with("!date^")
        || ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}
