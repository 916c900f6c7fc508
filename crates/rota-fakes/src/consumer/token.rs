//! The tokens: JSON Web Tokens with HMAC-SHA256 (RFC 7519, RFC 7515), as
//! `jsonwebtoken` signs them with a shared secret.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::Sha256;

pub(super) fn sign(key: &str, subject: &str, now: Timestamp, ttl: SignedDuration) -> String {
    let claims = json!({"sub": subject, "iat": now.as_millisecond(), "exp": (now + ttl).as_millisecond()});
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(&claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(mac(key, &signed).finalize().into_bytes());
    format!("{signed}.{signature}")
}

/// The claims, where the key signed them and they have not expired.
pub(super) fn verify(key: &str, token: &str, now: Timestamp) -> Option<Value> {
    let (signed, signature) = token.rsplit_once('.')?;
    mac(key, signed).verify_slice(&BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    let (_, claims) = signed.split_once('.')?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    (now.as_millisecond() < claims["exp"].as_i64()?).then_some(claims)
}

fn mac(key: &str, message: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length, so this cannot fail.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length is accepted");
    mac.update(message.as_bytes());
    mac
}
