-- How did calls and their quality change from day to day?
-- Needs: calls.
-- Of calls that are over, by the day (UTC) in which they began. The rates are means by length and peak of users.
SELECT
    date_trunc('day', created_ts)::TIMESTAMP AS day_utc,
    count(*) AS calls,
    total(minutes) AS call_minutes,
    max(call_pcu) AS peak_users_of_a_call,
    weighted_mean(call_audio_freeze_rate, minutes * call_pcu) AS audio_freeze_rate,
    weighted_mean(call_video_freeze_rate, minutes * call_pcu) AS video_freeze_rate
FROM call_minutes
GROUP BY 1
ORDER BY 1;
