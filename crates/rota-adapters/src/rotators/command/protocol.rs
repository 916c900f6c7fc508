//! What Rota asks a program, and how it answers.
//!
//! The exit code says what came of it; the few fields of the answer say what a code
//! cannot. Its text is never shown, so a code or a field that does not fit is told by
//! its name alone, and means that the outcome is unknown.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::id::{RotationId, SecretId};
use rota_core::value::{Bundle, SecretValue, push_json_string};
use rota_engine::ports::Which;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::child::{End, Said};

/// Grows when a program that keeps to this one would misunderstand a question.
pub const VERSION: u32 = 1;

/// The longest name of a credential; those of AWS, databases and providers are shorter.
const LONGEST_IDENTITY: usize = 200;

/// What the program is to do; its last argument, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Say what the target shows of the credential. Changes nothing.
    Observe,
    /// Make the target accept the new credential, beside the old one.
    Create,
    /// Use the credential as consumers do.
    Prove,
    /// Make the target refuse the credential for good.
    Revoke,
    /// Make the target refuse the old credential in a way that `enable` takes back.
    Disable,
    /// Make the target accept the old credential again.
    Enable,
}

/// Which of the two credentials the question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Credential {
    Old,
    New,
}

impl From<Which> for Credential {
    fn from(which: Which) -> Self {
        match which {
            Which::Old => Self::Old,
            Which::New => Self::New,
        }
    }
}

/// Orders effects: compared from left to right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FenceNumbers {
    /// Raised when the state database was restored.
    pub incarnation: i64,
    /// Raised with each lease of the rotation.
    pub epoch: i64,
    /// Raised with each effect on the target.
    pub effect: i64,
}

/// A question, on standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// The version of this protocol.
    pub version: u32,
    pub verb: Verb,
    /// The name of the secret in the policy.
    pub secret: String,
    /// Names everything that this rotation makes; a UUID.
    pub rotation: String,
    pub credential: Credential,
    /// What the target calls the credential, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// For what changes the target: an effect that is not greater than the last one comes late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceNumbers>,
    /// Something leaked.
    pub emergency: bool,
    /// `options` of the policy.
    pub options: BTreeMap<String, String>,
}

impl Question {
    pub(super) fn new(verb: Verb, which: Which, secret: &SecretId, rotation: RotationId) -> Self {
        Self {
            version: VERSION,
            verb,
            secret: secret.to_string(),
            rotation: rotation.to_string(),
            credential: which.into(),
            identity: None,
            fence: None,
            emergency: false,
            options: BTreeMap::new(),
        }
    }
}

/// An answer, on standard output. Nothing at all is an answer, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// `observe` without a value: what the target calls the credential that it found.
    pub identity: Option<String>,
    /// `observe` of the old credential: whether anybody uses it.
    pub in_use: Option<bool>,
    /// With exit code 76: how many seconds not to ask again.
    pub retry_after_s: Option<u32>,
}

/// What a program's exit code says, where it says something about the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 0: done; there and accepted.
    Done,
    /// 10: no such credential, or not with this value.
    Absent,
    /// 11: there, and refused until it is enabled.
    Disabled,
    /// 12: somebody else's value stands there.
    Foreign,
    /// 13: the target refuses the value.
    Refused,
}

impl Verb {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Create => "create",
            Self::Prove => "prove",
            Self::Revoke => "revoke",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }

    /// Whether a program may end so when it was asked this.
    fn may_say(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Done => true,
            Outcome::Absent | Outcome::Disabled => self == Self::Observe,
            Outcome::Foreign => self != Self::Prove,
            Outcome::Refused => self == Self::Prove,
        }
    }
}

/// What a program has said that can be used.
pub(super) struct Heard {
    pub(super) outcome: Outcome,
    pub(super) answer: Answer,
    made: Zeroizing<Vec<u8>>,
}

impl Heard {
    /// The values that it made, as it wrote them to descriptor 4.
    ///
    /// # Errors
    /// [`Fault::Transient`] where they cannot be read: the credential exists all the same.
    pub(super) fn values(&self) -> Result<Bundle, Fault> {
        let text =
            std::str::from_utf8(&self.made).ok().and_then(|text| SecretValue::new(text.to_owned()).ok());
        text.and_then(|text| Bundle::from_slot_text(&text)).ok_or_else(|| {
            Fault::transient(
                "descriptor 4 had no JSON object of texts; write the parts of the new value there",
            )
        })
    }
}

