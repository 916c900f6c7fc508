//! The way back: which parts a filled template was made from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{Piece, Template};
use crate::value::SecretValue;

/// A hole's text as it stands, or with its percent-encoding undone.
type Found<'t> = Vec<(&'t str, Zeroizing<String>)>;

impl Template {
    /// The inverse of [`Template::fill`]: what stands in each hole that `known` does not
    /// fill. Of several readings the one with the shortest first parts is taken; a part
    /// is never empty. `None` where `text` was not made from this template.
    #[must_use]
    pub fn read(
        &self,
        text: &SecretValue,
        known: &BTreeMap<&str, &str>,
    ) -> Option<BTreeMap<String, SecretValue>> {
        let mut found = Found::new();
        if !read_pieces(&self.pieces, text.expose(), known, &mut found) {
            return None;
        }
        let mut parts = BTreeMap::new();
        for (name, mut text) in found {
            parts.insert(name.to_owned(), SecretValue::new(std::mem::take(&mut *text)).ok()?);
        }
        Some(parts)
    }
}

/// Reads `text` to its end; what was `found` stays as it was where that fails.
fn read_pieces<'t>(
    pieces: &'t [Piece],
    text: &str,
    known: &BTreeMap<&str, &str>,
    found: &mut Found<'t>,
) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return text.is_empty() };
    let (name, url) = match piece {
        Piece::Literal(literal) => {
            return text
                .strip_prefix(literal.as_str())
                .is_some_and(|after| read_pieces(rest, after, known, found));
        }
        Piece::Hole { name, url } => (name.as_str(), *url),
    };
    let earlier = found.iter().find(|(earlier, _)| *earlier == name).map(|(_, text)| text.clone());
    let wanted = earlier.or_else(|| known.get(name).map(|text| Zeroizing::new((*text).to_owned())));
    for end in ends(text, rest) {
        let Some(part) = decoded(&text[..end], url) else { continue };
        if let Some(wanted) = &wanted {
            if **wanted == *part && read_pieces(rest, &text[end..], known, found) {
                return true;
            }
            continue;
        }
        found.push((name, part));
        if read_pieces(rest, &text[end..], known, found) {
            return true;
        }
        found.pop();
    }
    false
}

/// Where the part at the start of `text` may end, the nearest first.
fn ends<'a>(text: &'a str, rest: &'a [Piece]) -> Box<dyn Iterator<Item = usize> + 'a> {
    match rest.first() {
        None => Box::new((!text.is_empty()).then_some(text.len()).into_iter()),
        Some(Piece::Literal(literal)) => {
            Box::new(text.match_indices(literal.as_str()).map(|(at, _)| at).filter(|at| *at > 0))
        }
        Some(Piece::Hole { .. }) => Box::new(text.char_indices().map(|(at, _)| at).filter(|at| *at > 0)),
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1) where the hole asks for it; a text
/// that a person left unencoded is taken as it stands.
fn decoded(text: &str, url: bool) -> Option<Zeroizing<String>> {
    let bytes = match url {
        true => Zeroizing::new(percent_decoded(text.as_bytes())?),
        false => return Some(Zeroizing::new(text.to_owned())),
    };
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => Some(Zeroizing::new(text.to_owned())),
        Cow::Owned(_) => None,
    }
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digit =
        |byte: Option<&u8>| char::from(*byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%' {
            decoded.push(digit(after.first())? * 16 + digit(after.get(1))?);
            rest = &after[2..];
        } else {
            decoded.push(*byte);
            rest = after;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned()).unwrap()
    }

    fn read(template: &str, text: &str, known: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let template: Template = template.parse().unwrap();
        let parts = template.read(&value(text), &known.iter().copied().collect())?;
        Some(parts.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect())
    }

    fn pairs(parts: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(parts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    const URL: &str = "postgresql://{username}:{password:url}@{host}:{port}/acd";
    const KNOWN: &[(&str, &str)] = &[("host", "db.internal"), ("port", "5432")];

    #[test]
    fn a_url_is_taken_apart_again() {
        let parts = pairs(&[("password", "p@:/é"), ("username", "acd_a")]);
        assert_eq!(read(URL, "postgresql://acd_a:p%40%3A%2F%C3%A9@db.internal:5432/acd", KNOWN), parts);
        let by_hand = read(URL, "postgresql://acd_a:p@:/é@db.internal:5432/acd", KNOWN);
        assert_eq!(by_hand, parts, "a password that a person did not encode");
        assert_eq!(read("{password}", "x", &[]), pairs(&[("password", "x")]));
        assert_eq!(read("{a}-{b}-{a}", "1-2-1", &[]), pairs(&[("a", "1"), ("b", "2")]));
        assert_eq!(read("plain", "plain", &[]), pairs(&[]));
    }

    #[test]
    fn what_was_not_made_from_the_template_is_not_taken_apart() {
        for text in [
            "postgresql://acd_a:x@elsewhere:5432/acd",
            "postgresql://acd_a:x@db.internal:5432/acd?sslmode=require",
            "postgresql://:x@db.internal:5432/acd",
            "postgresql://acd_a:%zz@db.internal:5432/acd",
            "x",
        ] {
            assert_eq!(read(URL, text, KNOWN), None, "{text}");
        }
        assert_eq!(read("{a}-{a}", "1-2", &[]), None);
    }

    proptest! {
        #[test]
        fn whatever_is_filled_in_is_read_back(user in "[a-z_]{1,20}", password in "[^\0]{1,40}") {
            let template: Template = URL.parse().unwrap();
            let parts = [value(&user), value(&password), value("db.internal"), value("5432")];
            let names = ["username", "password", "host", "port"];
            let filled = template.fill(&names.into_iter().zip(&parts).collect()).unwrap();
            let read = template.read(&filled, &KNOWN.iter().copied().collect()).unwrap();
            prop_assert_eq!(read["username"].expose(), user);
            prop_assert_eq!(read["password"].expose(), password);
        }
    }
}
