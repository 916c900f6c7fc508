//! How webhooks are signed, so that a receiver knows that Rota sent them, and when.
//!
//! `Rota-Signature: v1=<hex>` is HMAC-SHA256 (RFC 2104) under the shared key over
//! `v1:{timestamp}:{body}`; the timestamp is also in `Rota-Timestamp`, in Unix
//! seconds. A receiver refuses what is older than five minutes, compares in constant
//! time, and knows a repeat by `Rota-Delivery`. See docs/webhooks.md.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use rota_core::value::SecretValue;
use sha2::{Digest as _, Sha256};

pub(crate) const TIMESTAMP_HEADER: &str = "rota-timestamp";
pub(crate) const SIGNATURE_HEADER: &str = "rota-signature";
pub(crate) const DELIVERY_HEADER: &str = "rota-delivery";

/// A key that could be guessed would let anybody order a rollout (RFC 2104, section 3:
/// keys shorter than the hash's output are discouraged).
pub(crate) const MIN_KEY_BYTES: usize = 32;

/// The value of `Rota-Signature`.
pub(crate) fn sign(key: &SecretValue, at: Timestamp, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("HMAC takes keys of every length");
    mac.update(format!("v1:{}:", at.as_second()).as_bytes());
    mac.update(body);
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// A short name of `body`: the same for a repeat, another for other content.
pub(crate) fn name_of(body: &[u8]) -> String {
    hex::encode(&Sha256::digest(body)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_documented_one() {
        let key = SecretValue::new("0123456789abcdef0123456789abcdef".to_owned()).unwrap();
        let at: Timestamp = "2026-01-15T10:00:00.9Z".parse().unwrap();
        // printf 'v1:1768471200:{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        let expected = "v1=0762c14831ef9fe262ecb118efddf369cd35a9502a6579894008f13d9ef57282";
        assert_eq!(sign(&key, at, br#"{"a":1}"#), expected);
    }
}
