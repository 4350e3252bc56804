// A table of calls: those that are known, and those that a search found.

import { el, reconcile } from "./dom.js";
import { clock, compact, count, dayTime, duration, plural } from "./format.js";
import { callHref } from "./router.js";
import { badge, label, rate, time } from "./widgets.js";

const STATE = { open: ["live", "open"], finished: ["none", "finished"], lost: ["warn", "lost"] };

const MANY = 1e6;

const COLUMNS = [
  { text: "Channel" }, { text: "Began", order: "newest" }, { text: "Length", wide: true, number: true },
  { text: "Users", order: "users", number: true }, { text: "Audio freeze", short: "Audio", order: "audio", number: true },
  { text: "Video freeze", short: "Video", order: "video", number: true }, { text: "State", wide: true },
];

export const lengthOf = (call, now) => {
  if (!call.created_ts) return null;
  const end = call.finished === false || !call.destroyed_ts ? now : call.destroyed_ts;
  return Math.max(0, end - call.created_ts);
};

export const stateBadge = (entry) => badge(...STATE[entry.state]);

// `sort(order)` is called by the heads of columns; without it they are only texts.
export class CallTable {
  constructor(title, sort) {
    this.sort = sort;
    this.heads = COLUMNS.map((column) => this.head(column));
    this.body = el("tbody");
    this.node = el("div.table-scroll", {}, el("table.calls", { "aria-label": title }, el("thead", {}, el("tr", {}, this.heads)), this.body));
  }

  head({ text, short, order, wide, number }) {
    const shown = short ? [el("span.long", {}, text), el("span.short", { "aria-hidden": "true" }, short)] : text;
    const inner = this.sort && order ? el("button", { type: "button", onclick: () => this.sort(order) }, shown) : shown;
    return el(`th${wide ? ".wide-only" : ""}${number ? ".number" : ""}`, { scope: "col", "data-order": order }, inner);
  }

  draw(entries, order, now) {
    for (const head of this.heads) {
      if (this.sort && head.dataset.order === order) head.setAttribute("aria-sort", "descending");
      else head.removeAttribute("aria-sort");
    }
    const rows = entries.map((entry) => ({ entry, stamp: stampOf(entry, now) }));
    reconcile(this.body, rows, ({ entry }) => entry.call.call_id, ({ entry }) => callRow(entry, now));
  }
}

const stampOf = ({ call, state }, now) =>
  [state, call.call_pcu, call.call_audio_freeze_rate, call.call_video_freeze_rate, call.destroyed_ts, state === "open" ? Math.floor(now / 60) : ""].join();

function callRow(entry, now) {
  const { call, state, reason } = entry;
  const length = duration(lengthOf(call, now));
  const below = state === "finished" ? length : `${length} · ${STATE[state][1]}`; // on small screens
  return el("tr", { "data-state": state },
    el("td.channel", {}, el("a", { href: callHref(call) }, label(call.cname)), el("span.below", {}, below)),
    el("td.when", {}, el("span.long", {}, time(call.created_ts, dayTime)), el("span.short", { "aria-hidden": "true" }, clock(call.created_ts).slice(0, 5))),
    el("td.number.wide-only", {}, length),
    el("td.number", {}, call.call_pcu >= MANY ? compact(call.call_pcu) : count(call.call_pcu)),
    el("td.number", {}, rate("audio_freeze_rate", call.call_audio_freeze_rate)),
    el("td.number", {}, rate("video_freeze_rate", call.call_video_freeze_rate)),
    el("td.wide-only", { title: reason || null }, stateBadge(entry)));
}

export const tally = (shown, matching, known) =>
  matching === known ? `${count(shown)} of ${plural(known, "known call")}` : `${count(shown)} of ${plural(matching, "matching call")}, ${count(known)} known`;
