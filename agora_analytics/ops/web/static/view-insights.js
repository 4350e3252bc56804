// Insights: days and months of usage and quality, by time and by dimension, and minutes a month against a budget.

import { read } from "./api.js";
import { Chart } from "./charts.js";
import { el, put } from "./dom.js";
import { count, day, month, percent, plural, quantity, words } from "./format.js";
import { months } from "./months.js";
import { LoadButton } from "./load-button.js";
import { replace } from "./router.js";
import { limitsOf, severity } from "./thresholds.js";
import { bars, card, choices, empty, failure, field, loading, mark, meter, select } from "./widgets.js";

const DAY = 86_400;
const USAGE = ["totalDuration", "totalVideoDuration", "totalAudioDuration", "userCount", "sessionCount", "channelCount", "peakCurrentUsers", "peakCurrentChannels"];
const QUALITY = ["videoFreezeRate", "audioFreezeRate", "networkDelay", "joinSuccessIn5sRate", "joinSuccessRate"];
const PRODUCTS = ["Native", "WebRTC"];
const DIMENSIONS = ["country", "region", "net", "os", "sdk", "device", "channelSize"];
const LENGTHS = [{ key: "7", text: "7 days" }, { key: "14", text: "14 days" }, { key: "28", text: "28 days" }];
const BUCKETS = [{ key: "1d", text: "Days" }, { key: "1h", text: "Hours" }];
const KEPT = { premium: 14, enterprise: 30 };
const MARGIN = 600; // seconds that a viewer may take to click

const listed = (keys) => keys.map((key) => ({ key, text: words(key) }));

export function insightsView({ store, params, announce, saved }) {
  let filters = { ...params };
  const parts = [];
  const node = el("div.view", {}, el("div.view-head", {}, el("h2", {}, "Insights"),
    el("p.sub", {}, "Finished days and hours, which the service counts once they are over")));

  function change(values) {
    filters = Object.fromEntries(Object.entries({ ...filters, ...values }).filter(([, value]) => value !== "" && value !== null));
    replace("insights", "", filters);
  }

  const context = { store, announce, saved, change, get: (key, standard) => filters[key] ?? standard };

  function build() {
    parts.splice(0).forEach((part) => part.close());
    parts.push(budgetCard(context), timeCard(context, USAGE_CARD), timeCard(context, QUALITY_CARD), dimensionCard(context));
    put(node, node.firstChild, parts.map((part) => part.node));
  }

  build();
  return { node, route(next) { filters = { ...next }; build(); }, close: () => parts.forEach((part) => part.close()) };
}

// The newest so many whole days (or hours) of those that the plan keeps.
async function spanOf(store, params, days) {
  const step = params.granularity === "1h" ? 3_600 : DAY;
  const quote = await read("insights", params);
  if (quote.state === "unavailable") return params;
  const end = Math.floor(quote.params.end / step) * step;
  const oldest = store.now() - (KEPT[store.status?.plan] ?? KEPT.premium) * DAY + MARGIN;
  return { ...params, start: Math.max(end - days * DAY, Math.ceil(oldest / step) * step), end };
}

// The service includes the bucket at the end of a span, which is not over: leave it out.
const within = (data, { end }) => (data.points && end ? { ...data, points: data.points.filter(([ts]) => ts < end) } : data);

// A load of one insight, whose span is found first; `show(data, params)` draws it.
function insight({ store, announce }, text, result, show) {
  let params = null;
  let turn = 0;
  const button = new LoadButton({ store, announce, label: text, onData: (_, data) => show(within(data, params), params) });
  return {
    node: button.node,
    async choose(values, days) {
      const mine = ++turn;
      put(result);
      put(button.node, loading("Asking for the price…"));
      try {
        await store.ready;
        const found = await spanOf(store, values, days);
        if (mine !== turn) return;
        params = found;
        await button.replace([{ key: "insight", path: "insights", params }]);
      } catch (error) {
        if (mine === turn) put(button.node, failure(error, () => this.choose(values, days)));
      }
    },
    close() { turn += 1; button.close(); },
  };
}

const USAGE_CARD = { title: "Usage over time", key: "u", kind: "usage", metrics: USAGE };
const QUALITY_CARD = { title: "Quality over time", key: "q", kind: "quality", metrics: QUALITY, products: true };

function timeCard(context, { title, key, kind, metrics, products }) {
  let chart = null;
  const result = el("div");
  const get = (part, standard) => context.get(`${key}${part}`, standard);
  const set = (part) => (value) => { context.change({ [`${key}${part}`]: value }); again(); };
  const loaded = insight(context, `Load ${kind}`, result, (data) => {
    chart?.destroy();
    const metric = get("m", metrics[0]);
    const xs = data.points.map(([ts]) => ts);
    if (!xs.length) { put(result, empty("No values", "The service has none for this span.")); return; }
    const unit = unitOf(metric);
    chart = new Chart({ title: words(metric), unit, bars: get("g", "1d") === "1d" ? DAY : 3_600, limits: limitsOf(metric), figure: kind === "usage" ? "most" : "mean", lines: [{ label: words(metric), token: kind === "usage" ? "--line-1" : "--line-3" }], height: 200 });
    put(result, total(metric, data.points), chart.node);
    chart.draw({ xs, ys: [data.points.map(([, value]) => value)] });
  });
  function again() {
    const granularity = get("g", "1d");
    loaded.choose({ kind, metric: get("m", metrics[0]), granularity, product: products ? get("p", PRODUCTS[0]) : undefined }, Number(get("d", "7")) || 7);
  }
  const tools = el("div.toolbar.plainly", {},
    field("Metric", select(listed(metrics), get("m", metrics[0]), set("m"))),
    products && field("Product", select(PRODUCTS.map((one) => ({ key: one, text: one })), get("p", PRODUCTS[0]), set("p"))),
    choices("Span", LENGTHS, get("d", "7"), set("d")), choices("Step", BUCKETS, get("g", "1d"), set("g")));
  queueMicrotask(again);
  return { node: card(title, { id: `insight-${key}`, wide: true }, tools, loaded.node, result), close() { loaded.close(); chart?.destroy(); } };
}

