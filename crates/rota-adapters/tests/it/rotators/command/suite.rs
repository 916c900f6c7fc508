//! The promises of every rotator, kept by the example programs.

/// Python: two users take turns, behind a fence.
mod sqlite_users {
    use std::sync::Arc;

    use crate::rotators::command::users::Users;

    rota_engine::rotator_suite!(Arc::new(Users::start()));
}

/// Shell: the target makes the values, without a fence.
mod token_files {
    use std::sync::Arc;

    use crate::rotators::command::tokens::Tokens;

    rota_engine::rotator_suite!(Arc::new(Tokens::start()));
}
