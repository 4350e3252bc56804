-- Which users had bad sessions in more than one call?
-- Needs: sessions.
-- A session is bad if more than 3 % of its audio or 5 % of its video froze. The cause is probably at that user.
SELECT
    app_id,
    coalesce(account, uid) AS user,
    count(DISTINCT call_id) AS bad_calls,
    total(minutes) AS bad_minutes,
    weighted_mean(user_audio_freeze_rate, minutes) AS audio_freeze_rate,
    weighted_mean(user_video_freeze_rate, minutes) AS video_freeze_rate
FROM session_minutes
WHERE (user_audio_freeze_rate > 0.03 OR user_video_freeze_rate > 0.05) AND coalesce(account, uid) IS NOT NULL
GROUP BY app_id, coalesce(account, uid)
HAVING count(DISTINCT call_id) > 1
ORDER BY bad_calls DESC, bad_minutes DESC, user
LIMIT 100;
