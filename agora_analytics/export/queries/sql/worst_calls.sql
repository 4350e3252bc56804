-- Which calls were worst, for how many users?
-- Needs: calls.
-- Sorted by impact: the higher freeze rate times the peak of users, as `agora-analytics calls worst` does.
SELECT
    app_id,
    call_id,
    cname AS channel,
    created_ts AS started_utc,
    minutes,
    call_pcu AS peak_users,
    call_audio_freeze_rate AS audio_freeze_rate,
    call_video_freeze_rate AS video_freeze_rate,
    greatest(call_audio_freeze_rate, call_video_freeze_rate) * call_pcu AS impact_users
FROM call_minutes
WHERE greatest(call_audio_freeze_rate, call_video_freeze_rate) > 0
ORDER BY impact_users DESC NULLS LAST, call_id
LIMIT 100;
