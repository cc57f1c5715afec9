-- model: profiles
-- events: profile_set, profile_removed
--
-- The profile of a user, per tenant. Form and rules: schemas/README.md and
-- prices.sql.
--
--   profile_set      {"userId":"u-17","profile":{"name":"Ada","team":"core"}}
--   profile_removed  {"userId":"u-17"}
--
-- "team" stands in the document itself, so that "tag=team" in hotpath_read lets
-- all profiles of a team be purged at once.

-- section: table

CREATE TABLE hotpath.profiles (
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

CREATE INDEX profiles_position ON hotpath.profiles (partition, position);

-- section: apply

INSERT INTO hotpath.profiles AS t (tenant, key, version, document, modified_at,
    deleted, partition, position)
SELECT DISTINCT ON (b.tenant, b.payload ->> 'userId')
    b.tenant,
    b.payload ->> 'userId',
    b.accepted_us,
    CASE WHEN b.event_type = 'profile_removed' THEN ''
    ELSE format('{"userId":%s,"team":%s,"profile":%s}', b.payload -> 'userId',
        coalesce(b.payload -> 'profile' -> 'team', 'null'),
        b.payload -> 'profile')
    END,
    b.accepted_at,
    b.event_type = 'profile_removed',
    b.partition,
    b.position
FROM batch b
WHERE jsonb_typeof(b.payload -> 'userId') = 'string'
    AND octet_length(b.payload ->> 'userId') BETWEEN 1 AND 255
    AND (b.event_type = 'profile_removed'
        OR jsonb_typeof(b.payload -> 'profile') = 'object')
ORDER BY b.tenant, b.payload ->> 'userId', b.position DESC
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
