//! How values are generated, checked and put together.
//!
//! A [`Format`] makes a value from random bytes that the caller brings, and tells
//! whether a value made elsewhere has that form. A [`Template`] puts values together.
//! Deliberately absent: a random source, and the minimums per class (the policy's rules).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use base64::engine::Config as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::redact::clean_line;
use crate::value::{InvalidValue, MAX_VALUE_BYTES, SecretValue};

mod template;

pub use template::{FillError, InvalidTemplate, MAX_PATH_BYTES, MAX_TEMPLATE_BYTES, Template};

/// The most bytes or characters that a generated format may ask for: sixteen times
/// the longest key in use, and far below every store's limit.
pub const MAX_GENERATED: u32 = 1024;

/// A generation format. Byte counts are entropy, not length. Written, and stored, as
/// text: `hex:64`, `password:24:symbols`, `text:20-200`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Format {
    /// `hex:N`: N random bytes as 2N lower-case hex digits.
    Hex { bytes: u32 },
    /// `base64:N`: N random bytes, RFC 4648 section 4, padded.
    Base64 { bytes: u32 },
    /// `base64url:N`: N random bytes, RFC 4648 section 5, without padding.
    Base64Url { bytes: u32 },
    /// `base62:N`: N characters of `0-9A-Za-z`.
    Base62 { chars: u32 },
    /// `password:N` or `password:N:set`: N characters of a named set.
    Password { chars: u32, set: PasswordSet },
    /// `uuid`: a random UUID (version 4).
    Uuid,
    /// `text:MIN-MAX`: made elsewhere; only its length is checked, in characters.
    Text { min: u32, max: u32 },
}

/// The characters of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordSet {
    /// Letters and digits.
    Alnum,
    /// Letters, digits and `-_.~`: needs no escaping in a URL (RFC 3986, section 2.3).
    UrlSafe,
    /// Letters, digits and ASCII punctuation without quotes, backslash, space and `$`.
    Symbols,
}

impl PasswordSet {
    /// Every set, in the order in which messages list them; the first is the default.
    pub const ALL: [Self; 3] = [Self::Alnum, Self::UrlSafe, Self::Symbols];

    /// The name in a policy file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alnum => "alnum",
            Self::UrlSafe => "url-safe",
            Self::Symbols => "symbols",
        }
    }

    /// The characters, each once, all ASCII.
    #[must_use]
    pub fn alphabet(self) -> &'static [u8] {
        match self {
            Self::Alnum => BASE62,
            Self::UrlSafe => b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.~",
            // The backtick is a quote to a shell and to dotenv.
            Self::Symbols => {
                b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#%&()*+,-./:;<=>?@[]^_{|}~"
            }
        }
    }
}

const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Where random bytes come from: the operating system's generator in production.
pub trait RandomSource {
    /// Fills `buf` whole with random bytes.
    ///
    /// # Errors
    /// Where the source fails. Nothing in `buf` may be used then.
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), RandomFailed>;
}

/// The random source failed, or yields bytes that cannot be random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random generator failed, nothing was generated")]
pub struct RandomFailed;

/// Why no value was generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotGenerated {
    /// Trying again later may succeed.
    #[error(transparent)]
    Random(#[from] RandomFailed),
    /// Never succeeds: a person or a provider makes the value.
    #[error("a `text` value is made elsewhere; to have it generated write a format such as `base62:40`")]
    MadeElsewhere,
    /// Never succeeds: the format asks for what cannot be a value.
    #[error(transparent)]
    Value(#[from] InvalidValue),
}

/// Why a value does not have the format. Says what was found without the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatMismatch {
    #[error("the value has {found} characters where `{format}` has {}", describe(.wanted))]
    Length { format: Format, found: usize, wanted: RangeInclusive<u32> },
    #[error("the value holds a character that `{format}` does not have")]
    Character { format: Format },
    #[error("the value has the length of `{format}` but not its form")]
    Form { format: Format },
}

