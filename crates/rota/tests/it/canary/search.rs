//! A search for pieces of values in any bytes, in every form in which one might stand there.
//!
//! A piece is twelve bytes of a value in a row, wherever they begin. Whoever logs a value
//! cut short, wrapped or inside of something else is found, too.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

/// How much of a value is a leak. Twelve characters that are equal by chance do not occur:
/// even of hexadecimal digits, 48 bits.
pub(crate) const PIECE: usize = 12;

/// How many bytes of a needle the first filter looks at.
const WORD: usize = 8;

/// Bits of the first filter, by their binary logarithm: few needles share one.
const FILTER_BITS: u32 = 22;

/// How a value may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Plain,
    /// Either alphabet, at any of the three places where a value may begin.
    Base64,
    /// Upper or lower case.
    Hex,
    /// As in the path or query of a URL (RFC 3986, section 2.1).
    Url,
    /// As inside of a string of JSON, or of JSON in a string of JSON.
    Json,
}

impl Form {
    pub(crate) const ALL: [Self; 5] = [Self::Plain, Self::Base64, Self::Hex, Self::Url, Self::Json];

    /// Every way to write `bytes` in this form.
    pub(crate) fn write(self, bytes: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Self::Plain => vec![bytes.to_vec()],
            Self::Base64 => (0..3).flat_map(|before| base64(before, bytes)).collect(),
            Self::Hex => {
                let lower = hex::encode(bytes);
                vec![lower.to_uppercase().into_bytes(), lower.into_bytes()]
            }
            Self::Url => {
                let upper = url(bytes);
                vec![lower_escapes(&upper), upper.into_bytes()]
            }
            Self::Json => {
                let once = json(&String::from_utf8_lossy(bytes));
                vec![json(&once).into_bytes(), once.into_bytes()]
            }
        }
    }
}

/// The characters that follow from `bytes` alone, where `before` others stand before them.
fn base64(before: usize, bytes: &[u8]) -> [Vec<u8>; 2] {
    const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let all: Vec<u8> = std::iter::repeat_n(0, before).chain(bytes.iter().copied()).collect();
    let bit = |at: usize| all[at / 8] >> (7 - at % 8) & 1;
    let first = (before * 8).div_ceil(6);
    let last = all.len() * 8 / 6;
    let digit = |at: usize| (at * 6..at * 6 + 6).fold(0, |digit, at| digit << 1 | bit(at));
    let standard: Vec<u8> = (first..last).map(|at| STANDARD[usize::from(digit(at))]).collect();
    let url_safe = |byte: &u8| match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    };
    let url = standard.iter().map(url_safe).collect();
    [standard, url]
}

fn url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            other => write!(text, "%{other:02X}").unwrap(),
        }
    }
    text
}

fn lower_escapes(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for at in 0..bytes.len() {
        if bytes[at] == b'%' {
            bytes[at + 1..at + 3].make_ascii_lowercase();
        }
    }
    bytes
}

/// The inside of a JSON string.
fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

/// One hit. Says which value by its name, and never what it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    pub(crate) place: String,
    pub(crate) value: String,
    pub(crate) form: Form,
}

struct Needle {
    bytes: Vec<u8>,
    value: usize,
    form: Form,
}

/// Everything that is looked for.
pub(crate) struct Search {
    names: Vec<String>,
    needles: HashMap<[u8; PIECE], Vec<Needle>>,
    /// One bit for each beginning of a needle: most bytes of a haystack begin none.
    filter: Vec<u64>,
}

