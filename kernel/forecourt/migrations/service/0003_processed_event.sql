-- The ids of events that a handler has handled.
CREATE TABLE IF NOT EXISTS {schema}.processed_event (
    handler text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (handler, event_id)
);
CREATE INDEX IF NOT EXISTS processed_event_time ON {schema}.processed_event USING brin (processed_at);
