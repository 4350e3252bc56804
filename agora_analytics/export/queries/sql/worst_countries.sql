-- Which country had the worst freeze rates?
-- Needs: statistics.
-- The rates are means over users; a user in several calls counts for each. Countries with fewer than 3 are left out.
-- The statistics must include the dimension `country`, as they do by default.
SELECT
    coalesce(dimension_value, '(unknown)') AS country,
    max(users) AS users,
    max(rate) FILTER (metric = 'audio_freeze_rate') AS audio_freeze_rate,
    max(rate) FILTER (metric = 'video_freeze_rate') AS video_freeze_rate
FROM (
    SELECT dimension_value, metric, sum(user_count) AS users, weighted_mean(value, user_count) AS rate
    FROM statistics
    WHERE dimension = 'country'
    GROUP BY ALL
)
GROUP BY 1
HAVING max(users) >= 3
ORDER BY greatest(audio_freeze_rate, video_freeze_rate) DESC NULLS LAST, 1;