impl Search {
    /// For values by name, each of at least [`PIECE`] bytes.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let filter = vec![0; 1 << (FILTER_BITS - 6)];
        let mut search = Self { names: Vec::new(), needles: HashMap::new(), filter };
        for (name, value) in values {
            assert!(value.len() >= PIECE, "{name} is too short to be told from chance");
            search.names.push(name.to_owned());
            for form in Form::ALL {
                search.add(form, value);
            }
        }
        search
    }

    fn add(&mut self, form: Form, value: &str) {
        let pieces: Vec<String> = match form {
            // Whole characters: an escape stands for one.
            Form::Json => {
                let characters: Vec<char> = value.chars().collect();
                characters.windows(PIECE).map(|piece| piece.iter().collect()).collect()
            }
            _ => Vec::new(),
        };
        let windows: Vec<&[u8]> = match form {
            Form::Json => pieces.iter().map(String::as_bytes).collect(),
            _ => value.as_bytes().windows(PIECE).collect(),
        };
        for piece in windows {
            for bytes in form.write(piece) {
                let known = form != Form::Plain && bytes == piece;
                if !known {
                    self.add_needle(Needle { bytes, value: self.names.len() - 1, form });
                }
            }
        }
    }

    fn add_needle(&mut self, needle: Needle) {
        let key: [u8; PIECE] = needle.bytes[..PIECE].try_into().unwrap();
        let bit = bit_of(u64::from_le_bytes(key[..WORD].try_into().unwrap()));
        self.filter[bit >> 6] |= 1 << (bit & 63);
        self.needles.entry(key).or_default().push(needle);
    }

    /// Which values stand in `bytes`, each form once.
    pub(crate) fn hits(&self, place: &str, bytes: &[u8]) -> BTreeSet<Hit> {
        let mut hits = BTreeSet::new();
        // The last eight bytes; the first one is the lowest.
        let mut word = 0;
        for (at, byte) in bytes.iter().enumerate() {
            word = word >> 8 | u64::from(*byte) << 56;
            // Most of a database's files is nothing.
            if word == 0 {
                continue;
            }
            let bit = bit_of(word);
            if self.filter[bit >> 6] >> (bit & 63) & 1 == 1 && at + 1 >= WORD {
                hits.extend(self.at(place, &bytes[at + 1 - WORD..]));
            }
        }
        hits
    }

    fn at<'a>(&'a self, place: &'a str, bytes: &'a [u8]) -> impl Iterator<Item = Hit> + 'a {
        let key: Option<&[u8; PIECE]> = bytes.first_chunk();
        let needles = key.and_then(|key| self.needles.get(key)).into_iter().flatten();
        needles.filter(|needle| bytes.starts_with(&needle.bytes)).map(|needle| Hit {
            place: place.to_owned(),
            value: self.names[needle.value].clone(),
            form: needle.form,
        })
    }
}

/// Where the filter looks for needles that begin with these bytes.
fn bit_of(word: u64) -> usize {
    (word.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - FILTER_BITS)) as usize
}

const VALUE: &str = "k3y \"with\" \\ / + é & all that has to be escaped";

fn search() -> Search {
    Search::of([("key", VALUE)])
}

fn forms(bytes: &[u8]) -> Vec<Form> {
    search().hits("somewhere", bytes).into_iter().map(|hit| hit.form).collect()
}

#[test]
fn a_value_is_found_in_every_form_in_which_it_may_be_written() {
    for form in Form::ALL {
        for (way, written) in form.write(VALUE.as_bytes()).into_iter().enumerate() {
            let around = [b"some text before ".as_slice(), &written, b" and after"].concat();
            assert!(
                forms(&around).contains(&form),
                "{form:?}, way {way}: {}",
                String::from_utf8_lossy(&around)
            );
        }
    }
}

#[test]
fn the_forms_are_those_of_others_who_write_them() {
    // RFC 4648, section 10, at each of the three places.
    let written = |form: Form, text: &str| -> Vec<String> {
        form.write(text.as_bytes()).into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
    };
    let base64 = written(Form::Base64, "foobar");
    assert_eq!((base64[0].as_str(), base64.len()), ("Zm9vYmFy", 6));
    assert!("eGZvb2Jhcg==".contains(&base64[2]) && base64[2].len() == 7, "{base64:?}");
    assert!("eHhmb29iYXI=".contains(&base64[4]) && base64[4].len() == 7, "{base64:?}");
    assert_eq!(written(Form::Base64, "\u{3e}\u{3f}\u{3e}")[..2], ["Pj8+", "Pj8-"]);
    assert_eq!(written(Form::Hex, "foob"), ["666F6F62", "666f6f62"]);
    assert_eq!(written(Form::Url, "a b/é"), ["a%20b%2f%c3%a9", "a%20b%2F%C3%A9"]);
    assert_eq!(written(Form::Json, "a\"b\n"), [r#"a\\\"b\\n"#, r#"a\"b\n"#]);
}

#[test]
fn any_twelve_characters_of_a_value_are_found_and_fewer_are_not() {
    let characters: Vec<char> = VALUE.chars().collect();
    for piece in characters.windows(PIECE) {
        let piece: String = piece.iter().collect();
        assert!(forms(format!("<{piece}>").as_bytes()).contains(&Form::Plain), "{piece}");
    }
    for piece in characters.windows(PIECE - 2) {
        let piece: String = piece.iter().collect();
        assert_eq!(forms(format!("<{piece}>").as_bytes()), [], "{piece}");
    }
}

#[test]
fn a_hit_names_place_value_and_form_and_shows_nothing_of_it() {
    let hits = search().hits("log", VALUE.as_bytes());
    let hit = Hit { place: "log".to_owned(), value: "key".to_owned(), form: Form::Plain };
    assert_eq!(hits, BTreeSet::from([hit]));
    assert!(!format!("{hits:?}").contains("all that"));
    assert_eq!(search().hits("log", "nothing of it, nor anything else".as_bytes()), BTreeSet::new());
}
