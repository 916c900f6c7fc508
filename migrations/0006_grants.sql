-- Who may do what. Nothing is left to PUBLIC.

SET LOCAL ROLE rota_owner;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA rota FROM PUBLIC;
GRANT USAGE ON SCHEMA rota TO rota_daemon, rota_operator, rota_auditor;

GRANT SELECT ON ALL TABLES IN SCHEMA rota TO rota_daemon;
-- Every command looks first whether it fits the schema.
GRANT SELECT ON rota.compatibility, rota.schema_migrations TO rota_operator, rota_auditor;
GRANT USAGE, SELECT ON SEQUENCE rota.epochs TO rota_daemon;
GRANT INSERT, UPDATE ON rota.secrets, rota.rotations, rota.publications, rota.consumers, rota.rollouts,
    rota.channels TO rota_daemon;
GRANT INSERT ON rota.policies, rota.observations TO rota_daemon;
GRANT INSERT, DELETE ON rota.exclusive_claims, rota.outbox TO rota_daemon;
GRANT INSERT, UPDATE ON rota.deliveries TO rota_daemon;
GRANT INSERT ON rota.orphans TO rota_daemon;
GRANT UPDATE (suspended_because) ON rota.incarnations TO rota_daemon;
GRANT UPDATE (not_before, waiting, handled_at, outcome) ON rota.orders TO rota_daemon;
GRANT EXECUTE ON FUNCTION rota.append_history(jsonb[]), rota.seal_history(), rota.system_identity() TO rota_daemon;

GRANT EXECUTE ON FUNCTION
    rota.order_rotate(text, text, text),
    rota.order_emergency(text, text, text, text),
    rota.order_hold(text, text, text),
    rota.order_resume(text, text, text),
    rota.order_rollback(text, text, text),
    rota.order_abandon(text, text, text),
    rota.order_confirm(text, text, text),
    rota.order_submitted(text, uuid, text, text),
    rota.order_begin_submission(text, text),
    rota.order_report_orphan(text, uuid, text, text),
    rota.order_adopt(text, timestamptz, timestamptz, timestamptz, text, text),
    rota.order_resolve_orphan(text, bigint, text, text),
    rota.order_begin_incarnation(bigint, text, text)
    TO rota_operator;

GRANT SELECT ON rota.secret_status, rota.rotation_summary, rota.overdue, rota.history, rota.open_orphans,
    rota.rollout_status, rota.observation_log, rota.order_log, rota.policy_log, rota.checkpoints, rota.channel_status,
    rota.counts
    TO rota_auditor;
