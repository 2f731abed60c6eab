CREATE TABLE IF NOT EXISTS blocks (
  series     integer     NOT NULL,
  t0         timestamptz NOT NULL,
  t1         timestamptz NOT NULL,
  offsets_ms integer[]   NOT NULL,
  value      double precision[] NOT NULL,
  text       text[],
  q          smallint[]
);
COMMENT ON TABLE blocks IS 'fieldgate: the readings of one series in one batch';
COMMENT ON COLUMN blocks.offsets_ms IS 'of each reading, from t0';
COMMENT ON COLUMN blocks.q IS 'NULL when all are plain good';
CREATE INDEX IF NOT EXISTS blocks_series ON blocks (series, t1);

CREATE OR REPLACE VIEW readings AS
SELECT b.series, b.t0 + u.o * interval '1 millisecond' AS ts, u.v AS value,
       b.text[u.i] AS text, coalesce(b.q[u.i], 0)::smallint AS q
FROM blocks b, unnest(b.offsets_ms, b.value) WITH ORDINALITY AS u(o, v, i);

CREATE OR REPLACE VIEW latest AS
SELECT s.gw, s.st, s.device, s.point, s.unit, l.ts, l.value, l.text, l.q, s.id AS series
FROM series s CROSS JOIN LATERAL (
  SELECT b.t0 + u.o * interval '1 millisecond' AS ts, u.v AS value,
         b.text[u.i] AS text, coalesce(b.q[u.i], 0)::smallint AS q
  FROM (SELECT * FROM blocks WHERE series = s.id ORDER BY t1 DESC LIMIT 1) b,
       unnest(b.offsets_ms, b.value) WITH ORDINALITY AS u(o, v, i)
  ORDER BY u.o DESC, u.i DESC LIMIT 1
) l;
