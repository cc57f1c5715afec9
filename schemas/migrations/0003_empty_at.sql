-- 0003: when a stream was last seen to hold nothing that is not stored.
--
-- A message that the broker acknowledged and that was purged since, or went
-- with its stream, has no row and never gets one. Where last_sequence is past
-- it, that shows; where it is not, because nothing came since, empty_at does:
-- what was accepted well before and has no row is lost. By the drain's clock;
-- NULL: not seen yet. Written by hotpath-drain, read by nginx
-- (schemas/README.md, "What is lost").

ALTER TABLE hotpath.partitions ADD COLUMN empty_at timestamptz;
