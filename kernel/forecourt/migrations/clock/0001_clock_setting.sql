-- The shared virtual clock, at real time.
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.clock_setting (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    real timestamptz NOT NULL,
    virtual timestamptz NOT NULL,
    rate double precision NOT NULL CHECK (rate >= 0)
);
INSERT INTO {schema}.clock_setting (real, virtual, rate)
VALUES (clock_timestamp(), clock_timestamp(), 1) ON CONFLICT DO NOTHING;
