// The page of the plan calculator: a form, what is wrong in it, and the answer. It computes here and sends nothing.
import { answer } from "./calculator-rules.js";

const DETAILS = { none: "none: lists only", sessions: "sessions", metrics: "sessions and metrics" };
const TABLES = { call_lists: "call lists", call_details: "call details", insight_usage: "usage insights", insight_quality: "quality insights", realtime: "real-time windows" };

// Name, label, least, most, and the value to begin with; those with options are choices.
const fields = (rules) => [
  { name: "plan", label: "Plan", options: Object.fromEntries(Object.keys(rules.plans).map((name) => [name, name])), value: "premium" },
  { name: "apps", label: "App IDs", least: 1, most: 1_000, value: 1 },
  { name: "products", label: "Product types", hint: "Native, WebRTC", least: 1, most: rules.products, value: 2 },
  { name: "metrics", label: "Real-time metrics to watch", least: 0, most: 100, value: 2 },
  { name: "every", label: "Shortest poll interval", hint: "in seconds", least: rules.window, most: rules.day, value: rules.window },
  { name: "calls", label: "Calls a day", hint: "of all App IDs", least: 0, most: 100_000_000, value: 250 },
  { name: "sessions", label: "Sessions in a call", hint: "on average", least: 1, most: 100_000, value: 4 },
  { name: "details", label: "Details of each call", options: DETAILS, value: "metrics" },
  { name: "usage", label: "Usage metrics of Data Insights", least: 0, most: 100, value: 1 },
  { name: "quality", label: "Quality metrics of Data Insights", least: 0, most: 100, value: 0 },
  { name: "days", label: "Days of history to export", least: 0, most: 1_000, value: 3 },
];

const format = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const number = (value) => format.format(value);

function time(seconds) {
  if (seconds < 120) return `${number(seconds)} s`;
  if (seconds < 7_200) return `${number(Math.floor(seconds / 60))} min`;
  const [size, unit, part, name] = seconds < 172_800 ? [3_600, "h", 60, "min"] : [86_400, "d", 3_600, "h"];
  const rest = Math.floor((seconds % size) / part);
  return `${number(Math.floor(seconds / size))} ${unit}${rest ? ` ${rest} ${name}` : ""}`;
}

