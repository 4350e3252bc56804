// Series of windows as the data of a chart: values on one axis of 20 seconds, gaps, missing and late windows.

import { isNumber } from "./format.js";
import { HOUR, hasValue, WINDOW } from "./store.js";

// The hour that all charts of the page show: up to the end of the newest window that anything is known of.
export function lastHour(series, now) {
  const newest = Math.max(0, ...series.map((one) => Math.max(0, ...one.cells.keys())));
  const end = newest ? newest + WINDOW : Math.floor(now / WINDOW) * WINDOW;
  return [end - HOUR, end];
}

// The newest window with a value: {ts, cell}, null before there is one.
export function newestOf(one) {
  let found = null;
  for (const [ts, cell] of one.cells) if (hasValue(cell) && (found === null || ts > found.ts)) found = { ts, cell };
  return found;
}

// Chart data of several series (one line each) in a span.
export function chartData(series, [start, end]) {
  const xs = [];
  for (let ts = start; ts < end; ts += WINDOW) xs.push(ts);
  const ys = series.map((one) => xs.map((ts) => (hasValue(one.cells.get(ts)) && isNumber(one.cells.get(ts).value) ? one.cells.get(ts).value : null)));
  const late = [];
  const missing = new Set();
  series.forEach((one, line) => {
    for (const ts of xs) {
      const cell = one.cells.get(ts);
      if (cell?.state === "late" && isNumber(cell.value)) late.push([line, ts, cell.value]);
      else if (cell?.state === "missing") missing.add(ts);
    }
  });
  const finals = series.map((one) => one.finalBefore).filter((ts) => typeof ts === "number");
  return { xs, ys, span: [start, end - WINDOW], late, missing: [...missing], gaps: gapsOf(series, xs), openFrom: finals.length ? Math.min(...finals) : null };
}

// Spans that any of the series has lost: [[start, end, reason]].
export function gapsOf(series, xs) {
  const found = [];
  for (const ts of xs) {
    const cell = series.map((one) => one.cells.get(ts)).find((one) => one?.state === "gap");
    if (!cell) continue;
    const last = found[found.length - 1];
    if (last && last[1] === ts) last[1] = ts + WINDOW;
    else found.push([ts, ts + WINDOW, cell.reason]);
  }
  return found;
}
