//! Text that reaches people: one line, no control characters, bounded.
//!
//! Names, reasons and remarks come from people and from other systems; they end up
//! in terminals, logs, Slack and history. Deliberately absent: a guess whether a text
//! looks like a secret (values never get here, they live in [`crate::value`]), and
//! the escaping of any one output (each writer's own).

/// Makes one clean line of at most `max` characters: terminal sequences, control
/// characters and invisible or direction-changing ones are gone, and every run of
/// blanks and line ends is one space. What was cut off shows as `…`.
#[must_use]
pub fn clean_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    let mut blank = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' || c == '\u{9b}' {
            skip_sequence(c, &mut chars);
            continue;
        }
        if c.is_whitespace() {
            blank = length > 0;
            continue;
        }
        if c.is_control() || is_invisible(c) {
            continue;
        }
        let wanted = if blank { 2 } else { 1 };
        if length + wanted > max {
            return cut(line, max);
        }
        if blank {
            line.push(' ');
        }
        line.push(c);
        length += wanted;
        blank = false;
    }
    line
}

/// Shortens `line`, which had to end before its text did, to `max` characters with
/// the mark of a cut.
fn cut(mut line: String, max: usize) -> String {
    while line.chars().count() + 1 > max {
        if line.pop().is_none() {
            return line;
        }
    }
    line.push('…');
    line
}

/// Skips a terminal sequence after its introducer: CSI up to its final byte, the
/// string sequences (OSC, DCS, SOS, PM, APC) up to their end, others up to the first
/// byte that is not intermediate (ECMA-48, sections 5.3 to 5.6; ECMA-35, section 13).
fn skip_sequence(introducer: char, chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let kind = if introducer == '\u{9b}' { Some('[') } else { chars.next() };
    match kind {
        Some('[') => {
            while let Some(c) = chars.next_if(|c| ('\u{20}'..='\u{7e}').contains(c)) {
                if c >= '\u{40}' {
                    break;
                }
            }
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // A sequence that never ends takes the rest of its line, not of the text.
            while let Some(c) = chars.next_if(|c| *c != '\n') {
                if c == '\u{7}' || c == '\u{9c}' {
                    break;
                }
                if c == '\u{1b}' {
                    chars.next_if_eq(&'\\');
                    break;
                }
            }
        }
        Some(mut c) => {
            while ('\u{20}'..='\u{2f}').contains(&c) {
                let Some(next) = chars.next_if(|c| ('\u{20}'..='\u{7e}').contains(c)) else { return };
                c = next;
            }
        }
        None => {}
    }
}

/// Characters that show nothing, or that change the order in which others show
/// (Unicode Standard Annex 9, section 2; the zero-width ones of section 23.2; tags).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_becomes_one_clean_line() {
        for (text, clean) in [
            ("leaked in a ticket", "leaked in a ticket"),
            ("  two\r\n lines\t\tand\ttabs ", "two lines and tabs"),
            ("\u{1b}[31;1mred\u{1b}[0m alert", "red alert"),
            ("\u{9b}2Jcleared", "cleared"),
            ("\u{1b}]0;title\u{7}shown", "shown"),
            ("\u{1b}]8;;https://example.com\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]never ends\nnext line", "next line"),
            ("\u{1b}(Bcharset", "charset"),
            ("a\u{202e}b\u{200b}c\u{0}d\u{7f}e", "abcde"),
            ("\u{2028}ä\u{2029}ö", "ä ö"),
            ("\u{1b}", ""),
            ("", ""),
        ] {
            assert_eq!(clean_line(text, 80), clean, "{text:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_with_a_mark_and_a_fitting_one_is_not() {
        assert_eq!(clean_line("abcdef", 6), "abcdef");
        assert_eq!(clean_line("abcdefg", 6), "abcde…");
        assert_eq!(clean_line("abcde   g", 6), "abcde…");
        assert_eq!(clean_line("ab", 1), "…");
        assert_eq!(clean_line("ab", 0), "");
        assert_eq!(clean_line("abc   ", 3), "abc");
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_line_or_the_limit(text in any::<String>(), max in 0usize..40) {
            let line = clean_line(&text, max);
            prop_assert!(line.chars().count() <= max);
            prop_assert!(!line.chars().any(|c| c.is_control() || is_invisible(c)));
            prop_assert_eq!(line.trim(), line.as_str());
            prop_assert_eq!(clean_line(&line, max), line);
        }
    }
}
