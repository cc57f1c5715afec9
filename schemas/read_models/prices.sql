-- model: prices
-- events: price_set, price_removed
--
-- The price of a product, per tenant. Form of this file, the columns every
-- model has and the CTE "batch" are described in schemas/README.md.
--
--   price_set      {"productId":42,"amount":19.99,"currency":"EUR"}
--   price_removed  {"productId":42}
--
-- An event that lacks a member or has it of another type is no price: the
-- WHERE passes over it and the projection goes on.

-- section: table

CREATE TABLE hotpath.prices (
    tenant      text        NOT NULL,
    key         text        NOT NULL,
    version     bigint      NOT NULL,
    document    text        NOT NULL,
    modified_at timestamptz NOT NULL,
    deleted     boolean     NOT NULL,
    partition   integer     NOT NULL,
    position    bigint      NOT NULL,
    PRIMARY KEY (tenant, key)
) WITH (fillfactor = 80);

-- for pushing again what came after a position
CREATE INDEX prices_position ON hotpath.prices (partition, position);

-- section: apply

INSERT INTO hotpath.prices AS t (tenant, key, version, document, modified_at,
    deleted, partition, position)
SELECT DISTINCT ON (b.tenant, b.payload ->> 'productId')
    b.tenant,
    b.payload ->> 'productId',
    b.accepted_us,
    CASE WHEN b.event_type = 'price_removed' THEN ''
    ELSE format(
        '{"productId":%s,"amount":%s,"currency":%s,"lastUpdatedAt":"%s"}',
        b.payload -> 'productId', b.payload -> 'amount',
        b.payload -> 'currency',
        to_char(b.accepted_at AT TIME ZONE 'UTC',
            'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    END,
    b.accepted_at,
    b.event_type = 'price_removed',
    b.partition,
    b.position
FROM batch b
WHERE jsonb_typeof(b.payload -> 'productId') IN ('number', 'string')
    AND octet_length(b.payload ->> 'productId') BETWEEN 1 AND 255
    AND (b.event_type = 'price_removed'
        OR (jsonb_typeof(b.payload -> 'amount') = 'number'
            AND jsonb_typeof(b.payload -> 'currency') = 'string'
            AND b.payload ->> 'currency' ~ '^[A-Z]{3}$'))
-- the last event of a key counts; keys in one order, so that two lanes that
-- meet on the same ones cannot deadlock
ORDER BY b.tenant, b.payload ->> 'productId', b.position DESC
ON CONFLICT (tenant, key) DO UPDATE SET
    version = greatest(t.version + 1, excluded.version),
    document = excluded.document,
    modified_at = excluded.modified_at,
    deleted = excluded.deleted,
    partition = excluded.partition,
    position = excluded.position
-- in one partition the stream's order decides, across partitions the time of
-- acceptance
WHERE (t.partition = excluded.partition AND t.position < excluded.position)
    OR (t.partition <> excluded.partition
        AND t.modified_at <= excluded.modified_at)
RETURNING t.tenant, t.key, t.version, t.document, t.modified_at, t.deleted
