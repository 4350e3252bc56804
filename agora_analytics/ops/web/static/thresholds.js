// What counts as bad: the same limits in charts, tables and findings.

export const LIMITS = {
  videoFreezeRate: { limit: 0.05, bad: "above" },
  audioFreezeRate: { limit: 0.03, bad: "above" },
  networkDelay: { limit: 0.05, bad: "above" },
  joinSuccessIn5sRate: { limit: 0.95, bad: "below" },
  joinSuccessRate: { limit: 0.95, bad: "below" },
  video_freeze_rate: { limit: 0.05, bad: "above" },
  audio_freeze_rate: { limit: 0.03, bad: "above" },
};

const SEVERE = 2;

// "good", "warn" beyond the limit, "bad" at twice the limit; null where there is no limit or no value.
export function severity(metric, value) {
  const rule = LIMITS[metric];
  if (!rule || typeof value !== "number" || !Number.isFinite(value)) return null;
  const harm = rule.bad === "above" ? value : 1 - value;
  const limit = rule.bad === "above" ? rule.limit : 1 - rule.limit;
  return harm > SEVERE * limit ? "bad" : harm > limit ? "warn" : "good";
}
