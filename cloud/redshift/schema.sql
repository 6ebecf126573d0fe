-- Tables for Redshift. Loading matches by name, so columns may be added and left out; those that a file has and the table has not are passed over.

CREATE TABLE IF NOT EXISTS outrider_readings (
    gateway VARCHAR(256) NOT NULL,
    run CHAR(16) NOT NULL,
    position BIGINT NOT NULL,
    device VARCHAR(256) NOT NULL,
    metric VARCHAR(512) NOT NULL,
    value DOUBLE PRECISION,
    value_exact VARCHAR(64),
    measured_at_ms BIGINT NOT NULL,
    received_at_ms BIGINT NOT NULL,
    time_quality VARCHAR(16),
    device_clock VARCHAR(16),
    -- An object, as JSON text.
    attributes VARCHAR(65535)
)
DISTKEY (device) SORTKEY (measured_at_ms);

-- Which objects are in the tables: written in the transaction that loads them.
CREATE TABLE IF NOT EXISTS outrider_loaded (
    object_key VARCHAR(1024) NOT NULL,
    loaded_at TIMESTAMP NOT NULL
)
DISTSTYLE ALL SORTKEY (object_key);
