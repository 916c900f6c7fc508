//! ACL policies: which paths a token may use and how ("Policies", "Policy
//! syntax" and its priority rules).
//!
//! Deliberately absent: parameter constraints, templates and Sentinel. A
//! policy that uses them is refused rather than half understood.

use std::collections::BTreeSet;

use serde_json::Value;

/// The policy that every token gets unless told otherwise; of Vault's own one,
/// the paths that this fake serves.
pub(super) const DEFAULT: &str = r#"
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
"#;

/// What a rule can grant.
const CAPABILITIES: [&str; 8] = ["create", "read", "update", "patch", "delete", "list", "sudo", "deny"];

/// A parsed policy.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    text: String,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: String,
    capabilities: BTreeSet<String>,
}

impl Policy {
    /// Reads the HCL or JSON form.
    ///
    /// # Errors
    /// With the reason, for Vault's 400.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rules = if text.trim_start().starts_with('{') { parse_json(text)? } else { parse_hcl(text)? };
        Ok(Self { text: text.to_owned(), rules })
    }

    /// Whether a rule grants something at or below a mount.
    pub(super) fn speaks_of(&self, mount: &str) -> bool {
        let near = |pattern: &str| {
            let fixed = pattern.split(['+', '*']).next().unwrap_or_default();
            fixed.starts_with(mount) || mount.starts_with(fixed)
        };
        self.rules.iter().any(|rule| near(&rule.pattern) && !rule.capabilities.contains("deny"))
    }

    /// The text as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// What these policies together grant on a path; empty means nothing.
///
/// Rules with the same pattern are merged over all policies, then only the most
/// specific matching pattern counts, and a `deny` in it beats all else.
pub(super) fn capabilities(policies: &[&Policy], path: &str) -> BTreeSet<String> {
    let rules = policies.iter().flat_map(|policy| &policy.rules);
    let matching: Vec<&Rule> = rules.filter(|rule| matches(&rule.pattern, path)).collect();
    let Some(best) = matching.iter().map(|rule| rank(&rule.pattern)).max() else { return BTreeSet::new() };
    let granted: BTreeSet<String> = matching
        .iter()
        .filter(|rule| rank(&rule.pattern) == best)
        .flat_map(|rule| rule.capabilities.iter().cloned())
        .collect();
    if granted.contains("deny") { BTreeSet::new() } else { granted }
}

/// `*` only at the end, for any rest; `+` for one whole segment.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, open) = match pattern.strip_suffix('*') {
        Some(start) => (start, true),
        None => (pattern, false),
    };
    let (wanted, given): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    if given.len() < wanted.len() || (!open && given.len() != wanted.len()) {
        return false;
    }
    let last = wanted.len() - 1;
    wanted.iter().zip(&given).enumerate().all(|(index, (wanted, given))| match *wanted {
        "+" => !given.is_empty(),
        start if open && index == last => given.starts_with(start),
        segment => segment == *given,
    })
}

/// Greater is more specific: a later first wildcard, no `*` at the end, fewer
/// `+`, longer, then by the alphabet.
fn rank(pattern: &str) -> (usize, bool, std::cmp::Reverse<usize>, usize, &str) {
    let first_plus = segments_before_plus(pattern);
    let first_star = pattern.strip_suffix('*').map_or(usize::MAX, str::len);
    let pluses = pattern.split('/').filter(|segment| *segment == "+").count();
    let first = first_plus.min(first_star);
    (first, !pattern.ends_with('*'), std::cmp::Reverse(pluses), pattern.len(), pattern)
}

fn segments_before_plus(pattern: &str) -> usize {
    let mut at = 0;
    for segment in pattern.split('/') {
        if segment == "+" {
            return at;
        }
        at += segment.len() + 1;
    }
    usize::MAX
}

fn rule(pattern: &str, capabilities: Vec<String>) -> Result<Rule, String> {
    if let Some(unknown) = capabilities.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
        return Err(format!("path \"{pattern}\": invalid capability \"{unknown}\""));
    }
    if pattern.is_empty() || pattern[..pattern.len() - 1].contains('*') {
        return Err(format!("path \"{pattern}\": a glob is only allowed at the end"));
    }
    Ok(Rule {
        pattern: pattern.trim_start_matches('/').to_owned(),
        capabilities: capabilities.into_iter().collect(),
    })
}

fn parse_json(text: &str) -> Result<Vec<Rule>, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("failed to parse policy: {error}"))?;
    let paths = value.get("path").and_then(Value::as_object).ok_or("failed to parse policy: no path")?;
    let mut rules = Vec::new();
    for (pattern, body) in paths {
        let names = body.get("capabilities").and_then(Value::as_array);
        let names = names.ok_or_else(|| format!("path \"{pattern}\": no capabilities"))?;
        rules.push(rule(pattern, names.iter().filter_map(Value::as_str).map(Into::into).collect())?);
    }
    Ok(rules)
}

