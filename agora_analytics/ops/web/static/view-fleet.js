// Fleet: who holds which job, since when, and how old its data is; what is wrong stands above in words.

import { read } from "./api.js";
import { el, put, reconcile, say, throttled } from "./dom.js";
import { ago, count, dayTime, duration, name, NONE, plural } from "./format.js";
import { replace } from "./router.js";
import { badge, card, empty, facts, failure, field, label, loading, mark, select, time } from "./widgets.js";

const STEP = 100;
const MOST = 1_000;
const ORDERS = [{ key: "urgent", text: "Most urgent" }, { key: "oldest", text: "Oldest data" }, { key: "takeovers", text: "Takeovers" }, { key: "key", text: "Job" }, { key: "worker", text: "Worker" }];
const STATES = { nobody: ["bad", "nobody"], retrying: ["warn", "tried again"], queued: ["none", "queued"], held: ["good", "held"], done: ["none", "done"] };
const SHOWN = [{ key: "", text: "Any state" }, ...Object.entries(STATES).map(([key, [, text]]) => ({ key, text }))];
const WORKERS = { working: ["good", "working"], draining: ["warn", "draining"], lost: ["bad", "lost"] };

const COLUMNS = [
  { text: "Job", order: "key" }, { text: "State" }, { text: "Worker", order: "worker", wide: true }, { text: "Since", wide: true },
  { text: "Age", order: "oldest", number: true }, { text: "Events", number: true, wide: true }, { text: "Takeovers", order: "takeovers", number: true, wide: true },
];

export function fleetView({ store, params }) {
  let filters = { ...params };
  let found = null;
  let asked = 0;
  const limit = () => Math.min(MOST, filters.show > STEP ? Math.floor(filters.show) : STEP);
  const order = () => (ORDERS.some(({ key }) => key === filters.order) ? filters.order : "urgent");
  const sub = el("p.sub");
  const words = el("div.card-body", { "aria-live": "polite" });
  const numbers = el("div");
  const workers = el("div");
  const jobs = el("div");
  const tally = el("p.sub", { "aria-live": "polite" });
  const toolbar = el("div.toolbar");
  const heads = COLUMNS.map(head);
  const rows = el("tbody");
  const table = el("div.table-scroll", { tabindex: 0, role: "region", "aria-label": "Jobs" }, el("table.calls", { "aria-label": "Jobs" }, el("thead", {}, el("tr", {}, heads)), rows));
  const more = el("button", { type: "button", onclick: () => change({ show: limit() + 2 * STEP }) }, "Show 200 more");
  const node = el("div.view", {}, el("div.view-head", {}, el("h2", {}, "Fleet"), sub),
    el("section.card", { "aria-label": "Summary" }, words, numbers),
    card("Workers", { id: "fleet-workers", wide: true }, workers), toolbar,
    el("section.card.flush", { "aria-label": "Jobs" }, jobs), tally);

  function head({ text, order: key, wide, number }) {
    return el(`th${wide ? ".wide-only" : ""}${number ? ".number" : ""}`, { scope: "col", "data-order": key },
      key ? el("button", { type: "button", onclick: () => change({ order: key }) }, text) : text);
  }

  function change(values) {
    filters = Object.fromEntries(Object.entries({ ...filters, show: "", ...values }).filter(([, value]) => value !== ""));
    replace("fleet", "", filters);
    tools.sync();
    soon();
  }

  function tools() {
    const typed = throttled(() => change({ text: search.value }), 150);
    const search = el("input", { type: "search", value: filters.text ?? "", placeholder: "job, worker or error", maxlength: 200, oninput: typed });
    const orders = select(ORDERS, order(), (key) => change({ order: key }));
    put(toolbar, field("Search", search), field("State", select(SHOWN, filters.state ?? "", (state) => change({ state }))), field("Order", orders));
    tools.sync = () => { orders.value = order(); };
  }

  // The server sorts and searches: a fleet may have thousands of jobs.
  async function refresh() {
    const mine = (asked += 1);
    try {
      const state = Object.hasOwn(STATES, filters.state ?? "") ? filters.state : "";
      const next = await read("fleet", { text: filters.text, state, order: order(), limit: limit() });
      if (mine !== asked) return;
      found = next;
      draw();
    } catch (error) {
      // A page that has shown something keeps it; the stream of events says that the server is away.
      if (mine === asked && !found) put(words, failure(error, soon));
    }
  }

  function draw() {
    const { fleet } = found;
    say(sub, `${name(fleet.name)} · ${fleet.at === null ? "not read yet" : `read ${ago(fleet.age)}`}`);
    const said = wordsOf(fleet);
    const stamp = said.map(([, text]) => text).join("\n");
    if (words.dataset.stamp !== stamp) put(words, said.map(([level, text]) => el("p.fleet-said", { "data-level": level }, mark(level), text)));
    words.dataset.stamp = stamp;
    const total = Object.values(fleet.jobs).reduce((sum, value) => sum + value, 0);
    put(numbers, facts([["Workers", count(fleet.workers)], ["Jobs", count(total)], ["With nobody", count(fleet.jobs.nobody)], ["Failing", count(fleet.failing)], ["Takeovers", count(fleet.takeovers)]]));
    drawWorkers(workers, found);
    drawJobs();
  }

  function drawJobs() {
    for (const one of heads) {
      if (one.dataset.order && one.dataset.order === order()) one.setAttribute("aria-sort", ["key", "worker"].includes(order()) ? "ascending" : "descending");
      else one.removeAttribute("aria-sort");
    }
    say(tally, `${count(found.jobs.length)} of ${plural(found.matching, "job")}`);
    if (!found.jobs.length) { put(jobs, found.fleet.at === null ? loading("Waiting for the fleet…") : empty("No job matches", "Change the search, or choose another state.")); return; }
    if (table.parentNode !== jobs) put(jobs, table);
    reconcile(rows, found.jobs.map((job) => ({ job, stamp: JSON.stringify(job) })), ({ job }) => job.key, ({ job }) => jobRow(job, found.fleet.at));
    if (found.matching > found.jobs.length && limit() < MOST) jobs.append(more);
    else more.remove();
  }

  const soon = throttled(refresh, 500);
  const off = [store.on("fleet", soon), store.on("status", soon)];
  put(words, loading("Loading the fleet…"));
  tools();
  soon();
  return {
    node,
    route(next) { filters = { ...next }; tools(); soon(); },
    close() { soon.cancel(); asked += 1; off.forEach((stop) => stop()); },
  };
}

