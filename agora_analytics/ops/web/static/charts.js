// Charts over time: uPlot with our colours, thresholds, gaps and late windows, cursors that move together, and the same
// values as a table for those who do not see the canvas.

import { el, put, say } from "./dom.js";
import { axisValue, clock, day, dayTime, isUtc, minute, name, plural, quantity } from "./format.js";
import { cursorKeys } from "./cursor.js";
import { levelOf } from "./thresholds.js";
import { mark, SAID } from "./widgets.js";

const uPlot = window.uPlot;
const alive = new Set();
let made = 0;

const style = () => getComputedStyle(document.documentElement);
let colours = null;
export function colour(token) {
  colours ??= new Map();
  if (!colours.has(token)) colours.set(token, style().getPropertyValue(token).trim() || "#888");
  return colours.get(token);
}

// To be called when the theme or the zone of times has changed.
export function restyle() {
  colours = null;
  for (const chart of alive) chart.repaint();
}

// How large texts are here: on very large screens all grows.
const scale = () => parseFloat(style().fontSize) / 15;

const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [1, 2], [10, 4]];
export const LINES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];

// A chart; `options`: title, unit, height, sync (name of charts whose cursors move together), bars (seconds of a bar),
// stacked, zero (whether the scale begins there), limits [{limit, bad}], span [start, end] and lines [{label, token, limits}];
// those of a line are instead of those of the chart.
// `draw(data)`: xs, ys (a list for each line), and what is known of windows: gaps [[from, to, reason]], missing [ts],
// late [[line, ts, value]], openFrom (windows from there on may change).
export class Chart {
  constructor(options) {
    this.options = { lines: [], limits: [], zero: true, figure: "newest", ...options };
    this.options.height = Math.round((options.height ?? 150) * scale());
    this.data = { xs: [], ys: [] };
    this.legend = el("div.legend");
    this.foot = el("div.chart-foot");
    this.about = el("p.sr", { id: `chart-${(made += 1)}` });
    this.canvas = el("div.canvas", {
      role: "slider", tabindex: 0, "aria-label": `${options.title} over time`, "aria-describedby": this.about.id, "aria-orientation": "horizontal",
    });
    this.cursor = cursorKeys(this);
    this.table = el("div.table-box", { tabindex: 0, role: "region", "aria-label": `${options.title}: values` });
    this.details = el("details.values", { ontoggle: () => this.tabulate() }, el("summary", {}, "Values as a table"), this.table);
    this.node = el("div.chart", {}, this.legend, this.canvas, this.about, this.foot, this.details);
    this.canvas.style.height = `${this.options.height}px`;
    this.plot = null;
    this.resizer = new ResizeObserver(() => this.resize());
    this.resizer.observe(this.canvas);
    alive.add(this);
  }

  draw(data) {
    const shape = JSON.stringify([data.lines ?? this.options.lines]);
    this.data = { gaps: [], missing: [], late: [], openFrom: null, ...data };
    if (data.lines) this.options.lines = data.lines;
    if (data.span) this.options.span = data.span;
    if (this.plot && shape === this.shape) this.plot.setData(this.columns(), true);
    else this.build();
    this.shape = shape;
    say(this.about, this.summary());
    this.cursor.redraw();
    if (this.details.open) this.tabulate();
  }

  destroy() {
    alive.delete(this);
    this.resizer.disconnect();
    this.plot?.destroy();
  }

  columns() {
    const { xs, ys } = this.data;
    if (!this.options.stacked) return [xs, ...ys];
    const sums = xs.map(() => 0);
    const piles = ys.map((values) => values.map((value, at) => (sums[at] += value ?? 0)));
    return [xs, ...piles.reverse()];
  }

  build() {
    this.plot?.destroy();
    const width = this.canvas.clientWidth;
    if (!width) { this.plot = null; return; }
    this.plot = new uPlot(settings(this, width), this.columns(), this.canvas);
    this.plot.root.setAttribute("aria-hidden", "true");
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    if (!this.plot) this.build();
    else if (this.plot.width !== width) this.plot.setSize({ width, height: this.options.height });
  }

  repaint() {
    if (this.plot) this.build();
    this.cursor.redraw();
    if (this.details.open) this.tabulate();
  }

