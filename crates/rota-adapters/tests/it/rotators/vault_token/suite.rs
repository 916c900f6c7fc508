//! The promises of every rotator. A token whose answer was lost is removed once a person says
//! `rota resume`, which the suite does.

mod by_policies {
    use std::sync::Arc;

    use crate::rotators::vault_token::server::Server;

    rota_engine::rotator_suite!(Arc::new(Server::by_policies().await));
}

mod by_role {
    use std::sync::Arc;

    use crate::rotators::vault_token::server::Server;

    rota_engine::rotator_suite!(Arc::new(Server::by_role().await));
}
