-- What people may do: functions that record who asked and why, raise the epoch of the
-- rotation in flight in the same transaction, and wake it.

SET LOCAL ROLE rota_owner;

-- Every order says who and why.
CREATE FUNCTION rota.check_person(reason text, given_name text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, rota, pg_temp
AS $$
BEGIN
    IF coalesce(btrim(reason), '') = '' OR length(reason) > 2000 THEN
        RAISE EXCEPTION USING ERRCODE = 'RT005', MESSAGE = 'a reason of at most 2000 characters is needed';
    END IF;
    IF coalesce(btrim(given_name), '') = '' OR length(given_name) > 200 THEN
        RAISE EXCEPTION USING ERRCODE = 'RT005', MESSAGE = 'a name of at most 200 characters is needed';
    END IF;
END
$$;

CREATE FUNCTION rota.check_request(wanted text, reason text, given_name text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, rota, pg_temp
AS $$
BEGIN
    PERFORM rota.check_person(reason, given_name);
    IF NOT EXISTS (SELECT FROM rota.secrets s WHERE s.id = wanted) THEN
        RAISE EXCEPTION USING ERRCODE = 'RT004',
            MESSAGE = 'no secret has that name; `rota status` lists them';
    END IF;
END
$$;

-- The rotation in flight under a new epoch, awake; null where there is none. The lease
-- stays: its holder may be in the middle of a call.
CREATE FUNCTION rota.interrupt(wanted text) RETURNS uuid
    LANGUAGE sql SET search_path = pg_catalog, rota, pg_temp
AS $$
    UPDATE rota.rotations
    SET epoch = nextval('rota.epochs'), wake_at = least(wake_at, clock_timestamp()), woken_at = clock_timestamp()
    WHERE secret = wanted AND ended_at IS NULL
    RETURNING id
$$;

CREATE FUNCTION rota.person(given_name text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT format('%s (%s)', given_name, session_user) $$;

CREATE FUNCTION rota.give_order(wanted text, kind jsonb, reason text, given_name text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    in_flight uuid;
    given     bigint;
BEGIN
    PERFORM rota.check_request(wanted, reason, given_name);
    in_flight := rota.interrupt(wanted);
    INSERT INTO rota.orders (secret, kind, rotation, db_user, given_name, reason, at)
    VALUES (wanted, kind, in_flight, session_user, given_name, reason, clock_timestamp())
    RETURNING id INTO given;
    PERFORM rota.append_history(ARRAY [jsonb_build_object(
        'kind', 'order.given', 'secret', wanted, 'rotation', in_flight, 'step', NULL, 'effect', NULL,
        'actor', rota.person(given_name),
        'detail', kind || jsonb_build_object('id', given, 'reason', reason))]);
    PERFORM pg_notify('rota_wake', 'order');
    RETURN given;
END
$$;

CREATE FUNCTION rota.order_rotate(secret text, reason text, given_name text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$ SELECT rota.give_order(secret, '{"order":"rotate"}', reason, given_name) $$;

-- `suspect`: 'older', 'newer', or null where both leaked.
CREATE FUNCTION rota.order_emergency(secret text, suspect text, reason text, given_name text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
BEGIN
    IF suspect NOT IN ('older', 'newer') THEN
        RAISE EXCEPTION USING ERRCODE = 'RT005', MESSAGE = 'the suspect is older, newer or null for both';
    END IF;
    RETURN rota.give_order(secret, jsonb_build_object('order', 'emergency', 'suspect', suspect), reason, given_name);
END
$$;

CREATE FUNCTION rota.order_hold(secret text, reason text, given_name text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$ SELECT rota.give_order(secret, '{"order":"hold"}', reason, given_name) $$;

CREATE FUNCTION rota.order_resume(secret text, reason text, given_name text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$ SELECT rota.give_order(secret, '{"order":"resume"}', reason, given_name) $$;

CREATE FUNCTION rota.order_rollback(secret text, reason text, given_name text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$ SELECT rota.give_order(secret, '{"order":"rollback"}', reason, given_name) $$;

CREATE FUNCTION rota.order_abandon(secret text, reason text, given_name text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$ SELECT rota.give_order(secret, '{"order":"abandon"}', reason, given_name) $$;

CREATE FUNCTION rota.order_confirm(secret text, reason text, given_name text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$ SELECT rota.give_order(secret, '{"order":"confirm"}', reason, given_name) $$;

-- A person put the candidate of `rotation` into its slot. Refused where that rotation
-- no longer waits for it: the key that was made has to be revoked.
CREATE FUNCTION rota.order_submitted(secret text, rotation uuid, reason text, given_name text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
BEGIN
    PERFORM FROM rota.rotations r
    WHERE r.id = order_submitted.rotation AND r.secret = order_submitted.secret AND r.step = 'stage'
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RT006',
            MESSAGE = 'the rotation no longer waits for a value; revoke the new key at the provider';
    END IF;
    RETURN rota.give_order(secret, '{"order":"submitted"}', reason, given_name);
END
$$;

-- Who may put the candidate of the waiting rotation into its slot: the first to ask, for
-- a quarter of an hour. Returns what the submit needs to know.
CREATE TABLE rota.submissions (
    rotation   uuid        PRIMARY KEY REFERENCES rota.rotations,
    db_user    text        NOT NULL,
    given_name text        NOT NULL,
    at         timestamptz NOT NULL
);

CREATE FUNCTION rota.order_begin_submission(secret text, given_name text)
    RETURNS TABLE (rotation uuid, incarnation bigint, epoch bigint, policy jsonb)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    waiting rota.rotations;
    taken   rota.submissions;
BEGIN
    PERFORM rota.check_request(order_begin_submission.secret, 'submission', given_name);
    SELECT * INTO waiting FROM rota.rotations r
    WHERE r.secret = order_begin_submission.secret AND r.ended_at IS NULL AND r.step = 'stage'
      AND r.rotation #>> '{shape,source}' = 'submitted'
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RT006',
            MESSAGE = 'no rotation of the secret waits for a value; `rota rotate` starts one';
    END IF;
    SELECT * INTO taken FROM rota.submissions s WHERE s.rotation = waiting.id;
    IF taken.at > clock_timestamp() - interval '15 minutes'
        AND (taken.db_user, taken.given_name) <> (session_user::text, order_begin_submission.given_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'RT006', MESSAGE = format(
            '%s (%s) has been submitting a value since %s; only one key can be used',
            taken.given_name, taken.db_user, rota.written_time(taken.at));
    END IF;
    INSERT INTO rota.submissions VALUES (waiting.id, session_user, order_begin_submission.given_name, clock_timestamp())
    ON CONFLICT ON CONSTRAINT submissions_pkey
        DO UPDATE SET db_user = excluded.db_user, given_name = excluded.given_name, at = excluded.at;
    PERFORM rota.append_history(ARRAY [jsonb_build_object(
        'kind', 'submission.begun', 'secret', order_begin_submission.secret, 'rotation', waiting.id, 'step', 'stage',
        'effect', NULL, 'actor', rota.person(order_begin_submission.given_name), 'detail', NULL)]);
    RETURN QUERY SELECT waiting.id, waiting.incarnation, waiting.epoch, waiting.policy;
END
$$;

-- Something is alive that nobody uses: a key that was made for a rotation which no
-- longer took it. Shown until it is resolved.
CREATE FUNCTION rota.order_report_orphan(secret text, rotation uuid, what text, given_name text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    reported bigint;
BEGIN
    PERFORM rota.check_request(secret, what, given_name);
    IF NOT EXISTS (SELECT FROM rota.rotations r
                   WHERE r.id = order_report_orphan.rotation AND r.secret = order_report_orphan.secret) THEN
        RAISE EXCEPTION USING ERRCODE = 'RT004', MESSAGE = 'the secret has no such rotation';
    END IF;
    INSERT INTO rota.orphans (secret, rotation, what, found_at)
    VALUES (secret, rotation, what, clock_timestamp()) RETURNING id INTO reported;
    PERFORM rota.append_history(ARRAY [jsonb_build_object(
        'kind', 'orphan.reported', 'secret', secret, 'rotation', rotation, 'step', NULL, 'effect', NULL,
        'actor', rota.person(given_name), 'detail', jsonb_build_object('orphan', reported, 'what', what))]);
    RETURN reported;
END
$$;

-- Tells when the value in use was really made. `next_due` and `next_start` follow
-- from the policy's schedule.
CREATE FUNCTION rota.order_adopt(
    secret text, last_rotated timestamptz, next_due timestamptz, next_start timestamptz,
    reason text, given_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
BEGIN
    PERFORM rota.check_request(secret, reason, given_name);
    IF last_rotated > clock_timestamp() THEN
        RAISE EXCEPTION USING ERRCODE = 'RT005', MESSAGE = 'the last rotation cannot lie in the future';
    END IF;
    IF EXISTS (SELECT FROM rota.rotations r WHERE r.secret = order_adopt.secret AND r.ended_at IS NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'RT006', MESSAGE = 'a rotation is in flight; its promotion sets the date';
    END IF;
    UPDATE rota.secrets s
    SET value_exists = true, last_promoted_at = last_rotated, next_due_at = next_due, next_start_at = next_start,
        postponed_until = NULL, postponed_why = NULL
    WHERE s.id = order_adopt.secret;
    PERFORM rota.append_history(ARRAY [jsonb_build_object(
        'kind', 'secret.adopted', 'secret', secret, 'rotation', NULL, 'step', NULL, 'effect', NULL,
        'actor', rota.person(given_name),
        'detail', jsonb_build_object('last_rotated', last_rotated, 'next_due', next_due, 'reason', reason))]);
    PERFORM pg_notify('rota_wake', 'order');
END
$$;

-- What an earlier rotation left alive is dealt with: one orphan, or (`orphan` null) all
-- of them. With the last one the secret may rotate again. Returns how many there were.
CREATE FUNCTION rota.order_resolve_orphan(secret text, orphan bigint, reason text, given_name text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    resolved bigint;
    freed    boolean;
BEGIN
    PERFORM rota.check_request(secret, reason, given_name);
    UPDATE rota.orphans o
    SET resolved_at = clock_timestamp(), resolved_by = rota.person(given_name), resolution = reason
    WHERE o.secret = order_resolve_orphan.secret AND o.resolved_at IS NULL
      AND (orphan IS NULL OR o.id = orphan);
    GET DIAGNOSTICS resolved = ROW_COUNT;
    IF orphan IS NOT NULL AND resolved = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'RT004',
            MESSAGE = 'no open orphan of the secret has that number; `rota status` lists them';
    END IF;
    UPDATE rota.secrets s SET blocked_by = NULL
    WHERE s.id = order_resolve_orphan.secret AND s.blocked_by IS NOT NULL
      AND NOT EXISTS (SELECT FROM rota.orphans o WHERE o.secret = s.id AND o.resolved_at IS NULL);
    freed := FOUND;
    PERFORM rota.append_history(ARRAY [jsonb_build_object(
        'kind', 'orphan.resolved', 'secret', secret, 'rotation', NULL, 'step', NULL, 'effect', NULL,
        'actor', rota.person(given_name),
        'detail', jsonb_build_object('orphan', orphan, 'resolved', resolved, 'unblocked', freed,
            'reason', reason))]);
    PERFORM pg_notify('rota_wake', 'order');
    RETURN resolved;
END
$$;

-- Recovery: after journal, stores and targets were compared, work goes on under a new
-- number, taken from outside the database and greater than every earlier one.
CREATE FUNCTION rota.order_begin_incarnation(number bigint, reason text, given_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    server record;
BEGIN
    PERFORM rota.check_person(reason, given_name);
    LOCK TABLE rota.incarnations IN EXCLUSIVE MODE;
    IF number <= (SELECT max(i.number) FROM rota.incarnations i) THEN
        RAISE EXCEPTION USING ERRCODE = 'RT005', MESSAGE = 'an incarnation is greater than every earlier one';
    END IF;
    SELECT * INTO server FROM rota.system_identity();
    INSERT INTO rota.incarnations (number, system_identifier, timeline, reason)
    VALUES (number, server.system_identifier, server.timeline, reason);
    UPDATE rota.rotations SET epoch = nextval('rota.epochs'), incarnation = number WHERE ended_at IS NULL;
    PERFORM rota.append_history(ARRAY [jsonb_build_object(
        'kind', 'incarnation.begun', 'secret', NULL, 'rotation', NULL, 'step', NULL, 'effect', NULL,
        'actor', rota.person(given_name),
        'detail', jsonb_build_object('number', number, 'system_identifier', server.system_identifier,
            'timeline', server.timeline, 'reason', reason))]);
    PERFORM pg_notify('rota_wake', 'order');
END
$$;