// What a person should know, the worst first.
function wordsOf(fleet) {
  const said = [];
  const { nobody, retrying } = fleet.jobs;
  if (fleet.error && fleet.at !== null) said.push(["bad", `The fleet cannot be read now: ${name(fleet.error)}. What you see is from ${dayTime(fleet.at)}.`]);
  else if (fleet.error) said.push(["warn", `The fleet cannot be read yet: ${name(fleet.error)}.`]);
  if (fleet.at === null) return said;
  if (!fleet.workers) said.push(["bad", "No worker is alive: nobody does these jobs."]);
  if (fleet.trouble && !fleet.error) said.push(["bad", name(fleet.trouble)]);
  else if (nobody) said.push(["warn", `${plural(nobody, "job")} ${nobody === 1 ? "has" : "have"} nobody at the moment: between two turns, or until another worker takes over.`]);
  if (fleet.failing) said.push(["warn", `${plural(fleet.failing, "job")} ended the last turn by an error; ${retrying ? "the next turn comes within minutes" : "the next turn has begun"}.`]);
  return said.length ? said : [["good", "Nothing is wrong: every job has a worker, waits for its turn, or is done."]];
}

function drawWorkers(box, { workers, fleet }) {
  if (!workers.length) { put(box, empty("No worker was seen", "Start one: agora-analytics fleet worker FILE")); return; }
  const cells = (worker) => {
    const held = Object.values(worker.jobs).reduce((sum, value) => sum + value, 0);
    const kinds = Object.entries(worker.jobs).map(([kind, value]) => `${count(value)} ${name(kind)}`).join(", ");
    return el("tr", { "data-state": worker.state }, el("th", { scope: "row" }, label(worker.name)), el("td", {}, badge(...WORKERS[worker.state])),
      el("td.number", { title: kinds || null }, count(held)), el("td.number.wide-only", {}, duration(fleet.at - worker.since)), el("td.number", {}, ago(fleet.at - worker.seen)));
  };
  const titles = ["Worker", "State", "Jobs", "Runs for", "Seen"];
  const hidden = (at) => (at === 3 ? ".wide-only" : "");
  put(box, el("div.table-scroll", { tabindex: 0, role: "region", "aria-label": "Workers" }, el("table.spending", {},
    el("thead", {}, el("tr", {}, titles.map((text, at) => el(`th${at > 1 ? ".number" : ""}${hidden(at)}`, { scope: "col" }, text)))),
    el("tbody", {}, workers.map(cells)))));
}

function jobRow(job, at) {
  const had = job.state === "held" ? name(job.worker) : job.worker ? `last ${name(job.worker)}` : NONE;
  const unheld = job.unheld === null ? "" : ` for ${duration(job.unheld)}`;
  const [level, text] = STATES[job.state];
  return el("tr", { "data-state": job.state },
    el("td.channel.job", {}, label(job.key), el("span.below", {}, job.takeovers ? `${had} · ${plural(job.takeovers, "takeover")}` : had), job.error ? el("span.job-error", {}, mark("warn"), name(job.error)) : null),
    el("td", {}, badge(level, text + unheld)),
    el("td.wide-only", {}, el("bdi.name", {}, had)),
    el("td.wide-only.when", {}, job.since === null ? NONE : [time(job.since), el("span.quiet", {}, ` ${ago(at - job.since)}`)]),
    el("td.number", {}, job.age === null ? NONE : duration(job.age)),
    el("td.number.wide-only", {}, count(job.events)), el("td.number.wide-only", {}, count(job.takeovers)));
}