/// The values, as descriptor 3 gives them: an object with `old` and `new`, which are
/// objects of texts, and `admin`, each where it exists.
pub(super) fn values(
    old: Option<&Bundle>,
    new: Option<&Bundle>,
    admin: Option<&SecretValue>,
) -> Zeroizing<String> {
    let old = old.map(Bundle::to_slot_text);
    let new = new.map(Bundle::to_slot_text);
    // Room for all of it at once: growing would leave copies behind.
    let room = |value: &SecretValue| 6 * value.byte_len() + 16;
    let all = [old.as_ref(), new.as_ref(), admin];
    let mut text =
        Zeroizing::new(String::with_capacity(2 + all.into_iter().flatten().map(room).sum::<usize>()));
    let mut separator = '{';
    for (name, bundle) in [("old", &old), ("new", &new)] {
        if let Some(bundle) = bundle {
            text.push(separator);
            push_json_string(&mut text, name);
            text.push(':');
            text.push_str(bundle.expose());
            separator = ',';
        }
    }
    if let Some(admin) = admin {
        text.push(separator);
        text.push_str("\"admin\":");
        push_json_string(&mut text, admin.expose());
        separator = ',';
    }
    if separator == '{' {
        text.push('{');
    }
    text.push('}');
    text
}

/// What the end of a program says.
///
/// # Errors
/// The fault that its exit code stands for; [`Fault::Transient`] where it did not keep to
/// the protocol, since nobody knows what it did.
pub(super) fn hear(program: &str, verb: Verb, said: Said) -> Result<Heard, Fault> {
    let who = format!("`{program} {}`", verb.as_str());
    let unknown = |why: &str| Fault::transient(format!("{who} {why}, so what it did is not known"));
    if let end @ End::TimedOut(_) = said.end {
        return Err(unknown(&end.to_string()));
    }
    // Past a limit its pipe was closed, and it may have ended by that.
    let answer = answer(said.answer.as_deref().map(Vec::as_slice)).map_err(&unknown)?;
    let made = said.made.ok_or_else(|| unknown("wrote more to descriptor 4 than a value is"))?;
    let code = match said.end {
        End::Code(code) => code,
        end @ (End::Signal(_) | End::TimedOut(_)) => return Err(unknown(&end.to_string())),
    };
    let outcome = match code {
        0 => Outcome::Done,
        10 => Outcome::Absent,
        11 => Outcome::Disabled,
        12 => Outcome::Foreign,
        13 => Outcome::Refused,
        14 => return Err(Fault::conflict(format!("{who}: a later effect was there first"))),
        20 => {
            return Err(Fault::invalid(format!(
                "{who} says that a person has to change something (exit code 20); see what it has written down itself"
            )));
        }
        21 => {
            return Err(Fault::denied(format!(
                "{who} says that its own login or rights do not suffice (exit code 21); correct them"
            )));
        }
        75 => return Err(Fault::transient(format!("{who} says that it cannot be done now"))),
        76 => {
            let after = answer.retry_after_s.map_or(RETRY_AFTER, |s| SignedDuration::from_secs(s.into()));
            let message = format!("{who} says that the target asks for slower calls");
            return Err(Fault::RateLimited { message, retry_after: after });
        }
        other => return Err(unknown(&format!("ended with exit code {other}, which has no meaning"))),
    };
    if !verb.may_say(outcome) {
        return Err(unknown(&format!("ended with exit code {code}, which is no answer to that")));
    }
    Ok(Heard { outcome, answer, made })
}

/// Where a program that is asked to slow down does not say how long.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(30);

fn answer(said: Option<&[u8]>) -> Result<Answer, &'static str> {
    let said = said.ok_or("said more than an answer is")?;
    if said.iter().all(u8::is_ascii_whitespace) {
        return Ok(Answer::default());
    }
    let answer: Answer = serde_json::from_slice(said)
        .map_err(|_| "printed something else than the fields of an answer (its log belongs elsewhere)")?;
    match &answer.identity {
        Some(identity) if !is_identity(identity) => Err("gave an identity that cannot be one"),
        Some(_) | None => Ok(answer),
    }
}

