// What counts as bad: the same limits in charts, tables and findings.

const REFERENCE = new Map([
  [["videoFreezeRate", "video_freeze_rate"], { limit: 0.05, bad: "above" }],
  [["audioFreezeRate", "audio_freeze_rate"], { limit: 0.03, bad: "above" }],
  [["networkDelay"], { limit: 0.05, bad: "above" }],
  [["joinSuccessRate", "joinSuccessIn5sRate"], { limit: 0.95, bad: "below" }],
].flatMap(([metrics, rule]) => metrics.map((metric) => [metric, [rule]])));

const SEVERE = 2;
const LEVELS = ["good", "warn", "bad"];

// The limits of a metric: [{limit, bad}], empty if it has none.
export const limitsOf = (metric) => REFERENCE.get(metric) ?? [];

export const severity = (metric, value) => levelOf(limitsOf(metric), value);

// "good", "warn" beyond a limit, "bad" at twice a limit; null where there is no limit or no value.
export function levelOf(limits, value) {
  if (!limits.length || typeof value !== "number" || !Number.isFinite(value)) return null;
  return LEVELS[Math.max(...limits.map((rule) => levelBy(rule, value)))];
}

// What is below a limit is as bad as it lacks from the whole; of a count, from the limit.
function levelBy({ limit, bad }, value) {
  if (bad === "above") return value > SEVERE * limit ? 2 : value > limit ? 1 : 0;
  const whole = limit <= 1 ? 1 : 2 * limit;
  const [harm, most] = [whole - value, whole - limit];
  return value >= limit ? 0 : harm > SEVERE * most || value <= 0 ? 2 : 1;
}
