-- Work that does not grow with what is at rest, and an end for what is over.

SET LOCAL ROLE rota_owner;

-- A claim reads the one rotation that it takes: emergencies first, then by time.
CREATE INDEX rotations_claim ON rota.rotations (urgent, wake_at) WHERE ended_at IS NULL;
DROP INDEX rota.rotations_awake;

-- The status page reads the secrets that are due next, in this order; a new policy may
-- give a hundred thousand of them the same date.
CREATE INDEX secrets_foremost ON rota.secrets (next_due_at, id) WHERE removed_at IS NULL;
DROP INDEX rota.secrets_next_due;
CREATE INDEX secrets_blocked ON rota.secrets (id) WHERE removed_at IS NULL AND blocked_by IS NOT NULL;
CREATE INDEX rollouts_requested ON rota.rollouts (requested_at);

-- How many secrets each accepted policy has, so that nobody has to count. Null where a
-- binary that does not know the column accepted it.
ALTER TABLE rota.policies ADD COLUMN secrets bigint CHECK (secrets >= 0);

-- A mark of the texts that the policy was read from: who finds the same texts need not
-- read them to know that they are this policy.
ALTER TABLE rota.policies ADD COLUMN source text;
GRANT UPDATE (source) ON rota.policies TO rota_daemon;

CREATE OR REPLACE VIEW rota.counts AS
SELECT coalesce(
           (SELECT p.secrets FROM rota.policies p ORDER BY p.version DESC LIMIT 1),
           (SELECT count(*) FROM rota.secrets s WHERE s.removed_at IS NULL)) AS secrets,
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

-- What is over goes some time later, a bounded number of rows at a time. History stays
-- for ever; these functions remove the rest, and whoever may call them can remove nothing
-- that is younger than their own limit.
CREATE INDEX outbox_at ON rota.outbox (at);
CREATE INDEX deliveries_notice ON rota.deliveries (notice);
CREATE INDEX observations_at ON rota.observations (at);

-- Removes notices that every channel has had, older than `keep`; returns how many. A
-- reminder stays until its due date has passed: its row is what keeps it from being
-- sent again.
CREATE FUNCTION rota.prune_notices(keep interval, at_most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    pruned bigint;
BEGIN
    IF keep IS NULL OR keep < interval '1 day' THEN
        RAISE EXCEPTION USING ERRCODE = 'RT005', MESSAGE = 'delivered notices are kept for at least a day';
    END IF;
    WITH old AS (
        SELECT o.id FROM rota.outbox o
        WHERE o.at < clock_timestamp() - keep
          AND NOT EXISTS (SELECT FROM rota.deliveries d WHERE d.notice = o.id AND d.delivered_at IS NULL)
          AND CASE WHEN o.notice ->> 'kind' = 'due_soon'
                   THEN substring(o.key FROM ':due_soon:(.+):[0-9]+$')::timestamptz < clock_timestamp()
                   ELSE true END
        ORDER BY o.at
        LIMIT at_most FOR UPDATE SKIP LOCKED)
    DELETE FROM rota.outbox o USING old WHERE o.id = old.id;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    RETURN pruned;
END
$$;

-- Removes the single readings of rotations that ended longer than `keep` ago, and
-- writes down in history, for each rotation, what they were: the evidence that a value
-- was watched before the old one went stays. Returns how many readings were removed;
-- those of one rotation go together, so it may be more than `at_most`.
CREATE FUNCTION rota.prune_observations(keep interval, at_most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    pruned  bigint;
    entries jsonb[];
BEGIN
    IF keep IS NULL OR keep < interval '90 days' THEN
        RAISE EXCEPTION USING ERRCODE = 'RT005', MESSAGE = 'observations are kept for at least 90 days';
    END IF;
    -- One process at a time ("rotr" in ASCII): two would both tell of the same rotation.
    IF NOT pg_try_advisory_xact_lock(x'726f7472'::bigint) THEN
        RETURN 0;
    END IF;
    WITH old AS (
        SELECT DISTINCT oldest.rotation FROM (
            SELECT o.rotation FROM rota.observations o JOIN rota.rotations r ON r.id = o.rotation
            WHERE o.at < clock_timestamp() - keep AND r.ended_at < clock_timestamp() - keep
            ORDER BY o.at LIMIT at_most) oldest),
    gone AS (
        DELETE FROM rota.observations o USING old WHERE o.rotation = old.rotation
        RETURNING o.rotation, o.consumer, o.name, o.verdict, o.at),
    checks AS (
        SELECT g.rotation, coalesce(g.consumer, 'target') || '/' || g.name AS check, count(*) AS n,
               count(*) FILTER (WHERE g.verdict = 'healthy') AS healthy,
               count(*) FILTER (WHERE g.verdict = 'unhealthy') AS unhealthy,
               count(*) FILTER (WHERE g.verdict = 'unknown') AS unknown,
               min(g.at) AS first, max(g.at) AS last
        FROM gone g GROUP BY 1, 2),
    told AS (
        SELECT c.rotation, sum(c.n) AS n, jsonb_object_agg(c.check, jsonb_build_object(
            'healthy', c.healthy, 'unhealthy', c.unhealthy, 'unknown', c.unknown,
            'first', rota.written_time(c.first), 'last', rota.written_time(c.last))) AS checks
        FROM checks c GROUP BY 1)
    SELECT coalesce(sum(t.n), 0), array_agg(jsonb_build_object(
        'kind', 'observations.pruned', 'secret', r.secret, 'rotation', r.id, 'step', NULL, 'effect', NULL,
        'actor', 'journal', 'detail', jsonb_build_object('observations', t.n, 'checks', t.checks)))
    INTO pruned, entries
    FROM told t JOIN rota.rotations r ON r.id = t.rotation;
    IF pruned > 0 THEN
        PERFORM rota.append_history(entries);
    END IF;
    RETURN pruned;
END
$$;

REVOKE ALL ON FUNCTION rota.prune_notices(interval, integer), rota.prune_observations(interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rota.prune_notices(interval, integer), rota.prune_observations(interval, integer)
    TO rota_daemon;