/// An identity stands in history: short, and printable.
pub(super) fn is_identity(text: &str) -> bool {
    (1..=LONGEST_IDENTITY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rota_core::id::FieldName;

    use super::*;

    fn said(end: End, answer: &str) -> Said {
        Said {
            end,
            answer: Some(Zeroizing::new(answer.as_bytes().to_vec())),
            made: Some(Zeroizing::new(Vec::new())),
        }
    }

    fn fault(verb: Verb, said: Said) -> Fault {
        hear("users", verb, said).err().expect("that is no answer")
    }

    #[test]
    fn an_exit_code_means_something_only_for_the_verbs_that_it_answers() {
        let all = [Verb::Observe, Verb::Create, Verb::Prove, Verb::Revoke, Verb::Disable, Verb::Enable];
        for (code, outcome, verbs) in [
            (0, Outcome::Done, &all[..]),
            (10, Outcome::Absent, &[Verb::Observe]),
            (11, Outcome::Disabled, &[Verb::Observe]),
            (12, Outcome::Foreign, &[Verb::Observe, Verb::Create, Verb::Revoke, Verb::Disable, Verb::Enable]),
            (13, Outcome::Refused, &[Verb::Prove]),
        ] {
            for verb in all {
                let heard = hear("users", verb, said(End::Code(code), ""));
                match heard {
                    Ok(heard) => {
                        assert!(verbs.contains(&verb) && heard.outcome == outcome, "{code} {verb:?}")
                    }
                    Err(fault) => {
                        assert!(!verbs.contains(&verb), "{code} {verb:?}");
                        assert!(matches!(fault, Fault::Transient { .. }), "{fault}");
                    }
                }
            }
        }
    }

    #[test]
    fn each_failure_says_what_the_caller_does_next() {
        assert!(matches!(fault(Verb::Create, said(End::Code(14), "")), Fault::Conflict { .. }));
        assert!(matches!(fault(Verb::Create, said(End::Code(20), "")), Fault::Invalid { .. }));
        assert!(matches!(fault(Verb::Create, said(End::Code(21), "")), Fault::Denied { .. }));
        assert!(matches!(fault(Verb::Create, said(End::Code(75), "")), Fault::Transient { .. }));
        for (answer, seconds) in [("", 30), ("{\"retry_after_s\":120}", 120)] {
            let Fault::RateLimited { retry_after, .. } = fault(Verb::Create, said(End::Code(76), answer))
            else {
                panic!("76 is a limit");
            };
            assert_eq!(retry_after.as_secs(), seconds);
        }
    }

    #[test]
    fn whatever_else_happens_is_unknown_and_tells_nothing_of_what_was_printed() {
        let too_much = Said { answer: None, ..said(End::Code(0), "") };
        let ends =
            [End::Code(1), End::Code(127), End::Code(-1), End::Signal(9), End::TimedOut(Duration::ZERO)];
        let ends = ends.map(|end| said(end, ""));
        let garbage = ["hunter2", "[]", "\"hunter2\"", "{\"hunter2\":1}", "{\"in_use\":\"hunter2\"}"]
            .map(|text| said(End::Code(0), text));
        let identities = [String::new(), "x".repeat(201), "hunter2\\n".to_owned(), "\u{e9}".to_owned()]
            .map(|text| said(End::Code(0), &format!("{{\"identity\":\"{text}\"}}")));
        for said in ends.into_iter().chain(garbage).chain(identities).chain([too_much]) {
            let fault = fault(Verb::Observe, said);
            assert!(matches!(fault, Fault::Transient { .. }), "{fault}");
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn values_are_one_json_object_whatever_exists() {
        let value = |text: &str| SecretValue::new(text.to_owned()).unwrap();
        let bundle = |text: &str| Bundle::single(FieldName::new("password").unwrap(), value(text));
        assert_eq!(*values(None, None, None), "{}");
        let (old, new, admin) = (bundle("a\"b"), bundle("c"), value("d\n"));
        let all: serde_json::Value =
            serde_json::from_str(&values(Some(&old), Some(&new), Some(&admin))).unwrap();
        let wanted = serde_json::json!({
            "old": { "password": "a\"b" }, "new": { "password": "c" }, "admin": "d\n"
        });
        assert_eq!(all, wanted);
        let admin_alone: serde_json::Value = serde_json::from_str(&values(None, None, Some(&admin))).unwrap();
        assert_eq!(admin_alone, serde_json::json!({ "admin": "d\n" }));
    }
}
