-- 0002: what a CloudEvent has beside its type and its data.
--
-- attributes holds all attributes of a CloudEvent as one object, also those
-- that have a column of their own; data_kind says what payload is where it is
-- not the JSON value that was sent: 'none' (null, for no data), 'text' (a
-- string, of the type that datacontenttype names), 'base64' (a string, of
-- bytes). Both are null for other events. Adding columns that may be null
-- rewrites nothing. Written by hotpath-drain, read by hotpath-project.

ALTER TABLE hotpath.events
    ADD COLUMN attributes jsonb,
    ADD COLUMN data_kind  text;
