-- A gateway of which nothing has come for a minute while others go on: its own alert cannot say that its link is down.
INSERT INTO findings
SELECT 'silent', gateway, CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS BIGINT), 1000 * CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', window_end) AS BIGINT), CAST(NULL AS DOUBLE), CONCAT('last heard of at ', CAST(MAX(rt) AS STRING))
FROM TABLE(SESSION(TABLE readings PARTITION BY gateway, DESCRIPTOR(rt), INTERVAL '60' SECOND))
GROUP BY gateway, window_start, window_end
