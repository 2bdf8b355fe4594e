-- The schema of the first release, without a record of migrations, with a little data: kernel, and service sales.
-- Written with pg_dump. Never change it: test_migrations.py brings it up to date.
CREATE SCHEMA events;
CREATE SCHEMA keys;
CREATE SCHEMA messaging;
CREATE SCHEMA sales;
CREATE FUNCTION events.append(p_streams text[], p_expected bigint[], p_append integer[], p_offset integer[], p_ids uuid[], p_types text[], p_versions smallint[], p_times timestamp with time zone[], p_data text[], p_correlations uuid[], p_causations uuid[], p_dealers text[], p_brands text[], p_actors text[], p_metadata text[], OUT base bigint, OUT actual bigint[]) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('events.append', 0));
    SELECT array_agg(coalesce(
        (SELECT e.sequence FROM events.event e WHERE e.stream = s.stream ORDER BY e.sequence DESC LIMIT 1), 0
    ) ORDER BY s.n) INTO actual FROM unnest(p_streams) WITH ORDINALITY AS s(stream, n);
    SELECT coalesce(max(position), 0) INTO base FROM events.event;
    INSERT INTO events.event (position, stream, sequence, category, id, type, version, time, correlation_id,
                                causation_id, dealer_id, brand, actor_id, metadata, data)
    SELECT base + row_number() OVER (ORDER BY u.n), p_streams[u.append], p_expected[u.append] + u.seq,
           split_part(p_streams[u.append], '-', 1), u.id, u.type, u.version, u.time, u.correlation,
           u.causation, u.dealer, u.brand, u.actor, u.metadata::json, u.data::json
    FROM unnest(p_append, p_offset, p_ids, p_types, p_versions, p_times, p_data, p_correlations, p_causations,
                p_dealers, p_brands, p_actors, p_metadata) WITH ORDINALITY
         AS u(append, seq, id, type, version, time, data, correlation, causation, dealer, brand, actor, metadata, n)
    WHERE actual[u.append] = p_expected[u.append];
    IF FOUND THEN
        PERFORM pg_notify('events_event', '');
    END IF;