  // Values under the cursor, or the newest ones.
  legendNow(at) {
    const { lines, unit } = this.options;
    const items = lines.map((line, index) => {
      const value = at === null ? FIGURES[this.options.figure](this.data.ys[index]) : valueAt(this.data.ys[index], at);
      const level = levelOf(this.limitsOf(line), value);
      return el("span.key", { "data-level": level }, swatch(line, index, this.options.bars || this.options.dense), el("bdi", {}, line.label), at === null ? ` ${WORDS[this.options.figure]}` : " ",
        el("b", {}, level && level !== "good" ? mark(level) : null, quantity(value, unit)));
    });
    put(this.legend, items);
    put(this.foot, at === null ? this.limitKeys() : [this.timeLabel(at), ...this.marksAt(at)].filter(Boolean).join(" · "));
  }

  limitsOf(line) {
    return line.limits ?? this.options.limits;
  }

  // The limits of all lines, each once: [{limit, bad, rule, lines}].
  limits() {
    const found = new Map();
    for (const line of this.options.lines) {
      for (const one of this.limitsOf(line)) {
        const key = `${one.bad} ${one.limit} ${Boolean(one.rule)}`;
        if (!found.has(key)) found.set(key, { ...one, lines: [] });
        found.get(key).lines.push(line.label);
      }
    }
    return [...found.values()];
  }

  limitKeys() {
    const { lines, unit } = this.options;
    return this.limits().map((one) => el("span.key", {}, el("span.swatch.dash-1", { "aria-hidden": "true" }),
      `${one.rule ? `alert ${one.bad}` : one.bad === "above" ? "limit" : "at least"} ${axisValue(one.limit, unit)}${one.lines.length < lines.length ? ` (${one.lines.join(", ")})` : ""}`));
  }

  timeLabel(at) {
    const ts = this.data.xs[at];
    return ts === undefined ? null : this.options.bars >= 86_400 ? day(ts) : clock(ts);
  }

  // What is known of a window, in words.
  marksAt(at) {
    const ts = this.data.xs[at];
    const { gaps, missing, late, openFrom } = this.data;
    const gap = gaps.find(([start, end]) => start <= ts && ts < end);
    return [
      gap && `lost: ${name(gap[2], "gap")}`, missing.includes(ts) && "no value", late.some(([, when]) => when === ts) && "came or changed late",
      openFrom !== null && ts >= openFrom && "may still change",
    ];
  }

  // One time of the chart, in words.
  describe(at) {
    const { lines, unit } = this.options;
    const values = lines.map((line, index) => {
      const value = valueAt(this.data.ys[index], at);
      const said = SAID[levelOf(this.limitsOf(line), value)];
      return `${line.label} ${quantity(value, unit)}${said ? `, ${said}` : ""}`;
    });
    return [this.timeLabel(at), ...values, ...this.marksAt(at)].filter(Boolean).join("; ");
  }

  summary() {
    const { title, lines, unit } = this.options;
    const parts = lines.map((line, at) => {
      const known = (this.data.ys[at] ?? []).filter((value) => typeof value === "number");
      if (!known.length) return `${line.label}: no values`;
      return `${line.label}: newest ${quantity(known[known.length - 1], unit)}, lowest ${quantity(Math.min(...known), unit)}, highest ${quantity(Math.max(...known), unit)}`;
    });
    const gaps = this.data.gaps.length ? `; ${plural(this.data.gaps.length, "gap")}` : "";
    return `${title}. ${parts.join("; ")}${gaps}.`;
  }

  tabulate() {
    if (!this.details.open) return;
    const { lines, unit, bars } = this.options;
    const written = bars >= 86_400 ? day : bars ? dayTime : clock;
    const rows = this.data.xs.map((ts, at) => el("tr", {}, el("th", { scope: "row" }, written(ts)),
      lines.map((_, index) => el("td", {}, quantity(this.data.ys[index]?.[at], unit))))).reverse();
    const head = el("tr", {}, el("th", { scope: "col" }, "Time"), lines.map((line) => el("th", { scope: "col" }, line.label)));
    put(this.table, el("table.plain", {}, el("thead", {}, head), el("tbody", {}, rows)));
    if (!rows.length) say(this.table, "No values yet.");
  }
}

const newest = (values) => {
  for (let at = (values?.length ?? 0) - 1; at >= 0; at--) if (values[at] !== null && values[at] !== undefined) return values[at];
  return null;
};

