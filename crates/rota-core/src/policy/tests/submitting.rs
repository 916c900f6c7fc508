//! What is taken of what a person hands in.

use super::{HEAD, load};
use crate::policy::model::SecretPolicy;
use crate::submission::{Unfit, read};
use crate::value::{Bundle, SecretValue};

fn secret(keys: &str) -> SecretPolicy {
    let text = format!(
        "{HEAD}[secret.KEY]\nkind = \"operator\"\ncadence = \"90d\"\nconsumers = [\"backend\"]\n{keys}"
    );
    let loaded = load(&text);
    let policy = loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    policy.secrets.into_values().next().unwrap()
}

fn handed_in(secret: &SecretPolicy, text: &str) -> Result<Bundle, Unfit> {
    read(secret, &SecretValue::new(text.to_owned()).unwrap())
}

#[test]
fn a_single_value_is_taken_as_it_is_where_it_has_the_format() {
    let secret = secret("format = \"hex:16\"\n");
    assert!(handed_in(&secret, &"a1".repeat(16)).is_ok());
    for slip in ["a1", "not hexadecimal but thirty two c", "{\"KEY\":\"a\"}"] {
        let refused = handed_in(&secret, slip).err().unwrap();
        assert!(matches!(refused, Unfit::Format { .. }), "{refused}");
        assert!(!refused.to_string().contains(slip), "{refused}");
    }
}

#[test]
fn several_fields_are_all_there_none_else_and_each_in_its_format() {
    let secret = secret("fields = { NAME = { format = \"text:1-20\" }, TOKEN = { format = \"hex:16\" } }\n");
    let token = "a1".repeat(16);
    assert!(handed_in(&secret, &format!(r#"{{"NAME":"backend","TOKEN":"{token}"}}"#)).is_ok());
    let refused = |text: &str| handed_in(&secret, text).err().unwrap();
    assert!(matches!(refused("sk-pasted"), Unfit::NotAnObject(_)));
    assert!(matches!(refused(r#"{"NAME":"backend"}"#), Unfit::Missing(name) if name.as_str() == "TOKEN"));
    assert!(matches!(refused(r#"{"NAME":"backend","TOKEN":"short"}"#), Unfit::Format { .. }));
    let other = refused(&format!(r#"{{"NAME":"backend","TOKEN":"{token}","sk-pasted":"x"}}"#));
    assert!(matches!(other, Unfit::NoSuchField(_)) && !other.to_string().contains("sk-pasted"), "{other}");
}
