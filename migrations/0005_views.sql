-- What people read. Auditors see nothing but these.

SET LOCAL ROLE rota_owner;

CREATE VIEW rota.secret_status AS
SELECT s.id AS secret,
       (ARRAY ['critical', 'high', 'medium', 'low'])[s.priority + 1] AS priority,
       s.kind,
       s.owner,
       CASE WHEN s.last_promoted_at IS NULL THEN 'unknown' ELSE 'known' END AS age,
       s.last_promoted_at,
       s.next_due_at,
       s.next_start_at,
       coalesce(s.next_due_at < statement_timestamp(), false) AS overdue,
       s.postponed_until,
       s.postponed_why,
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
LEFT JOIN rota.rotations r ON r.secret = s.id AND r.ended_at IS NULL;

-- One row per rotation, ended or not.
CREATE VIEW rota.rotation_summary AS
SELECT r.id AS rotation,
       r.secret,
       r.rotation #>> '{order,cause,cause}' AS cause,
       r.rotation #>> '{order,cause,by}' AS requested_by,
       r.rotation #>> '{order,cause,reason}' AS reason,
       r.urgent AS emergency,
       r.phase,
       r.step,
       (r.rotation #>> '{order,serves}')::timestamptz AS due_at,
       r.opened_at,
       r.dual_run_at,
       r.promoted_at,
       r.monitor_at,
       r.retire_at,
       r.rolling_back_at,
       r.held_at,
       r.ended_at,
       r.ended_at - r.opened_at AS took,
       CASE WHEN r.ended_at IS NOT NULL THEN r.phase END AS outcome,
       r.rotation #>> '{facts,refusal}' AS refusal_evidence,
       (r.rotation #>> '{facts,confirmed_at}')::timestamptz AS revoke_confirmed_at,
       r.rotation #>> '{facts,old}' AS old_version,
       r.rotation #>> '{facts,new}' AS new_version
FROM rota.rotations r;

-- What should have been promoted by now and was not.
CREATE VIEW rota.overdue AS
SELECT s.secret, s.priority, s.owner, s.next_due_at, statement_timestamp() - s.next_due_at AS overdue_for,
       s.rotation, s.phase, s.step, s.waiting_for, s.hold_reason, s.postponed_why, s.blocked_by
FROM rota.secret_status s
WHERE s.overdue AND s.removed_at IS NULL;

-- History in columns, read from the canonical bytes that the hashes cover.
CREATE VIEW rota.history AS
SELECT h.chain,
       h.seq,
       h.at AS appended_at,
       (c.row ->> 'at')::timestamptz AS at,
       c.row #>> '{entry,kind}' AS kind,
       c.row #>> '{entry,secret}' AS secret,
       h.rotation,
       c.row #>> '{entry,step}' AS step,
       (c.row #>> '{entry,effect}')::bigint AS effect,
       c.row #>> '{entry,actor}' AS actor,
       c.row ->> 'db_user' AS db_user,
       c.row #> '{entry,detail}' AS detail,
       h.prev_hash,
       h.canonical,
       h.hash
FROM rota.rotation_history h
CROSS JOIN LATERAL (SELECT convert_from(h.canonical, 'UTF8')::jsonb AS row) c;

CREATE VIEW rota.checkpoints AS
SELECT c.number, c.at, c.canonical, c.hash FROM rota.history_checkpoints c;

-- How far each channel is. A channel whose last delivery failed has a fault.
CREATE VIEW rota.channel_status AS
SELECT c.name AS channel, c.registered_at, c.delivered_at, c.failures, c.last_fault, c.not_before,
       (SELECT count(*) FROM rota.deliveries d WHERE d.channel = c.name AND d.delivered_at IS NULL) AS pending
FROM rota.channels c;

CREATE VIEW rota.open_orphans AS
SELECT o.id AS orphan, o.secret, o.rotation, o.what, o.found_at
FROM rota.orphans o WHERE o.resolved_at IS NULL;

CREATE VIEW rota.rollout_status AS
SELECT o.consumer, o.generation, o.state, o.published_at, o.requested_at, o.begun_at, o.ended_at, o.failures,
       o.wake_at, o.detail ->> 'detail' AS detail
FROM rota.rollouts o;

CREATE VIEW rota.observation_log AS
SELECT o.id, r.secret, o.rotation, o.consumer, o.name, o.verdict, o.value, o.detail, o.at
FROM rota.observations o JOIN rota.rotations r ON r.id = o.rotation;

CREATE VIEW rota.order_log AS
SELECT o.id AS order_id, o.secret, o.name, o.kind, o.rotation, o.db_user, o.given_name, o.reason, o.at, o.waiting,
       o.handled_at, o.outcome
FROM rota.orders o;

CREATE VIEW rota.policy_log AS
SELECT p.version, p.digest, p.accepted_by, p.accepted_at, p.changes FROM rota.policies p;

-- Numbers about everything, in one row.
CREATE VIEW rota.counts AS
SELECT (SELECT count(*) FROM rota.secrets s WHERE s.removed_at IS NULL) AS secrets,
       (SELECT count(*) FROM rota.secrets s WHERE s.removed_at IS NULL AND s.blocked_by IS NOT NULL) AS blocked,
       (SELECT count(*) FROM rota.orphans o WHERE o.resolved_at IS NULL) AS orphans,
       (SELECT count(*) FROM rota.rotations r WHERE r.ended_at IS NULL
           AND (r.step = 'confirm' OR (r.step = 'stage' AND r.rotation #>> '{shape,source}' = 'submitted'))
           AND r.phase <> 'held') AS waiting_for_person,
       (SELECT coalesce(jsonb_object_agg(o.priority, o.n), '{}')
        FROM (SELECT (ARRAY ['critical', 'high', 'medium', 'low'])[s.priority + 1] AS priority, count(*) AS n
              FROM rota.secrets s WHERE s.removed_at IS NULL AND s.next_due_at < statement_timestamp()
              GROUP BY 1) o) AS overdue,
       (SELECT min(s.next_due_at) FROM rota.secrets s
        WHERE s.removed_at IS NULL AND s.next_due_at < statement_timestamp()) AS oldest_overdue_at,
       (SELECT coalesce(jsonb_object_agg(p.phase, p.n), '{}')
        FROM (SELECT r.phase, count(*) AS n FROM rota.rotations r WHERE r.ended_at IS NULL GROUP BY 1) p) AS rotations;
