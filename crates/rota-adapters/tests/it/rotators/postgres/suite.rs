//! The promises of every rotator, by each mode.

mod two_users {
    use std::sync::Arc;

    use crate::rotators::postgres::server::Users;

    rota_engine::rotator_suite!(Arc::new(Users::two().await));
}

mod new_user {
    use std::sync::Arc;

    use crate::rotators::postgres::server::Users;

    rota_engine::rotator_suite!(Arc::new(Users::fresh().await));
}

mod one_user {
    use std::sync::Arc;

    use crate::rotators::postgres::server::Users;

    rota_engine::rotator_suite!(Arc::new(Users::one().await));
}