fn describe(range: &RangeInclusive<u32>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{} to {}", range.start(), range.end())
    }
}

/// Why a text is not a format; says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a format: {advice}")]
pub struct InvalidFormat {
    text: String,
    advice: String,
}

impl InvalidFormat {
    fn new(text: &str, advice: impl Into<String>) -> Self {
        Self { text: clean_line(text, 60), advice: advice.into() }
    }
}

impl Format {
    /// Makes a value. Buffers on the way are wiped, and characters are drawn by
    /// rejection, so that each is equally likely.
    ///
    /// # Errors
    /// The source failed, or the format is made elsewhere.
    pub fn generate(&self, random: &mut dyn RandomSource) -> Result<SecretValue, NotGenerated> {
        let text = match *self {
            Self::Hex { bytes } => {
                let raw = random_bytes(bytes, random)?;
                let mut text = Zeroizing::new(vec![0; raw.len() * 2]);
                hex::encode_to_slice(&raw, &mut text).map_err(|_| RandomFailed)?;
                text
            }
            Self::Base64 { bytes } => encode_base64(&STANDARD, &random_bytes(bytes, random)?)?,
            Self::Base64Url { bytes } => encode_base64(&URL_SAFE_NO_PAD, &random_bytes(bytes, random)?)?,
            Self::Base62 { chars } => draw(BASE62, chars, random)?,
            Self::Password { chars, set } => draw(set.alphabet(), chars, random)?,
            Self::Uuid => {
                let mut raw = Zeroizing::new([0; 16]);
                random.fill(&mut *raw)?;
                let mut text = Zeroizing::new(vec![0; uuid::fmt::Hyphenated::LENGTH]);
                uuid::Builder::from_random_bytes(*raw).as_uuid().hyphenated().encode_lower(&mut text);
                text
            }
            Self::Text { .. } => return Err(NotGenerated::MadeElsewhere),
        };
        // All the alphabets above are ASCII, so one byte is one character.
        let mut value = Zeroizing::new(String::with_capacity(text.len()));
        value.extend(text.iter().map(|b| char::from(*b)));
        Ok(SecretValue::new(std::mem::take(&mut *value))?)
    }

    /// How many bits a generated value has, rounded down; `None` where it is made elsewhere.
    #[must_use]
    pub fn entropy_bits(&self) -> Option<u32> {
        let of_chars = |chars: u32, alphabet: usize| {
            let bits = f64::from(chars) * (alphabet as f64).log2();
            // Bounded by MAX_GENERATED times 7.
            bits.floor() as u32
        };
        match *self {
            Self::Hex { bytes } | Self::Base64 { bytes } | Self::Base64Url { bytes } => Some(bytes * 8),
            Self::Base62 { chars } => Some(of_chars(chars, BASE62.len())),
            Self::Password { chars, set } => Some(of_chars(chars, set.alphabet().len())),
            // RFC 9562, section 5.4: 128 bits less the version and the variant.
            Self::Uuid => Some(122),
            Self::Text { .. } => None,
        }
    }

    /// How many characters a value of this format has.
    #[must_use]
    pub fn length(&self) -> RangeInclusive<u32> {
        let exactly = |n: u32| n..=n;
        match *self {
            Self::Hex { bytes } => exactly(bytes * 2),
            Self::Base64 { bytes } => exactly(bytes.div_ceil(3) * 4),
            Self::Base64Url { bytes } => exactly((bytes * 4).div_ceil(3)),
            Self::Base62 { chars } | Self::Password { chars, .. } => exactly(chars),
            Self::Uuid => exactly(36),
            Self::Text { min, max } => min..=max,
        }
    }

