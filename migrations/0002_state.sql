-- What is due, what is in flight, who waits for what.

SET LOCAL ROLE rota_owner;

-- The policies that all replicas act on; the newest counts. `policy` is kept as it
-- was written, not as jsonb: with many secrets it is long, and nothing looks inside.
CREATE TABLE rota.policies (
    version     bigint      PRIMARY KEY CHECK (version > 0),
    digest      text        NOT NULL CHECK (digest <> ''),
    policy      json        NOT NULL,
    accepted_by text        NOT NULL,
    accepted_at timestamptz NOT NULL,
    -- Ids that were added, removed and changed.
    changes     jsonb       NOT NULL
);

CREATE TABLE rota.secrets (
    id               text        PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$'),
    kind             text        NOT NULL,
    -- 0 critical, 1 high, 2 medium, 3 low: the order of catch-up.
    priority         smallint    NOT NULL CHECK (priority BETWEEN 0 AND 3),
    owner            text,
    consumers        text[]      NOT NULL,
    schedule         jsonb       NOT NULL,
    -- What `next_start_at` was made with beside the schedule: lead and window.
    start_rule       jsonb       NOT NULL,
    policy_version   bigint      NOT NULL REFERENCES rota.policies,
    -- The store holds a value that was promoted here or adopted.
    value_exists     boolean     NOT NULL DEFAULT false,
    -- Null: the age is unknown.
    last_promoted_at timestamptz,
    next_due_at      timestamptz,
    next_start_at    timestamptz,
    postponed_until  timestamptz,
    postponed_why    text,
    starts_at        timestamptz GENERATED ALWAYS AS
        (CASE WHEN next_start_at IS NOT NULL THEN greatest(next_start_at, postponed_until) END) STORED,
    -- Why no rotation may start until a person has reconciled what an earlier one left.
    blocked_by       text        CHECK (blocked_by <> ''),
    added_at         timestamptz NOT NULL,
    removed_at       timestamptz,
    CHECK ((postponed_until IS NULL) = (postponed_why IS NULL)),
    CHECK (last_promoted_at IS NULL OR value_exists)
);
-- Flat in the number of secrets: only what starts soon is read.
CREATE INDEX secrets_due ON rota.secrets (starts_at)
    WHERE removed_at IS NULL AND blocked_by IS NULL AND starts_at IS NOT NULL;
CREATE INDEX secrets_consumers ON rota.secrets USING gin (consumers);
CREATE INDEX secrets_next_due ON rota.secrets (next_due_at) WHERE removed_at IS NULL;

CREATE TABLE rota.rotations (
    id              uuid        PRIMARY KEY,
    secret          text        NOT NULL REFERENCES rota.secrets,
    phase           text        NOT NULL CHECK (phase IN ('generate', 'dual_run', 'monitor', 'retire',
        'rolling_back', 'held', 'completed', 'rolled_back', 'abandoned', 'superseded')),
    step            text,
    -- An emergency: claimed before the others.
    urgent          boolean     NOT NULL,
    -- The whole state of the machine. Refs, never values.
    rotation        jsonb       NOT NULL,
    -- The copy of the policy entry that the rotation took when it started.
    policy          jsonb       NOT NULL,
    consumers       text[]      NOT NULL,
    incarnation     bigint      NOT NULL REFERENCES rota.incarnations,
    epoch           bigint      NOT NULL CHECK (epoch > 0),
    last_effect     bigint      NOT NULL CHECK (last_effect >= 0),
    wake_at         timestamptz NOT NULL,
    woken_at        timestamptz,
    -- The lease. An order raises `epoch` and leaves the lease: the holder may be in
    -- the middle of a call.
    holder          text,
    lease_epoch     bigint,
    lease_from      timestamptz,
    lease_until     timestamptz,
    opened_at       timestamptz NOT NULL,
    dual_run_at     timestamptz,
    promoted_at     timestamptz,
    monitor_at      timestamptz,
    retire_at       timestamptz,
    rolling_back_at timestamptz,
    held_at         timestamptz,
    ended_at        timestamptz,
    CHECK ((ended_at IS NOT NULL) = (phase IN ('completed', 'rolled_back', 'abandoned', 'superseded'))),
    CHECK ((ended_at IS NOT NULL) = (step IS NULL)),
    CHECK ((phase = 'held') = (held_at IS NOT NULL)),
    CHECK (ended_at IS NULL OR holder IS NULL),
    CHECK ((holder IS NULL) = (lease_until IS NULL)),
    CHECK ((holder IS NULL) = (lease_epoch IS NULL)),
    CHECK ((holder IS NULL) = (lease_from IS NULL)),
    CHECK (lease_epoch IS NULL OR lease_epoch <= epoch),
    CONSTRAINT rotation_names_itself CHECK (rotation ->> 'id' = id::text AND rotation ->> 'secret' = secret)
);
CREATE UNIQUE INDEX rotations_one_in_flight ON rota.rotations (secret) WHERE ended_at IS NULL;
CREATE INDEX rotations_awake ON rota.rotations (wake_at) WHERE ended_at IS NULL;
CREATE INDEX rotations_of_secret ON rota.rotations (secret, opened_at);

