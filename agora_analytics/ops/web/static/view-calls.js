// Calls: newest or worst, filtered; and a search of the service by channel and time, which costs requests.

import { CallTable, tally } from "./call-table.js";
import { el, put, say, throttled } from "./dom.js";
import { count, dayTime, fromInput, inputTime, iso, plural, zoneName } from "./format.js";
import { LoadButton } from "./load-button.js";
import { replace } from "./router.js";
import { sorted } from "./store.js";
import { card, choices, empty, field, loading, select } from "./widgets.js";

const STEP = 50;
const ORDERS = [{ key: "newest", text: "Newest" }, { key: "worst", text: "Worst" }];
const STATES = [{ key: "", text: "Any state" }, { key: "open", text: "Open" }, { key: "finished", text: "Finished" }, { key: "lost", text: "Lost" }];

export function callsView({ store, params, announce }) {
  // The filters live in the address; the list is drawn from what the store knows.
  let filters = { ...params };
  const limit = () => (filters.show > STEP ? Math.floor(filters.show) : STEP);
  const summary = el("p.sub", { "aria-live": "polite" });
  const table = new CallTable("Known calls", (order) => change({ order }));
  const body = el("div");
  const more = el("button", { type: "button", onclick: () => change({ show: limit() + 2 * STEP }) }, "Show 100 more");
  const toolbar = el("div.toolbar");
  const gaps = el("div.gaps");
  const search = searchCard(store, announce, () => filters, change);
  const node = el("div.view", {}, el("div.view-head", {}, el("h2", {}, "Calls"), summary),
    toolbar, el("section.card.flush", { "aria-label": "Known calls" }, gaps, body), search.node);

  function change(values) {
    filters = Object.fromEntries(Object.entries({ ...filters, show: "", ...values }).filter(([, value]) => value !== ""));
    replace("calls", "", filters);
    draw();
  }

  function tools() {
    const typed = throttled(() => change({ channel: channel.value }), 150);
    const channel = el("input", { type: "search", value: filters.channel ?? "", placeholder: "contains…", maxlength: 200, oninput: typed });
    const number = (key, props) => el("input", { type: "number", min: 0, value: filters[key] ?? "", ...props, oninput: (event) => change({ [key]: event.target.value }) });
    put(toolbar,
      choices("Order", ORDERS, filters.order ?? "newest", (order) => change({ order })),
      field("Channel", channel),
      field("State", select(STATES, filters.state ?? "", (state) => change({ state }))),
      field("Users, at least", number("users", { placeholder: "0" })),
      field("Freeze, at least", el("span.suffixed", {}, number("freeze", { placeholder: "0", max: 100, step: "any" }), el("span", { "aria-hidden": "true" }, "%"))));
  }

  function draw() {
    if (!store.loaded) { put(body, loading("Loading calls…")); return; }
    const order = filters.order ?? "newest";
    const matching = sorted([...store.calls.values()].filter((entry) => matches(entry, filters)), order);
    for (const button of toolbar.querySelectorAll("[role=radio]")) button.setAttribute("aria-checked", String(button.dataset.key === order));
    say(summary, tally(Math.min(limit(), matching.length), matching.length, store.calls.size));
    drawGaps(gaps, store.gaps);
    if (!matching.length) {
      put(body, store.calls.size ? empty("No call matches", "Change the filters, or search the service below.") : empty("No call is known yet", "Calls show here as the server learns of them."));
      return;
    }
    table.draw(matching.slice(0, limit()), order, store.now());
    if (table.node.parentNode !== body) put(body, table.node);
    if (matching.length > limit()) body.append(more);
    else more.remove();
  }

  const soon = throttled(draw, 500);
  const off = [store.on("calls", soon)];
  if (!store.allCalls) store.ready.then(() => store.readAllCalls());
  tools();
  draw();
  return {
    node,
    route(next) { filters = { ...next }; tools(); draw(); search.route(); },
    tick: soon,
    close() { soon.cancel(); off.forEach((stop) => stop()); search.close(); },
  };
}

