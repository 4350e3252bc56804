// What is wrong with the server or its streams, in words: pairs of a title and a text.

import { clock, count, dayTime, duration, name, plural, words, zoneName } from "./format.js";

export const STREAMS = { windows: "Real-time windows", calls: "Calls" };

const COUNTERS = { windows: "realtime", calls: "call_lists" };
const LONG = 61; // seconds of a wait for quota that are worth a word: longer than until the next minute

const at = (ts, write = clock) => `${write(ts)} ${zoneName(ts)}`;

export function troubles(store, stamp) {
  if (store.connection === "reconnecting") return [unreachable(store.problem, stamp)];
  const found = [];
  if (store.connection === "refused") found.push(["No live updates.", "The server has as many viewers as it accepts; this page loads everything again every few seconds."]);
  if (store.missed) found.push(["Loaded again.", `This page missed ${plural(store.missed.events, "event")}, because it was hidden or too slow; it loaded everything again at ${at(store.missed.at)}.`]);
  if (!store.status) return found;
  const { probe, streams } = store.status;
  const said = new Map(streams.map((one) => [one.name, one]));
  for (const { code, text } of probe.reasons) {
    if (said.has(code)) found.push(["Degraded.", `${STREAMS[code]}: ${streamText(said.get(code))}`]);
    else if (code !== "starting") found.push([code === "failed" ? "Fault." : "Degraded.", name(text)]);
  }
  return [...found, ...streams.map((one) => waiting(one, store)).filter(Boolean)];
}

function unreachable(problem, stamp) {
  if (!problem?.status) return ["The server cannot be reached.", `This page reconnects by itself.${stamp ?? ""}`];
  return ["The server answers with an error.", `${name(problem.message)}. This page tries again by itself.${stamp ?? ""}`];
}

// What ails a stream; an error of the service is quoted.
export function streamText({ health, error, restarts_at: restarts }) {
  const trouble = name(error || health.last_error, "");
  if (error) return `ended by an error${restarts ? `, starts again at ${at(restarts)}` : ""}: ${trouble}`;
  const since = health.since ? ` since ${at(health.since)}` : "";
  const quoted = trouble ? `: ${trouble}` : "";
  if (health.state === "refused") return `the service refuses the requests${since}${quoted}`;
  if (health.state === "stopped") return `stopped${since}${quoted}`;
  return `outage${since}, tried again all the time, and read later as far as the service keeps it${quoted}`;
}

// A stream that waits for the next day is well, but its viewers should know.
function waiting({ name: key, health }, store) {
  const left = (health.until ?? 0) - store.now();
  if (health.state !== "waiting for quota" || health.failures || left < LONG) return null;
  const day = (store.quota?.counters ?? []).find((one) => one.counter === COUNTERS[key] && one.unit === "day");
  const why = day && day.left <= 0 ? `all ${count(day.limit)} ${words(day.counter).toLowerCase()} requests of today are used up` : "no request is left for now";
  return ["Waiting for quota.", `${STREAMS[key]}: ${why}, until ${at(health.until, dayTime)}, in ${duration(left)}.`];
}
