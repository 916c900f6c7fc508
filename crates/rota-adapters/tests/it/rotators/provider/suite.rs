//! The promises of every rotator, for each entry of the catalogue.

macro_rules! entries {
    ($($module:ident: $entry:ident,)*) => {
        $(
            mod $module {
                use std::sync::Arc;

                use crate::rotators::provider::server::{$entry, Account};

                rota_engine::rotator_suite!(Arc::new(Account::new(&$entry)));
            }
        )*
    };
}

entries! {
    openai: OPENAI,
    resend: RESEND,
    sentry: SENTRY,
    twilio: TWILIO,
}
