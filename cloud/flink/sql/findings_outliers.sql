-- A vehicle whose mean of ten seconds is far from those of at least eight others of its model, which one box cannot know to be unusual.
INSERT INTO findings
SELECT 'outlier', gateway, device, metric, CAST(NULL AS STRING), CAST(NULL AS BIGINT), 1000 * CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', window_end) AS BIGINT),
  ABS(mean - others) / distance_max,
  CONCAT('mean ', CAST(mean AS STRING), ', the ', CAST(n AS STRING), ' others of model ', model, ' have ', CAST(others AS STRING))
FROM (
  SELECT *, GREATEST(6 * SQRT(GREATEST(q - n * others * others, 0) / (n - 1)), 0.1 * ABS(others)) AS distance_max
  FROM (
    SELECT vehicle.window_end, gateway, device, vehicle.metric, vehicle.model, mean, fleet.n - 1 AS n, (s - mean) / (fleet.n - 1) AS others, q - mean * mean AS q
    FROM vehicle_means AS vehicle
    JOIN (
      SELECT window_start, window_end, model, metric, COUNT(*) AS n, SUM(mean) AS s, SUM(mean * mean) AS q
      FROM vehicle_means
      GROUP BY window_start, window_end, model, metric
    ) AS fleet
    ON vehicle.window_start = fleet.window_start AND vehicle.window_end = fleet.window_end AND vehicle.model = fleet.model AND vehicle.metric = fleet.metric
    WHERE fleet.n >= 9
  )
)
WHERE ABS(mean - others) > distance_max
