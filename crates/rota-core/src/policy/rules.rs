//! Every rule of the loader and the linter, with its stable code.
//!
//! A code is never reused and never changes its meaning: people silence, search
//! and document by it. `docs/policy.md` explains each, and a test compares.

use super::diagnostic::Level;

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub code: &'static str,
    pub level: Level,
    /// What the rule finds, in a few words.
    pub title: &'static str,
}

macro_rules! rules {
    ($($name:ident = $code:literal, $level:ident, $title:literal;)*) => {
        $(pub(crate) static $name: Rule = Rule { code: $code, level: Level::$level, title: $title };)*
        /// Every rule, in the order of the codes.
        pub static ALL: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    // The text.
    NOT_TOML = "P001", Error, "not TOML";
    NOTHING = "P002", Error, "nothing in it";
    NOT_TEXT = "P003", Error, "not UTF-8";
    PIECE_TOO_LARGE = "P004", Error, "a file over 1 MiB";
    TOO_MANY = "P005", Error, "more secrets or files than one policy may hold";
    VERSION = "P006", Error, "a format version that this program does not know";
    DISAGREE = "P007", Error, "two files of one policy disagree";
    MORE_FINDINGS = "P008", Hint, "more findings than are shown";
    // Keys and values.
    UNKNOWN_KEY = "P010", Error, "an unknown key";
    BAD_VALUE = "P011", Error, "a value that the key does not take";
    MISSING = "P012", Error, "a missing key";
    BAD_NAME = "P013", Error, "not a name";
    DUPLICATE = "P014", Error, "a name that is defined twice";
    LOOK_ALIKE = "P015", Error, "two names that a person cannot tell apart";
    CONFLICT = "P016", Error, "keys that exclude each other";
    // References.
    UNDEFINED = "P020", Error, "a name that nothing defines";
    UNKNOWN_KIND = "P021", Error, "a kind that does not exist";
    UNUSED = "P022", Hint, "a definition that nothing uses";
    NOT_FOR_KIND = "P023", Error, "a key that another kind needs";
    NOT_BUILT = "P024", Error, "a key that this version does not act upon";
    // Time.
    NOT_POSITIVE = "P030", Error, "a duration that must be positive";
    OVERLAP_TOO_LONG = "P031", Error, "an overlap that is not below the cadence";
    CADENCE_TOO_SHORT = "P032", Error, "a cadence under a day in production";
    OVERLAP_UNDER_TOKEN_TTL = "P033", Error, "an overlap under the token_ttl";
    DOES_NOT_FIT = "P034", Warning, "a rotation that takes longer than its cadence";
    CALENDAR_TOO_FAR_APART = "P035", Error, "a calendar that breaches its max_age";
    CALENDAR_WITHOUT_MAX_AGE = "P036", Warning, "a calendar whose dates are further apart than the usual age";
    NEVER = "P037", Error, "a window or calendar that never occurs";
    REMINDER_TOO_LONG = "P038", Warning, "a reminder longer than the cadence";
    LEAD_TOO_SHORT = "P039", Warning, "a lead shorter than the longest closed window";
    UNUSUAL_CADENCE = "P040", Hint, "an unusual cadence without a reason";
    TOKEN_TTL_UNSAID = "P041", Hint, "a signing secret without token_ttl";
    ENDS_EARLY = "P042", Error, "a value that ends before the next one takes over";
    // Values.
    TOO_WEAK = "P050", Error, "a format under the minimum of its class";
    RATHER_WEAK = "P051", Warning, "a signing secret under 64 bytes of entropy in production";
    KEY_SIZE = "P052", Error, "an encryption key of another size than 32 bytes";
    RULE_LOWERED = "P053", Error, "a minimum that would lower the built-in one";
    NO_FORMAT = "P054", Error, "a generated secret without a format";
    NO_CLASS = "P055", Warning, "a generated secret without a class";
    BAD_TEMPLATE = "P056", Error, "a template that cannot be filled";
    // Overlap and publication.
    NO_OVERLAP = "P060", Error, "a rotator without an overlap and without accept_gap";
    PAIR_TEARS = "P061", Error, "a signing pair that is neither pinned nor one value";
    SINGLE_SIGNING = "P062", Error, "a signing secret of which consumers see one value only";
    DATA_UNREADABLE = "P063", Error, "an encryption key without a way to read what the old one wrote";
    CANNOT_PIN = "P064", Error, "pinned references with a rollout that cannot pin";
    PAIR_OF_MANY = "P065", Error, "a pair or list of a secret with several fields";
    FIELDS_TEAR = "P066", Hint, "several fields under names of their own";
    // Consumers.
    UNCHECKED = "P070", Error, "a consumer without checks";
    NO_CONSUMERS = "P071", Error, "a secret without consumers";
    // Uniqueness.
    SAME_TARGET = "P080", Error, "two secrets with one target";
    SAME_PLACE = "P081", Error, "two secrets at one place of a store";
    // People.
    NO_OWNER = "P090", Hint, "a production secret without an owner";
    NO_PAGE = "P091", Hint, "an operator-supplied secret without a page";
    NO_PROOF = "P092", Hint, "an operator-supplied secret without a proof";
    PROVE_WHICH = "P093", Error, "a proof that does not know its field";
    STATIC_KEY = "P094", Hint, "a static key where the platform offers a role";
    // The tables that kinds bring.
    KIND_TABLE = "P100", Error, "a kind's table with a key or value that the kind does not take";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}
