"use strict";
// A plain page on the API of docs/reference/http-api.md: it shows that each endpoint and event works.

const WINDOW = 20;
const HOUR = 3600;
const series = new Map();
const calls = new Map();
let source = null;

const byId = (id) => document.getElementById(id);
const utc = (ts) => (ts ? new Date(ts * 1000).toISOString().slice(11, 19) : "");
const shown = (value, unit) => (value === null || value === undefined ? "–" : unit === "fraction" ? `${(100 * value).toFixed(1)} %` : String(value));

async function load(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

function row(...cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const box = document.createElement("td");
    box.append(cell);
    line.append(box);
  }
  return line;
}

function plot(values) {
  const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  box.setAttribute("viewBox", "0 0 180 40");
  box.setAttribute("preserveAspectRatio", "none");
  const highest = Math.max(...values.filter((value) => value !== null), 0) || 1;
  let path = "";
  let pen = "M";
  values.forEach((value, at) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${at},${(38 - (36 * value) / highest).toFixed(1)}`;
    pen = "L";
  });
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  box.append(line);
  return box;
}

const total = (cell) => (cell.groups ? Object.values(cell.groups).reduce((sum, value) => sum + (value || 0), 0) : cell.value ?? null);

function drawSeries() {
  const rows = [];
  for (const one of series.values()) {
    const stamps = [...one.cells.keys()].sort((a, b) => a - b);
    const newest = stamps.at(-1);
    const values = stamps.map((ts) => (["complete", "late"].includes(one.cells.get(ts).state) ? total(one.cells.get(ts)) : null));
    const last = newest === undefined ? null : one.cells.get(newest);
    const text = last === null ? "" : last.state === "complete" || last.state === "late" ? shown(total(last), one.unit) : last.state;
    rows.push(row(one.id, text, utc(newest), plot(values)));
  }
  byId("series").tBodies[0].replaceChildren(...rows);
}

function drawQuota(quota) {
  const days = quota.counters.filter((one) => one.unit === "day");
  byId("quota").tBodies[0].replaceChildren(...days.map((one) => row(one.counter, String(one.used), String(one.left), String(one.limit), utc(one.lasts_until) || "the end of the day")));
}

function drawHealth(probe) {
  const lines = [`status: ${probe.status}`, ...probe.reasons.map((one) => one.text), ...probe.notes.map((one) => one.text)];
  byId("health").replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

function drawAlerts(alerts) {
  byId("alerts").replaceChildren(...alerts.map((one) => Object.assign(document.createElement("li"), { textContent: `${utc(one.at)} ${JSON.stringify(one.alert)}` })));
}

function drawCalls() {
  const worst = [...calls.values()].sort((a, b) => (b.impact || 0) - (a.impact || 0)).slice(0, 20);
  byId("calls").tBodies[0].replaceChildren(...worst.map((entry) => {
    const button = Object.assign(document.createElement("button"), { textContent: "details" });
    button.addEventListener("click", () => openCall(entry.call.call_id));
    const { cname, created_ts, call_pcu, call_audio_freeze_rate, call_video_freeze_rate } = entry.call;
    return row(cname || "", utc(created_ts), entry.state, String(call_pcu ?? ""), shown(call_audio_freeze_rate, "fraction"), shown(call_video_freeze_rate, "fraction"), button);
  }));
}

async function openCall(id) {
  byId("call").hidden = false;
  const offer = await load(`api/v1/calls/${encodeURIComponent(id)}`);
  const pre = byId("call-data");
  pre.textContent = JSON.stringify(offer, null, 1);
  const buttons = offer.parts.filter((part) => part.state !== "unavailable").map((part) => {
    const button = Object.assign(document.createElement("button"), { textContent: `${part.title}: ${part.price.text}` });
    button.addEventListener("click", async () => {
      const response = await fetch(`api/v1/calls/${encodeURIComponent(id)}/${part.ask.part}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...part.ask, price: part.price.requests }),
      });
      const answer = await response.json();
      await openCall(id);
      pre.textContent = JSON.stringify(answer, null, 1);
    });
    return button;
  });
  byId("call").querySelectorAll("button").forEach((old) => old.remove());
  byId("call").append(...buttons);
}

async function loadAll() {
  const found = await load("api/v1/series");
  series.clear();
  for (const one of found.series) {
    const cells = new Map();
    one.states.forEach((state, at) => {
      if (state === null) return;
      const groups = one.groups && Object.fromEntries(Object.entries(one.groups).map(([name, values]) => [name, values[at]]));
      cells.set(one.start + at * WINDOW, { state, value: one.values && one.values[at], groups });
    });
    series.set(one.id, { ...one, cells });
  }
  drawSeries();
  calls.clear();
  for (const entry of (await load("api/v1/calls?order=worst&limit=500")).calls) calls.set(entry.call.call_id, entry);
  drawCalls();
  drawHealth((await load("api/v1/status")).probe);
  const spending = await load("api/v1/quota");
  if (spending.quota) drawQuota(spending.quota);
  drawAlerts((await load("api/v1/alerts")).alerts);
  return found.event;
}

function apply(change) {
  for (const { series: id, cell } of change.changes) {
    const one = series.get(id);
    if (!one) continue;
    for (let ts = Math.max(change.start, change.end - HOUR); ts < change.end; ts += WINDOW) one.cells.set(ts, cell);
    const newest = Math.max(...one.cells.keys());
    for (const ts of one.cells.keys()) if (ts <= newest - HOUR) one.cells.delete(ts);
  }
  drawSeries();
}

async function start() {
  source?.close();
  const event = await loadAll();
  source = new EventSource(`api/v1/events?after=${encodeURIComponent(event)}`);
  const on = (kind, handle) => source.addEventListener(kind, (message) => handle(JSON.parse(message.data)));
  source.addEventListener("open", () => { byId("connection").textContent = "live"; });
  source.addEventListener("error", () => { byId("connection").textContent = "reconnecting…"; });
  on("windows", apply);
  on("call", (entry) => { calls.set(entry.call.call_id, entry); drawCalls(); });
  on("quota", drawQuota);
  on("stream", async () => drawHealth((await load("api/v1/status")).probe));
  on("alert", async () => drawAlerts((await load("api/v1/alerts")).alerts));
  on("reset", () => restart(0));
}

function restart(delay) {
  setTimeout(() => start().catch((error) => { byId("connection").textContent = String(error); restart(3000); }), delay);
}

restart(0);
