-- The window of the gateway is (t - 10 s, t): all of the last 9.999 s, and without the reading itself, which is taken out here.
-- Flink forgets a series that is late whenever time goes on, in the two frames not at the same reading. Where that has given differences to different
-- firsts, nothing is known of the window (`whole` is false).
CREATE TEMPORARY VIEW sums AS
SELECT gateway, run, `position`, device, metric, `value`, measured_at_ms, received_at_ms, watched, rt,
  COALESCE(even_marks = even_n * even_mark, TRUE) AND COALESCE(odd_marks = odd_n * odd_mark, TRUE) AS whole,
  even_first, odd_first,
  even_n - CASE WHEN even THEN 1 ELSE 0 END AS even_n,
  COALESCE(even_sum, 0) - CASE WHEN even THEN difference ELSE 0 END AS even_sum,
  COALESCE(even_squares, 0) - CASE WHEN even THEN difference * difference ELSE 0 END AS even_squares,
  odd_n - CASE WHEN even THEN 0 ELSE 1 END AS odd_n,
  COALESCE(odd_sum, 0) - CASE WHEN even THEN 0 ELSE difference END AS odd_sum,
  COALESCE(odd_squares, 0) - CASE WHEN even THEN 0 ELSE difference * difference END AS odd_squares
FROM (
  SELECT *,
    LAST_VALUE(CASE WHEN even THEN segment_first END) OVER last_ten AS even_first,
    LAST_VALUE(CASE WHEN NOT even THEN segment_first END) OVER last_ten AS odd_first,
    LAST_VALUE(CASE WHEN even THEN segment_first_ms END) OVER last_ten AS even_mark,
    LAST_VALUE(CASE WHEN NOT even THEN segment_first_ms END) OVER last_ten AS odd_mark,
    SUM(CASE WHEN even THEN segment_first_ms END) OVER last_ten AS even_marks,
    SUM(CASE WHEN NOT even THEN segment_first_ms END) OVER last_ten AS odd_marks,
    COUNT(CASE WHEN even THEN 1 END) OVER last_ten AS even_n,
    COUNT(CASE WHEN NOT even THEN 1 END) OVER last_ten AS odd_n,
    SUM(CASE WHEN even THEN difference END) OVER last_ten AS even_sum,
    SUM(CASE WHEN NOT even THEN difference END) OVER last_ten AS odd_sum,
    SUM(CASE WHEN even THEN difference * difference END) OVER last_ten AS even_squares,
    SUM(CASE WHEN NOT even THEN difference * difference END) OVER last_ten AS odd_squares
  FROM differences
  WINDOW last_ten AS (
    PARTITION BY gateway, device, metric ORDER BY rt RANGE BETWEEN INTERVAL '9.999' SECOND(1, 3) PRECEDING AND CURRENT ROW)
)
