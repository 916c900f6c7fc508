use proptest::prelude::*;

use super::*;

/// Repeatable bytes with good statistics: SplitMix64 (Steele, Lea, Flood 2014).
struct Repeatable(u64);

impl RandomSource for Repeatable {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), RandomFailed> {
        for chunk in buf.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A source that yields one byte forever.
struct Stuck(u8);

impl RandomSource for Stuck {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), RandomFailed> {
        buf.fill(self.0);
        Ok(())
    }
}

/// A source that fails after so many bytes.
struct Dry(usize);

impl RandomSource for Dry {
    fn fill(&mut self, buf: &mut [u8]) -> Result<(), RandomFailed> {
        self.0 = self.0.checked_sub(buf.len()).ok_or(RandomFailed)?;
        buf.fill(7);
        Ok(())
    }
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.to_owned()).unwrap()
}

const GENERATED: [&str; 9] = [
    "hex:64",
    "hex:1",
    "base64:32",
    "base64:31",
    "base64url:32",
    "base62:40",
    "password:24",
    "password:24:url-safe",
    "password:24:symbols",
];

#[test]
fn formats_are_written_as_they_are_read() {
    for text in GENERATED.into_iter().chain(["uuid", "text:20-200", "text:1-65536"]) {
        let format: Format = text.parse().unwrap();
        assert_eq!(format.to_string(), text);
        let json = serde_json::to_string(&format).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Format>(&json).unwrap(), format);
    }
    assert_eq!("password:24:alnum".parse::<Format>().unwrap().to_string(), "password:24");
}

