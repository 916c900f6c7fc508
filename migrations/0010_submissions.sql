-- A value is handed in by whoever holds the claim to do so. What came late or second is
-- refused; its key is tracked until somebody revoked it.

SET LOCAL ROLE rota_owner;

-- A person put the candidate of `rotation` into its slot, under the claim of
-- `order_begin_submission`. Refused where another person took the claim over, and where
-- the rotation has ended or goes back. One that the daemon has found in its slot already
-- is the candidate, and its submit succeeds. The epoch is not compared: it moves with
-- every look of the daemon; the row is locked and its state is what counts.
CREATE OR REPLACE FUNCTION rota.order_submitted(secret text, rotation uuid, reason text, given_name text)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
BEGIN
    PERFORM FROM rota.rotations r
    WHERE r.id = order_submitted.rotation AND r.secret = order_submitted.secret
      AND r.ended_at IS NULL AND (r.step = 'stage' OR r.rotation #> '{facts,done}' ? 'stage')
      AND r.phase <> 'rolling_back'
    FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RT006',
            MESSAGE = 'the rotation no longer waits for a value; revoke the new key at the provider';
    END IF;
    PERFORM FROM rota.submissions s
    WHERE s.rotation = order_submitted.rotation
      AND (s.db_user, s.given_name) = (session_user::text, order_submitted.given_name);
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'RT006',
            MESSAGE = 'somebody else hands in a value for this rotation; revoke the new key at the provider';
    END IF;
    RETURN rota.give_order(secret, '{"order":"submitted"}', reason, given_name);
END
$$;
