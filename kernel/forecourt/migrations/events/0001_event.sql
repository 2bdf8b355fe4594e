-- All events, and the one way to append them.
CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE IF NOT EXISTS {schema}.event (
    position bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    category text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    type text COLLATE "C" NOT NULL,
    version smallint NOT NULL,
    time timestamptz NOT NULL,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    dealer_id text COLLATE "C" NOT NULL,
    brand text COLLATE "C" NOT NULL,
    actor_id text COLLATE "C" NOT NULL,
    metadata json NOT NULL,
    data json NOT NULL,
    UNIQUE (stream, sequence)
);

CREATE OR REPLACE FUNCTION {schema}.append(
    p_streams text[], p_expected bigint[], p_append int[], p_offset int[], p_ids uuid[], p_types text[],
    p_versions smallint[], p_times timestamptz[], p_data text[], p_correlations uuid[], p_causations uuid[],
    p_dealers text[], p_brands text[], p_actors text[], p_metadata text[],
    OUT base bigint, OUT actual bigint[]
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('{schema}.append', 0));
    SELECT array_agg(coalesce(
        (SELECT e.sequence FROM {schema}.event e WHERE e.stream = s.stream ORDER BY e.sequence DESC LIMIT 1), 0
    ) ORDER BY s.n) INTO actual FROM unnest(p_streams) WITH ORDINALITY AS s(stream, n);
    SELECT coalesce(max(position), 0) INTO base FROM {schema}.event;
    INSERT INTO {schema}.event (position, stream, sequence, category, id, type, version, time, correlation_id,
                                causation_id, dealer_id, brand, actor_id, metadata, data)
    SELECT base + row_number() OVER (ORDER BY u.n), p_streams[u.append], p_expected[u.append] + u.seq,
           split_part(p_streams[u.append], '-', 1), u.id, u.type, u.version, u.time, u.correlation,
           u.causation, u.dealer, u.brand, u.actor, u.metadata::json, u.data::json
    FROM unnest(p_append, p_offset, p_ids, p_types, p_versions, p_times, p_data, p_correlations, p_causations,
                p_dealers, p_brands, p_actors, p_metadata) WITH ORDINALITY
         AS u(append, seq, id, type, version, time, data, correlation, causation, dealer, brand, actor, metadata, n)
    WHERE actual[u.append] = p_expected[u.append];
    IF FOUND THEN
        PERFORM pg_notify('{schema}_event', '');
    END IF;
END $$;
