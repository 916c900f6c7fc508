//! A user as `ACL GETUSER` shows it (redis.io, "ACL GETUSER").

use std::collections::BTreeSet;

use redis::Value;
use rota_core::value::SecretValue;
use sha2::{Digest as _, Sha256};

/// What the server keeps of a password: its SHA-256 in lower-case hexadecimal.
pub(crate) fn hash(password: &SecretValue) -> String {
    hex::encode(Sha256::digest(password.expose().as_bytes()))
}

/// A user of one node. Without `Debug`: hashes of passwords are not for logs.
#[derive(Clone, PartialEq)]
pub(crate) struct User {
    /// It can log in.
    pub(crate) on: bool,
    /// Any password is accepted.
    pub(crate) open: bool,
    pub(crate) hashes: BTreeSet<String>,
    /// What it may do, as the server writes it.
    pub(crate) rights: Vec<(String, Value)>,
}

impl User {
    /// Reads the pairs of names and answers; `None` where that is no user.
    pub(crate) fn read(answer: &Value) -> Option<Self> {
        let pairs: Vec<(String, Value)> = match answer {
            Value::Array(flat) => {
                flat.chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?, pair[1].clone()))).collect()
            }
            Value::Map(pairs) => {
                pairs.iter().filter_map(|(name, value)| Some((text(name)?, value.clone()))).collect()
            }
            _ => return None,
        };
        let set_of = |name: &str| {
            let (_, value) = pairs.iter().find(|(key, _)| key == name)?;
            value.as_sequence().map(|texts| texts.iter().filter_map(text).collect::<BTreeSet<String>>())
        };
        let (flags, hashes) = (set_of("flags")?, set_of("passwords")?);
        let kept = |name: &str| !matches!(name, "flags" | "passwords");
        Some(Self {
            on: flags.contains("on"),
            open: flags.contains("nopass"),
            hashes,
            rights: pairs.into_iter().filter(|(name, _)| kept(name)).collect(),
        })
    }

    /// The first kind of right in which two users differ.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<&str> {
        let differs =
            |(name, value): &&(String, Value)| !other.rights.contains(&(name.clone(), value.clone()));
        self.rights.iter().find(differs).map(|(name, _)| name.as_str())
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(flags: &[&str], hashes: &[&str], keys: &str) -> Value {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let list = |texts: &[&str]| Value::Array(texts.iter().map(|text| bulk(text)).collect());
        Value::Array(vec![
            bulk("flags"),
            list(flags),
            bulk("passwords"),
            list(hashes),
            bulk("keys"),
            bulk(keys),
        ])
    }

    #[test]
    fn a_user_is_read_as_the_server_shows_it() {
        let read = User::read(&user(&["on", "sanitize-payload"], &["cafe", "beef"], "~*")).unwrap();
        assert!(read.on && !read.open);
        assert_eq!(read.hashes, BTreeSet::from(["beef".to_owned(), "cafe".to_owned()]));
        assert!(User::read(&user(&["off", "nopass"], &[], "~*")).is_some_and(|user| user.open && !user.on));
        assert!(User::read(&Value::Nil).is_none());
    }

    #[test]
    fn rights_are_compared_and_passwords_are_not() {
        let one = User::read(&user(&["on"], &["cafe"], "~*")).unwrap();
        let same = User::read(&user(&["off"], &["beef"], "~*")).unwrap();
        let other = User::read(&user(&["on"], &["cafe"], "~app:*")).unwrap();
        assert_eq!(one.differs_from(&same), None);
        assert_eq!(one.differs_from(&other), Some("keys"));
    }

    #[test]
    fn a_password_is_hashed_as_the_server_does() {
        let password = SecretValue::new("two".to_owned()).unwrap();
        assert_eq!(hash(&password), "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3");
    }
}
