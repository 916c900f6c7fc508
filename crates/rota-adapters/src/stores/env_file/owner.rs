//! Who owns a file that Rota makes, as a policy writes it.

use std::fs;

use rota_core::fault::Fault;

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Only owner and group may read or write, and nobody may run it.
pub(super) const WIDEST_MODE: u32 = 0o660;

/// Reads `"0640"`.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| octal)?;
    (mode & !WIDEST_MODE == 0 && mode & 0o400 != 0).then_some(mode)
}

/// Divides `user:group`; each a name or a number.
pub(super) fn parse_owner(text: &str) -> Option<(&str, &str)> {
    let (user, group) = text.split_once(':')?;
    let named = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    (named(user) && named(group)).then_some((user, group))
}

/// Looks the numbers of `user:group` up in this machine's own tables. Directories
/// (LDAP) are not asked; numbers always do.
///
/// # Errors
/// [`Fault::Invalid`] where a name is not known here.
pub(super) fn look_up(owner: &str) -> Result<Owner, Fault> {
    let (user, group) = parse_owner(owner)
        .ok_or_else(|| Fault::invalid(format!("`{owner}` is not an owner, write `user:group`")))?;
    let number = |name: &str, table: &str, what: &str| match name.parse() {
        Ok(number) => Ok(number),
        Err(_) => fs::read_to_string(table).ok().and_then(|table| number_in(&table, name)).ok_or_else(|| {
            Fault::invalid(format!("the {what} `{name}` is not in {table} of this machine, write its number"))
        }),
    };
    Ok(Owner { uid: number(user, "/etc/passwd", "user")?, gid: number(group, "/etc/group", "group")? })
}

/// The third column of the line of `name`, see passwd(5) and group(5).
fn number_in(table: &str, name: &str) -> Option<u32> {
    let line = table.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_that_others_could_read_with_are_no_modes() {
        assert_eq!(parse_mode("0600"), Some(0o600));
        assert_eq!(parse_mode("640"), Some(0o640));
        for bad in ["0644", "0700", "04600", "0060", "+600", "rw", "", "6000"] {
            assert_eq!(parse_mode(bad), None, "{bad}");
        }
    }

    #[test]
    fn owners_are_numbers_or_names_of_this_machine() {
        assert_eq!(look_up("0:0"), Ok(Owner { uid: 0, gid: 0 }));
        assert_eq!(look_up("root:root"), Ok(Owner { uid: 0, gid: 0 }));
        assert_eq!(number_in("a:x:5:6:\nab:x:7:8:\n", "ab"), Some(7));
        for bad in ["root", ":root", "root:", "no-such-user:root", "a b:c", ""] {
            assert!(look_up(bad).is_err(), "{bad}");
        }
    }
}
