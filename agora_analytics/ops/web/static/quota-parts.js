// The quota's gauges, and its forecast in words.

import { el } from "./dom.js";
import { clock, count, minute, name, words, zoneName } from "./format.js";
import { empty, loading, mark, meter } from "./widgets.js";

export const days = (quota) => (quota?.counters ?? []).filter((one) => one.unit === "day");

// What is expected of the rest of the day: what streams plan, and what other programs use.
export const ahead = (one) => Math.max(0, one.expected) + Math.max(0, one.others);

export function forecast(one) {
  if (one.left <= 0) return { level: "bad", text: `used up until ${minute(one.resets_at)} ${zoneName(one.resets_at)}` };
  if (one.lasts_until) return { level: "warn", text: `used up at ${minute(one.lasts_until)} ${zoneName(one.lasts_until)} at the pace of the last hour (${count(one.last_hour)})` };
  if (!one.last_hour) return { level: "good", text: "no request in the last hour" };
  return { level: "good", text: `lasts the day at the pace of the last hour (${count(one.last_hour)})` };
}

export function quotaMeters(store) {
  if (!store.loaded) return loading("Loading…");
  const found = days(store.quota);
  const trouble = store.quota?.ledger ? el("p.trouble", { role: "alert" }, mark("bad"), `The quota cannot be read now: ${name(store.quota.ledger)}`) : null;
  if (!found.length) return [trouble, empty("No quota is known", "The plan has no daily limits, or the quota was not read yet.")];
  return [trouble, el("ul.meters", {}, found.map(meterRow)), store.quota.enforced ? null : el("p.hint", {}, "The quota is not enforced: requests beyond it are sent.")];
}

function meterRow(one) {
  const { level, text } = forecast(one);
  return el("li", {},
    el("div.meter-head", {}, el("b", {}, words(one.counter)), el("span.number", {}, `${count(one.used)} of ${count(one.limit)}`)),
    meter(`${words(one.counter)} today`, one.used, one.limit, ahead(one), level),
    el("p.hint", { "data-level": level }, level === "good" ? null : mark(level), text));
}

export const readAt = (quota) => (quota?.at ? `read at ${clock(quota.at)} ${zoneName(quota.at)}` : "");