#[test]
fn what_is_not_a_format_says_what_to_write() {
    for (text, message) in [
        ("hex", "`hex` is not a format: write the number of random bytes, 1 to 1024, as in `hex:64`"),
        ("hex:0", "`hex:0` is not a format: write the number of random bytes, 1 to 1024, as in `hex:64`"),
        ("hex:064", "`hex:064` is not a format: write the number of random bytes, 1 to 1024, as in `hex:64`"),
        ("hex:+4", "`hex:+4` is not a format: write the number of random bytes, 1 to 1024, as in `hex:64`"),
        (
            "base62:99999",
            "`base62:99999` is not a format: write the number of characters, 1 to 1024, as in `base62:40`",
        ),
        (
            "base62:99999999999",
            "`base62:99999999999` is not a format: write the number of characters, 1 to 1024, as in `base62:40`",
        ),
        (
            "password:24:emoji",
            "`password:24:emoji` is not a format: write `password:24`, `password:24:url-safe` or \
             `password:24:symbols`",
        ),
        (
            "password",
            "`password` is not a format: write the number of characters, 1 to 1024, as in `password:24`",
        ),
        ("uuid:4", "`uuid:4` is not a format: write `uuid` alone"),
        (
            "text:200-20",
            "`text:200-20` is not a format: write the fewest and the most characters, 1 to 65536, as in \
             `text:20-200`",
        ),
        (
            "HEX:64",
            "`HEX:64` is not a format: write one of `hex:64` or `base64:32` or `base64url:32` (bytes of \
             entropy), `base62:40` or `password:24` (characters), `uuid`, `text:20-200` (made elsewhere)",
        ),
    ] {
        assert_eq!(text.parse::<Format>().unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn what_a_format_generates_it_accepts_and_the_length_is_as_announced() {
    for text in GENERATED.into_iter().chain(["uuid"]) {
        let format: Format = text.parse().unwrap();
        let mut random = Repeatable(1);
        let (first, second) = (format.generate(&mut random).unwrap(), format.generate(&mut random).unwrap());
        assert_eq!(format.check(&first), Ok(()), "{text}");
        assert_eq!(format.length(), first.byte_len() as u32..=first.byte_len() as u32, "{text}");
        assert!(!first.same_as(&second), "{text} repeats itself");
    }
}

#[test]
fn encodings_are_those_of_the_standards() {
    // RFC 4648, section 10, and the same bytes in hex.
    for (format, wanted) in [
        ("hex:3", "fbfbfb"),
        ("base64:3", "+/v7"),
        ("base64:1", "+w=="),
        ("base64url:3", "-_v7"),
        ("base64url:1", "-w"),
        ("uuid", "fbfbfbfb-fbfb-4bfb-bbfb-fbfbfbfbfbfb"),
    ] {
        let value = format.parse::<Format>().unwrap().generate(&mut Stuck(0xfb)).unwrap();
        assert_eq!(value.expose(), wanted, "{format}");
    }
}

#[test]
fn entropy_is_counted_in_bits_and_never_up() {
    for (format, bits) in [
        ("hex:32", Some(256)),
        ("base64:64", Some(512)),
        ("base62:42", Some(250)),
        ("base62:43", Some(256)),
        ("password:16", Some(95)),
        ("uuid", Some(122)),
        ("text:20-200", None),
    ] {
        assert_eq!(format.parse::<Format>().unwrap().entropy_bits(), bits, "{format}");
    }
}

#[test]
fn a_value_of_another_form_is_refused_without_being_told() {
    for (format, text, message) in [
        ("hex:2", "beeff", "the value has 5 characters where `hex:2` has 4"),
        ("hex:2", "beeg", "the value holds a character that `hex:2` does not have"),
        ("base64:1", "+w=a", "the value holds a character that `base64:1` does not have"),
        ("base64:1", "+/v7", "the value has the length of `base64:1` but not its form"),
        ("base64url:3", "+/v7", "the value holds a character that `base64url:3` does not have"),
        ("base62:4", "ab-c", "the value holds a character that `base62:4` does not have"),
        ("base62:4", "abéc", "the value holds a character that `base62:4` does not have"),
        ("password:4:symbols", "a'bc", "the value holds a character that `password:4:symbols` does not have"),
        ("text:5-9", "four", "the value has 4 characters where `text:5-9` has 5 to 9"),
        (
            "uuid",
            "fbfbfbfb-fbfb-1bfb-bbfb-fbfbfbfbfbfb",
            "the value has the length of `uuid` but not its form",
        ),
    ] {
        let error = format.parse::<Format>().unwrap().check(&value(text)).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(!format!("{error:?}").contains(text));
    }
    assert_eq!("hex:2".parse::<Format>().unwrap().check(&value("BEef")), Ok(()));
    assert_eq!("text:4-4".parse::<Format>().unwrap().check(&value("éééé")), Ok(()));
}

#[test]
fn a_failing_source_generates_nothing() {
    for text in GENERATED.into_iter().chain(["uuid"]) {
        let format: Format = text.parse().unwrap();
        let result = format.generate(&mut Dry(0)).err();
        assert_eq!(result, Some(NotGenerated::Random(RandomFailed)), "{text}");
    }
    // The second draw fails: what the first yielded is not used.
    let result = "base62:100".parse::<Format>().unwrap().generate(&mut Dry(64)).err();
    assert_eq!(result, Some(NotGenerated::Random(RandomFailed)));
}

#[test]
fn a_source_that_never_yields_a_character_ends() {
    let result = "base62:40".parse::<Format>().unwrap().generate(&mut Stuck(0xff)).err();
    assert_eq!(result, Some(NotGenerated::Random(RandomFailed)));
}

#[test]
fn a_text_is_never_generated() {
    let result = "text:20-200".parse::<Format>().unwrap().generate(&mut Repeatable(1)).err();
    assert_eq!(result, Some(NotGenerated::MadeElsewhere));
}

#[test]
fn alphabets_have_every_character_once_and_none_that_needs_care() {
    for set in PasswordSet::ALL {
        let mut sorted = set.alphabet().to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), set.alphabet().len());
        assert!(!set.alphabet().iter().any(|b| b"'\"`\\$ ".contains(b) || !b.is_ascii_graphic()));
    }
}

/// Pearson's statistic of how often each character of `alphabet` was drawn.
fn chi_square(alphabet: &[u8], text: &[u8]) -> f64 {
    let expected = text.len() as f64 / alphabet.len() as f64;
    let count = |c: u8| text.iter().filter(|b| **b == c).count() as f64;
    alphabet.iter().map(|c| (count(*c) - expected).powi(2) / expected).sum()
}

#[test]
fn no_character_is_likelier_than_another() {
    for alphabet in PasswordSet::ALL.map(PasswordSet::alphabet) {
        let mut random = Repeatable(42);
        let text: Vec<u8> =
            (0..400).flat_map(|_| draw(alphabet, MAX_GENERATED, &mut random).unwrap().to_vec()).collect();
        let freedom = alphabet.len() as f64 - 1.0;
        // Five standard deviations of the statistic: a right sampler fails once in millions.
        let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
        let found = chi_square(alphabet, &text);
        assert!(found < limit, "{found} of {limit} for {} characters", alphabet.len());

        // The test is able to see a bias: the plain remainder of a byte has one.
        let mut bytes = vec![0; text.len()];
        random.fill(&mut bytes).unwrap();
        let biased: Vec<u8> = bytes.iter().map(|b| alphabet[usize::from(*b) % alphabet.len()]).collect();
        assert!(chi_square(alphabet, &biased) > limit);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9:-]{0,20}") {
        if let Ok(format) = text.parse::<Format>() {
            prop_assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
    }

    #[test]
    fn every_length_generates_what_it_announces(n in 1..=MAX_GENERATED, seed in any::<u64>()) {
        for name in ["hex", "base64", "base64url", "base62", "password"] {
            let format: Format = format!("{name}:{n}").parse().unwrap();
            prop_assert_eq!(format.check(&format.generate(&mut Repeatable(seed)).unwrap()), Ok(()));
        }
    }
}