END $$;
CREATE TABLE events.clock_setting (
    one boolean DEFAULT true NOT NULL,
    "real" timestamp with time zone NOT NULL,
    virtual timestamp with time zone NOT NULL,
    rate double precision NOT NULL,
    CONSTRAINT clock_setting_one_check CHECK (one),
    CONSTRAINT clock_setting_rate_check CHECK ((rate >= (0)::double precision))
);
CREATE TABLE events.event (
    "position" bigint NOT NULL,
    stream text NOT NULL COLLATE pg_catalog."C",
    sequence bigint NOT NULL,
    category text NOT NULL COLLATE pg_catalog."C",
    id uuid NOT NULL,
    type text NOT NULL COLLATE pg_catalog."C",
    version smallint NOT NULL,
    "time" timestamp with time zone NOT NULL,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    dealer_id text NOT NULL COLLATE pg_catalog."C",
    brand text NOT NULL COLLATE pg_catalog."C",
    actor_id text NOT NULL COLLATE pg_catalog."C",
    metadata json NOT NULL,
    data json NOT NULL
);
CREATE TABLE keys.master_key (
    master_id text NOT NULL,
    first_used timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE keys.person_key (
    person_id uuid NOT NULL,
    key_id uuid NOT NULL,
    master_id text,
    wrapped bytea,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    destroyed_at timestamp with time zone,
    fingerprint text DEFAULT ''::text NOT NULL,
    CONSTRAINT person_key_check CHECK (((wrapped IS NULL) = (destroyed_at IS NOT NULL))),
    CONSTRAINT person_key_check1 CHECK (((wrapped IS NULL) = (master_id IS NULL)))
);
CREATE TABLE messaging.relay_checkpoint (
    name text NOT NULL,
    "position" bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE sales.lead_v1 (
    lead_id uuid NOT NULL,
    state text NOT NULL,
    source text NOT NULL,
    provider text NOT NULL,
    model text,
    vin text,
    customer_id uuid,
    name text NOT NULL,
    phone text,
    phone_typed text,
    email text,
    comments text NOT NULL,
    reason text,
    opportunity_id uuid,
    dealer_id text NOT NULL,
    brand text NOT NULL,
    requested_at timestamp with time zone,
    captured_at timestamp with time zone NOT NULL
);
CREATE VIEW sales.lead AS
 SELECT lead_id,
    state,
    source,
    provider,
    model,
    vin,
    customer_id,
    name,
    phone,
    phone_typed,
    email,
    comments,
    reason,
    opportunity_id,
    dealer_id,
    brand,
    requested_at,
    captured_at
   FROM sales.lead_v1;
CREATE TABLE sales.opportunity_v1 (
    opportunity_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    model text NOT NULL,
    stage text NOT NULL,
    probability bigint NOT NULL,
    salesperson text,
    lead_id uuid,
    test_drives json NOT NULL,
    quotes json NOT NULL,
    quoted numeric NOT NULL,
    currency text,
    order_id uuid,
    loss_reason text,
    competitor text,
    dealer_id text NOT NULL,
    brand text NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone
);
CREATE VIEW sales.opportunity AS
 SELECT opportunity_id,
    customer_id,
    model,
    stage,
    probability,
    salesperson,
    lead_id,
    test_drives,
    quotes,
    quoted,
    currency,
    order_id,
    loss_reason,
    competitor,
    dealer_id,
    brand,
    opened_at,
    closed_at
   FROM sales.opportunity_v1;
CREATE TABLE sales.order_v1 (
    order_id uuid NOT NULL,
    state text NOT NULL,
    customer_id uuid NOT NULL,
    model text NOT NULL,
    lines json NOT NULL,
    total json NOT NULL,
    ancillaries json NOT NULL,
    payments json NOT NULL,
    paid json NOT NULL,
    balance json NOT NULL,
    opportunity_id uuid,
    vin text,
    arrived boolean NOT NULL,
    invoice_number text,
    outbound_notified_by text,
    outbound_approved_by text,
    sheets text[] NOT NULL,
    placed_at timestamp with time zone NOT NULL,
    delivered_at timestamp with time zone,
    reason text,
    dealer_id text NOT NULL,
    brand text NOT NULL
);
CREATE VIEW sales."order" AS
 SELECT order_id,
    state,
    customer_id,
    model,
    lines,
    total,
    ancillaries,
    payments,
    paid,
    balance,
    opportunity_id,
    vin,
    arrived,
    invoice_number,
    outbound_notified_by,
    outbound_approved_by,
    sheets,
    placed_at,
    delivered_at,
    reason,
    dealer_id,
    brand
   FROM sales.order_v1;
CREATE TABLE sales.processed_event (
    handler text NOT NULL COLLATE pg_catalog."C",
    event_id uuid NOT NULL,
    processed_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE sales.projection (
    id bigint NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    state text NOT NULL,
    relation text NOT NULL,
    "position" bigint DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT projection_state_check CHECK ((state = ANY (ARRAY['building'::text, 'active'::text, 'retired'::text])))
)
WITH (fillfactor='50');
ALTER TABLE sales.projection ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME sales.projection_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE sales.projection_quarantine (
    target bigint NOT NULL,
    projection text NOT NULL,
    version integer NOT NULL,
    "position" bigint NOT NULL,
    stream text NOT NULL,
    type text NOT NULL,
    reason text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE sales.quarantined_lead_v1 (
    lead_id uuid NOT NULL,
    reason text NOT NULL,
    raw text NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    dealer_id text NOT NULL,
    brand text NOT NULL,
    received_at timestamp with time zone NOT NULL
);
CREATE VIEW sales.quarantined_lead AS
 SELECT lead_id,
    reason,
    raw,
    size,
    sha256,
    dealer_id,
    brand,
    received_at
   FROM sales.quarantined_lead_v1;
CREATE TABLE sales.snapshot (
    stream text NOT NULL,
    shape text NOT NULL,
    version bigint NOT NULL,
    "position" bigint NOT NULL,
    dealer_id text NOT NULL,
    brand text NOT NULL,
    state json NOT NULL,
    known json NOT NULL,
    shared text[] DEFAULT '{}'::text[] NOT NULL,
    former text[] DEFAULT '{}'::text[] NOT NULL,
    actors json DEFAULT '{}'::json NOT NULL
);
CREATE TABLE sales.vehicle_v1 (
    vehicle_id uuid NOT NULL,
    vin text NOT NULL,
    check_digit text NOT NULL,
    model text NOT NULL,
    colour text NOT NULL,
    model_year bigint,
    place text NOT NULL,
    store text NOT NULL,
    pdi text NOT NULL,
    defects text[] NOT NULL,
    odometer_km bigint NOT NULL,
    reserved boolean NOT NULL,
    reservation_id uuid,
    customer_id uuid,
    order_id uuid,
    reserved_until timestamp with time zone,
    brand text NOT NULL
);
CREATE VIEW sales.vehicle AS
 SELECT vehicle_id,
    vin,
    check_digit,
    model,
    colour,
    model_year,
    place,
    store,
    pdi,
    defects,
    odometer_km,
    reserved,
    reservation_id,
    customer_id,
    order_id,
    reserved_until,
    brand
   FROM sales.vehicle_v1;
INSERT INTO events.clock_setting VALUES (true, '2026-01-01 00:00:00+00', '2026-01-01 00:00:00+00', 1);
INSERT INTO events.event VALUES (1, 'lead-00000000-0000-0000-0000-000000000007', 1, 'lead', '8265c1eb-c133-5642-8dbd-3a722d494f44', 'crm.sales.LeadReceived', 1, '2026-01-02 03:04:01+00', '8265c1eb-c133-5642-8dbd-3a722d494f44', NULL, 'D001', 'aurora', 'amy', '{}', '{"n": 1}');
INSERT INTO events.event VALUES (2, 'lead-00000000-0000-0000-0000-000000000007', 2, 'lead', '6632ac1d-6952-5f08-bf1c-5ad5f45e0fb1', 'crm.sales.LeadReceived', 1, '2026-01-02 03:04:02+00', '6632ac1d-6952-5f08-bf1c-5ad5f45e0fb1', NULL, 'D001', 'aurora', 'amy', '{}', '{"n": 1}');
INSERT INTO events.event VALUES (3, 'lead-00000000-0000-0000-0000-000000000007', 3, 'lead', '14946776-d066-5dd1-9ee1-40e6e6bdf862', 'crm.sales.LeadReceived', 1, '2026-01-02 03:04:03+00', '14946776-d066-5dd1-9ee1-40e6e6bdf862', NULL, 'D001', 'aurora', 'amy', '{}', '{"n": 1}');
INSERT INTO keys.master_key VALUES ('m1', '2026-01-01 00:00:00+00');
INSERT INTO keys.person_key VALUES ('00000000-0000-0000-0000-000000000007', '00000000-0000-0000-0000-000000000007', 'm1', '\x0102', '2026-01-01 00:00:00+00', NULL, '');
INSERT INTO messaging.relay_checkpoint VALUES ('sales', 2, '2026-01-02 00:00:00+00');
INSERT INTO sales.processed_event VALUES ('sales.follow_up', '8265c1eb-c133-5642-8dbd-3a722d494f44', '2026-01-01 00:00:00+00');
INSERT INTO sales.projection OVERRIDING SYSTEM VALUE VALUES (1, 'lead', 1, 'active', 'lead_v1', 3, '2026-01-01 00:00:00+00');
INSERT INTO sales.projection OVERRIDING SYSTEM VALUE VALUES (2, 'quarantined_lead', 1, 'active', 'quarantined_lead_v1', 3, '2026-01-01 00:00:00+00');
INSERT INTO sales.projection OVERRIDING SYSTEM VALUE VALUES (3, 'opportunity', 1, 'active', 'opportunity_v1', 3, '2026-01-01 00:00:00+00');
INSERT INTO sales.projection OVERRIDING SYSTEM VALUE VALUES (4, 'vehicle', 1, 'active', 'vehicle_v1', 3, '2026-01-01 00:00:00+00');
INSERT INTO sales.projection OVERRIDING SYSTEM VALUE VALUES (5, 'order', 1, 'active', 'order_v1', 3, '2026-01-01 00:00:00+00');
INSERT INTO sales.snapshot VALUES ('lead-00000000-0000-0000-0000-000000000007', 'x', 2, 2, 'D001', 'aurora', '{}', '{}', '{}', '{}', '{}');
SELECT pg_catalog.setval('sales.projection_id_seq', 5, true);
ALTER TABLE ONLY events.clock_setting
    ADD CONSTRAINT clock_setting_pkey PRIMARY KEY (one);
ALTER TABLE ONLY events.event
    ADD CONSTRAINT event_pkey PRIMARY KEY ("position");
ALTER TABLE ONLY events.event
    ADD CONSTRAINT event_stream_sequence_key UNIQUE (stream, sequence);
ALTER TABLE ONLY keys.master_key
    ADD CONSTRAINT master_key_pkey PRIMARY KEY (master_id);
ALTER TABLE ONLY keys.person_key
    ADD CONSTRAINT person_key_pkey PRIMARY KEY (person_id);
ALTER TABLE ONLY messaging.relay_checkpoint
    ADD CONSTRAINT relay_checkpoint_pkey PRIMARY KEY (name);
ALTER TABLE ONLY sales.lead_v1
    ADD CONSTRAINT lead_v1_pkey PRIMARY KEY (lead_id);
ALTER TABLE ONLY sales.opportunity_v1
    ADD CONSTRAINT opportunity_v1_pkey PRIMARY KEY (opportunity_id);
ALTER TABLE ONLY sales.order_v1
    ADD CONSTRAINT order_v1_pkey PRIMARY KEY (order_id);
ALTER TABLE ONLY sales.processed_event
    ADD CONSTRAINT processed_event_pkey PRIMARY KEY (handler, event_id);
ALTER TABLE ONLY sales.projection
    ADD CONSTRAINT projection_pkey PRIMARY KEY (id);
ALTER TABLE ONLY sales.projection_quarantine
    ADD CONSTRAINT projection_quarantine_pkey PRIMARY KEY (target, "position");
ALTER TABLE ONLY sales.projection
    ADD CONSTRAINT projection_relation_key UNIQUE (relation);
ALTER TABLE ONLY sales.quarantined_lead_v1
    ADD CONSTRAINT quarantined_lead_v1_pkey PRIMARY KEY (lead_id);
ALTER TABLE ONLY sales.snapshot
    ADD CONSTRAINT snapshot_pkey PRIMARY KEY (stream);
ALTER TABLE ONLY sales.vehicle_v1
    ADD CONSTRAINT vehicle_v1_pkey PRIMARY KEY (vehicle_id);
CREATE INDEX person_key_master ON keys.person_key USING btree (master_id) WHERE (master_id IS NOT NULL);
CREATE INDEX lead_v1_40b5f49e ON sales.lead_v1 USING btree (captured_at);
CREATE INDEX lead_v1_4c3ffd7e ON sales.lead_v1 USING btree (customer_id);
CREATE INDEX lead_v1_b790a236 ON sales.lead_v1 USING btree (dealer_id, state, captured_at);
CREATE INDEX opportunity_v1_4c3ffd7e ON sales.opportunity_v1 USING btree (customer_id);
CREATE INDEX opportunity_v1_6430f8ce ON sales.opportunity_v1 USING btree (opened_at);
CREATE INDEX opportunity_v1_73f2079b ON sales.opportunity_v1 USING btree (salesperson, stage);
CREATE INDEX opportunity_v1_e363c01e ON sales.opportunity_v1 USING btree (dealer_id, stage, opened_at);
CREATE INDEX order_v1_4c3ffd7e ON sales.order_v1 USING btree (customer_id);
CREATE INDEX order_v1_54d02514 ON sales.order_v1 USING btree (placed_at);
CREATE INDEX order_v1_a6b5f614 ON sales.order_v1 USING btree (vin);
CREATE INDEX order_v1_bf865551 ON sales.order_v1 USING btree (dealer_id, state, placed_at);
CREATE INDEX processed_event_time ON sales.processed_event USING brin (processed_at);
CREATE UNIQUE INDEX projection_active ON sales.projection USING btree (name) WHERE (state = 'active'::text);
CREATE UNIQUE INDEX projection_building ON sales.projection USING btree (name, version) WHERE (state = 'building'::text);
CREATE INDEX projection_quarantine_stream ON sales.projection_quarantine USING btree (target, stream);
CREATE INDEX quarantined_lead_v1_9f876983 ON sales.quarantined_lead_v1 USING btree (dealer_id, received_at);
CREATE INDEX quarantined_lead_v1_c4201c04 ON sales.quarantined_lead_v1 USING btree (received_at);
CREATE INDEX vehicle_v1_164fabb1 ON sales.vehicle_v1 USING btree (place, model);
CREATE INDEX vehicle_v1_221d8ad2 ON sales.vehicle_v1 USING btree (reserved, reserved_until);
CREATE UNIQUE INDEX vehicle_v1_6c5f0de1 ON sales.vehicle_v1 USING btree (vin);
CREATE INDEX vehicle_v1_7cb47c8b ON sales.vehicle_v1 USING btree (store, place, model);
ALTER TABLE ONLY keys.person_key
    ADD CONSTRAINT person_key_master_id_fkey FOREIGN KEY (master_id) REFERENCES keys.master_key(master_id);
ALTER TABLE ONLY sales.projection_quarantine
    ADD CONSTRAINT projection_quarantine_target_fkey FOREIGN KEY (target) REFERENCES sales.projection(id) ON DELETE CASCADE;