function matches({ call, state }, filters) {
  const freeze = Number(filters.freeze ?? 0) / 100;
  const worst = Math.max(call.call_audio_freeze_rate ?? 0, call.call_video_freeze_rate ?? 0);
  return (!filters.channel || (call.cname ?? "").includes(filters.channel))
    && (!filters.state || filters.state === state)
    && (call.call_pcu ?? 0) >= Number(filters.users ?? 0) && worst >= freeze;
}

function drawGaps(box, gaps) {
  const shown = gaps.slice(-3).reverse();
  put(box, shown.map((gap) => el("p.trouble", {}, `Calls may be missing from ${dayTime(gap.start)} to ${dayTime(gap.end)} ${zoneName(gap.end)}: ${gap.reason}`)));
}

// The search: the form is in the address, so that a colleague sees the same; its price is on the button.
function searchCard(store, announce, filters, change) {
  const found = el("div");
  const button = new LoadButton({ store, announce, label: "Search", onData: (_, data) => results(found, data, store, filters, change, again) });
  const form = el("form.toolbar.plainly", { onsubmit: (event) => event.preventDefault() });
  const box = el("details.search", { open: Boolean(filters().find), ontoggle: () => { if (box.open && !started) again(); } },
    el("summary", {}, "Search the service by channel and time"), form, button.node, found);
  let started = false;

  function draw() {
    const now = Math.floor(store.now() / 60) * 60;
    const { sc = "" } = filters();
    const [from, to] = [timeOf(filters().from) ?? now - 2 * 3600, timeOf(filters().to) ?? now - 60];
    const channel = el("input", { type: "text", value: sc, maxlength: 200, placeholder: "exact name, or empty for all" });
    const start = el("input", { type: "datetime-local", value: inputTime(from), required: true });
    const end = el("input", { type: "datetime-local", value: inputTime(to), required: true });
    // A time that nobody changed stays as it is: its seconds are not in the input, nor which of two equal hours it is.
    const written = (input, shown, ts) => (input.value === shown ? ts : fromInput(input.value));
    const typed = throttled(() => {
      const [from_, to_] = [written(start, inputTime(from), from), written(end, inputTime(to), to)];
      if (Number.isNaN(from_) || Number.isNaN(to_)) return;
      change({ find: 1, sc: channel.value, from: from_, to: to_, page: "" });
      again();
    }, 400);
    for (const input of [channel, start, end]) input.addEventListener("input", typed);
    put(form, field("Channel", channel), field(`From (${zoneName(from)})`, start), field(`To (${zoneName(to)})`, end));
  }

  function again() {
    started = true;
    put(found);
    const { sc, from, to, page } = filters();
    const params = { cname: sc, start: timeOf(from), end: timeOf(to), page: Number(page) || 1 };
    button.replace([{ key: "search", path: "search", params }]);
  }

  draw();
  if (box.open) again();
  return {
    node: el("section.card", { "aria-label": "Search" }, box),
    route() { draw(); box.open = Boolean(filters().find) || box.open; if (box.open) again(); },
    close: () => button.close(),
  };
}

// A time of an address, null if it is none.
const timeOf = (text) => (text && iso(Number(text)) ? Number(text) : null);

function results(box, data, store, filters, change, again) {
  if (!data.calls.length) { put(box, empty("No call was found", "No call of that channel began in that time.")); return; }
  const table = new CallTable("Found calls");
  table.draw(data.calls, "newest", store.now());
  const turn = (page) => el("button", { type: "button", onclick: () => { change({ page }); again(); } }, `Page ${page}`);
  put(box, el("p.sub", {}, `${plural(data.total, "call")} found · page ${count(data.page)} of ${count(data.pages)}`), table.node,
    data.pages > 1 ? el("div.pages", {}, data.page > 1 ? turn(data.page - 1) : null, data.page < data.pages ? turn(data.page + 1) : null) : null);
}

