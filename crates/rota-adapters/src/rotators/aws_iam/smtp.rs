//! The password that Amazon SES's SMTP endpoints take, which is derived from a secret key
//! and a region (Amazon SES, "Obtaining Amazon SES SMTP credentials", "Converting IAM
//! credentials to SMTP credentials").

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The date, service, end and message are constants of the procedure.
const STEPS: [&str; 3] = ["ses", "aws4_request", "SendRawEmail"];
const DATE: &str = "11111111";
/// The version of the procedure, which the password begins with.
const VERSION: u8 = 0x04;

/// # Errors
/// [`Fault::Invalid`] where the parts cannot be a password.
pub(super) fn password(secret: &SecretValue, region: &str) -> Result<SecretValue, Fault> {
    let mut signature = Zeroizing::new(format!("AWS4{}", secret.expose()).into_bytes());
    for part in std::iter::once(DATE).chain([region]).chain(STEPS) {
        let mut mac = Hmac::<Sha256>::new_from_slice(&signature)
            .map_err(|_| Fault::invalid("the secret key cannot be used as a key"))?;
        mac.update(part.as_bytes());
        signature = Zeroizing::new(mac.finalize().into_bytes().to_vec());
    }
    signature.insert(0, VERSION);
    SecretValue::new(BASE64_STANDARD.encode(&*signature))
        .map_err(|_| Fault::invalid("the SMTP password cannot be derived"))
}
