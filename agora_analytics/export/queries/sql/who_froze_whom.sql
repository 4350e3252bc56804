-- Whose stream froze for whom, and for how long?
-- Needs: metrics, sessions.
-- The receiver saw or heard the freeze; the cause may be at the sender, at the receiver or between them. A sender who
-- froze for many receivers is probably the cause. Metrics must include 20005 and 20011, as they do by default.
SELECT
    metrics.app_id,
    metrics.call_id,
    sessions.cname AS channel,
    metrics.peer_uid AS sender,
    sessions.uid AS receiver,
    round(sum(value) FILTER (metric = 'audio_freeze_time') / 1000, 3) AS audio_frozen_s,
    round(sum(value) FILTER (metric = 'video_freeze_time') / 1000, 3) AS video_frozen_s
FROM metrics
JOIN sessions USING (app_id, call_id, sid)
WHERE metric IN ('audio_freeze_time', 'video_freeze_time') AND metrics.peer_uid <> '0' AND value > 0
GROUP BY ALL
ORDER BY coalesce(audio_frozen_s, 0) + coalesce(video_frozen_s, 0) DESC, call_id, sender, receiver
LIMIT 100;
