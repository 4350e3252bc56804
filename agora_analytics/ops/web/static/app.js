// The page: its frame, which view is shown, and what every view shares.

import { restyle } from "./charts.js";
import { el, put, say, throttled } from "./dom.js";
import { clock, name, setZone, zoneName } from "./format.js";
import { parse } from "./router.js";
import { Store } from "./store.js";
import { alertTitle } from "./alerts.js";
import { nowView } from "./view-now.js";
import { troubles } from "./troubles.js";
import { failure } from "./widgets.js";

// Only the first view is loaded at once; `load` brings the others.
const VIEWS = {
  now: { text: "Now", make: nowView },
  calls: { text: "Calls", load: async () => (await import("./view-calls.js")).callsView },
  call: { text: "Call", load: async () => (await import("./view-call.js")).callView, under: "calls" },
  insights: { text: "Insights", load: async () => (await import("./view-insights.js")).insightsView },
  quota: { text: "Quota", load: async () => (await import("./view-quota.js")).quotaView },
  alerts: { text: "Alerts", load: async () => (await import("./view-alerts.js")).alertsView },
  fleet: { text: "Fleet", load: async () => (await import("./view-fleet.js")).fleetView, needs: "fleet" },
};
const SOON = 2_000; // milliseconds after which the other views are loaded: they must be there if the server goes away

const STATES = {
  connecting: "connecting…", live: "live", reconnecting: "reconnecting…", paused: "paused while hidden", refused: "no live updates",
};

const byId = (id) => document.getElementById(id);
const store = new Store();
let shown = null;
let turn = 0;

const saved = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* storage is off */ } },
};

// Announces a text to a screen reader; the same text twice is announced twice.
function announce(text) {
  const live = byId("live");
  live.textContent = live.textContent === text ? `${text} ` : text;
}

function navigation() {
  const links = Object.entries(VIEWS).filter(([, view]) => !view.under)
    .map(([key, view]) => el("a", { href: `#/${key}`, "data-view": key, hidden: Boolean(view.needs) }, view.text));
  put(byId("nav"), links);
}

// Shows the view of the address; a view that is shown already gets its new filters.
function route(first = false) {
  if (location.hash === "#main") return;
  const found = parse(location.hash);
  const view = Object.hasOwn(VIEWS, found.view) ? found.view : "now";
  if (shown && shown.view === view && shown.id === found.id && shown.made.route) {
    shown.made.route(found.params);
    return;
  }
  turn += 1;
  if (!VIEWS[view].make) {
    prepare(view, turn, first);
    return;
  }
  shown?.made.close?.();
  const made = VIEWS[view].make({ store, id: found.id, params: found.params, announce, saved });
  shown = { view, id: found.id, made };
  put(byId("main"), made.node);
  for (const link of byId("nav").children) {
    if (link.dataset.view === (VIEWS[view].under ?? view)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  titles();
  if (first) return;
  scrollTo(0, history.state?.y ?? 0);
  const heading = byId("main").querySelector("h2");
  heading?.setAttribute("tabindex", "-1");
  (heading ?? byId("main")).focus({ preventScroll: true });
}

// Loads a view, and shows it if it is still the one of the address.
async function prepare(view, mine, first) {
  try {
    VIEWS[view].make = await VIEWS[view].load();
  } catch {
    if (mine === turn) put(byId("main"), failure({ message: "This view cannot be loaded now", hint: "The server cannot be reached." }, () => location.reload()));
    return;
  }
  if (mine === turn) route(first);
}

function titles() {
  if (!shown) return;
  const server = store.status?.title ? `${name(store.status.title)} · ` : "";
  document.title = `${VIEWS[shown.view].text} · ${server}Agora Analytics`;
  say(byId("title"), name(store.status?.title, ""));
  byId("simulated").hidden = !store.status?.simulated;
  // Most servers have no fleet: its view shows only where there is one.
  for (const link of byId("nav").children) link.hidden = Boolean(VIEWS[link.dataset.view].needs) && !store.status?.[VIEWS[link.dataset.view].needs];
}

function connection() {
  const box = byId("connection");
  const before = box.dataset.state;
  box.dataset.state = store.connection;
  say(byId("connection-text"), STATES[store.connection]);
  if (store.connection === "reconnecting") announce("The connection to the server is lost; reconnecting.");
  else if (store.connection === "live" && before === "reconnecting") announce("Connected again; everything is up to date.");
  notice();
}

// What is wrong with the server, above every view.
function notice() {
  const box = byId("notice");
  if (store.connection !== "reconnecting") box.stamp = null;
  else box.stamp ??= store.loaded ? ` What you see is from ${clock(store.now())} ${zoneName()} or before.` : "";
  const parts = troubles(store, box.stamp).map(([title, words_]) => el("p", {}, el("b", {}, `${title} `), words_));
  box.hidden = !parts.length;
  const text = parts.map((part) => part.textContent).join("\n");
  if (box.textContent !== text) put(box, parts);
}

function switches() {
  const zone = byId("zone");
  const theme = byId("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const paint = () => {
    say(zone, zoneName());
    zone.setAttribute("aria-label", `Times in ${zoneName()}: change`);
    say(theme, isDark() ? "Light" : "Dark");
    theme.setAttribute("aria-label", isDark() ? "Switch to the light theme" : "Switch to the dark theme");
    restyle();
  };
  setZone(saved.get("zone") ?? "utc");
  zone.addEventListener("click", () => {
    const next = zoneName() === "UTC" && saved.get("zone") !== "local" ? "local" : "utc";
    saved.set("zone", next);
    setZone(next);
    paint();
    shown?.made.close?.();
    shown = null;
    route(true);
    announce(`Times are in ${zoneName()}.`);
  });
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    saved.set("theme", document.documentElement.dataset.theme);
    paint();
  });
  dark.addEventListener("change", paint);
  paint();
}

function start() {
  navigation();
  switches();
  store.on("connection", connection);
  store.on("status", () => { titles(); notice(); });
  store.on("quota", notice);
  store.on("missed", () => { notice(); announce(byId("notice").textContent); });
  store.on("alerted", () => announce(`Alert: ${alertTitle(store.alerts[0].alert)}`));
  store.on("problem", () => {
    if (store.problem && !store.loaded && store.problem.status) put(byId("main"), failure(store.problem));
    else if (!store.problem && byId("main").querySelector(":scope > .failure")) { shown = null; route(true); }
  });
  addEventListener("hashchange", () => route());
  // Each step of the history keeps where it was scrolled to: going back shows the same place.
  history.scrollRestoration = "manual";
  addEventListener("scroll", throttled(() => history.replaceState({ y: scrollY }, ""), 200), { passive: true });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  route(true);
  store.load();
  store.ready.then(() => setTimeout(() => {
    for (const view of Object.values(VIEWS)) view.load?.().then((make) => { view.make ??= make; }, () => {});
    store.readAllCalls();
  }, SOON));
  setInterval(() => { store.tick(); shown?.made.tick?.(); }, 5_000);
}

start();

