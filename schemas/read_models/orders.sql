-- model: orders
-- events: order_placed, order_removed
--
-- The orders of a tenant, one by one and as the list of each customer, newest
-- first. Form of this file, the columns every model has, those of a list, and
-- the CTE "batch" are described in schemas/README.md.
--
--   order_placed   {"orderId":"A-17","customer":"c-42","amount":19.99,
--                   "currency":"EUR"}
--   order_removed  {"orderId":"A-17"}
--
-- A second order_placed for an order replaces it and leaves it at its place in
-- the list. An event that lacks a member or has it of another type is no order:
-- the WHERE passes over it and the projection goes on.

-- section: table

CREATE TABLE hotpath.orders (
    tenant      text        NOT NULL,
    key         text        NOT NULL,
    version     bigint      NOT NULL,
    document    text        NOT NULL,
    modified_at timestamptz NOT NULL,
    deleted     boolean     NOT NULL,
    partition   integer     NOT NULL,
    position    bigint      NOT NULL,
    -- whose list it is in, and where: microseconds since 1970
    list_key    text        NOT NULL,
    list_us     bigint      NOT NULL,
    PRIMARY KEY (tenant, key)
) WITH (fillfactor = 80);

-- for pushing again what came after a position
CREATE INDEX orders_position ON hotpath.orders (partition, position);

-- for pages, which are read backwards from any place
CREATE INDEX orders_list ON hotpath.orders (tenant, list_key, list_us, key)
    WHERE NOT deleted;

-- section: apply

INSERT INTO hotpath.orders AS t (tenant, key, version, document, modified_at,
    deleted, partition, position, list_key, list_us)
SELECT DISTINCT ON (b.tenant, b.payload ->> 'orderId')
    b.tenant,
    b.payload ->> 'orderId',
    b.accepted_us,
    CASE WHEN b.event_type = 'order_removed' THEN ''
    ELSE format(
        '{"orderId":%s,"customer":%s,"amount":%s,"currency":%s,'
        '"placedAt":"%s"}',
        b.payload -> 'orderId', b.payload -> 'customer',
        b.payload -> 'amount', b.payload -> 'currency',
        to_char(b.accepted_at AT TIME ZONE 'UTC',
            'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    END,
    b.accepted_at,
    b.event_type = 'order_removed',
    b.partition,
    b.position,
    CASE WHEN b.event_type = 'order_removed' THEN ''
    ELSE b.payload ->> 'customer' END,
    b.accepted_us
FROM batch b
WHERE jsonb_typeof(b.payload -> 'orderId') IN ('number', 'string')
    AND octet_length(b.payload ->> 'orderId') BETWEEN 1 AND 64
    AND (b.event_type = 'order_removed'
        OR (jsonb_typeof(b.payload -> 'customer') IN ('number', 'string')
            AND octet_length(b.payload ->> 'customer') BETWEEN 1 AND 64
            AND jsonb_typeof(b.payload -> 'amount') = 'number'
            AND jsonb_typeof(b.payload -> 'currency') = 'string'
            AND b.payload ->> 'currency' ~ '^[A-Z]{3}$'))
-- the last event of a key counts; keys in one order, so that two lanes that
-- meet on the same ones cannot deadlock
ORDER BY b.tenant, b.payload ->> 'orderId', b.position DESC
ON CONFLICT (tenant, key) DO UPDATE SET
    version = greatest(t.version + 1, excluded.version),
    document = excluded.document,
    modified_at = excluded.modified_at,
    deleted = excluded.deleted,
    partition = excluded.partition,
    position = excluded.position,
    list_key = excluded.list_key,
    -- a row never moves within its list; one that comes back is a new one
    list_us = CASE WHEN t.deleted THEN excluded.list_us ELSE t.list_us END
-- in one partition the stream's order decides, across partitions the time of
-- acceptance
WHERE (t.partition = excluded.partition AND t.position < excluded.position)
    OR (t.partition <> excluded.partition
        AND t.modified_at <= excluded.modified_at)
RETURNING t.tenant, t.key, t.version, t.document, t.modified_at, t.deleted
