// Now: the last hour of every series, by product and by dimension; the streams and the quota.

import { alertTitle, isAlert, KINDS, LEVELS } from "./alerts.js";
import { Chart } from "./charts.js";
import { el, put, reconcile, say, throttled } from "./dom.js";
import { ago, clock, count, duration, minute, name, percent, plural, quantity, words, zoneName } from "./format.js";
import { quotaMeters } from "./quota-parts.js";
import { levelOf, limitsOf } from "./thresholds.js";
import { callHref } from "./router.js";
import { sorted } from "./store.js";
import { STREAMS } from "./troubles.js";
import { badge, bars, card, empty, label, loading, rate, time } from "./widgets.js";
import { chartData, lastHour, newestOf } from "./windows.js";

const ORDER = ["userCount", "channelCount", "videoFreezeRate", "audioFreezeRate", "networkDelay", "joinSuccessIn5sRate", "joinSuccessRate"];
const TOKENS = { Native: "--line-1", WebRTC: "--line-2" };

export function nowView({ store }) {
  // Four regions, each drawn from the store whenever it changes.
  const fresh = el("p.sub");
  const marks = el("p.marks", { "aria-label": "Marks in the charts" }, MARKS.map(([kind, text]) => el("span", {}, el(`span.chart-mark.${kind}`, { "aria-hidden": "true" }), text)));
  const charts = el("div.grid.charts");
  const groups = el("div.grid.groups");
  const streams = el("div.card-body");
  const quota = el("div.card-body");
  const worst = el("div.card-body");
  const alerts = el("div.card-body");
  const dimensions = el("section", { "aria-labelledby": "by-dimension" }, el("h3.section", { id: "by-dimension" }, "By dimension, newest window"), groups);
  const node = el("div.view", {},
    el("div.view-head", {}, el("h2", {}, "Now"), fresh, marks),
    el("section", { "aria-label": "Quality and usage" }, charts),
    dimensions,
    el("div.grid.halves", {},
      el("div.stack", {}, card("Streams", { id: "streams" }, streams),
        card("Worst calls", { id: "worst", tools: el("a.link", { href: "#/calls?order=worst" }, "All calls") }, worst),
        card("Alerts", { id: "newest-alerts", tools: el("a.link", { href: "#/alerts" }, "All alerts") }, alerts)),
      card("Quota of today", { id: "quota", tools: el("a.link", { href: "#/quota" }, "Details") }, quota)));
  let shape = "";
  let made = [];

  function layout() {
    made.forEach(({ chart }) => chart.destroy());
    const found = families([...store.series.values()]);
    made = found.map(chartCard);
    if (!store.loaded) put(charts, loading("Loading the last hour…"));
    else if (!made.length) put(charts, empty("No series by product is watched", "Start the server with the series that you want, or with a plan that has real-time data."));
    else put(charts, made.map(({ node: box }) => box));
    marks.hidden = !made.length;
  }

  function draw() {
    const all = [...store.series.values()];
    const now = shapeOf(all, store.loaded);
    if (now !== shape) {
      shape = now;
      layout();
    }
    const span = lastHour(all, store.now());
    for (const { chart, series } of made) chart.draw(chartData(series.map((one) => store.series.get(one.id)), span));
    drawGroups(groups, all, store.loaded);
    dimensions.hidden = store.loaded && !all.length;
    freshness();
  }

  function freshness() {
    const ts = store.status?.newest_window;
    const parts = ["The last hour in windows of 20 seconds"];
    if (ts) parts.push(`newest ${clock(ts)} ${zoneName(ts)}, ${ago(store.now() - ts - 20)}`);
    else if (store.loaded) parts.push("no window has come yet");
    say(fresh, parts.join(" · "));
  }

  const status = () => {
    put(streams, store.status ? streamRows(store) : loading("Loading…"));
    freshness();
  };
  const spending = () => put(quota, quotaMeters(store));
  const calls = () => put(worst, worstCalls(store));
  const alerted = () => put(alerts, newestAlerts(store));
  const soon = throttled(draw, 400);
  const later = throttled(calls, 1_000);
  const off = [store.on("calls", later), store.on("alerts", alerted), store.on("series", soon), store.on("status", status), store.on("quota", spending)];
  queueMicrotask(() => { draw(); status(); spending(); calls(); alerted(); });
  return {
    node,
    tick: status,
    close() { soon.cancel(); later.cancel(); off.forEach((stop) => stop()); made.forEach(({ chart }) => chart.destroy()); },
  };
}

