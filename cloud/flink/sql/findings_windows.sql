-- Of each reading what it was judged by, where that is wanted.
INSERT INTO window_statistics
SELECT gateway, run, `position`, device, metric, measured_at_ms, n, mean, deviation FROM windows
