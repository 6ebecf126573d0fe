-- What the gateways flagged. Late readings raise nothing there, and gaps have no reading.
CREATE TEMPORARY VIEW parsed_anomalies AS
SELECT
  JSON_VALUE(text, '$.gateway') AS gateway,
  JSON_VALUE(text, '$.raw_run') AS run,
  CAST(JSON_VALUE(text, '$.raw_position') AS BIGINT) AS `position`,
  JSON_VALUE(text, '$.device') AS device,
  JSON_VALUE(text, '$.metric') AS metric,
  JSON_VALUE(text, '$.detector') AS detector,
  CAST(JSON_VALUE(text, '$.score') AS DOUBLE) AS score,
  CAST(JSON_VALUE(text, '$.measured_at_ms') AS BIGINT) AS measured_at_ms,
  TO_TIMESTAMP_LTZ(CAST(JSON_VALUE(text, '$.measured_at_ms') AS BIGINT), 3) AS measured_at
FROM anomaly_lines CROSS JOIN UNNEST(SPLIT(line, U&'\000A')) AS lines (text)
WHERE text <> '' AND JSON_VALUE(text, '$.type') = 'anomaly'
  AND JSON_VALUE(text, '$.raw_position') IS NOT NULL AND JSON_VALUE(text, '$.late') = 'false'
