-- Readings that are far from the ten seconds before them, judged by these alone: no habit is learned here, so this is a check of the gateways' detectors
-- and no substitute.
CREATE TEMPORARY VIEW judged AS
SELECT *, ABS(`value` - mean) / distance_max AS score, watched AND n >= 5 AND ABS(`value` - mean) > distance_max AS flagged
FROM (SELECT *, GREATEST(8 * deviation, 0.05 * ABS(mean)) AS distance_max FROM windows)
