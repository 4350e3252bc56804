// Alerts as words: those of `ops.alerts`, and any other value.

import { clock, duration, name, plural, quantity, words } from "./format.js";

export const isAlert = (alert) => alert !== null && typeof alert === "object" && typeof alert.series === "string" && typeof alert.kind === "string";

export const LEVELS = { firing: "bad", recovered: "good", no_data: "warn" };

export const KINDS = { firing: "Firing", recovered: "Recovered", no_data: "No data" };

const FRACTIONS = /Rate$|^networkDelay$/;

export function seriesTitle(alert) {
  const [metric, ...rest] = alert.series.split(" ");
  const group = alert.group === null || alert.group === undefined ? "" : ` = ${name(alert.group)}`;
  return `${words(metric)} ${rest.map((one) => name(one)).join(" ")}${group}`.trim();
}

export const alertValue = (alert) => quantity(alert.value, FRACTIONS.test(alert.series.split(" ")[0]) ? "fraction" : "");

export function alertTitle(alert) {
  if (typeof alert === "string") return name(alert);
  if (!isAlert(alert)) return name(alert?.text ?? alert?.title ?? alert?.name ?? JSON.stringify(alert));
  const what = seriesTitle(alert);
  if (alert.kind === "no_data") return `${what}: no values since ${clock(alert.since)}`;
  if (alert.kind === "recovered") return alert.about === "data" ? `${what}: has values again` : `${what}: recovered, ${alertValue(alert)}`;
  return `${what}: ${alertValue(alert)}`;
}

export function alertDetails(alert) {
  const parts = [];
  if (alert.windows) parts.push(`${plural(alert.windows, "window")} in a row from ${clock(alert.since)} (${duration(alert.windows * 20)})`);
  if (alert.users !== null && alert.users !== undefined) parts.push(plural(alert.users, "user"));
  if (alert.untracked) parts.push(`${plural(alert.untracked, "more value")} beyond the rule`);
  return parts.join(" · ");
}