const MARKS = [["late", "came or changed late"], ["missing", "no value"], ["gap", "gap: lost"], ["open", "may still change"]];

const shapeOf = (all, loaded) => `${loaded} ${all.map((one) => one.id).join("\n")}`;

// Series that belong into one chart: one metric of one channel, a line for each product.
function families(all) {
  const found = new Map();
  for (const one of all) {
    if (grouped(one)) continue;
    const key = `${one.metric}\n${one.cname ?? ""}`;
    found.set(key, [...(found.get(key) ?? []), one].sort((a, b) => a.product.localeCompare(b.product)));
  }
  const rank = (series) => { const at = ORDER.indexOf(series[0].metric); return at < 0 ? ORDER.length : at; };
  return [...found.values()].sort((a, b) => (a[0].cname ? 1 : 0) - (b[0].cname ? 1 : 0) || rank(a) - rank(b));
}

const grouped = (one) => one.dimension !== null || [...one.cells.values()].some((cell) => cell.groups);

function chartCard(series) {
  const { metric, cname, unit, meaning } = series[0];
  const title = cname ? `${words(metric)} in ${name(cname)}` : words(metric);
  const chart = new Chart({
    title, unit, sync: "now", height: 148,
    lines: series.map((one) => ({ label: one.product, token: TOKENS[one.product], limits: inForce(one) })),
  });
  return { chart, series, node: card(title, { hint: meaning }, chart.node) };
}

// The limits of the alert rules about a series, or those of its metric.
const inForce = (one) => (one.limits.length ? one.limits : limitsOf(one.metric));

function drawGroups(box, all, loaded) {
  const found = all.filter(grouped);
  if (!found.length) {
    put(box, loaded ? empty("No series by dimension is watched", "A series such as “userCount Native by country” shows its values here.") : loading("Loading…"));
    return;
  }
  const open = [...box.querySelectorAll("details[open]")].map((one) => one.closest("section").dataset.key);
  if (!box.querySelector("section")) put(box);
  reconcile(box, found.map((one) => ({ one, stamp: stampOf(one) })), ({ one }) => one.id, ({ one }) => groupCard(one, open.includes(one.id)));
}

function stampOf(one) {
  const newest = newestOf(one);
  return newest ? `${newest.ts} ${newest.cell.revisions ?? 0}` : "none";
}

function groupCard(one, open) {
  const newest = newestOf(one);
  const by = one.dimension ? words(one.dimension).toLowerCase() : "user";
  const title = `${words(one.metric)} by ${by === "sdk" ? "SDK" : by}`;
  const hint = `${[one.product, one.cname && name(one.cname)].filter(Boolean).join(", ")}${newest ? ` · ${clock(newest.ts)}` : ""}`;
  const list = newest ? groupBars(one, newest.cell, title) : empty("No window yet");
  const box = card(title, { hint }, list);
  if (open && box.querySelector("details")) box.querySelector("details").open = true;
  return box;
}

