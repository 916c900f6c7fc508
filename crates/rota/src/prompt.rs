//! Asking a person: for a name to be typed, and for a value that nobody should see.
//!
//! Deliberately absent: defaults. No answer is no consent.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use rota_core::value::{MAX_VALUE_BYTES, SecretValue};
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

/// Asks for `word` to be typed. Without a terminal there is nobody to ask.
///
/// # Errors
/// [`Exit::Declined`] for anything else than the word.
pub(crate) fn confirm(word: &str, question: &str) -> Result<(), Failure> {
    let declined = |message: &str| {
        Failure::new(Exit::Declined, message)
            .hint("without a terminal, give --yes, and --reason \"...\" where the command takes one")
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(declined("this order has to be confirmed, and there is no terminal to ask"));
    }
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "{question}\nType {word} to go on: ");
    let _ = err.flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|_| declined("the answer could not be read"))?;
    if answer.trim() == word {
        Ok(())
    } else {
        Err(Failure::new(Exit::Declined, "not confirmed; nothing was done"))
    }
}

/// Asks for a line, where there is a terminal.
pub(crate) fn line(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "{question}: ");
    let _ = err.flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).ok()?;
    let answer = answer.trim();
    (!answer.is_empty()).then(|| answer.to_owned())
}

/// Reads a value: from a hidden prompt on a terminal, else all of standard input. One
/// newline at the end does not count.
///
/// # Errors
/// [`Exit::Invalid`] for an empty, too long or binary value.
pub(crate) fn value(question: &str) -> Result<SecretValue, Failure> {
    if std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password(format!("{question} (hidden): "))
            .map_err(|_| Failure::new(Exit::Declined, "the value could not be read from the terminal"))?;
        return take(Zeroizing::new(typed.into_bytes()));
    }
    let limit = u64::try_from(MAX_VALUE_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_VALUE_BYTES + 2));
    std::io::stdin()
        .lock()
        .take(limit + 2)
        .read_to_end(&mut bytes)
        .map_err(|_| Failure::invalid("the value could not be read from standard input"))?;
    take(bytes)
}

fn take(bytes: Zeroizing<Vec<u8>>) -> Result<SecretValue, Failure> {
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::invalid("the value is not text in UTF-8"))?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    SecretValue::new(text.to_owned()).map_err(|error| Failure::invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bytes: &[u8]) -> Result<String, Failure> {
        take(Zeroizing::new(bytes.to_vec())).map(|value| value.expose().to_owned())
    }

    #[test]
    fn exactly_one_newline_at_the_end_is_not_part_of_the_value() {
        assert_eq!(taken(b"abc").unwrap(), "abc");
        assert_eq!(taken(b"abc\n").unwrap(), "abc");
        assert_eq!(taken(b"abc\r\n").unwrap(), "abc");
        assert_eq!(taken(b"abc\n\n").unwrap(), "abc\n");
        assert_eq!(taken(b" a b ").unwrap(), " a b ");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for bytes in [&b""[..], b"\n", b"a\0b", b"\xff"] {
            assert!(taken(bytes).is_err(), "{bytes:?}");
        }
    }
}
