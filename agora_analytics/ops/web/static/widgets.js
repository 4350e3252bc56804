// Parts that several views share: cards, badges, rates, meters, bars, empty and error states.

import { el, svg } from "./dom.js";
import { count, dayTime, iso, name, NONE, percent } from "./format.js";
import { severity } from "./thresholds.js";

export function card(title, options, ...children) {
  const { hint, tools, wide, id } = options ?? {};
  const head = el("div.card-head", {}, el("h3", { id }, title), hint && el("p.hint", {}, hint), tools);
  return el(`section.card${wide ? ".wide" : ""}`, { "aria-labelledby": id }, head, ...children);
}

const SHAPES = {
  good: "M8 3.2a4.8 4.8 0 1 0 0 9.6a4.8 4.8 0 1 0 0-9.6Z",
  warn: "M8 2.2 14.6 13.6H1.4Z",
  bad: "M8 .8 15.2 8 8 15.2.8 8Z",
  none: "M3 7.2h10v1.6H3Z",
  live: "M8 4.2a3.8 3.8 0 1 0 0 7.6a3.8 3.8 0 1 0 0-7.6Z",
};

// A mark by shape and colour: a disc is good, a triangle warns, a diamond is bad.
export const mark = (level) =>
  svg("svg.mark", { viewBox: "0 0 16 16", "aria-hidden": "true", "data-level": level ?? "none" }, svg("path", { d: SHAPES[level ?? "none"] }));

export const SAID = { warn: "beyond the limit", bad: "far beyond the limit" };

export function rate(metric, value) {
  const level = severity(metric, value);
  if (level === null) return el("span.rate", { "data-level": "none" }, typeof value === "number" ? percent(value) : NONE);
  return el("span.rate", { "data-level": level }, level === "good" ? null : mark(level), percent(value),
    SAID[level] && el("span.sr", {}, ` ${SAID[level]}`));
}

export const badge = (level, text) => el("span.badge", { "data-level": level }, level === "none" ? null : mark(level), text);

export const time = (ts, write = dayTime) => el("time", { datetime: iso(ts), title: iso(ts) }, write(ts));

export const label = (text, none) => el("bdi.name", { title: name(text, none) }, name(text, none));

export const empty = (title, text, ...more) => el("div.empty", {}, el("p.empty-title", {}, title), text && el("p", {}, text), ...more);

export const failure = (error, again) =>
  el("div.failure", { role: "alert" }, el("p.empty-title", {}, mark("bad"), error.message),
    error.hint && el("p", {}, error.hint),
    error.spent ? el("p", {}, `It cost ${count(error.spent)} requests all the same.`) : null,
    again && el("button", { type: "button", onclick: again }, "Try again"));

export const loading = (text) => el("p.loading", { role: "status" }, el("span.spinner", { "aria-hidden": "true" }), text);

// A bar between 0 and a limit, which must be greater; `ahead` is what is expected beyond the value.
export function meter(title, value, limit, ahead = 0, level = "good") {
  const part = (amount) => `${limit > 0 ? Math.max(0, Math.min(100, (100 * amount) / limit)) : 0}%`;
  return el("div.meter", {
    role: "meter", "aria-label": title, "aria-valuemin": 0, "aria-valuemax": limit, "aria-valuenow": Math.min(value, limit),
    "aria-valuetext": `${count(value)} of ${count(limit)}`, "data-level": level,
  }, el("span.meter-ahead", { style: { width: part(value + ahead) } }), el("span.meter-now", { hidden: !(value > 0), style: { width: part(value) } }));
}

// A list of bars: items [{label, value, text, note, level}], the greatest first.
export function bars(items, options = {}) {
  const { most = 8, token = "--line-1", title } = options;
  const top = Math.max(...items.map((item) => item.value ?? 0), 0) || 1;
  const shown = items.slice(0, most);
  const rest = items.slice(most);
  const row = (item) => el("li.bar-row", { "data-level": item.level }, label(item.label, "(none)"),
    el("span.bar-track", { "aria-hidden": "true" }, el("span.bar", { hidden: !(item.value > 0), style: { width: `${(100 * Math.max(0, item.value ?? 0)) / top}%`, background: `var(${token})` } })),
    el("span.bar-value", {}, item.level && item.level !== "good" ? mark(item.level) : null, item.text, item.note && el("span.bar-note", {}, item.note)));
  return el("div.bars", {}, el("ul", { "aria-label": title }, shown.map(row)),
    rest.length ? el("details.more", {}, el("summary", {}, `${rest.length} more`), el("ul", {}, rest.map(row))) : null);
}

// Choices of which one is active, as links or buttons: [{key, text}].
export function choices(title, options, active, choose) {
  const group = el("div.segments", { role: "radiogroup", "aria-label": title });
  const buttons = options.map(({ key, text }) => el("button", {
    type: "button", role: "radio", "aria-checked": String(key === active), tabindex: key === active ? 0 : -1, "data-key": key,
    onclick: () => pick(key, false),
  }, text));
  if (!options.some(({ key }) => key === active)) buttons[0].tabIndex = 0;
  const pick = (key, focus) => {
    for (const button of buttons) {
      const chosen = button.dataset.key === key;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      if (chosen && focus) button.focus();
    }
    choose(key);
  };
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = buttons.indexOf(document.activeElement);
    pick(buttons[(at + step + buttons.length) % buttons.length].dataset.key, true);
  });
  group.append(...buttons);
  return group;
}

export function field(text, input, more) {
  return el("label.field", {}, el("span", {}, text), input, more);
}

export function select(options, active, choose) {
  return el("select", { onchange: (event) => choose(event.target.value) },
    options.map(({ key, text }) => el("option", { value: key, selected: key === active }, text)));
}

export const facts = (pairs) => el("dl.facts", {}, pairs.filter(Boolean).map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
