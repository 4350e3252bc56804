-- Sessions that are over, with their length in minutes.
CREATE OR REPLACE VIEW session_minutes AS
SELECT *, greatest(0, epoch(leave_ts) - epoch(join_ts)) / 60 AS minutes
FROM sessions
WHERE finished IS DISTINCT FROM false AND join_ts IS NOT NULL AND leave_ts IS NOT NULL;

-- Calls that are over, with their length in minutes.
CREATE OR REPLACE VIEW call_minutes AS
SELECT *, greatest(0, epoch(destroyed_ts) - epoch(created_ts)) / 60 AS minutes
FROM calls
WHERE finished IS DISTINCT FROM false AND created_ts IS NOT NULL AND destroyed_ts IS NOT NULL;

-- A sum, rounded: its last digits depend on the order in which threads add.
CREATE OR REPLACE MACRO total(amount) AS
round(sum(amount), 6);

-- The mean of a rate by weight, of the rows that have one: a session of an hour counts 60 times as much as a minute.
CREATE OR REPLACE MACRO weighted_mean(rate, weight) AS
round(sum(rate * weight) / nullif(sum(weight) FILTER (rate IS NOT NULL), 0), 12);