const unitOf = (metric) => (QUALITY.includes(metric) ? "fraction" : metric.startsWith("total") ? "min" : "");

function total(metric, points) {
  const values = points.map(([, value]) => value).filter((value) => typeof value === "number");
  if (!values.length) return null;
  const sum = values.reduce((a, b) => a + b, 0);
  const [word, value] = unitOf(metric) === "min" ? ["in all", sum] : QUALITY.includes(metric) ? ["on average", sum / values.length] : ["at most", Math.max(...values)];
  return el("p.figure", {}, el("b", {}, quantity(value, unitOf(metric))), ` ${word}`);
}

function dimensionCard(context) {
  const result = el("div");
  const metric = () => context.get("tm", "totalDuration");
  const set = (key) => (value) => { context.change({ [key]: value }); again(); };
  const loaded = insight(context, "Load by dimension", result, (data) => {
    const sum = data.totals.reduce((all, one) => all + (one.value ?? 0), 0);
    const quality = QUALITY.includes(data.metric);
    const items = [...data.totals].sort((a, b) => (b.value ?? -1) - (a.value ?? -1)).map((one) => ({
      label: one.dimension_value, value: one.value, text: quantity(one.value, unitOf(data.metric)),
      note: quality || !sum ? null : percent(one.value / sum), level: severity(data.metric, one.value),
    }));
    put(result, items.length ? bars(items, { title: `${words(data.metric)} by ${words(data.dimension)}`, most: 12 }) : empty("No values", "The service has none for this span."));
  });
  function again() {
    const kind = QUALITY.includes(metric()) ? "quality_total" : "usage_total";
    loaded.choose({ kind, metric: metric(), dimension: context.get("by", "country") }, Number(context.get("td", "7")) || 7);
  }
  const tools = el("div.toolbar.plainly", {},
    field("Metric", select(listed([...USAGE.filter((one) => !one.startsWith("peak")), ...QUALITY]), metric(), set("tm"))),
    field("Dimension", select(listed(DIMENSIONS), context.get("by", "country"), set("by"))), choices("Span", LENGTHS, context.get("td", "7"), set("td")));
  queueMicrotask(again);
  return { node: card("By dimension", { id: "insight-dimension", wide: true }, tools, loaded.node, result), close: loaded.close };
}

// Minutes a month against a budget, which is in the address, or else as it was last typed into this browser.
function budgetCard(context) {
  let data = null;
  let chart = null;
  const result = el("div");
  const budget = () => Math.max(0, Number(context.get("budget", context.saved.get("budget") ?? "")) || 0);
  const loaded = insight(context, "Load minutes by day", result, (found) => { data = found; draw(); });
  const input = el("input.long", { type: "number", min: 0, step: "any", value: budget() || "", placeholder: "none", oninput: (event) => {
    context.saved.set("budget", event.target.value);
    context.change({ budget: event.target.value });
    if (data) draw();
  } });
  function draw() {
    chart?.destroy();
    const rows = months(data.points);
    if (!rows.length) { put(result, empty("No values", "The service has no minutes for this span.")); return; }
    chart = new Chart({ title: "Minutes by day", unit: "min", bars: DAY, figure: "most", lines: [{ label: "Minutes" }], height: 150 });
    put(result, el("ul.meters", {}, rows.map((row) => monthRow(row, budget()))), chart.node);
    chart.draw({ xs: data.points.map(([ts]) => ts), ys: [data.points.map(([, value]) => value)] });
  }
  queueMicrotask(() => loaded.choose({ kind: "usage", metric: "totalDuration", granularity: "1d" }, KEPT.enterprise));
  return {
    node: card("Minutes a month against a budget", { id: "insight-budget", wide: true }, el("div.toolbar.plainly", {}, field("Budget a month", el("span.suffixed", {}, input, el("span", { "aria-hidden": "true" }, "min")))), loaded.node, result),
    close() { loaded.close(); chart?.destroy(); },
  };
}

function monthRow(row, budget) {
  const { start, minutes, known, length, projected, first, last } = row;
  const part = known < length ? `${plural(known, "day")} of ${length}, ${day(first)} to ${day(last)}` : "whole month";
  const level = budget && minutes > budget ? "bad" : budget && projected > budget ? "warn" : "good";
  const outlook = projected > minutes ? `${count(Math.round(projected))} min for the whole month at this pace` : null;
  return el("li", {},
    el("div.meter-head", {}, el("b", {}, month(start)), el("span.number", {}, budget ? `${count(minutes)} of ${count(budget)} min` : `${count(minutes)} min`)),
    budget ? meter(`Minutes of ${month(start)}`, minutes, budget, projected - minutes, level) : null,
    el("p.hint", { "data-level": level }, level === "good" ? null : mark(level), [part, outlook, budget && (outlook || known === length) && `${percent(projected / budget)} of the budget`].filter(Boolean).join(" · ")));
}
