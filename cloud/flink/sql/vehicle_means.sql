CREATE TEMPORARY VIEW vehicle_means AS
SELECT window_start, window_end, gateway, device, metric, model, AVG(`value`) AS mean
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(rt), INTERVAL '10' SECOND))
WHERE watched
GROUP BY window_start, window_end, gateway, device, metric, model
