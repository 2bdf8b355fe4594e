-- The registry of read models, and what they could not take in.
CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE IF NOT EXISTS {schema}.projection (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    version int NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'active', 'retired')),
    relation text NOT NULL UNIQUE,
    position bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX IF NOT EXISTS projection_active ON {schema}.projection (name) WHERE state = 'active';
CREATE UNIQUE INDEX IF NOT EXISTS projection_building
    ON {schema}.projection (name, version) WHERE state = 'building';

CREATE TABLE IF NOT EXISTS {schema}.projection_quarantine (
    target bigint NOT NULL REFERENCES {schema}.projection ON DELETE CASCADE,
    projection text NOT NULL,
    version int NOT NULL,
    position bigint NOT NULL,
    stream text NOT NULL,
    type text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target, position)
);
CREATE INDEX IF NOT EXISTS projection_quarantine_stream ON {schema}.projection_quarantine (target, stream);
