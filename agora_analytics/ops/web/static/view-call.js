// Call: what went wrong, who was there when, the call by minute, by users and by dimension, and metrics of a session.

import { read } from "./api.js";
import { Chart } from "./charts.js";
import { find } from "./findings.js";
import { el, put, say } from "./dom.js";
import { clock, count, duration, minute, moment, name, plural, words, zoneName } from "./format.js";
import { lengthOf, stateBadge } from "./call-table.js";
import { chartsOf, joined, peersOf } from "./metrics.js";
import { LoadButton, priceText } from "./load-button.js";
import { href, replace } from "./router.js";
import { SessionList } from "./sessions.js";
import { limitsOf, severity } from "./thresholds.js";
import { bars, card, empty, facts, failure, field, label, loading, mark, rate, select, time } from "./widgets.js";

const FREEZES = ["video_freeze_rate", "audio_freeze_rate"];
const TIMELINES = ["user_count", ...FREEZES, "video_freeze_user_count", "audio_freeze_user_count"];
const DIMENSIONS = ["net", "os", "sdk", "country", "device", "region", "channelSize"];

export function callView(context) {
  const page = new CallPage(context);
  page.start();
  return { node: page.node, route: (params) => page.route(params), close: () => page.close() };
}

class CallPage {
  constructor({ store, id, params, announce }) {
    Object.assign(this, { store, id, announce });
    this.params = { ...params };
    this.known = { sessions: [], timelines: {}, tracks: {} };
    this.total = 0;
    this.charts = new Map();
    this.buttons = [];
    this.title = el("h2", {}, name(params.channel, "Call"));
    this.copying = el("button", { type: "button", hidden: true, onclick: () => this.copy() }, "Copy link");
    this.badge = el("span");
    this.facts = el("div.call-facts");
    this.head = el("div.view-head.call-head", {}, el("p.crumb", {}, el("a", { href: "#/calls" }, "Calls"), " / "), this.title, this.badge, this.copying, this.facts);
    this.findings = el("div.card-body");
    this.body = el("div.stack");
    this.node = el("div.view", {}, this.head, this.body);
    this.stop = store.on("calls", () => this.changed());
  }

  close() {
    this.stop();
    this.stopQuota?.();
    this.buttons.forEach((one) => one.close());
    this.charts.forEach((chart) => chart.destroy());
  }

  // Reads what is known of the call, which is free.
  async start() {
    put(this.body, loading("Loading the call…"));
    try {
      const found = await read(`calls/${encodeURIComponent(this.id)}`);
      this.entry = found.entry;
    } catch (error) {
      put(this.body, error.status === 404 ? this.unknown() : failure(error, () => this.start()));
      return;
    }
    this.known.call = this.entry.call;
    this.drawHead();
    this.layout();
    this.route(this.params);
  }

  unknown() {
    const at = Number(this.params.at) || null;
    const where = href("calls", "", { find: 1, sc: this.params.channel, from: at && at - 60, to: at && at + 3600 });
    return el("section.card", {}, empty("This call is not known here", "The server keeps the newest and the worst calls that it has seen. A search of the service finds older ones.",
      el("a.button", { href: where }, "Search for it")));
  }

  changed() {
    const entry = this.store.calls.get(this.id);
    if (!entry || !this.entry || JSON.stringify(entry) === JSON.stringify(this.entry)) return;
    const ended = entry.state !== this.entry.state;
    this.entry = entry;
    this.known.call = entry.call;
    this.drawHead();
    this.drawFindings();
    if (ended) this.buttons.forEach((one) => one.show());
  }

  get span() {
    const { call } = this.entry;
    return [call.created_ts, Math.max(call.created_ts + 1, call.created_ts + lengthOf(call, this.store.now()))];
  }

