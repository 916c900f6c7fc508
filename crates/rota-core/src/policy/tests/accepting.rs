use super::{HEAD, SESSION, load};
use crate::policy::CompactPolicy;
use crate::policy::accept::{diff, digest, removals_need_consent};
use crate::policy::model::Policy;

fn policy(text: &str) -> Policy {
    let loaded = load(text);
    loaded.policy.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

/// A policy of `n` secrets.
fn of(n: usize) -> Policy {
    let secrets: String = (0..n)
        .map(|i| format!("[secret.KEY_{i}]\nkind = \"generated\"\nclass = \"password\"\nformat = \"password:24\"\ncadence = \"90d\"\nconsumers = [\"backend\"]\n"))
        .collect();
    policy(&format!("{HEAD}{secrets}"))
}

#[test]
fn the_digest_is_of_the_canonical_json_and_survives_a_round_trip() {
    let accepted = policy(&format!("{HEAD}{SESSION}"));
    let text = serde_json::to_string(&accepted).unwrap();
    let back: Policy = serde_json::from_str(&text).unwrap();
    assert_eq!(back, accepted);
    assert_eq!(digest(&back), digest(&accepted));
    // serde_json's own map sorts its keys, so its text of a value is the canonical one.
    let canonical = serde_json::to_value(&accepted).unwrap().to_string();
    let expected = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(canonical.as_bytes()));
    assert_eq!(digest(&accepted), expected);
}

#[test]
fn comments_and_order_do_not_change_the_digest_and_a_value_does() {
    let first = digest(&policy(&format!("{HEAD}{SESSION}")));
    assert_eq!(first, digest(&policy(&format!("# why\n{HEAD}# who\n{SESSION}"))));
    assert_ne!(first, digest(&policy(&format!("{HEAD}{SESSION}lead = \"2d\"\n"))));
}

#[test]
fn a_difference_names_secrets_and_the_keys_that_changed() {
    let old = policy(&format!("{HEAD}{SESSION}"));
    let other = SESSION.replace("SESSION_SECRET", "STATE_SECRET");
    let edited = SESSION.replace("90d", "30d").replace("hex:64", "hex:96");
    let new = policy(&format!("{}{edited}{other}", HEAD.replace("mount = \"secret\"", "mount = \"kv\"")));
    let found = diff(&old, &new);
    assert_eq!(found.added.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["STATE_SECRET"]);
    assert!(found.removed.is_empty());
    let keys: Vec<_> = found.changed.values().flatten().map(String::as_str).collect();
    assert_eq!(keys, ["format", "schedule"]);
    assert_eq!(found.shared, ["store.vault"]);
    assert_eq!(found.to_string(), "1 added, 1 changed, 1 shared definitions changed");
    assert_eq!(diff(&new, &old).removed.len(), 1);
    assert!(diff(&old, &old).is_empty());
    assert_eq!(diff(&old, &old).to_string(), "no change");
}

#[test]
fn losing_more_than_a_fifth_of_the_secrets_needs_consent() {
    let need = |old: &Policy, new: &Policy| removals_need_consent(old.secrets.keys(), new);
    let ten = of(10);
    assert!(!need(&ten, &of(10)));
    assert!(!need(&ten, &of(8)));
    assert!(need(&ten, &of(7)));
    assert!(need(&of(1), &of(0)));
    assert!(!need(&of(0), &ten));
}

#[test]
fn a_compact_policy_holds_everything_and_equal_secrets_once() {
    // A name that is a word of the text itself comes back in both places.
    let odd = "[secret.kind]\nkind = \"generated\"\nclass = \"password\"\nformat = \"password:24\"\n\
        cadence = \"90d\"\nconsumers = [\"backend\"]\nremind = [\"21d\"]\n";
    let whole = policy(&format!("{HEAD}{SESSION}{odd}"));
    let compact = CompactPolicy::of(&whole).unwrap();
    assert_eq!(compact.unpack(), whole);
    assert_eq!((compact.len(), compact.is_empty()), (2, false));
    assert_eq!(compact.longest_reminder(), jiff::SignedDuration::from_hours(21 * 24));
    for id in whole.secrets.keys() {
        assert_eq!(compact.secret(id).as_ref(), whole.secrets.get(id));
        assert_eq!(compact.entry(id), whole.entry(id));
    }
    assert_eq!(compact.ids().collect::<Vec<_>>(), whole.secrets.keys().collect::<Vec<_>>());
    assert!(compact.shared().secrets.is_empty() && compact.shared().stores == whole.stores);

    let text = serde_json::to_string(&compact).unwrap();
    assert_eq!(text, serde_json::to_string(&whole).unwrap());
    assert_eq!(serde_json::from_str::<CompactPolicy>(&text).unwrap(), compact);
    assert!(
        serde_json::from_str::<CompactPolicy>(&text.replace("\"kind\":\"generated\"", "\"kind\":7")).is_err()
    );

    let same = CompactPolicy::of(&of(50)).unwrap();
    assert_eq!(same.unpack(), of(50));
    assert_eq!(same.distinct_secrets(), 1);
}