fn parse_hcl(text: &str) -> Result<Vec<Rule>, String> {
    let tokens = tokens(text)?;
    let mut rest = tokens.as_slice();
    let mut rules = Vec::new();
    while !rest.is_empty() {
        let [Token::Word(path), Token::Text(pattern), Token::Mark('{'), after @ ..] = rest else {
            return Err("failed to parse policy: expected path \"...\" {".to_owned());
        };
        let [Token::Word(key), Token::Mark('='), Token::Mark('['), after @ ..] = after else {
            return Err(format!("path \"{pattern}\": expected capabilities = ["));
        };
        if path != "path" || key != "capabilities" {
            return Err(format!("path \"{pattern}\": only capabilities are known here, not {key}"));
        }
        let end = after.iter().position(|token| *token == Token::Mark(']'));
        let end = end.ok_or_else(|| format!("path \"{pattern}\": a list without an end"))?;
        let mut names = Vec::new();
        for token in &after[..end] {
            match token {
                Token::Text(name) => names.push(name.clone()),
                Token::Mark(',') => {}
                Token::Word(_) | Token::Mark(_) => {
                    return Err(format!("path \"{pattern}\": a list of strings is expected"));
                }
            }
        }
        let [Token::Mark('}'), after @ ..] = &after[end + 1..] else {
            return Err(format!("path \"{pattern}\": only capabilities are known here"));
        };
        rules.push(rule(pattern, names)?);
        rest = after;
    }
    Ok(rules)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '#' => rest.len(),
                '/' if rest.starts_with("//") => rest.len(),
                '"' => {
                    let end = rest[1..].find('"').ok_or("failed to parse policy: a string without an end")?;
                    tokens.push(Token::Text(rest[1..=end].to_owned()));
                    end + 2
                }
                '{' | '}' | '[' | ']' | '=' | ',' => {
                    tokens.push(Token::Mark(first));
                    1
                }
                _ => {
                    let end =
                        rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                    if end == 0 {
                        return Err(format!("failed to parse policy: illegal character {first:?}"));
                    }
                    tokens.push(Token::Word(rest[..end].to_owned()));
                    end
                }
            };
            rest = rest[length..].trim_start();
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(policies: &[&str], path: &str) -> Vec<String> {
        let parsed: Vec<Policy> = policies.iter().map(|text| Policy::parse(text).unwrap()).collect();
        capabilities(&parsed.iter().collect::<Vec<_>>(), path).into_iter().collect()
    }

    #[test]
    fn only_the_most_specific_pattern_counts_and_deny_beats_all() {
        let wide = r#"path "secret/data/*" { capabilities = ["read", "list"] }"#;
        let narrow =
            "# one team\npath \"secret/data/acd/+\" {\n  capabilities = [\"update\"] // all of it\n}\n";
        let exact = r#"path "secret/data/acd/jwt" { capabilities = ["delete"] }"#;
        let all = [wide, narrow, exact];
        assert_eq!(granted(&all, "secret/data/other"), ["list", "read"]);
        assert_eq!(granted(&all, "secret/data/acd/api"), ["update"]);
        assert_eq!(granted(&all, "secret/data/acd/jwt"), ["delete"]);
        assert_eq!(granted(&all, "secret/data/acd/api/deeper"), ["list", "read"]);
        assert_eq!(granted(&all, "secret/metadata/acd"), [""; 0]);
        let deny = r#"path "secret/data/*" { capabilities = ["deny"] }"#;
        assert_eq!(granted(&[wide, deny], "secret/data/x"), [""; 0]);
        let also = r#"{"path": {"secret/data/*": {"capabilities": ["create"]}}}"#;
        assert_eq!(granted(&[wide, also], "secret/data/x"), ["create", "list", "read"]);
    }

    #[test]
    fn a_policy_that_is_not_understood_is_refused() {
        for wrong in [
            r#"path "a" { capabilities = ["write"] }"#,
            r#"path "a*b" { capabilities = ["read"] }"#,
            r#"path "a" { required_parameters = ["x"] }"#,
            r#"path "a" { capabilities = ["read"] max_wrapping_ttl = "1h" }"#,
            r#"path "a" { capabilities = ["read"#,
            r#"paths "a" { capabilities = ["read"] }"#,
            r#"{"path": {"a": {"policy": "read"}}}"#,
            "path \"a\" { ; }",
        ] {
            assert!(Policy::parse(wrong).is_err(), "{wrong}");
        }
    }
}
