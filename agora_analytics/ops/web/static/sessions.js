// Who was there when: a bar for each session on one time axis.

import { el, put, reconcile } from "./dom.js";
import { clock, count, duration, minute, name, NONE } from "./format.js";
import { href } from "./router.js";
import { severity } from "./thresholds.js";
import { choices, label, rate } from "./widgets.js";

const STEPS = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400];
const TICKS = 6;

// The times at which an axis is marked.
export function ticks([start, end], most = TICKS) {
  const step = STEPS.find((one) => (end - start) / one <= most) ?? Math.ceil((end - start) / most);
  const found = [];
  for (let ts = Math.ceil(start / step) * step; ts <= end; ts += step) found.push(ts);
  return { step, stamps: found };
}

const worst = (one) => Math.max(one.user_video_freeze_rate ?? 0, one.user_audio_freeze_rate ?? 0);

const LEVELS = ["good", "warn", "bad"];
export function levelOf(one) {
  const found = [severity("video_freeze_rate", one.user_video_freeze_rate), severity("audio_freeze_rate", one.user_audio_freeze_rate)];
  return LEVELS[Math.max(...found.map((level) => LEVELS.indexOf(level)))] ?? "none";
}

const ORDERS = { joined: (a, b) => (a.join_ts ?? 0) - (b.join_ts ?? 0), worst: (a, b) => worst(b) - worst(a) };

export class SessionList {
  constructor(call, change) {
    this.call = call;
    this.change = change;
    this.axis = el("div.axis", { "aria-hidden": "true" });
    this.list = el("ol.sessions", { "aria-label": "Sessions" });
    this.tools = el("div.session-tools");
    this.node = el("div.who", {}, this.tools, el("div.session-head", { "aria-hidden": "true" }, el("span", {}, "User"), this.axis, el("span.number", {}, "Audio"), el("span.number", {}, "Video")), this.list);
  }

  draw(sessions, span, params, total) {
    const order = ORDERS[params.sort] ? params.sort : "joined";
    put(this.tools, choices("Order of sessions", [{ key: "joined", text: "By time" }, { key: "worst", text: "Worst first" }], order, (sort) => this.change({ sort: sort === "joined" ? "" : sort })),
      el("p.hint", {}, el("span.bar-key.host", { "aria-hidden": "true" }), "sends ", el("span.bar-key.guest", { "aria-hidden": "true" }), "only receives", total > sessions.length ? ` · ${count(sessions.length)} of ${count(total)} sessions` : ""));
    const { step, stamps } = ticks(span);
    const [start, end] = span;
    const at = (ts) => (100 * (ts - start)) / Math.max(1, end - start);
    put(this.axis, stamps.map((ts, index) => el(`span.tick${index % 2 ? ".minor" : ""}`, { style: { left: `${at(ts)}%` } }, step < 60 ? clock(ts) : minute(ts))));
    const rows = [...sessions].sort(ORDERS[order]).map((one) => ({ one, stamp: `${params.session === one.sid}${one.leave_ts}` }));
    reconcile(this.list, rows, ({ one }) => one.sid, ({ one }) => this.row(one, span, at, params));
    // A link keeps what else was chosen, such as the order: also in rows that stay as they are.
    rows.forEach(({ one }, index) => this.list.children[index].querySelector("a").setAttribute("href", this.address(one, params)));
  }

  address({ sid }, params) {
    return href("call", this.call.call_id, { ...params, session: params.session === sid ? "" : sid, peer: "" });
  }

  row(one, [start, end], at, params) {
    const from = Math.max(start, one.join_ts ?? start);
    const to = Math.min(end, one.finished === false || !one.leave_ts ? end : one.leave_ts);
    const chosen = params.session === one.sid;
    const roles = one.roles?.length ? one.roles.join(", ") : one.speaker === true ? "Host" : one.speaker === false ? "Audience" : "";
    const sends = one.speaker ?? one.roles?.includes("Host") ?? true;
    const traits = [roles, one.network, one.platform, one.device_type, one.sdk_version && `SDK ${one.sdk_version}`].filter(Boolean).map((text) => name(text));
    const when = `${clock(one.join_ts)}–${one.leave_ts && one.finished !== false ? clock(one.leave_ts) : "open"}`;
    return el("li", { "data-level": levelOf(one), "data-chosen": chosen },
      el("div.who-name", {}, el("a", { href: this.address(one, params), "aria-current": chosen ? "true" : null, title: "Metrics of this session" }, label(one.account ?? one.uid, "unknown user")),
        el("span.traits", { title: traits.join(" · ") }, traits.join(" · "))),
      el("div.who-track", { title: `${when}, ${duration(to - from)}` },
        el(`span.who-bar${sends ? ".host" : ".guest"}`, { style: { left: `${at(from)}%`, width: `${Math.max(0.4, at(to) - at(from))}%` } }),
        el("span.sr", {}, `there ${when}, ${duration(to - from)}`)),
      el("span.who-rate.number", {}, el("span.sr", {}, "Audio freeze "), rate("audio_freeze_rate", one.user_audio_freeze_rate) ?? NONE),
      el("span.who-rate.number", {}, el("span.sr", {}, "Video freeze "), rate("video_freeze_rate", one.user_video_freeze_rate) ?? NONE));
  }
}