function groupBars(one, cell, title) {
  const items = Object.entries(cell.groups ?? {}).filter(([, value]) => typeof value === "number").sort((a, b) => b[1] - a[1]);
  if (!items.length) return empty("Nobody there", "The newest window has no values.");
  const total = items.reduce((sum, [, value]) => sum + value, 0);
  const share = (value) => (one.unit || total <= 0 ? null : percent(value / total));
  return bars(items.map(([key, value]) => ({
    label: key, value, text: quantity(value, one.unit), note: share(value), level: levelOf(inForce(one), value),
  })), { title, token: one.unit ? "--line-3" : "--line-1" });
}

function worstCalls(store) {
  if (!store.loaded) return loading("Loading…");
  const found = sorted([...store.calls.values()].filter((entry) => entry.impact > 0), "worst").slice(0, 5);
  if (!found.length) return empty("No call with a freeze is known");
  return el("ul.lines", {}, found.map(({ call }) => el("li", {}, el("a", { href: callHref(call) }, label(call.cname)), el("span.quiet", {}, time(call.created_ts, minute)),
    el("span", {}, "video ", rate("video_freeze_rate", call.call_video_freeze_rate)), el("span", {}, "audio ", rate("audio_freeze_rate", call.call_audio_freeze_rate)),
    el("span.quiet", {}, plural(call.call_pcu, "user")))));
}

function newestAlerts(store) {
  if (!store.loaded) return loading("Loading…");
  if (!store.alerts.length) return empty("No alert since the server started");
  return el("ul.lines", {}, store.alerts.slice(0, 3).map(({ at, alert }) => {
    const kind = isAlert(alert) ? alert.kind : "firing";
    return el("li", {}, badge(LEVELS[kind] ?? "warn", KINDS[kind] ?? name(kind)), el("span", {}, alertTitle(alert)), el("span.quiet", {}, time(isAlert(alert) ? alert.ts : at, minute)));
  }));
}

const TROUBLE = { outage: "bad", refused: "bad", stopped: "bad", "waiting for consumer": "warn" };

/** How far the service's clock is ahead of the server's: at least the offset, at most the uncertainty more. */
function clockRange({ offset, uncertainty }) {
  if (uncertainty === null) return "not confirmed yet";
  const signed = (seconds) => `${seconds >= 0 ? "+" : "−"}${Math.abs(seconds).toFixed(2)}`;
  return `${signed(offset)} to ${signed(offset + uncertainty)} s`;
}

function streamRows(store) {
  const { streams, coverage, plan, app, viewers, clock: service } = store.status;
  const rows = streams.map((stream) => streamRow(stream, store.now()));
  const more = [
    ["Plan", name(plan)], ["App ID", name(app)],
    coverage && ["Windows come every", duration(coverage.poll_interval)],
    service && ["Clock", clockRange(service)],
    ["Viewers", count(viewers)],
  ].filter(Boolean);
  return [
    rows.length ? el("ul.streams", {}, rows) : empty("Nothing is followed", "The server was started without series and calls."),
    el("dl.facts.small", {}, more.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value)))),
  ];
}

function streamRow({ name: key, health, error, restarts_at: restarts }, now) {
  const level = error ? "bad" : TROUBLE[health.state] ?? "good";
  const waits = health.state === "waiting for quota";
  const text = error ? "ended by an error" : waits && health.until ? `waits for quota until ${clock(health.until)}` : health.state;
  const notes = [
    health.last_window && `${key === "windows" ? "newest window" : "read up to"} ${minute(health.last_window)}`,
    health.lag !== null && health.lag !== undefined && `${duration(health.last_window ? now - health.last_window : health.lag)} behind`,
    restarts && `starts again at ${clock(restarts)}`,
    health.failures ? plural(health.failures, "failed poll") : null,
    health.skipped ? `${plural(health.skipped, "row")} skipped` : null,
  ].filter(Boolean);
  const trouble = error || health.last_error;
  return el("li", {}, el("div.stream-head", {}, el("b", {}, STREAMS[key] ?? key), badge(level, text)),
    el("p.hint", {}, notes.join(" · ")), trouble ? el("p.trouble", {}, label(trouble)) : null);
}
