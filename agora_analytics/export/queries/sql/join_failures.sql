-- What share of attempts to join a channel failed, by day?
-- Needs: insights.
-- Export with `--insights joinSuccessRate:Native:1d,joinSuccessRate:WebRTC:1d`. Only Data Insights count attempts that
-- failed: a user who did not join has no session. Days are UTC; each value of a day counts by the usage behind it.
SELECT
    date_trunc('day', ts)::TIMESTAMP AS day_utc,
    app_id,
    product,
    1 - weighted_mean(value, coalesce(ref_usage, 1)) AS join_failure_rate,
    sum(ref_usage) AS attempts,
    bool_or(provisional) AS provisional
FROM insights
WHERE metric = 'joinSuccessRate' AND dimension IS NULL AND value IS NOT NULL
GROUP BY ALL
ORDER BY 1, 2, 3;
