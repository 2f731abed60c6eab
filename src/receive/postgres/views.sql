-- What is missing, per sequence: ranges that can still come (late), ranges that cannot (lost), and
-- how many readings the gateway's quota took (dropped).
CREATE OR REPLACE VIEW gaps AS
WITH known AS NOT MATERIALIZED (
  SELECT gw, ep, st, max(seq) AS top, max(sealed) AS sealed, max(lo) AS lo, max(dr) AS dr,
         max(t1) AS t1
  FROM (
    SELECT gw, ep, st, seq, 0::bigint AS sealed, lo, dr, t1 FROM batches
    UNION ALL
    SELECT gw, ep, 'data', 0, seq, lo, 0, NULL FROM gateways WHERE seq > 0 AND ep IS NOT NULL
  ) heard
  GROUP BY gw, ep, st
), standing AS NOT MATERIALIZED (
  -- The store of an older epoch is gone, and with it whatever it still held.
  SELECT gw, ep, st, top, sealed, dr, t1,
         CASE WHEN ep < max(ep) OVER (PARTITION BY gw) THEN 9223372036854775807
              ELSE greatest(lo, 1) END AS lo
  FROM known
), holes AS NOT MATERIALIZED (
  SELECT gw, ep, st, before + 1 AS a, seq - 1 AS b, since, t0 AS until
  FROM (
    SELECT gw, ep, st, seq, t0, lag(seq, 1, 0::bigint) OVER w AS before, lag(t1) OVER w AS since
    FROM batches WINDOW w AS (PARTITION BY gw, ep, st ORDER BY seq)
  ) o
  WHERE seq > before + 1
  UNION ALL
  SELECT gw, ep, st, top + 1, sealed, t1, NULL FROM standing WHERE sealed > top
)
SELECT gw, ep, st, 'lost' AS state, a AS first_seq, least(b, lo - 1) AS last_seq,
       least(b, lo - 1) - a + 1 AS batches, NULL::bigint AS readings, since, until
FROM holes JOIN standing USING (gw, ep, st) WHERE a < lo
UNION ALL
SELECT gw, ep, st, 'late', greatest(a, lo), b, b - greatest(a, lo) + 1, NULL, since, until
FROM holes JOIN standing USING (gw, ep, st) WHERE b >= lo
UNION ALL
SELECT gw, ep, st, 'dropped', NULL, NULL, NULL, dr, NULL, NULL FROM standing WHERE dr > 0;
COMMENT ON VIEW gaps IS 'fieldgate: batches that are missing and can come (late) or cannot (lost), and readings that quotas took (dropped)';
