// Quota: each counter, today's requests by hour, and who spent them.

import { Chart } from "./charts.js";
import { el, put, say } from "./dom.js";
import { clock, count, dayTime, duration, plural, words, zoneName } from "./format.js";
import { ahead, days, forecast, readAt } from "./quota-parts.js";
import { card, empty, loading, mark, meter } from "./widgets.js";

const DAY = 86_400;
const HOUR = 3_600;
const WHO = [["stream", "Streams", "--line-1"], ["interactive", "Viewers and programs", "--line-2"], ["export", "Exports", "--line-3"]];

export function quotaView({ store }) {
  const sub = el("p.sub");
  const counters = el("div.grid.counters");
  const spent = el("div.card-body");
  const who = el("div.card-body");
  const chart = new Chart({ title: "Requests of this process by hour", unit: "", bars: HOUR, stacked: true, height: 190, lines: WHO.map(([, label, token]) => ({ label, token })) });
  const node = el("div.view", {}, el("div.view-head", {}, el("h2", {}, "Quota"), sub), counters,
    card("Requests by hour", { id: "by-hour", wide: true, hint: "Sent by this process today (UTC); a retry is a request" }, spent),
    card("Who spent it", { id: "who-spent", wide: true, hint: "Requests of this process today (UTC)" }, who));

  function draw() {
    if (!store.loaded) { put(counters, loading("Loading the quota…")); return; }
    say(sub, [readAt(store.quota), store.since && `this process counts since ${dayTime(store.since)}`].filter(Boolean).join(" · "));
    drawCounters();
    const today = Math.floor(store.now() / DAY) * DAY;
    const hours = store.hours.filter((one) => one.hour >= today);
    put(who, whoTable(hours));
    if (!hours.length) { put(spent, empty("No request today", "This process has sent none since midnight UTC.")); return; }
    if (chart.node.parentNode !== spent) put(spent, chart.node);
    const xs = [];
    for (let hour = today; hour <= store.now(); hour += HOUR) xs.push(hour);
    const sum = (hour, key) => hours.filter((one) => one.hour === hour && one.priority === key).reduce((all, one) => all + one.requests, 0);
    chart.draw({ xs, ys: WHO.map(([key]) => xs.map((hour) => sum(hour, key))), span: [today, today + DAY] });
  }

  function drawCounters() {
    const found = days(store.quota);
    const trouble = store.quota?.ledger ? el("div.failure", { role: "alert" }, mark("bad"), `The quota cannot be read now: ${store.quota.ledger}`) : null;
    if (!found.length) { put(counters, trouble, empty("No quota is known", "The plan has no daily limits, or the quota was not read yet.")); return; }
    put(counters, trouble, found.map((one) => counterCard(one, store.quota.counters.filter((other) => other.counter === one.counter && other.unit !== "day"), store.now())));
  }

  const off = [store.on("quota", draw)];
  queueMicrotask(draw);
  store.readQuota();
  return { node, tick: () => store.readQuota(), close() { off.forEach((stop) => stop()); chart.destroy(); } };
}

function counterCard(one, shorter, now) {
  const { level, text } = forecast(one);
  const waiting = Object.values(one.waiting).reduce((sum, value) => sum + value, 0);
  const rows = [
    ["Left today", count(one.left)], ["Streams still need", count(one.expected)],
    one.others ? ["Other programs use", count(one.others)] : null,
    ...shorter.map((other) => [`Per ${other.unit}`, `${count(other.used)} of ${count(other.limit)}`]),
    waiting ? ["Waiting", plural(waiting, "request")] : null,
    one.refusals ? ["Refused by the service", count(one.refusals)] : null,
    one.limit !== one.planned && one.planned ? ["Limit of the plan", count(one.planned)] : null,
    one.free_at ? ["Next request", clock(one.free_at)] : null,
    ["Day ends", `${clock(one.resets_at).slice(0, 5)} ${zoneName(one.resets_at)}, in ${duration(one.resets_at - now)}`],
  ].filter(Boolean);
  return card(words(one.counter), { id: `counter-${one.counter}` },
    el("p.figure", {}, el("b", { "data-counter": one.counter }, count(one.used)), ` of ${count(one.limit)} requests`),
    meter(`${words(one.counter)} today`, one.used, one.limit, ahead(one), level),
    el("p.hint", { "data-level": level }, level === "good" ? null : mark(level), text),
    el("dl.facts.rows", {}, rows.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value)))));
}

function whoTable(hours) {
  if (!hours.length) return empty("Nobody has spent any", "Once requests are sent, they are listed here by endpoint.");
  const endpoints = [...new Set(hours.map((one) => one.endpoint))].sort();
  const sum = (is, field = "requests") => hours.filter(is).reduce((all, one) => all + one[field], 0);
  const cell = (value) => el("td.number", {}, value ? count(value) : "·");
  const row = (title, is) => el("tr", {}, el("th", { scope: "row" }, title),
    WHO.map(([key]) => cell(sum((one) => is(one) && one.priority === key))), cell(sum(is)), cell(sum(is, "refused")), cell(sum(is, "failed")));
  const heads = ["Endpoint", ...WHO.map(([, text]) => text), "All", "Refused", "Failed"];
  return el("div.table-scroll", { tabindex: 0, role: "region", "aria-label": "Who spent it" }, el("table.spending", {},
    el("thead", {}, el("tr", {}, heads.map((text, at) => el(`th${at ? ".number" : ""}`, { scope: "col" }, text)))),
    el("tbody", {}, endpoints.map((endpoint) => row(endpoint.replace(/_/g, " "), (one) => one.endpoint === endpoint))),
    el("tfoot", {}, row("All", () => true))));
}
