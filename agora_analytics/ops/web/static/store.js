// What the page knows: the state from the API, kept up to date by events. Views subscribe to topics.

import { EventStream, read } from "./api.js";
import { throttled } from "./dom.js";

export const WINDOW = 20;
export const HOUR = 3600;
const MAX_CALLS = 1500;
const MAX_LISTED = 1000;
const FIRST_CALLS = 50;
const STATUS_EVERY = 30_000;
const MISSED_FOR = 60; // seconds that a page says that it missed events

export class Store {
  constructor() {
    this.series = new Map();
    this.calls = new Map();
    this.gaps = [];
    this.alerts = [];
    this.status = null;
    this.quota = null;
    this.fleet = null;
    this.hours = [];
    this.since = null;
    this.connection = "connecting";
    this.problem = null;
    this.loaded = false;
    this.allCalls = false;
    this.missed = null;
    this.clock = { utc: Date.now() / 1000, read: performance.now(), ahead: Date.now() - performance.now() };
    this.ready = new Promise((resolve) => { this.isReady = resolve; });
    this.listeners = new Map();
    this.stream = new EventStream({
      onEvent: (kind, value) => this.apply(kind, value),
      onState: (name) => this.connected(name),
      onLost: () => this.load(),
    });
    this.readStatus = throttled(() => this.refresh("status"), 1_000);
    this.readQuota = throttled(() => this.refresh("quota"), 5_000);
  }

  on(topic, listener) {
    if (!this.listeners.has(topic)) this.listeners.set(topic, new Set());
    this.listeners.get(topic).add(listener);
    return () => this.listeners.get(topic).delete(listener);
  }

  notify(topic) {
    for (const listener of [...(this.listeners.get(topic) ?? [])]) listener();
  }

  // The service's time, as far as the server knows it: the browser's clock may be wrong, and may be set meanwhile.
  now() {
    return this.clock.utc + (performance.now() - this.clock.read) / 1000;
  }

  // Called every few seconds: reads the status now and then, and at once if the machine slept.
  tick() {
    const jumped = Math.abs(Date.now() - performance.now() - this.clock.ahead) > 2_000;
    if (jumped || performance.now() - this.clock.read > STATUS_EVERY) this.readStatus();
    if (this.missed && this.now() - this.missed.at > MISSED_FOR) { this.missed = null; this.notify("status"); }
  }

  // Reads everything, then listens to what changes; tries again until it works.
  async load() {
    if (this.loading) return;
    this.loading = true;
    try {
      const [status, series, calls, worst, quota, alerts] = await Promise.all([
        read("status"), read("series"), read("calls", { limit: FIRST_CALLS }), read("calls", { order: "worst", limit: FIRST_CALLS }), read("quota"), read("alerts"),
      ]);
      this.takeStatus(status);
      this.series = new Map(series.series.map((one) => [one.id, unpacked(one)]));
      this.calls = new Map([...worst.calls, ...calls.calls].map((entry) => [entry.call.call_id, entry]));
      this.gaps = calls.gaps;
      this.takeQuota(quota);
      this.alerts = alerts.alerts;
      this.loaded = true;
      this.problem = null;
      this.isReady();
      this.pause = 1_000;
      this.stream.open(oldest([status, series, calls, worst, quota, alerts].map((one) => one.event)));
      if (this.allCalls) this.readAllCalls();
      for (const topic of ["status", "series", "calls", "quota", "alerts", "problem"]) this.notify(topic);
    } catch (error) {
      this.problem = error;
      this.connected("reconnecting");
      this.notify("problem");
      this.pause = Math.min((this.pause ?? 500) * 2, 10_000);
      setTimeout(() => this.load(), this.pause);
    } finally {
      this.loading = false;
    }
  }

  // The calls that the first view does without; those that an event brought meanwhile are newer.
  async readAllCalls() {
    this.allCalls = true;
    try {
      const { calls } = await read("calls", { limit: MAX_LISTED });
      this.calls = new Map([...calls.map((entry) => [entry.call.call_id, entry]), ...this.calls]);
      this.notify("calls");
    } catch { /* the stream of events says that the server is away */ }
  }

  apply(kind, value) {
    // One line for each kind of event.
    if (kind === "windows") this.addWindows(value);
    else if (kind === "call") this.addCall(value);
    else if (kind === "call_gap") { this.gaps = [...this.gaps, value].slice(-200); this.notify("calls"); }
    else if (kind === "quota") { this.quota = value; this.notify("quota"); this.readQuota(); }
    else if (kind === "stream") this.readStatus();
    else if (kind === "alert") this.addAlert(value);
    else if (kind === "fleet") this.takeFleet(value);
    else if (kind === "reset") this.reload(value);
  }

