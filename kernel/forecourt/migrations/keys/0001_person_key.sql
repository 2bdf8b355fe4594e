-- The wrapped keys of persons.
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.master_key (
    master_id text PRIMARY KEY,
    first_used timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS {schema}.person_key (
    person_id uuid PRIMARY KEY,
    key_id uuid NOT NULL,
    master_id text REFERENCES {schema}.master_key,
    wrapped bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    fingerprint text NOT NULL DEFAULT '',
    CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL)),
    CHECK ((wrapped IS NULL) = (master_id IS NULL))
);
CREATE INDEX IF NOT EXISTS person_key_master ON {schema}.person_key (master_id) WHERE master_id IS NOT NULL;
