//! The promises of every rotator, by each mode.

/// One user with two passwords, on a primary and its replica.
mod two_passwords {
    use std::sync::Arc;

    use crate::rotators::redis_acl::server::Cache;

    rota_engine::rotator_suite!(Arc::new(Cache::with_a_replica().await));

    #[tokio::test]
    async fn where_both_leaked_a_third_value_takes_over_whatever_the_step() {
        use rota_engine::test_support::rotator_suite;
        let subject = Arc::new(Cache::one_user().await);
        rotator_suite::where_both_leaked_a_third_value_takes_over_whatever_the_step(subject).await;
    }
}

mod two_users {
    use std::sync::Arc;

    use crate::rotators::redis_acl::server::Cache;

    rota_engine::rotator_suite!(Arc::new(Cache::two_users().await));

    #[tokio::test]
    async fn where_both_leaked_a_third_value_takes_over_whatever_the_step() {
        use rota_engine::test_support::rotator_suite;
        let subject = Arc::new(Cache::two_users().await);
        rotator_suite::where_both_leaked_a_third_value_takes_over_whatever_the_step(subject).await;
    }
}

/// The server's only password, with which Rota itself logs in.
mod requirepass {
    use std::sync::Arc;

    use crate::rotators::redis_acl::server::Cache;

    rota_engine::rotator_suite!(Arc::new(Cache::requirepass().await));
}