// Where only another line has a sample, a line has the one before.
const valueAt = (values, at) => {
  while (at > 0 && values?.[at] === undefined) at -= 1;
  return values?.[at];
};

// What a legend says of a line as a whole.
const numbers = (values) => (values ?? []).filter((value) => typeof value === "number");
const FIGURES = {
  newest,
  mean: (values) => { const all = numbers(values); return all.length ? all.reduce((a, b) => a + b, 0) / all.length : null; },
  most: (values) => numbers(values).reduce((a, b) => Math.max(a, b), -Infinity),
};
const WORDS = { newest: " ", mean: " mean ", most: " peak " };

// The mark of a line in a legend: its colour and its dashes, so that colour alone never tells.
export function swatch(line, index, block) {
  const canvas = el("span.swatch", { "aria-hidden": "true" });
  canvas.classList.add(block ? "block" : `dash-${index % DASHES.length}`);
  canvas.style.color = `var(${line.token ?? LINES[index % LINES.length]})`;
  return canvas;
}

function settings(chart, width) {
  // All settings of uPlot in one place.
  const { height, unit, bars, stacked, lines, sync, span, zero, dense } = chart.options;
  const shown = stacked ? [...lines].map((line, index) => ({ line, index })).reverse() : lines.map((line, index) => ({ line, index }));
  const series = shown.map(({ line, index }) => {
    const stroke = () => colour(line.token ?? LINES[index % LINES.length]);
    const common = { label: line.label, stroke, width: 1.75, spanGaps: false, points: { show: false } };
    if (bars) return { ...common, width: 0, fill: stroke, paths: uPlot.paths.bars({ size: [0.8, 64], align: bars < 86_400 ? 1 : 0, radius: 0.1 }) };
    return { ...common, dash: dense ? [] : DASHES[index % DASHES.length], width: dense ? 1.25 : 1.75, points: { show: (u, line_, first, last) => lonely(u, line_, first, last).length > 0, filter: (u, line_) => lonely(u, line_, 0, u.data[0].length - 1), size: 4, fill: stroke } };
  });
  const axis = {
    stroke: () => colour("--quiet"), font: `${Math.round(11 * scale())}px system-ui, sans-serif`, gap: 4 * scale(),
    grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { show: false },
  };
  return {
    width, height, series: [{}, ...series], legend: { show: false }, padding: [10 * scale(), 20 * scale(), 0, 0],
    cursor: {
      sync: sync ? { key: sync, scales: ["x", null] } : undefined, drag: { x: false, y: false }, y: false,
      points: { show: !bars, size: 7, width: 1.5, fill: () => colour("--card") },
    },
    scales: {
      x: { time: true, range: () => spanOf(chart) },
      y: { range: (_, low, high) => heights(low, high, zero, chart.limits(), unit) },
    },
    axes: [
      { ...axis, size: 24 * scale(), space: 64 * scale(), values: (_, stamps) => stamps.map((ts) => (bars >= 86_400 ? day(ts) : minute(ts))), incrs: INCRS, grid: { show: false }, splits: bars >= 86_400 ? (u) => dailySplits(u) : undefined },
      { ...axis, size: (_, values) => (14 + 6.4 * Math.max(3, ...(values ?? []).map((text) => text.length))) * scale(), space: 32 * scale(), values: (_, ticks) => ticks.map((value) => axisValue(value, unit)) },
    ],
    hooks: {
      drawClear: [(u) => drawBehind(u, chart)],
      draw: [(u) => drawOver(u, chart)],
      setCursor: [(u) => chart.legendNow(u.cursor.idx ?? null)],
    },
    tzDate: (ts) => (isUtc() ? uPlot.tzDate(new Date(ts * 1000), "Etc/UTC") : new Date(ts * 1000)),
  };

  function spanOf(one) {
    const { xs } = one.data;
    if (span || one.options.span) return one.options.span;
    const first = xs[0] ?? 0;
    const last = xs[xs.length - 1] ?? 1;
    return bars ? (bars < 86_400 ? [first, last + bars] : [first - bars * 0.6, last + bars * 0.6]) : first === last ? [first - 60, first + 60] : [first, last];
  }
}

const INCRS = [10, 20, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800];

