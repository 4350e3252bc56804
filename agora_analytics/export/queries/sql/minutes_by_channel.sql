-- How many minutes did users spend in each channel?
-- Needs: sessions.
-- Minutes of sessions that are over: an estimate of usage, and no invoice, which counts by rules of its own.
SELECT
    app_id,
    cname AS channel,
    total(minutes) AS minutes,
    count(*) AS sessions,
    count(DISTINCT call_id) AS calls
FROM session_minutes
GROUP BY ALL
ORDER BY minutes DESC, app_id, channel;