    /// Checks that `value` has this format, whoever made it. Hex digits and UUIDs
    /// may be in either case.
    ///
    /// # Errors
    /// What differs, without the value.
    pub fn check(&self, value: &SecretValue) -> Result<(), FormatMismatch> {
        let text = value.expose();
        let (found, wanted) = (text.chars().count(), self.length());
        if u32::try_from(found).map_or(true, |n| !wanted.contains(&n)) {
            return Err(FormatMismatch::Length { format: self.clone(), found, wanted });
        }
        let only = |legal: &dyn Fn(u8) -> bool| {
            text.bytes().all(legal).then_some(()).ok_or(FormatMismatch::Character { format: self.clone() })
        };
        match self {
            Self::Hex { .. } => only(&|b| b.is_ascii_hexdigit()),
            Self::Base64 { bytes } => self.check_base64(&STANDARD, text, *bytes),
            Self::Base64Url { bytes } => self.check_base64(&URL_SAFE_NO_PAD, text, *bytes),
            Self::Base62 { .. } => only(&|b| b.is_ascii_alphanumeric()),
            Self::Password { set, .. } => only(&|b| set.alphabet().contains(&b)),
            Self::Uuid => match uuid::Uuid::try_parse(text) {
                Ok(id) if id.get_version_num() == 4 && id.get_variant() == uuid::Variant::RFC4122 => Ok(()),
                Ok(_) | Err(_) => Err(FormatMismatch::Form { format: self.clone() }),
            },
            Self::Text { .. } => Ok(()),
        }
    }

    fn check_base64(
        &self,
        engine: &impl base64::Engine,
        text: &str,
        bytes: u32,
    ) -> Result<(), FormatMismatch> {
        let mut raw = Zeroizing::new(vec![0; text.len()]);
        match engine.decode_slice(text, &mut raw) {
            Ok(len) if u32::try_from(len) == Ok(bytes) => Ok(()),
            Ok(_) => Err(FormatMismatch::Form { format: self.clone() }),
            // The error names the offending byte, which is part of the value.
            Err(_) => Err(FormatMismatch::Character { format: self.clone() }),
        }
    }
}

fn random_bytes(bytes: u32, random: &mut dyn RandomSource) -> Result<Zeroizing<Vec<u8>>, RandomFailed> {
    let mut raw = Zeroizing::new(vec![0; bytes as usize]);
    random.fill(&mut raw)?;
    Ok(raw)
}

fn encode_base64(engine: &impl base64::Engine, raw: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotGenerated> {
    let padded = engine.config().encode_padding();
    let len = base64::encoded_len(raw.len(), padded).ok_or(InvalidValue::TooLong(raw.len()))?;
    let mut text = Zeroizing::new(vec![0; len]);
    engine.encode_slice(raw, &mut text).map_err(|_| InvalidValue::TooLong(raw.len()))?;
    Ok(text)
}

/// Draws this many bytes per character at most. With alphabets of 62 to 90 at least
/// half of the bytes are taken, so a source that needs more is not random.
const DRAWS_PER_CHAR: u32 = 64;

/// Draws `chars` characters of `alphabet`, each equally likely: the low bits of a
/// random byte are an index, and an index past the end is thrown away.
fn draw(
    alphabet: &[u8],
    chars: u32,
    random: &mut dyn RandomSource,
) -> Result<Zeroizing<Vec<u8>>, RandomFailed> {
    let mask = alphabet.len().next_power_of_two() - 1;
    let mut text = Zeroizing::new(Vec::with_capacity(chars as usize));
    let mut raw = Zeroizing::new([0; 64]);
    let rounds = (chars * DRAWS_PER_CHAR).div_ceil(64);
    for _ in 0..rounds {
        if text.len() == chars as usize {
            return Ok(text);
        }
        random.fill(&mut *raw)?;
        let missing = chars as usize - text.len();
        text.extend(raw.iter().filter_map(|b| alphabet.get(usize::from(*b) & mask)).take(missing).copied());
    }
    if text.len() == chars as usize { Ok(text) } else { Err(RandomFailed) }
}

const EXAMPLES: &str = "`hex:64` or `base64:32` or `base64url:32` (bytes of entropy), `base62:40` or \
    `password:24` (characters), `uuid`, `text:20-200` (made elsewhere)";

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        let (name, rest) = text.split_once(':').map_or((text, None), |(name, rest)| (name, Some(rest)));
        let count = |what: &str, example: &str| {
            let number = rest.and_then(parse_number).filter(|n| (1..=MAX_GENERATED).contains(n));
            number.ok_or_else(|| {
                InvalidFormat::new(
                    text,
                    format!("write the number of {what}, 1 to {MAX_GENERATED}, as in `{example}`"),
                )
            })
        };
        match name {
            "hex" => Ok(Self::Hex { bytes: count("random bytes", "hex:64")? }),
            "base64" => Ok(Self::Base64 { bytes: count("random bytes", "base64:32")? }),
            "base64url" => Ok(Self::Base64Url { bytes: count("random bytes", "base64url:32")? }),
            "base62" => Ok(Self::Base62 { chars: count("characters", "base62:40")? }),
            "password" => parse_password(text, rest.unwrap_or_default()),
            "uuid" => match rest {
                None => Ok(Self::Uuid),
                Some(_) => Err(InvalidFormat::new(text, "write `uuid` alone")),
            },
            "text" => parse_text(text, rest.unwrap_or_default()),
            _ => Err(InvalidFormat::new(text, format!("write one of {EXAMPLES}"))),
        }
    }
}

