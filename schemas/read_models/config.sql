-- model: config
-- events: config_set
--
-- The configuration of a tenant: one document, whose key is the tenant's own
-- name. Form and rules: schemas/README.md and prices.sql.
--
--   config_set  {"settings":{"theme":"dark","limits":{"seats":25}}}

-- section: table

CREATE TABLE hotpath.config (
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

CREATE INDEX config_position ON hotpath.config (partition, position);

-- section: apply

INSERT INTO hotpath.config AS t (tenant, key, version, document, modified_at,
    deleted, partition, position)
SELECT DISTINCT ON (b.tenant)
    b.tenant,
    b.tenant,
    b.accepted_us,
    format('{"tenantId":%s,"settings":%s}', to_jsonb(b.tenant),
        b.payload -> 'settings'),
    b.accepted_at,
    false,
    b.partition,
    b.position
FROM batch b
WHERE jsonb_typeof(b.payload -> 'settings') = 'object'
ORDER BY b.tenant, b.position DESC
ON CONFLICT (tenant, key) DO UPDATE SET
    version = greatest(t.version + 1, excluded.version),
    document = excluded.document,
    modified_at = excluded.modified_at,
    deleted = excluded.deleted,
    partition = excluded.partition,
    position = excluded.position
WHERE (t.partition = excluded.partition AND t.position < excluded.position)
    OR (t.partition <> excluded.partition
        AND t.modified_at <= excluded.modified_at)
RETURNING t.tenant, t.key, t.version, t.document, t.modified_at, t.deleted