  // The server no longer has what this page missed.
  async reload({ missed }) {
    await this.load();
    if (!missed) return;
    this.missed = { events: missed, at: this.now() };
    this.notify("missed");
  }

  addWindows(change) {
    for (const { series: id, cell, final_before: finalBefore } of change.changes) {
      const one = this.series.get(id);
      if (!one) continue;
      one.finalBefore = finalBefore ?? one.finalBefore;
      for (let ts = Math.max(change.start, change.end - HOUR); ts < change.end; ts += WINDOW) one.cells.set(ts, cell);
      trim(one);
    }
    if (this.status && change.end - WINDOW > (this.status.newest_window ?? 0)) this.status.newest_window = change.end - WINDOW;
    if (this.status && this.status.probe.status === "starting") this.readStatus();
    this.notify("series");
  }

  addCall(entry) {
    this.calls.set(entry.call.call_id, entry);
    if (this.calls.size > MAX_CALLS) {
      const kept = sorted([...this.calls.values()], "newest").slice(0, 800);
      kept.push(...sorted([...this.calls.values()], "worst").slice(0, 200));
      this.calls = new Map(kept.map((one) => [one.call.call_id, one]));
    }
    this.notify("calls");
  }

  addAlert(entry) {
    if (this.alerts.some((one) => one.id === entry.id)) return;
    this.alerts = [entry, ...this.alerts].slice(0, 200);
    this.notify("alerts");
    this.notify("alerted");
  }

  // What a click has spent is shown at once: the server reads the quota every few seconds.
  async refresh(what) {
    try {
      const found = await read(what);
      if (what === "status") this.takeStatus(found);
      else this.takeQuota(found);
      this.notify(what);
    } catch { /* the stream of events says that the server is away */ }
  }

  takeStatus(status) {
    this.status = status;
    this.clock = { utc: status.now, read: performance.now(), ahead: Date.now() - performance.now() };
  }

  takeQuota(spending) {
    this.quota = spending.quota;
    this.hours = spending.hours;
    this.since = spending.since;
  }

  // The probe has the same words: read again when they come or go, not with each reading.
  takeFleet(fleet) {
    if (Boolean(fleet.trouble) !== Boolean(this.fleet?.trouble)) this.readStatus();
    this.fleet = fleet;
    this.notify("fleet");
  }

  connected(name) {
    if (name === this.connection) return;
    this.connection = name;
    this.notify("connection");
    if (name === "live") this.readStatus(); // this viewer counts, too
  }
}

function unpacked(one) {
  const cells = new Map();
  one.states.forEach((state, at) => {
    if (state === null) return;
    const ts = one.start + at * WINDOW;
    const groups = one.groups && Object.fromEntries(Object.entries(one.groups).map(([key, values]) => [key, values[at]]));
    cells.set(ts, {
      state, groups, value: one.values ? one.values[at] : null,
      reason: one.reasons[ts] ?? "", revisions: one.revisions[ts] ?? 0,
    });
  });
  const { id, metric, product, cname, dimension, unit, meaning, limits, final_before: finalBefore } = one;
  return { id, metric, product, cname, dimension, unit, meaning, limits, finalBefore, cells };
}

function trim(one) {
  const newest = Math.max(...one.cells.keys());
  for (const ts of one.cells.keys()) if (ts <= newest - HOUR) one.cells.delete(ts);
}

// Of event ids (run-number), the one with the lowest number: events that come twice do no harm.
function oldest(ids) {
  const number = (id) => Number(id.split("-")[1]);
  return ids.reduce((low, id) => (number(id) < number(low) ? id : low));
}

export const hasValue = (cell) => cell !== undefined && (cell.state === "complete" || cell.state === "late");

const ORDERS = {
  newest: (entry) => entry.call.created_ts ?? 0,
  worst: (entry) => entry.impact ?? 0,
  video: (entry) => entry.call.call_video_freeze_rate ?? -1,
  audio: (entry) => entry.call.call_audio_freeze_rate ?? -1,
  users: (entry) => entry.call.call_pcu ?? -1,
};

export function sorted(entries, order) {
  const key = ORDERS[order] ?? ORDERS.newest;
  return entries.sort((a, b) => key(b) - key(a));
}
