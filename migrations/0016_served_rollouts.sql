-- Which rotations a rollout served.

SET LOCAL ROLE rota_owner;

-- Whoever asks for a rollout says so in the chain of his secret (`rollout.asked`): with
-- the consumer and the generation the lines of the rollout itself are found, which stand
-- in the system's chain because a rollout may serve several secrets.
CREATE VIEW rota.rotation_rollouts AS
SELECT h.rotation,
       c.row #>> '{entry,secret}' AS secret,
       c.row #>> '{entry,step}' AS step,
       h.at AS asked_at,
       o.consumer,
       o.generation,
       o.state,
       o.requested_at,
       o.begun_at,
       o.ended_at,
       o.failures,
       o.detail ->> 'detail' AS detail
FROM rota.rotation_history h
CROSS JOIN LATERAL (SELECT convert_from(h.canonical, 'UTF8')::jsonb AS row) c
CROSS JOIN LATERAL jsonb_each_text(c.row #> '{entry,detail,rollouts}') AS a (consumer, generation)
JOIN rota.rollouts o ON o.consumer = a.consumer AND o.generation = a.generation::bigint
WHERE h.kind = 'rollout.asked';

CREATE INDEX rotation_history_system ON rota.rotation_history (at) WHERE chain = 'system';

-- The system's lines of rollouts, once for each rotation that they served. Between the
-- rollout's own times and those of its lines stands at most a transaction; the hours
-- are for a clock that steps.
CREATE VIEW rota.rollout_history AS
SELECT DISTINCT r.secret AS served_secret, r.rotation AS served_rotation, h.seq
FROM rota.rotation_rollouts r
JOIN rota.history h
  ON h.chain = 'system' AND h.kind IN ('rollout.intended', 'rollout.begun', 'rollout.finished', 'rollout.failed')
 AND h.appended_at >= r.requested_at - interval '1 hour'
 AND h.appended_at <= coalesce(r.ended_at, clock_timestamp()) + interval '1 hour'
 AND h.detail ->> 'consumer' = r.consumer AND h.detail ->> 'generation' = r.generation::text;

GRANT SELECT ON rota.rotation_rollouts, rota.rollout_history TO rota_daemon, rota_auditor;
