-- Roles, schema, epochs, incarnations.
--
-- Four group roles without login; people and programs are made members of them:
--   rota_owner     owns every object; only migrations act as it
--   rota_daemon    claims and records; cannot write history but through its function
--   rota_operator  may only call the order functions
--   rota_auditor   reads views
-- Errors of the class RT carry a text that is ours and safe to show.

DO $$
DECLARE
    wanted  text;
    missing text[] := '{}';
BEGIN
    FOREACH wanted IN ARRAY ARRAY ['rota_owner', 'rota_daemon', 'rota_operator', 'rota_auditor'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = wanted);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION
            -- Another database of the cluster was migrated at the same moment.
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN missing := missing || format('CREATE ROLE %I NOLOGIN;', wanted);
        END;
    END LOOP;
    IF missing <> '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'RT001', MESSAGE = format(
            'the role %I may not create roles; as an administrator run: %s GRANT rota_owner TO %I; then migrate again',
            current_user, array_to_string(missing, ' '), current_user);
    END IF;
END
$$;

DO $$
DECLARE
    migrator name := current_user;
BEGIN
    BEGIN
        SET LOCAL ROLE rota_owner;
        EXECUTE format('SET LOCAL ROLE %I', migrator);
    EXCEPTION WHEN insufficient_privilege THEN
        -- Whoever created a role may grant it, to himself as well.
        BEGIN
            EXECUTE format('GRANT rota_owner TO %I', migrator);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION USING ERRCODE = 'RT001', MESSAGE = format(
                'the role %I cannot act as rota_owner; as an administrator run: GRANT rota_owner TO %I; then migrate again',
                migrator, migrator);
        END;
    END;
    IF to_regnamespace('rota') IS NULL THEN
        BEGIN
            CREATE SCHEMA rota AUTHORIZATION rota_owner;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION USING ERRCODE = 'RT001', MESSAGE = format(
                'the role %I may not create a schema; as the owner of the database run: CREATE SCHEMA rota AUTHORIZATION rota_owner; then migrate again',
                migrator);
        END;
    END IF;
END
$$;

SET LOCAL ROLE rota_owner;

-- What has been applied, and which binaries may work on it.
CREATE TABLE rota.schema_migrations (
    version     bigint      PRIMARY KEY,
    description text        NOT NULL,
    checksum    bytea       NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by  text        NOT NULL DEFAULT session_user
);

-- One row. A migration that older binaries cannot work with raises it.
CREATE TABLE rota.compatibility (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    minimum_binary text    NOT NULL CHECK (minimum_binary ~ '^\d+\.\d+\.\d+$')
);
INSERT INTO rota.compatibility (minimum_binary) VALUES ('0.1.0');

-- Every claim and every order takes the next one. Never reset, never cycled.
CREATE SEQUENCE rota.epochs AS bigint NO CYCLE;

-- The life of this database. A recovery begins the next one, with a number from
-- outside the database; fences compare it before the epoch.
CREATE TABLE rota.incarnations (
    number            bigint      PRIMARY KEY CHECK (number > 0),
    system_identifier text        NOT NULL,
    timeline          bigint      NOT NULL,
    begun_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    begun_by          text        NOT NULL DEFAULT session_user,
    reason            text        NOT NULL,
    -- Why nothing may be claimed until the next incarnation begins.
    suspended_because text        CHECK (suspended_because <> '')
);

-- Which server this is. Empty and 0 where the server does not tell.
CREATE FUNCTION rota.system_identity(OUT system_identifier text, OUT timeline bigint)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    BEGIN
        SELECT c.system_identifier::text INTO system_identity.system_identifier FROM pg_control_system() c;
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        system_identity.system_identifier := '';
    END;
    BEGIN
        -- The first eight digits of a WAL file's name are its timeline.
        system_identity.timeline :=
            ('x' || lpad(left(pg_walfile_name(pg_current_wal_lsn()), 8), 16, '0'))::bit(64)::bigint;
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported
        OR object_not_in_prerequisite_state THEN
        system_identity.timeline := 0;
    END;
END
$$;

INSERT INTO rota.incarnations (number, system_identifier, timeline, reason)
SELECT 1, i.system_identifier, i.timeline, 'first migration' FROM rota.system_identity() i;

-- The running incarnation, and whether the server still is the one that it began on.
CREATE VIEW rota.current_incarnation AS
SELECT i.number,
       i.system_identifier,
       i.timeline,
       i.suspended_because,
       n.system_identifier AS system_identifier_now,
       n.timeline AS timeline_now,
       n.system_identifier = i.system_identifier AND n.timeline = i.timeline AS same_server,
       n.system_identifier = i.system_identifier AND n.timeline = i.timeline
           AND i.suspended_because IS NULL AS trusted
FROM (SELECT * FROM rota.incarnations ORDER BY number DESC LIMIT 1) i
CROSS JOIN rota.system_identity() n;