  drawHead() {
    const { call, reason } = this.entry;
    const over = call.destroyed_ts && call.finished !== false;
    put(this.title, label(call.cname));
    put(this.badge, stateBadge(this.entry));
    this.copying.hidden = false;
    put(this.facts, reason ? el("p.hint", {}, name(reason)) : null,
      facts([
        ["Began", time(call.created_ts, moment)], ["Ended", over ? time(call.destroyed_ts, moment) : "still open"],
        ["Length", duration(lengthOf(call, this.store.now()))], ["Users at peak", count(call.call_pcu)],
        ["Audio freeze", rate("audio_freeze_rate", call.call_audio_freeze_rate)],
        ["Video freeze", rate("video_freeze_rate", call.call_video_freeze_rate)],
        ["Call ID", el("code", {}, name(call.call_id))],
      ]));
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(location.href);
      say(this.copying, "Copied");
    } catch {
      say(this.copying, "Copy the address of this page");
    }
    setTimeout(() => say(this.copying, "Copy link"), 2_000);
  }

  layout() {
    // The cards of the page, each with its own price.
    const { call_id: id } = this.entry.call;
    const part = (name_) => `calls/${encodeURIComponent(id)}/${name_}`;
    const button = (text, items, onData) => this.button(text, items, onData);
    this.all = el("button.load", { type: "button", hidden: true, onclick: () => this.loadAll() }, el("span", {}, "Load everything"), el("span.price"));
    this.stopQuota = this.store.on("quota", () => this.allPrice());
    this.who = new SessionList(this.entry.call, (values) => this.change(values));
    this.sessions = button("Load the sessions", [{ key: 1, path: part("sessions"), params: { page: 1 } }], (_, data) => this.addSessions(data));
    this.more = button("Load more sessions", [], (_, data) => this.addSessions(data));
    this.minutes = button("Load minute by minute", TIMELINES.map((metric) => ({ key: metric, path: part("timeline"), params: { metric } })), (metric, data) => this.addMinutes(metric, data));
    this.buckets = button("Load how many users froze", FREEZES.map((metric) => ({ key: metric, path: part("freeze"), params: { metric } })), (metric, data) => this.addBuckets(metric, data));
    this.groups = button("Load by dimension", [], (metric, data) => this.addGroups(metric, data));
    this.metrics = button("Load the session's metrics", [], (sid, data) => this.addTracks(sid, data));
    this.groupItems = (dimension) => FREEZES.map((metric) => ({ key: metric, path: part("statistics"), params: { metric, dimension } }));
    this.metricItems = (sid) => [{ key: sid, path: part("metrics"), params: { sids: [sid] } }];
    this.pageItems = (page) => [{ key: page, path: part("sessions"), params: { page } }];
    this.whoBox = el("div");
    this.minuteBox = el("div.grid.charts");
    this.bucketBox = el("div.pair");
    this.groupBox = el("div.pair");
    this.metricBox = el("div");
    this.metricHint = el("p.hint", {}, "Choose a session above to see its metrics.");
    const by = select(DIMENSIONS.map((key) => ({ key, text: words(key) })), this.dimension, (dimension) => this.change({ by: dimension }));
    put(this.body,
      card("What went wrong", { id: "findings", wide: true, tools: this.all }, this.findings),
      card("Who was there when", { id: "who", wide: true, hint: `Times in ${zoneName(this.entry.call.created_ts)}` }, this.sessions.node, this.whoBox, this.more.node),
      card("Metrics of a session", { id: "metrics", wide: true }, this.metricHint, this.metrics.node, this.metricBox),
      card("Minute by minute", { id: "minutes", wide: true }, this.minutes.node, this.minuteBox),
      el("div.grid.halves", {},
        card("Users by freeze rate", { id: "buckets" }, this.buckets.node, this.bucketBox),
        card("Freeze rate by", { id: "groups", tools: field("Dimension", by) }, this.groups.node, this.groupBox)));
    [this.sessions, this.minutes, this.buckets].forEach((one) => one.show());
    this.drawFindings();
  }

  get dimension() {
    return DIMENSIONS.includes(this.params.by) ? this.params.by : "net";
  }

  button(text, items, onData) {
    const made = new LoadButton({ store: this.store, announce: this.announce, label: text, items, onData, onState: () => this.allPrice() });
    this.buttons.push(made);
    return made;
  }

  // The button for all parts that a call has; metrics cost more with each session, so they are apart.
  get standard() {
    return [this.sessions, this.minutes, this.buckets, this.groups];
  }

  allPrice() {
    const pending = this.standard.filter((one) => one?.pending().length && !one.busy);
    const requests = pending.reduce((sum, one) => sum + one.requests(), 0);
    // Only with all prices: one that came later would be paid without having been shown.
    this.all.hidden = pending.length < 2 || !this.standard.every((one) => one?.isPriced);
    if (requests) say(this.all.lastChild, priceText(requests, pending[0].pending()[0].quote.price, this.store.quota));
  }

  async loadAll() {
    this.all.hidden = true;
    // What becomes available meanwhile was not in the price.
    for (const one of this.standard.filter((part) => part.pending().length)) await one.load();
    this.allPrice();
  }

  change(values) {
    this.params = Object.fromEntries(Object.entries({ ...this.params, ...values }).filter(([, value]) => value !== "" && value !== null && value !== undefined));
    replace("call", this.id, this.params);
    this.route(this.params);
  }

  route(params) {
    this.params = { ...params };
    if (!this.who) return;
    if (this.shownBy !== this.dimension) {
      this.shownBy = this.dimension;
      put(this.groupBox);
      this.groups.replace(this.groupItems(this.dimension));
    }
    if (this.shownSid !== this.params.session) {
      this.shownSid = this.params.session;
      this.dropCharts("metric");
      put(this.metricBox);
      this.metricHint.hidden = Boolean(this.shownSid);
      this.metrics.replace(this.shownSid ? this.metricItems(this.shownSid) : []);
    } else if (this.known.tracks[this.shownSid]) this.drawTracks();
    this.drawSessions();
  }

  addSessions(data) {
    const bySid = new Map([...this.known.sessions, ...data.sessions].map((one) => [one.sid, one]));
    this.known.sessions = [...bySid.values()];
    this.total = Math.max(this.total, data.total);
    this.more.options.label = `Load page ${data.page + 1} of ${data.pages}`;
    this.more.replace(data.page < data.pages ? this.pageItems(data.page + 1) : []);
    this.drawSessions();
    this.drawFindings();
  }

  drawSessions() {
    const { sessions } = this.known;
    if (!sessions.length) {
      if (this.sessions.items[0]?.data) put(this.whoBox, empty("Nobody was there", "The service lists no session of this call."));
      return;
    }
    this.who.draw(sessions, this.span, this.params, this.total);
    if (this.who.node.parentNode !== this.whoBox) put(this.whoBox, this.who.node);
  }

  addMinutes(metric, data) {
    this.known.timelines[metric] = data.points;
    const charts = [
      ["Users", "", ["user_count"], []],
      ["Freeze rate", "fraction", FREEZES, limitsOf("video_freeze_rate")],
      ["Users with freezes", "", ["video_freeze_user_count", "audio_freeze_user_count"], []],
    ];
    for (const [title, unit, metrics, limits] of charts) {
      if (!metrics.includes(metric)) continue;
      const key = `minute ${title}`;
      if (!this.charts.has(key)) {
        const lines = metrics.map((one) => ({ label: words(one).replace(/^Users with | freeze(s)?$/g, "").replace(/^./, (c) => c.toUpperCase()) }));
        const chart = new Chart({ title, unit, limits, lines, sync: "call", figure: unit ? "mean" : "most", height: 130 });
        this.charts.set(key, chart);
        this.minuteBox.append(el("figure.mini", { "aria-label": title }, el("figcaption", {}, title), chart.node));
      }
      this.charts.get(key).draw({ ...minutesOf(metrics.map((one) => this.known.timelines[one] ?? [])), span: this.span });
    }
    this.drawFindings();
  }

  addBuckets(metric, data) {
    const known = new Map(data.buckets.map((one) => [one.bucket, one.user_count]));
    const all = data.buckets.every((one) => BUCKETS.includes(one.bucket)) && known.size ? BUCKETS : [...known.keys()];
    const items = all.map((bucket) => ({ bucket, user_count: known.get(bucket) ?? 0 })).map((one) => ({ label: bucketName(one.bucket), value: one.user_count, text: count(one.user_count) }));
    this.addPart(this.bucketBox, metric, items.length ? bars(items, { title: words(metric), token: lineOf(metric) }) : empty("No users"));
  }

  addGroups(metric, data) {
    const found = [...data.values].sort((a, b) => (b.value ?? -1) - (a.value ?? -1));
    const items = found.map((one) => ({
      label: one.dimension_value, value: one.value, level: severity(metric, one.value), text: rate("none", one.value), note: plural(one.user_count, "user"),
    }));
    this.addPart(this.groupBox, metric, items.length ? bars(items, { title: `${words(metric)} by ${words(data.dimension)}`, token: lineOf(metric) }) : empty("No values"));
  }

  addPart(box, metric, content) {
    const made = el("div", { "data-metric": metric }, el("h4", {}, words(metric)), content);
    const old = box.querySelector(`[data-metric="${metric}"]`);
    if (old) old.replaceWith(made);
    else if (metric === FREEZES[0]) box.prepend(made);
    else box.append(made);
  }

  addTracks(sid, data) {
    this.known.tracks[sid] = data.sessions.find((one) => one.sid === sid)?.tracks ?? [];
    this.drawTracks();
    this.drawFindings();
  }

  drawTracks() {
    const tracks = this.known.tracks[this.shownSid];
    this.dropCharts("metric");
    const session = this.known.sessions.find((one) => one.sid === this.shownSid);
    const who = session ? `user ${name(session.account ?? session.uid, "unknown")}` : "this session";
    if (!tracks.length) { put(this.metricBox, empty("No metrics", "The service has measured nothing of this session.")); return; }
    const peers = peersOf(tracks);
    const peer = peers.find((uid) => String(uid) === this.params.peer) ?? peers[0];
    const choose = peers.length > 1 ? field("From user", select(peers.map((uid) => ({ key: String(uid), text: String(uid) })), String(peer), (uid) => this.change({ peer: uid }))) : null;
    put(this.metricBox,
      el("h4.metric-title", {}, `Sent and measured by ${who}`), this.trackCharts(tracks, 0, session),
      peer !== undefined && [el("div.metric-title", {}, el("h4", {}, `Received${choose ? "" : ` from user ${peer}`}`), choose), this.trackCharts(tracks, peer, session)]);
  }

  trackCharts(tracks, peer, session) {
    const ends = tracks.flatMap((track) => [track.points[0]?.[0], track.points[track.points.length - 1]?.[0]]).filter((ts) => ts !== undefined);
    const span = [session?.join_ts ?? Math.min(...ends), session?.leave_ts || Math.max(...ends)];
    return el("div.grid.charts", {}, chartsOf(tracks, peer).map(({ title, unit, limits, lines, tracks: members }) => {
      const chart = new Chart({ title: `${title}${unit ? ` (${unit})` : ""}`, unit, limits, lines, sync: "call", dense: true, figure: "mean", height: 110 });
      this.charts.set(`metric ${peer} ${title}`, chart);
      queueMicrotask(() => chart.draw({ ...joined(members), span }));
      return el("figure.mini", { "aria-label": title }, el("figcaption", {}, title, unit && el("span.unit", {}, ` ${unit}`)), chart.node);
    }));
  }

  dropCharts(kind) {
    for (const [key, chart] of [...this.charts]) {
      if (!key.startsWith(kind)) continue;
      chart.destroy();
      this.charts.delete(key);
    }
  }

  drawFindings() {
    const found = find(this.known, { second: clock, minute });
    const loaded = this.known.sessions.length || Object.keys(this.known.timelines).length;
    if (!found.length) {
      put(this.findings, empty(loaded ? "Nothing beyond the limits" : "The call as a whole is within the limits", loaded ? "In what is loaded of this call, no rule has found anything." : "Load its details to see more."));
      return;
    }
    const row = (one) => el("li", { "data-level": one.level }, mark(one.level === "info" ? "none" : one.level), el("span.sr", {}, { bad: "Bad: ", warn: "Warning: ", info: "Note: " }[one.level]), el("span", {}, name(one.text)));
    const [first, rest] = [found.slice(0, MOST), found.slice(MOST)];
    const open = this.findings.querySelector("details")?.open;
    put(this.findings, el("ul.findings", {}, first.map(row)), rest.length ? el("details.more", { open: Boolean(open) }, el("summary", {}, `${rest.length} more`), el("ul.findings", {}, rest.map(row))) : null);
  }
}

const MOST = 8;

// The service leaves out the empty ones.
const BUCKETS = ["[0%,3%)", "[3%,5%)", "[5%,10%)", "[10%,100%)"];

const lineOf = (metric) => (metric.startsWith("video") ? "--line-1" : "--line-2");

// `[3%,5%)` as `3–5 %`.
export function bucketName(bucket) {
  const found = /^\[(\d+(?:\.\d+)?)%,\s*(\d+(?:\.\d+)?)%[)\]]$/.exec(bucket);
  return found ? `${found[1]}–${found[2]} %` : bucket;
}

// Timelines on one axis of minutes.
function minutesOf(lists) {
  const stamps = [...new Set(lists.flat().map(([ts]) => ts))].sort((a, b) => a - b);
  const xs = [];
  for (const ts of stamps) {
    if (xs.length && ts - xs[xs.length - 1] > 60) xs.push(xs[xs.length - 1] + 60);
    xs.push(ts);
  }
  return { xs, ys: lists.map((points) => { const by = new Map(points); return xs.map((ts) => by.get(ts) ?? null); }) };
}

