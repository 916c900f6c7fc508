//! The promises of every rotator. A key whose answer was lost is removed once a person
//! says `rota resume`, which the suite does.

use std::sync::Arc;

use super::server::User;

rota_engine::rotator_suite!(Arc::new(User::new().await), holds two);
