//! The promises of every rotator, by each mode.

/// One user with two passwords, on a primary and its replica.
mod two_passwords {
    use std::sync::Arc;

    use crate::rotators::redis_acl::server::Cache;

    rota_engine::rotator_suite!(Arc::new(Cache::with_a_replica().await));
}

mod two_users {
    use std::sync::Arc;

    use crate::rotators::redis_acl::server::Cache;

    rota_engine::rotator_suite!(Arc::new(Cache::two_users().await));
}

/// The server's only password, with which Rota itself logs in.
mod requirepass {
    use std::sync::Arc;

    use crate::rotators::redis_acl::server::Cache;

    rota_engine::rotator_suite!(Arc::new(Cache::requirepass().await));
}
