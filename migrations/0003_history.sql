-- rotation_history: append-only, one hash chain per secret and one for the system.
--
-- A row is changed by nobody: row and statement triggers refuse it, also where a
-- session replays as a replica. Rows come only from `append_history`, which runs as
-- the owner; no other role may insert. Who can alter tables can still remove the
-- triggers: the chains and the anchored checkpoints are there to show it.

SET LOCAL ROLE rota_owner;

CREATE TABLE rota.rotation_history (
    chain     text COLLATE "C" NOT NULL,
    seq       bigint      NOT NULL CHECK (seq > 0),
    at        timestamptz NOT NULL,
    -- Copies of what stands in `canonical`, to search by.
    kind      text        NOT NULL,
    rotation  uuid,
    prev_hash bytea       NOT NULL CHECK (length(prev_hash) = 32),
    canonical bytea       NOT NULL,
    hash      bytea       NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (chain, seq)
);
CREATE INDEX rotation_history_rotation ON rota.rotation_history (rotation, seq) WHERE rotation IS NOT NULL;
CREATE INDEX rotation_history_at ON rota.rotation_history (at);

-- The last row of each chain; locked by whoever appends.
CREATE TABLE rota.chain_heads (
    chain text COLLATE "C" PRIMARY KEY,
    seq   bigint NOT NULL CHECK (seq >= 0),
    hash  bytea  NOT NULL CHECK (length(hash) = 32)
);

-- The heads of all chains at one time. Checkpoints are a chain themselves, and their
-- hashes are kept outside of the database.
CREATE TABLE rota.history_checkpoints (
    number    bigint      PRIMARY KEY CHECK (number > 0),
    at        timestamptz NOT NULL,
    canonical bytea       NOT NULL,
    hash      bytea       NOT NULL CHECK (length(hash) = 32)
);

CREATE FUNCTION rota.refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'RT003', MESSAGE = format('%s is append-only', TG_TABLE_NAME);
END
$$;
CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON rota.rotation_history
    FOR EACH ROW EXECUTE FUNCTION rota.refuse_change();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON rota.rotation_history
    FOR EACH STATEMENT EXECUTE FUNCTION rota.refuse_change();
ALTER TABLE rota.rotation_history ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE rota.rotation_history ENABLE ALWAYS TRIGGER refuse_statement;

CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON rota.history_checkpoints
    FOR EACH ROW EXECUTE FUNCTION rota.refuse_change();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON rota.history_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION rota.refuse_change();
ALTER TABLE rota.history_checkpoints ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE rota.history_checkpoints ENABLE ALWAYS TRIGGER refuse_statement;

-- JSON in the one way that history is written in (docs/auditing.md): members sorted by
-- code point, no blanks, integers up to 2^53 - 1 and every other number as a text.
CREATE FUNCTION rota.canonical_json(value jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    written text;
BEGIN
    CASE jsonb_typeof(value)
        WHEN 'object' THEN
            SELECT string_agg(to_json(m.key)::text || ':' || rota.canonical_json(m.value), ',' ORDER BY m.key COLLATE "C")
            INTO written FROM jsonb_each(value) m;
            RETURN '{' || coalesce(written, '') || '}';
        WHEN 'array' THEN
            SELECT string_agg(rota.canonical_json(i.value), ',' ORDER BY i.nth)
            INTO written FROM jsonb_array_elements(value) WITH ORDINALITY AS i (value, nth);
            RETURN '[' || coalesce(written, '') || ']';
        WHEN 'number' THEN
            written := value::text;
            IF written ~ '^-?[0-9]{1,16}$' AND abs(written::bigint) <= 9007199254740991 THEN
                RETURN written;
            END IF;
            RETURN to_json(written)::text;
        ELSE
            RETURN value::text;
    END CASE;
END
$$;

CREATE FUNCTION rota.written_time(at timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;

-- Appends entries to the chain of their secret or, without one, to the system's. Locks
-- the heads in the order of their names.
CREATE FUNCTION rota.append_history(entries jsonb[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    body  jsonb;
    link  text;
    head  rota.chain_heads;
    now   timestamptz;
    bytes bytea;
BEGIN
    FOR body, link IN
        SELECT e.body, coalesce('secret:' || (e.body ->> 'secret'), 'system') COLLATE "C" AS link
        FROM unnest(entries) WITH ORDINALITY AS e (body, nth)
        ORDER BY link, e.nth
    LOOP
        IF head.chain IS DISTINCT FROM link THEN
            INSERT INTO rota.chain_heads VALUES (link, 0, decode(repeat('00', 32), 'hex'))
                ON CONFLICT DO NOTHING;
            SELECT * INTO head FROM rota.chain_heads h WHERE h.chain = link FOR UPDATE;
        END IF;
        now := clock_timestamp();
        bytes := convert_to(format('{"at":"%s","chain":%s,"db_user":%s,"entry":%s,"prev":"%s","seq":%s}',
            rota.written_time(now), to_json(link), to_json(session_user::text), rota.canonical_json(body),
            encode(head.hash, 'hex'), head.seq + 1), 'UTF8');
        INSERT INTO rota.rotation_history (chain, seq, at, kind, rotation, prev_hash, canonical, hash)
        VALUES (link, head.seq + 1, now, body ->> 'kind', (body ->> 'rotation')::uuid, head.hash, bytes, sha256(bytes))
        RETURNING seq, hash INTO head.seq, head.hash;
        UPDATE rota.chain_heads h SET seq = head.seq, hash = head.hash WHERE h.chain = link;
    END LOOP;
END
$$;

-- Seals the heads of all chains as of now. Returns the anchor: its number and hash.
CREATE FUNCTION rota.seal_history(OUT number bigint, OUT hash bytea)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, rota, pg_temp
AS $$
DECLARE
    before rota.history_checkpoints;
    now    timestamptz;
    bytes  bytea;
BEGIN
    LOCK TABLE rota.history_checkpoints IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO before FROM rota.history_checkpoints c ORDER BY c.number DESC LIMIT 1;
    now := clock_timestamp();
    seal_history.number := coalesce(before.number, 0) + 1;
    -- One statement, one snapshot: for each chain some prefix of it, and never less than
    -- the checkpoint before saw.
    SELECT convert_to(format('{"at":"%s","chains":%s,"checkpoint":%s,"heads":[%s],"prev":"%s","rows":%s}',
            rota.written_time(now), count(*), seal_history.number,
            coalesce(string_agg(format('{"chain":%s,"hash":"%s","seq":%s}', to_json(h.chain), encode(h.hash, 'hex'), h.seq),
                ',' ORDER BY h.chain), ''),
            coalesce(encode(before.hash, 'hex'), repeat('00', 32)), coalesce(sum(h.seq), 0)), 'UTF8')
    INTO bytes FROM rota.chain_heads h;
    seal_history.hash := sha256(bytes);
    INSERT INTO rota.history_checkpoints VALUES (seal_history.number, now, bytes, seal_history.hash);
END
$$;
