// Alerts: the newest first, each with the worst calls behind it.

import { alertDetails, alertTitle, isAlert, KINDS, LEVELS } from "./alerts.js";
import { el, put, reconcile, say } from "./dom.js";
import { clock, moment, name, plural } from "./format.js";
import { href, replace } from "./router.js";
import { badge, choices, empty, label, loading, rate, time } from "./widgets.js";

const SHOWN = [{ key: "", text: "All" }, { key: "firing", text: "Firing" }, { key: "recovered", text: "Recovered" }, { key: "no_data", text: "No data" }];

const LATE = 60; // seconds from a window to its alert that are worth a word

export function alertsView({ store, params }) {
  let filters = { ...params };
  const sub = el("p.sub", { "aria-live": "polite" });
  const list = el("ol.alerts", { "aria-label": "Alerts" });
  const box = el("div");
  const tools = el("div.toolbar");
  const node = el("div.view", {}, el("div.view-head", {}, el("h2", {}, "Alerts"), sub), tools, box);

  function choose(kind) {
    filters = kind ? { kind } : {};
    replace("alerts", "", filters);
    draw();
  }

  function draw() {
    put(box);
    if (!store.loaded) { put(box, loading("Loading alerts…")); return; }
    const found = store.alerts.filter(({ alert }) => !filters.kind || alert?.kind === filters.kind);
    say(sub, store.alerts.length ? `${plural(found.length, "alert")}, newest first` : "Rules are checked as windows become final");
    if (!found.length) {
      put(box, store.alerts.length ? empty("No alert of this kind", "Choose another kind above.") : empty("No alert since the server started", "Rules that hold show here, with the calls behind them."));
      return;
    }
    put(box, list);
    reconcile(list, found.map((entry) => ({ ...entry, stamp: entry.at })), (entry) => entry.id, alertRow);
  }

  const off = [store.on("alerts", draw)];
  put(tools, choices("Kind", SHOWN, filters.kind ?? "", choose));
  draw();
  return { node, route(next) { filters = { ...next }; put(tools, choices("Kind", SHOWN, filters.kind ?? "", choose)); draw(); }, close: () => off.forEach((stop) => stop()) };
}

function alertRow({ at, alert }) {
  const known = isAlert(alert);
  const kind = known ? alert.kind : "firing";
  const calls = known ? alert.calls ?? [] : [];
  return el("li.card", { "data-level": LEVELS[kind] ?? "warn" },
    el("div.alert-head", {}, badge(LEVELS[kind] ?? "warn", KINDS[kind] ?? name(kind)), el("h3", {}, alertTitle(alert)),
      el("span.when", {}, time(known ? alert.ts : at, moment))),
    known && el("p.hint", {}, alertDetails(alert)),
    known && alert.rule ? el("p.rule", {}, el("span.sr", {}, "Rule: "), el("code", {}, name(alert.rule))) : null,
    calls.length ? [el("h4", {}, "Worst calls"), el("ol.alert-calls", {}, calls.map(callRow))] : null,
    known && at - alert.ts > LATE ? el("p.hint", {}, `Reported at ${clock(at)}, once its windows were final`) : null,
    known && alert.note ? el("p.hint", {}, name(alert.note)) : null,
    known || typeof alert === "string" ? null : el("pre.raw", {}, JSON.stringify(alert, null, 1)));
}

function callRow(call) {
  const address = href("call", call.call_id, { channel: call.cname, at: call.started_ts });
  const users = (call.worst_users ?? []).map((user) => `user ${name(user.uid, "unknown")}${user.network ? ` (${name(user.network)})` : ""}`);
  return el("li", {}, el("a", { href: address }, label(call.cname)),
    el("span.alert-rates", {}, el("span", {}, "video ", rate("video_freeze_rate", call.video_freeze_rate)), el("span", {}, "audio ", rate("audio_freeze_rate", call.audio_freeze_rate)),
      call.users === null || call.users === undefined ? null : el("span", {}, plural(call.users, "user"))),
    users.length ? el("span.hint", {}, `worst: ${users.join(", ")}`) : null);
}
