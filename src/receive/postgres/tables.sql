-- The ledger: a row a batch, written in the transaction that writes its readings.
CREATE TABLE IF NOT EXISTS batches (
  gw          text        NOT NULL,
  ep          bigint      NOT NULL,
  st          text        NOT NULL,
  seq         bigint      NOT NULL,
  n           integer     NOT NULL,
  t0          timestamptz NOT NULL,
  t1          timestamptz NOT NULL,
  ck          smallint    NOT NULL,
  cv          text        NOT NULL,
  dr          bigint      NOT NULL,
  lo          bigint      NOT NULL,
  unknown     integer     NOT NULL,
  bytes       integer     NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (gw, ep, st, seq)
);
COMMENT ON TABLE batches IS 'fieldgate: one row a batch; the key is the one of the wire format';
COMMENT ON COLUMN batches.dr IS 'readings of this stream that the gateway''s quota had dropped when it sealed this batch';
COMMENT ON COLUMN batches.lo IS 'lowest seq the gateway held when it sealed this batch';
COMMENT ON COLUMN batches.unknown IS 'frames and readings of kinds this receiver did not know; not stored';

CREATE TABLE IF NOT EXISTS series (
  id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  gw     text    NOT NULL,
  st     text    NOT NULL,
  device text    NOT NULL,
  point  text    NOT NULL,
  unit   text    NOT NULL,
  flag   boolean NOT NULL,
  UNIQUE (gw, device, point, unit, st)
);
COMMENT ON COLUMN series.flag IS 'values are 0 for false and 1 for true';

-- What gateways last said of themselves; gaps uses it for what was sealed and has not come.
CREATE TABLE IF NOT EXISTS gateways (
  gw        text        PRIMARY KEY,
  up        boolean     NOT NULL,
  ep        bigint,
  seq       bigint,
  lo        bigint,
  backlog_s bigint,
  ver       text,
  seen_at   timestamptz NOT NULL DEFAULT now()
);
