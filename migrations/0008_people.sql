-- What people may do about the policy and after a restored backup.

SET LOCAL ROLE rota_owner;

-- The policy that all daemons act on. It names places, never values.
CREATE VIEW rota.accepted_policy AS
SELECT p.version, p.digest, p.policy, p.accepted_by, p.accepted_at
FROM rota.policies p ORDER BY p.version DESC LIMIT 1;

-- What every secret's places show by the last recorded publication, by store and path.
CREATE VIEW rota.published_versions AS
SELECT p.secret, p.published_at, p.publication -> 'refs' AS versions FROM rota.publications p;

-- A person's consent to a policy that no daemon takes by itself: one that was replaced,
-- or that loses many secrets. It names the policy by its digest, so that what is taken
-- is what the person saw and stands in the daemon's own source; and the version that it
-- replaces, so that it is used once.
CREATE TABLE rota.policy_consents (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     text        NOT NULL CHECK (digest <> ''),
    replaces   bigint      NOT NULL REFERENCES rota.policies,
    removals   boolean     NOT NULL,
    db_user    text        NOT NULL,
    given_name text        NOT NULL,
    reason     text        NOT NULL,
    at         timestamptz NOT NULL
);
CREATE INDEX policy_consents_replaces ON rota.policy_consents (replaces, digest);

CREATE FUNCTION rota.order_accept_policy(digest text, replaces bigint, removals boolean, reason text, given_name text)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    consent bigint;
BEGIN
    PERFORM rota.check_person(reason, given_name);
    IF replaces IS DISTINCT FROM (SELECT max(p.version) FROM rota.policies p) THEN
        RAISE EXCEPTION USING ERRCODE = 'RT006',
            MESSAGE = 'another policy was accepted meanwhile; compare again with `rota policy diff`';
    END IF;
    INSERT INTO rota.policy_consents (digest, replaces, removals, db_user, given_name, reason, at)
    VALUES (digest, replaces, removals, session_user, given_name, reason, clock_timestamp())
    RETURNING id INTO consent;
    PERFORM rota.append_history(ARRAY [jsonb_build_object(
        'kind', 'policy.consented', 'secret', NULL, 'rotation', NULL, 'step', NULL, 'effect', NULL,
        'actor', rota.person(given_name),
        'detail', jsonb_build_object('digest', digest, 'replaces', replaces, 'removals', removals, 'reason', reason))]);
    PERFORM pg_notify('rota_wake', 'policy');
    RETURN consent;
END
$$;

-- The running incarnation, and whether the server still is the one that it began on.
CREATE FUNCTION rota.order_show_incarnation()
    RETURNS TABLE (number bigint, trusted boolean, same_server boolean, suspended_because text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$ SELECT i.number, i.trusted, i.same_server, i.suspended_because FROM rota.current_incarnation i $$;

-- Recovery, after journal and stores were compared: the next incarnation begins.
-- `differing` names each secret whose store shows something else than the journal, or
-- could not be read, with what was seen; none of them moves before a person has
-- reconciled it. Nobody claims anything for `pause`: a process of the lost past may
-- still be in the middle of a call. Returns how many secrets were stopped.
CREATE FUNCTION rota.order_recover(number bigint, differing jsonb, pause interval, reason text, given_name text)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    free_at timestamptz := clock_timestamp() + pause;
    one     record;
    stopped bigint := 0;
BEGIN
    IF (SELECT i.trusted FROM rota.current_incarnation i) THEN
        RAISE EXCEPTION USING ERRCODE = 'RT006',
            MESSAGE = 'the state database is the one that the incarnation began on; there is nothing to recover';
    END IF;
    PERFORM rota.order_begin_incarnation(number, reason, given_name);
    UPDATE rota.rotations r
    SET holder = 'recovery', lease_epoch = r.epoch, lease_from = clock_timestamp(), lease_until = free_at
    WHERE r.ended_at IS NULL;
    UPDATE rota.secrets s SET postponed_until = free_at, postponed_why = 'a recovery has begun'
    WHERE s.removed_at IS NULL AND s.postponed_until IS NULL AND s.next_start_at < free_at;
    UPDATE rota.rollouts o SET holder = 'recovery', lease_until = free_at WHERE o.ended_at IS NULL;
    FOR one IN SELECT d.key AS secret, d.value AS seen FROM jsonb_each_text(differing) d ORDER BY d.key LOOP
        UPDATE rota.secrets s SET blocked_by = coalesce(s.blocked_by, 'after a recovery: ' || one.seen)
        WHERE s.id = one.secret;
        CONTINUE WHEN NOT FOUND;
        stopped := stopped + 1;
        IF EXISTS (SELECT FROM rota.rotations r WHERE r.secret = one.secret AND r.ended_at IS NULL) THEN
            PERFORM rota.give_order(one.secret, '{"order":"hold"}', 'after a recovery: ' || one.seen, given_name);
        END IF;
        PERFORM rota.append_history(ARRAY [jsonb_build_object(
            'kind', 'recovery.differs', 'secret', one.secret, 'rotation', NULL, 'step', NULL, 'effect', NULL,
            'actor', rota.person(given_name), 'detail', jsonb_build_object('seen', one.seen))]);
    END LOOP;
    RETURN stopped;
END
$$;

REVOKE ALL ON FUNCTION
    rota.order_accept_policy(text, bigint, boolean, text, text),
    rota.order_show_incarnation(),
    rota.order_recover(bigint, jsonb, interval, text, text)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    rota.order_accept_policy(text, bigint, boolean, text, text),
    rota.order_show_incarnation(),
    rota.order_recover(bigint, jsonb, interval, text, text)
    TO rota_operator;
GRANT SELECT ON rota.policy_consents, rota.accepted_policy, rota.published_versions TO rota_daemon;
GRANT SELECT ON rota.accepted_policy, rota.published_versions TO rota_auditor;
