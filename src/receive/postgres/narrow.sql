CREATE TABLE IF NOT EXISTS readings (
  series integer     NOT NULL,
  ts     timestamptz NOT NULL,
  value  double precision,
  text   text,
  q      smallint    NOT NULL
);
COMMENT ON COLUMN readings.value IS 'NULL for text and where q >= 32 says why there is none';
COMMENT ON COLUMN readings.text IS 'text values, and integers beyond 2^53 in full';
-- A few kilobytes in place of a third of the table: readings arrive nearly in the order of time.
CREATE INDEX IF NOT EXISTS readings_ts ON readings USING brin (ts);

CREATE TABLE IF NOT EXISTS last_readings (
  series integer     PRIMARY KEY,
  ts     timestamptz NOT NULL,
  value  double precision,
  text   text,
  q      smallint    NOT NULL
) WITH (fillfactor = 50);

CREATE OR REPLACE VIEW latest AS
SELECT s.gw, s.st, s.device, s.point, s.unit, l.ts, l.value, l.text, l.q, s.id AS series
FROM series s JOIN last_readings l ON l.series = s.id;
