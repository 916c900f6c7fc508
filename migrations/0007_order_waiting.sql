-- An order that cannot start says why where people look first: beside its secret.

SET LOCAL ROLE rota_owner;

CREATE OR REPLACE VIEW rota.secret_status AS
SELECT s.id AS secret,
       (ARRAY ['critical', 'high', 'medium', 'low'])[s.priority + 1] AS priority,
       s.kind,
       s.owner,
       CASE WHEN s.last_promoted_at IS NULL THEN 'unknown' ELSE 'known' END AS age,
       s.last_promoted_at,
       s.next_due_at,
       s.next_start_at,
       coalesce(s.next_due_at < statement_timestamp(), false) AS overdue,
       coalesce(w.not_before, s.postponed_until) AS postponed_until,
       coalesce(w.waiting, s.postponed_why) AS postponed_why,
       s.blocked_by,
       r.id AS rotation,
       r.phase,
       r.step,
       r.urgent AS emergency,
       r.opened_at,
       r.wake_at,
       r.rotation #>> '{state,attempt,waiting}' AS waiting_for,
       r.step = 'confirm' OR (r.step = 'stage' AND r.rotation #>> '{shape,source}' = 'submitted') AS waits_for_person,
       r.rotation #> '{state,reason}' AS hold_reason,
       r.held_at,
       r.rotation AS rotation_state,
       r.rotation #>> '{facts,old}' AS old_version,
       r.rotation #>> '{facts,new}' AS new_version,
       (SELECT p.publication ->> 'list' FROM rota.publications p WHERE p.secret = s.id) AS published,
       (SELECT count(*) FROM rota.orphans o WHERE o.secret = s.id AND o.resolved_at IS NULL) AS orphans,
       s.policy_version,
       s.added_at,
       s.removed_at
FROM rota.secrets s
LEFT JOIN rota.rotations r ON r.secret = s.id AND r.ended_at IS NULL
-- The oldest order that waits, and for what.
LEFT JOIN LATERAL (
    SELECT o.not_before, o.waiting FROM rota.orders o
    WHERE o.secret = s.id AND o.handled_at IS NULL AND o.waiting IS NOT NULL
    ORDER BY o.id LIMIT 1) w ON true;
