-- Sums of squares of large numbers that differ little lose what matters. So each series is cut into segments of ten seconds, and values are taken
-- as differences to the first of their segment. The last 9.999 s reach over two segments at most, an even and an odd one, and have all of the present one.
-- (Only frames that are bounded in time take a reading however late it is: no LAG here.)
CREATE TEMPORARY VIEW differences AS
SELECT *, `value` - segment_first AS difference
FROM (
  SELECT *,
    CASE WHEN even THEN FIRST_VALUE(CASE WHEN even THEN `value` END) OVER last_ten
         ELSE FIRST_VALUE(CASE WHEN NOT even THEN `value` END) OVER last_ten END AS segment_first,
    CASE WHEN even THEN FIRST_VALUE(CASE WHEN even THEN measured_at_ms END) OVER last_ten
         ELSE FIRST_VALUE(CASE WHEN NOT even THEN measured_at_ms END) OVER last_ten END AS segment_first_ms
  FROM (SELECT *, MOD(measured_at_ms / 10000, 2) = 0 AS even FROM readings)
  WINDOW last_ten AS (
    PARTITION BY gateway, device, metric ORDER BY rt RANGE BETWEEN INTERVAL '9.999' SECOND(1, 3) PRECEDING AND CURRENT ROW)
)
