-- Number, mean and sample standard deviation of what each reading is judged by. Two groups are joined by the formula of Chan, Golub and LeVeque.
CREATE TEMPORARY VIEW windows AS
SELECT gateway, run, `position`, device, metric, `value`, measured_at_ms, received_at_ms, watched, rt, n,
  CASE WHEN odd_n = 0 THEN even_mean
       WHEN even_n = 0 THEN odd_mean
       ELSE even_mean + (odd_mean - even_mean) * odd_n / n END AS mean,
  CASE WHEN n >= 2 THEN SQRT(GREATEST(even_spread + odd_spread
         + CASE WHEN even_n = 0 OR odd_n = 0 THEN 0
                ELSE (odd_mean - even_mean) * (odd_mean - even_mean) * even_n * odd_n / n END, 0) / (n - 1)) END AS deviation
FROM (
  SELECT *, even_n + odd_n AS n,
    CASE WHEN even_n > 0 THEN even_first + even_sum / even_n END AS even_mean,
    CASE WHEN odd_n > 0 THEN odd_first + odd_sum / odd_n END AS odd_mean,
    CASE WHEN even_n > 0 THEN GREATEST(even_squares - even_sum * even_sum / even_n, 0) ELSE 0 END AS even_spread,
    CASE WHEN odd_n > 0 THEN GREATEST(odd_squares - odd_sum * odd_sum / odd_n, 0) ELSE 0 END AS odd_spread
  FROM (
    SELECT gateway, run, `position`, device, metric, `value`, measured_at_ms, received_at_ms, watched, rt,
      CASE WHEN whole THEN even_n ELSE 0 END AS even_n, even_first, even_sum, even_squares,
      CASE WHEN whole THEN odd_n ELSE 0 END AS odd_n, odd_first, odd_sum, odd_squares
    FROM sums
  )
)
