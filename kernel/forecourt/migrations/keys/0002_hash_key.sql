-- The wrapped keys of hashes that tell whether two values are the same.
CREATE TABLE IF NOT EXISTS {schema}.hash_key (
    name text PRIMARY KEY,
    master_id text NOT NULL REFERENCES {schema}.master_key,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
