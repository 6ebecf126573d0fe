INSERT INTO findings
SELECT 'verdict', gateway, device, metric, run, `position`, measured_at_ms, score,
  CONCAT('value ', CAST(`value` AS STRING), ', mean ', CAST(mean AS STRING), ', deviation ', CAST(deviation AS STRING))
FROM judged
WHERE flagged