function el(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

// What is wrong with a value as it was typed; empty if nothing is.
function complaint({ least, most, options }, text) {
  if (options) return Object.hasOwn(options, text) ? "" : `Allowed are ${Object.keys(options).join(", ")}.`;
  const fits = /^\s*\d+\s*$/.test(text) && Number(text) >= least && Number(text) <= most;
  return fits ? "" : `Allowed are whole numbers from ${number(least)} to ${number(most)}.`;
}

// Why a plan does not do what was wanted; empty if it does.
export function problems(rules, input, { watch, missing, cut, daily, history, done, calls, expired }) {
  const plan = rules.plans[input.plan];
  const lacks = missing.map((table) => `The plan ${input.plan} has no ${TABLES[table]}.`);
  const gaps = watch && !watch.complete ? [`${number(watch.requests_per_poll)} requests a poll are more than ${number(watch.requests_per_day)} a day can carry without gaps: at most ${number(watch.max_requests_per_poll)} fit.`] : [];
  const full = Object.entries(daily).filter(([table, count]) => count > plan[table].per_day);
  const over = full.map(([table, count]) => `Each day takes ${number(count)} requests for ${TABLES[table]}, and the plan allows ${number(plan[table].per_day)}.`);
  const short = Object.entries(cut).map(([table, most]) => `The plan has at most ${time(most)} of history of ${TABLES[table]}.`);
  const never = Object.entries(done).filter(([, seconds]) => seconds === Infinity).map(([table]) => `A day leaves no request for the history of ${TABLES[table]}.`);
  const late = history.call_details && done.call_details < Infinity && Math.round(expired) > 0;
  const lost = late ? [`About ${number(expired)} of the ${number(calls)} calls of the history expire before their details are requested.`] : [];
  return [...lacks, ...gaps, ...over, ...short, ...never, ...lost];
}

// What the plan does, in sentences.
function* facts(rules, input, { watch, history, done, calls }) {
  const plan = rules.plans[input.plan];
  if (watch) {
    const requests = watch.requests_per_poll === 1 ? "1 request" : `${number(watch.requests_per_poll)} requests`;
    const interval = watch.requests_per_day < watch.requests_per_poll ? `more than ${number(watch.requests_per_day)} a day` : `every ${number(watch.poll_interval)} s`;
    yield ["Watch", `A poll takes ${requests}, ${interval}. Windows are ${number(watch.mean_age)} s old on average.`];
    yield ["Outage", `A request carries up to ${number(plan.realtime.windows_per_request)} windows, so no window is lost in ${time(plan.realtime.windows_per_request * rules.window)} without an answer.`];
  }
  const slowest = Math.max(0, ...Object.values(done));
  if (Object.keys(history).length) {
    const what = history.call_lists ? `${number(calls)} calls. ` : "";
    yield ["History", `${what}${slowest === Infinity ? "It is never done." : `Begun at midnight UTC, it is done in ${time(slowest)}.`}`];
  }
  const has = ["call_lists", "insight_usage", "realtime"].filter((table) => plan[table]);
  yield ["The plan keeps", `${has.map((table) => `${TABLES[table]} for ${time(plan[table].retention)}`).join(", ")}.`];
}

function requestTable(plan, { daily, history, done }) {
  const head = ["Requests for", "a day", "allowed", "share", "history", "done in"];
  const rows = Object.entries(plan).filter(([table]) => table in TABLES).map(([table, { per_day: most }]) => {
    const count = daily[table] ?? 0;
    const past = history[table] ? [number(history[table]), done[table] === Infinity ? "never" : time(done[table])] : ["", ""];
    return [TABLES[table], number(count), number(most), `${number((100 * count) / most)} %`, ...past];
  });
  const row = (cells, kind) => el("tr", {}, ...cells.map((cell, at) => el(at ? kind : "th", { scope: at ? "" : "row" }, cell)));
  const titles = el("tr", {}, ...head.map((cell) => el("th", { scope: "col" }, cell)));
  return el("table", {}, el("thead", {}, titles), el("tbody", {}, ...rows.map((cells) => row(cells, "td"))));
}

function show(results, verdict, rules, input) {
  const found = answer(rules, input);
  const wrong = problems(rules, input, found);
  verdict.dataset.fits = wrong.length === 0;
  verdict.replaceChildren(el("strong", {}, wrong.length ? "It does not fit." : "It fits."), wrong.length ? el("ul", {}, ...wrong.map((text) => el("li", {}, text))) : "");
  const list = el("dl", {}, ...[...facts(rules, input, found)].flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
  results.replaceChildren(el("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: "Requests" }, requestTable(rules.plans[input.plan], found)), list);
}

function control(field, given) {
  const { name, label, hint, options, least, most } = field;
  const id = `calculator-${name}`;
  const input = options
    ? el("select", { id, name }, ...Object.entries(options).map(([value, text]) => el("option", { value }, text)))
    : el("input", { id, name, type: "number", inputMode: "numeric", min: least, max: most, step: 1 });
  const first = given.get(name);
  input.value = first !== null && !complaint(field, first) ? first : field.value;
  const note = el("small", { id: `${id}-note` });
  input.setAttribute("aria-describedby", note.id);
  return { field, input, note, node: el("div", {}, el("label", { htmlFor: id }, label, hint ? ` (${hint})` : ""), input, note) };
}

function start(root, rules) {
  const controls = fields(rules).map((field) => control(field, new URLSearchParams(location.search)));
  const form = el("form", { noValidate: true, onsubmit: (event) => event.preventDefault() }, ...controls.map((one) => one.node));
  const verdict = el("div", { className: "verdict", role: "status" });
  const results = el("div", { className: "results" });
  const update = () => {
    let wrong = 0;
    for (const { field, input, note } of controls) {
      // A browser gives no text for what is no number.
      const text = complaint(field, input.value);
      wrong += text !== "";
      note.textContent = text;
      input.setAttribute("aria-invalid", String(text !== ""));
    }
    results.hidden = wrong > 0;
    verdict.dataset.fits = false;
    if (wrong) return verdict.replaceChildren("A value is not allowed: see the form.");
    const values = controls.map(({ field, input }) => [field.name, field.options ? input.value : Number(input.value)]);
    show(results, verdict, rules, Object.fromEntries(values));
    return history.replaceState(null, "", `?${new URLSearchParams(values)}${location.hash}`);
  };
  form.addEventListener("input", update);
  root.replaceChildren(form, verdict, results);
  update();
}

const root = document.getElementById("calculator");
if (root) {
  // Here, as the generator of the site moves links of scripts, and not those of style sheets.
  document.head.append(el("link", { rel: "stylesheet", href: new URL("calculator.css", import.meta.url) }));
  try {
    const response = await fetch(new URL("calculator.json", import.meta.url));
    start(root, await response.json());
  } catch (error) {
    root.replaceChildren(el("p", { role: "alert" }, `The calculator could not be loaded (${error.message}).`));
  }
}