function dailySplits(u) {
  const stamps = u.data[0];
  const step = Math.max(1, Math.ceil(stamps.length / Math.max(2, Math.floor(u.width / 90))));
  return stamps.filter((_, at) => (stamps.length - 1 - at) % step === 0);
}

// A single value between gaps is a point: no line would show it. Undefined is no gap: only another line has a value there.
const lonely = (u, line, first, last) => {
  const values = u.data[line];
  const isGap = (at, step) => {
    while (values[at] === undefined && at >= first && at <= last) at += step;
    return values[at] == null;
  };
  const found = [];
  for (let at = first; at <= last; at++) if (values[at] != null && isGap(at - 1, -1) && isGap(at + 1, 1)) found.push(at);
  return found;
};

// The scale of values; a limit is in sight if values come near it.
function heights(low, high, zero, limits, unit) {
  let [bottom, top] = [low ?? 0, high ?? 1];
  for (const { limit, bad } of limits) if (top > limit / 3 && (bad === "above" || unit !== "fraction")) top = Math.max(top, limit * 1.25);
  const floors = unit === "fraction" ? limits.filter((one) => one.bad === "below").map((one) => one.limit) : [];
  if (floors.length) return [Math.min(bottom, ...floors) - 0.02, 1];
  if (zero) bottom = Math.min(0, bottom);
  if (top <= bottom) top = bottom + (unit === "fraction" ? 0.02 : 1);
  return [bottom, top + (top - bottom) * 0.08];
}

function drawBehind(u, chart) {
  const { ctx, bbox } = u;
  const { gaps, openFrom } = chart.data;
  const left = (ts) => Math.max(bbox.left, Math.min(bbox.left + bbox.width, u.valToPos(ts, "x", true)));
  ctx.save();
  if (openFrom !== null && openFrom !== undefined) {
    const from = left(openFrom);
    ctx.fillStyle = colour("--open");
    ctx.fillRect(from, bbox.top, bbox.left + bbox.width - from, bbox.height);
  }
  for (const [start, end] of gaps) hatch(ctx, left(start), bbox.top, Math.max(2, left(end) - left(start)), bbox.height);
  ctx.restore();
}

function hatch(ctx, x, y, width, height) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, width, height);
  ctx.clip();
  ctx.fillStyle = colour("--gap-fill");
  ctx.fillRect(x, y, width, height);
  ctx.strokeStyle = colour("--gap-line");
  ctx.lineWidth = devicePixelRatio;
  const step = 7 * devicePixelRatio;
  ctx.beginPath();
  for (let at = x - height - ((x - height) % step); at < x + width; at += step) {
    ctx.moveTo(at, y + height);
    ctx.lineTo(at + height, y);
  }
  ctx.stroke();
  ctx.restore();
}

function drawOver(u, chart) {
  const { ctx, bbox } = u;
  const ratio = devicePixelRatio * scale();
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top - 4 * ratio, bbox.width, bbox.height + 8 * ratio);
  ctx.clip();
  for (const limit of chart.limits()) drawLimit(u, limit, ratio);
  // Windows without a value: ticks on the floor. Values that came late: rings.
  ctx.fillStyle = colour("--warn");
  for (const ts of chart.data.missing) ctx.fillRect(u.valToPos(ts, "x", true) - ratio, bbox.top + bbox.height - 7 * ratio, 2 * ratio, 7 * ratio);
  ctx.lineWidth = 1.5 * ratio;
  for (const [line, ts, value] of chart.data.late) {
    ctx.beginPath();
    ctx.arc(u.valToPos(ts, "x", true), u.valToPos(value, "y", true), 3.5 * ratio, 0, 2 * Math.PI);
    ctx.fillStyle = colour("--card");
    ctx.strokeStyle = colour(chart.options.lines[line]?.token ?? LINES[line % LINES.length]);
    ctx.fill();
    ctx.stroke();
  }
  ctx.restore();
}

function drawLimit(u, limit, ratio) {
  const { ctx, bbox } = u;
  const y = Math.round(u.valToPos(limit.limit, "y", true)) + 0.5;
  if (y < bbox.top || y > bbox.top + bbox.height) return;
  ctx.strokeStyle = colour("--limit");
  ctx.lineWidth = ratio;
  ctx.setLineDash([5 * ratio, 4 * ratio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.setLineDash([]);
}

