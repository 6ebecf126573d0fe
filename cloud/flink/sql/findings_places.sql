-- Several vehicles with something unusual within a place and ten seconds: a hole in the road, a spill, a fire. A place is a cell of 0.01 degrees, some
-- kilometre; there are four grids, shifted by half a cell, so that no border parts two vehicles within half a cell of each other.
INSERT INTO findings
SELECT 'place', CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS BIGINT),
  1000 * CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', window_end) AS BIGINT), CAST(COUNT(DISTINCT vehicle) AS DOUBLE),
  CONCAT('north-east of ', COALESCE(cell_1, cell_2, cell_3, cell_4), ': ', MIN(vehicle), ' to ', MAX(vehicle))
FROM (
  SELECT window_start, window_end, vehicle,
    CONCAT(CAST((FLOOR(lat * 100 - 0) + 0) / 100 AS STRING), ' ', CAST((FLOOR(lon * 100 - 0) + 0) / 100 AS STRING)) AS cell_1,
    CONCAT(CAST((FLOOR(lat * 100 - 0.5) + 0.5) / 100 AS STRING), ' ', CAST((FLOOR(lon * 100 - 0) + 0) / 100 AS STRING)) AS cell_2,
    CONCAT(CAST((FLOOR(lat * 100 - 0) + 0) / 100 AS STRING), ' ', CAST((FLOOR(lon * 100 - 0.5) + 0.5) / 100 AS STRING)) AS cell_3,
    CONCAT(CAST((FLOOR(lat * 100 - 0.5) + 0.5) / 100 AS STRING), ' ', CAST((FLOOR(lon * 100 - 0.5) + 0.5) / 100 AS STRING)) AS cell_4
  FROM troubled
  WHERE flags > 0 AND lat IS NOT NULL AND lon IS NOT NULL
)
GROUP BY GROUPING SETS (
  (window_start, window_end, cell_1), (window_start, window_end, cell_2), (window_start, window_end, cell_3), (window_start, window_end, cell_4))
HAVING COUNT(DISTINCT vehicle) >= 2
