-- Which device had the worst freeze rates?
-- Needs: sessions.
-- The rates are means of sessions that are over, by their length; groups with less than 10 minutes are left out.
SELECT
    coalesce(device_type, '(unknown)') AS device,
    count(*) AS sessions,
    total(minutes) AS minutes,
    weighted_mean(user_audio_freeze_rate, minutes) AS audio_freeze_rate,
    weighted_mean(user_video_freeze_rate, minutes) AS video_freeze_rate
FROM session_minutes
GROUP BY 1
HAVING total(minutes) >= 10
ORDER BY greatest(audio_freeze_rate, video_freeze_rate) DESC NULLS LAST, 1;
