//! The promises of every rotator. The password is the only one, so uses are refused between
//! its change and the rollout: the gap is printed.

mod grafana_by_an_administrator {
    use std::sync::Arc;

    use crate::rotators::http_password::grafana::by_an_administrator;

    rota_engine::rotator_suite!(Arc::new(by_an_administrator()));
}

/// Without a login of its own Rota cannot take over a password that it does not know, so the
/// promise about two leaked values is a test of its own.
mod grafana_by_itself {
    use std::sync::Arc;

    use rota_engine::ports::OrderKind;
    use rota_engine::test_support::rotator_suite::Harness;

    use crate::rotators::http_password::grafana::by_itself;

    rota_engine::rotator_suite! { @ Arc::new(by_itself());
        twenty_rotations_back_to_back_refuse_no_use
        every_call_may_fail_once
        every_call_may_lose_its_answer_once
        every_call_may_be_the_last_of_its_process
        every_process_may_end_right_before_a_call
        each_effect_may_be_the_only_one_that_is_disturbed
        a_rollback_at_every_step_leaves_the_old_value
        a_rollback_may_be_disturbed_at_every_call
        an_older_value_that_leaked_is_refused_whatever_the_step
        a_newer_value_that_leaked_is_refused_whatever_the_step
        somebody_elses_value_is_never_overwritten
    }

    #[tokio::test]
    async fn where_nothing_is_under_way_a_leaked_password_is_replaced() {
        let harness = Harness::new(Arc::new(by_itself())).await;
        let before = harness.published();
        harness.order(OrderKind::Emergency { suspect: None });
        harness.finish().await;
        assert!(!harness.published().same_as(&before));
    }
}

mod declared_calls {
    use std::sync::Arc;

    use crate::rotators::http_password::registry;

    rota_engine::rotator_suite!(Arc::new(registry::account().await));
}