CREATE FUNCTION rota.guard_rotation() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, rota, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF EXISTS (SELECT FROM rota.rotations r WHERE r.secret = NEW.secret AND r.last_effect > NEW.last_effect) THEN
            RAISE EXCEPTION USING ERRCODE = 'RT002', MESSAGE = 'effect numbers of a secret never decrease';
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.ended_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'RT002', MESSAGE = 'a rotation that has ended does not change';
    END IF;
    IF NEW.epoch < OLD.epoch OR NEW.last_effect < OLD.last_effect THEN
        RAISE EXCEPTION USING ERRCODE = 'RT002', MESSAGE = 'epochs and effect numbers never decrease';
    END IF;
    IF NEW.id <> OLD.id OR NEW.secret <> OLD.secret OR NEW.policy <> OLD.policy
        OR NEW.opened_at <> OLD.opened_at THEN
        RAISE EXCEPTION USING ERRCODE = 'RT002', MESSAGE = 'what a rotation started with does not change';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON rota.rotations
    FOR EACH ROW EXECUTE FUNCTION rota.guard_rotation();

-- Target identities and places that have a rotation in flight. A row goes when its
-- rotation ends.
CREATE TABLE rota.exclusive_claims (
    key      text PRIMARY KEY,
    rotation uuid NOT NULL REFERENCES rota.rotations
);
CREATE INDEX exclusive_claims_rotation ON rota.exclusive_claims (rotation);

-- What consumers read by the last recorded publication of each secret.
CREATE TABLE rota.publications (
    secret       text        PRIMARY KEY REFERENCES rota.secrets,
    rotation     uuid        NOT NULL REFERENCES rota.rotations,
    publication  jsonb       NOT NULL,
    policy       jsonb       NOT NULL,
    consumers    text[]      NOT NULL,
    published_at timestamptz NOT NULL
);
CREATE INDEX publications_consumers ON rota.publications USING gin (consumers);

-- One row per consumer: locked by whoever asks for its rollout.
CREATE TABLE rota.consumers (
    id              text   PRIMARY KEY,
    last_generation bigint NOT NULL DEFAULT 0
);

CREATE TABLE rota.rollouts (
    consumer     text        NOT NULL REFERENCES rota.consumers,
    generation   bigint      NOT NULL CHECK (generation > 0),
    state        text        NOT NULL CHECK (state IN ('requested', 'starting', 'begun', 'finished', 'failed')),
    -- The state with what belongs to it (handle, memory, why it failed).
    detail       jsonb       NOT NULL,
    policy       jsonb       NOT NULL,
    -- The latest publication that it serves.
    published_at timestamptz NOT NULL,
    requested_at timestamptz NOT NULL,
    -- When the intent to start was recorded.
    begun_at     timestamptz,
    -- Null: every publication for which a rollout was asked for. Else only those up to
    -- here: a later generation was asked for when this one had begun.
    serves_until timestamptz,
    ended_at     timestamptz,
    failures     integer     NOT NULL DEFAULT 0 CHECK (failures >= 0),
    wake_at      timestamptz,
    epoch        bigint      NOT NULL CHECK (epoch > 0),
    holder       text,
    lease_until  timestamptz,
    PRIMARY KEY (consumer, generation),
    CHECK (detail ->> 'state' = state),
    CHECK ((ended_at IS NOT NULL) = (state IN ('finished', 'failed'))),
    CHECK ((ended_at IS NULL) = (wake_at IS NOT NULL)),
    CHECK (state IN ('requested', 'failed') OR begun_at IS NOT NULL),
    CHECK (state <> 'requested' OR begun_at IS NULL),
    CHECK ((holder IS NULL) = (lease_until IS NULL)),
    CHECK (ended_at IS NULL OR holder IS NULL)
);
CREATE UNIQUE INDEX rollouts_one_requested ON rota.rollouts (consumer) WHERE state = 'requested';
CREATE UNIQUE INDEX rollouts_one_under_way ON rota.rollouts (consumer) WHERE state IN ('starting', 'begun');
CREATE INDEX rollouts_awake ON rota.rollouts (wake_at) WHERE ended_at IS NULL;

