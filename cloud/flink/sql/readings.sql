-- The readings in the records of the raw stream: each record is many lines, and Flink's own JSON format would read the first and drop the rest.
CREATE TEMPORARY VIEW parsed_readings AS
SELECT
  JSON_VALUE(text, '$.gateway') AS gateway,
  JSON_VALUE(text, '$.run') AS run,
  CAST(JSON_VALUE(text, '$.position') AS BIGINT) AS `position`,
  JSON_VALUE(text, '$.device') AS device,
  JSON_VALUE(text, '$.metric') AS metric,
  CAST(JSON_VALUE(text, '$.value') AS DOUBLE) AS `value`,
  CAST(JSON_VALUE(text, '$.measured_at_ms') AS BIGINT) AS measured_at_ms,
  CAST(JSON_VALUE(text, '$.received_at_ms') AS BIGINT) AS received_at_ms,
  -- Vehicles are compared with those of their model, which the gateway's configuration or the device may give as an attribute.
  COALESCE(JSON_VALUE(text, '$.attributes.model'), 'any') AS model,
  -- As the gateways' profile off: positions, counters and states are stored and not judged.
  NOT REGEXP(JSON_VALUE(text, '$.metric'), '(?i)(^|[_./-])(lat|lon|latitude|longitude|position|heading|course|altitude|odometer|total|count|counter|seq|id|state|status|code|road)($|[_./-])') AS watched,
  TO_TIMESTAMP_LTZ(CAST(JSON_VALUE(text, '$.measured_at_ms') AS BIGINT), 3) AS measured_at
FROM raw_lines CROSS JOIN UNNEST(SPLIT(line, U&'\000A')) AS lines (text)
WHERE text <> '' AND JSON_VALUE(text, '$.value') IS NOT NULL
