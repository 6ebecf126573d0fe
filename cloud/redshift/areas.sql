-- How many were where: passages and people for each area and quarter of an hour, the fullest first. A sensor's place is the attribute `area`, which a route makes of
-- its topic (campus/{area}/{device}/{metric...}); what it says of a badge is the metric `badge`, whose value is the badge's number.
-- Quarters begin at :00, :15, :30 and :45 UTC, by the time of measuring: what comes late is counted where it belongs.
SELECT
    json_extract_path_text(attributes, 'area') AS area,
    TIMESTAMP 'epoch' + CAST(FLOOR(measured_at_ms / 900000.0) AS BIGINT) * INTERVAL '900 seconds' AS quarter,
    COUNT(*) AS passages,
    COUNT(DISTINCT value) AS people,
    COUNT(DISTINCT device) AS sensors
FROM outrider_readings
WHERE metric = 'badge' AND value IS NOT NULL AND measured_at_ms >= :from_ms AND measured_at_ms < :to_ms
GROUP BY 1, 2
ORDER BY 2 DESC, 3 DESC