/// A decimal number without a sign, blanks or leading zeros.
fn parse_number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

fn parse_password(text: &str, rest: &str) -> Result<Format, InvalidFormat> {
    let (chars, set) = rest.split_once(':').unwrap_or((rest, PasswordSet::ALL[0].name()));
    let chars = parse_number(chars).filter(|n| (1..=MAX_GENERATED).contains(n)).ok_or_else(|| {
        InvalidFormat::new(
            text,
            format!("write the number of characters, 1 to {MAX_GENERATED}, as in `password:24`"),
        )
    })?;
    let set = PasswordSet::ALL.into_iter().find(|s| s.name() == set).ok_or_else(|| {
        InvalidFormat::new(
            text,
            format!("write `password:{chars}`, `password:{chars}:url-safe` or `password:{chars}:symbols`"),
        )
    })?;
    Ok(Format::Password { chars, set })
}

fn parse_text(text: &str, rest: &str) -> Result<Format, InvalidFormat> {
    let bounds = rest.split_once('-').and_then(|(min, max)| Some((parse_number(min)?, parse_number(max)?)));
    match bounds {
        Some((min, max)) if min <= max && max as usize <= MAX_VALUE_BYTES => Ok(Format::Text { min, max }),
        Some(_) | None => Err(InvalidFormat::new(
            text,
            format!("write the fewest and the most characters, 1 to {MAX_VALUE_BYTES}, as in `text:20-200`"),
        )),
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hex { bytes } => write!(f, "hex:{bytes}"),
            Self::Base64 { bytes } => write!(f, "base64:{bytes}"),
            Self::Base64Url { bytes } => write!(f, "base64url:{bytes}"),
            Self::Base62 { chars } => write!(f, "base62:{chars}"),
            Self::Password { chars, set: PasswordSet::Alnum } => write!(f, "password:{chars}"),
            Self::Password { chars, set } => write!(f, "password:{chars}:{}", set.name()),
            Self::Uuid => f.write_str("uuid"),
            Self::Text { min, max } => write!(f, "text:{min}-{max}"),
        }
    }
}

impl TryFrom<String> for Format {
    type Error = InvalidFormat;

    fn try_from(text: String) -> Result<Self, InvalidFormat> {
        text.parse()
    }
}

impl From<Format> for String {
    fn from(format: Format) -> Self {
        format.to_string()
    }
}

#[cfg(test)]
mod tests;
