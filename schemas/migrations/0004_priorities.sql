-- 0004: how far a partition's streams of other priorities are stored.
--
-- A partition has one stream, or one for each priority that is in use. What
-- hotpath.partitions says of its stream is of the normal one, which is always
-- there; high and low have a row here once a drain has taken them. Positions
-- are given out for the partition, whatever the priority: they stay where they
-- are. hotpath.streams is all of them in one form. Written by hotpath-drain in
-- the transaction that stores; the view is read by nginx (schemas/README.md,
-- "What is lost") and hotpathctl.

CREATE TABLE hotpath.priorities (
    partition      integer     NOT NULL,
    priority       text        NOT NULL CHECK (priority IN ('high', 'low')),
    stream_created text        NOT NULL DEFAULT '',
    last_sequence  bigint      NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    empty_at       timestamptz,
    PRIMARY KEY (partition, priority)
) WITH (fillfactor = 50);

CREATE VIEW hotpath.streams AS
    SELECT partition, 'normal'::text AS priority, stream_created,
        last_sequence, updated_at, empty_at
    FROM hotpath.partitions
    UNION ALL
    SELECT partition, priority, stream_created, last_sequence, updated_at,
        empty_at
    FROM hotpath.priorities;
