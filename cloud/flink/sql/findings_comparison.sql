-- The gateways' verdicts beside these, by the identity of the reading: both (agree), or only one of them. Late readings are left out on both sides.
INSERT INTO findings
SELECT
  CASE WHEN cloud.`position` IS NULL THEN 'edge_only' WHEN edge.`position` IS NULL THEN 'cloud_only' ELSE 'agree' END,
  COALESCE(edge.gateway, cloud.gateway), COALESCE(edge.device, cloud.device), COALESCE(edge.metric, cloud.metric),
  COALESCE(edge.run, cloud.run), COALESCE(edge.`position`, cloud.`position`), COALESCE(edge.measured_at_ms, cloud.measured_at_ms),
  COALESCE(edge.score, cloud.score), COALESCE(edge.detector, 'window')
FROM anomalies AS edge
FULL OUTER JOIN (SELECT * FROM judged WHERE flagged AND received_at_ms - measured_at_ms <= 60000) AS cloud
  ON edge.gateway = cloud.gateway AND edge.run = cloud.run AND edge.`position` = cloud.`position`
  AND edge.rt BETWEEN cloud.rt - INTERVAL '30' SECOND AND cloud.rt + INTERVAL '30' SECOND