CREATE TABLE rota.observations (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rotation uuid        NOT NULL REFERENCES rota.rotations,
    consumer text,
    name     text        NOT NULL,
    verdict  text        NOT NULL CHECK (verdict IN ('healthy', 'unhealthy', 'unknown')),
    value    double precision,
    detail   text        NOT NULL,
    at       timestamptz NOT NULL
);
CREATE INDEX observations_rotation ON rota.observations (rotation, id);

-- What people asked for. Only the order functions write here.
CREATE TABLE rota.orders (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    secret     text        NOT NULL REFERENCES rota.secrets,
    kind       jsonb       NOT NULL,
    name       text        GENERATED ALWAYS AS (kind ->> 'order') STORED,
    -- The rotation that was in flight.
    rotation   uuid        REFERENCES rota.rotations,
    db_user    text        NOT NULL,
    given_name text        NOT NULL,
    reason     text        NOT NULL,
    at         timestamptz NOT NULL,
    -- No answer is tried before, and why.
    not_before timestamptz,
    waiting    text,
    handled_at timestamptz,
    outcome    text,
    CHECK ((handled_at IS NULL) = (outcome IS NULL)),
    CHECK ((not_before IS NULL) = (waiting IS NULL)),
    CHECK (name IN ('rotate', 'emergency', 'hold', 'resume', 'rollback', 'abandon', 'submitted', 'confirm'))
);
CREATE INDEX orders_open ON rota.orders (secret, id) WHERE handled_at IS NULL;

-- What an earlier rotation left alive.
CREATE TABLE rota.orphans (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    secret      text        NOT NULL REFERENCES rota.secrets,
    rotation    uuid        NOT NULL REFERENCES rota.rotations,
    what        text        NOT NULL CHECK (what <> ''),
    found_at    timestamptz NOT NULL,
    resolved_at timestamptz,
    resolved_by text,
    resolution  text,
    CHECK ((resolved_at IS NULL) = (resolved_by IS NULL)),
    CHECK ((resolved_at IS NULL) = (resolution IS NULL))
);
CREATE UNIQUE INDEX orphans_once ON rota.orphans (rotation, md5(what)) WHERE resolved_at IS NULL;
CREATE INDEX orphans_open ON rota.orphans (secret) WHERE resolved_at IS NULL;

-- Notices, and which channel has which.
CREATE TABLE rota.outbox (
    id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key    text        NOT NULL UNIQUE,
    notice jsonb       NOT NULL,
    at     timestamptz NOT NULL
);
CREATE TABLE rota.channels (
    name          text        PRIMARY KEY CHECK (name <> ''),
    registered_at timestamptz NOT NULL,
    lease_until   timestamptz,
    not_before    timestamptz,
    failures      integer     NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_fault    text,
    delivered_at  timestamptz
);
CREATE TABLE rota.deliveries (
    channel      text        NOT NULL REFERENCES rota.channels,
    notice       bigint      NOT NULL REFERENCES rota.outbox ON DELETE CASCADE,
    delivered_at timestamptz,
    PRIMARY KEY (channel, notice)
);
CREATE INDEX deliveries_open ON rota.deliveries (channel, notice) WHERE delivered_at IS NULL;
