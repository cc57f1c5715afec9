-- 0001: where accepted events become rows.
--
-- operations answers "what became of this one, and have we had it before";
-- its primary key is the deduplication that counts. events is what happened,
-- append only, one partition a day, so that retention is dropping a table.
-- Written by hotpath-drain, both in one transaction; read by hotpath-project
-- and by nginx. The schema itself and hotpath.migrations are made by
-- hotpathctl before this runs. Documented in schemas/README.md.

CREATE TABLE hotpath.operations (
    operation_id  uuid        NOT NULL,
    -- in hotpath.events; 0 where the operation is dead and has no event
    position      bigint      NOT NULL,
    accepted_at   timestamptz NOT NULL,
    processed_at  timestamptz NOT NULL DEFAULT now(),
    partition     integer     NOT NULL,
    state         smallint    NOT NULL,      -- 1 processed, 2 dead
    -- another payload came under this operation: counted, first one stays
    conflicts     integer     NOT NULL DEFAULT 0,
    conflict_at   timestamptz,
    fingerprint   bytea       NOT NULL,      -- SHA-256 of type and payload
    code          text,                      -- dead only: SQLSTATE or a word
    reason        text,                      -- dead only
    PRIMARY KEY (operation_id)
) PARTITION BY HASH (operation_id);

DO $$
BEGIN
    FOR i IN 0..7 LOOP
        EXECUTE format('CREATE TABLE hotpath.operations_%s'
            ' PARTITION OF hotpath.operations'
            ' FOR VALUES WITH (MODULUS 8, REMAINDER %s)', i, i);
    END LOOP;
END
$$;

CREATE TABLE hotpath.events (
    position        bigint      NOT NULL,
    accepted_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    operation_id    uuid        NOT NULL,
    partition       integer     NOT NULL,
    tenant          text        NOT NULL,
    route           text        NOT NULL,
    idempotency_key text,
    event_type      text        NOT NULL,
    traceparent     text,
    payload         jsonb       NOT NULL
) PARTITION BY RANGE (stored_at);

CREATE INDEX events_position ON hotpath.events (partition, position);

-- Nothing is ever refused because nobody made tomorrow's table in time.
CREATE TABLE hotpath.events_default PARTITION OF hotpath.events DEFAULT;

-- One row a partition, updated in the transaction that stores its events.
CREATE TABLE hotpath.partitions (
    partition      integer     NOT NULL PRIMARY KEY,
    last_position  bigint      NOT NULL DEFAULT 0,
    -- as the broker writes it: sequences count only together with it
    stream_created text        NOT NULL DEFAULT '',
    last_sequence  bigint      NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- How far each read model has come; position moves in the transaction that
-- applies the events, pushed_position after the documents were handed out.
CREATE TABLE hotpath.projections (
    model           text        NOT NULL,
    partition       integer     NOT NULL,
    position        bigint      NOT NULL DEFAULT 0,
    pushed_position bigint      NOT NULL DEFAULT 0,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, partition)
) WITH (fillfactor = 50);

-- Events that a model's statement failed on; the projection went on without.
CREATE TABLE hotpath.projection_errors (
    model     text        NOT NULL,
    partition integer     NOT NULL,
    position  bigint      NOT NULL,
    sqlstate  text        NOT NULL,
    message   text        NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model, partition, position)
);

-- Makes the daily partitions (UTC) from today to days_ahead, returns how many
-- it made. A table is made aside and attached: that needs no lock which
-- inserts would wait for. A day that already has rows in events_default
-- cannot be attached; its rows stay there, which costs nothing but tidiness.
CREATE FUNCTION hotpath.make_event_partitions(days_ahead integer)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
SET timezone = 'UTC'
AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    made  integer := 0;
    day   date;
    name  text;
BEGIN
    -- two lanes at once would make the same table
    PERFORM pg_advisory_xact_lock(hashtext('hotpath.make_event_partitions'));

    FOR i IN 0..days_ahead LOOP
        day := today + i;
        name := 'events_' || to_char(day, 'YYYYMMDD');

        CONTINUE WHEN to_regclass('hotpath.' || name) IS NOT NULL;
        -- asked first, because attaching would look with everybody locked out
        CONTINUE WHEN EXISTS (SELECT FROM hotpath.events_default
            WHERE stored_at >= day::timestamptz
                AND stored_at < (day + 1)::timestamptz);

        BEGIN
            EXECUTE format('CREATE TABLE hotpath.%I'
                ' (LIKE hotpath.events INCLUDING ALL)', name);
            EXECUTE format('ALTER TABLE hotpath.events'
                ' ATTACH PARTITION hotpath.%I FOR VALUES FROM (%L) TO (%L)',
                name, day::timestamptz, (day + 1)::timestamptz);
            made := made + 1;
        EXCEPTION WHEN check_violation THEN
            RAISE NOTICE 'events of % stay in events_default', day;
        END;
    END LOOP;

    RETURN made;
END
$$;
