-- Snapshots of long streams.
CREATE TABLE IF NOT EXISTS {schema}.snapshot (
    stream text PRIMARY KEY,
    shape text NOT NULL,
    version bigint NOT NULL,
    position bigint NOT NULL,
    dealer_id text NOT NULL,
    brand text NOT NULL,
    state json NOT NULL,
    known json NOT NULL
);
ALTER TABLE {schema}.snapshot
    ADD COLUMN IF NOT EXISTS shared text[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS former text[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS actors json NOT NULL DEFAULT '{}';
