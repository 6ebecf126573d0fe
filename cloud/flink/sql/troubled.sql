-- Where the vehicles are that have had something unusual within ten seconds.
CREATE TEMPORARY VIEW troubled AS
SELECT window_start, window_end, CONCAT(gateway, '/', device) AS vehicle,
  MAX(`value`) FILTER (WHERE metric IN ('lat', 'latitude')) AS lat,
  MAX(`value`) FILTER (WHERE metric IN ('lon', 'longitude')) AS lon,
  COUNT(*) FILTER (WHERE flagged) AS flags
FROM TABLE(HOP(TABLE judged, DESCRIPTOR(rt), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
GROUP BY window_start, window_end, gateway, device
