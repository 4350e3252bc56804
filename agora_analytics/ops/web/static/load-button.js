// What costs requests: a button with its price, and what came of it.

import { load, read } from "./api.js";
import { el, put } from "./dom.js";
import { count, dayTime, plural } from "./format.js";
import { empty, failure, loading } from "./widgets.js";

const AGAIN = 1_500;
const LONGEST = 600_000;

// A price as the newest known quota makes it: what others spend meanwhile shows on the button.
export function priceText(requests, price, quota) {
  const day = quota?.counters.find((one) => one.counter === price.counter && one.unit === "day");
  const left = day ? day.left : price.left;
  if (left === null || left === undefined) return `${plural(requests, "request")} of today`;
  return `${count(requests)} of ${count(left)} requests of today`;
}

// Loads that belong together, behind one button. `options`: store, announce(text), label, hint (a line above the button),
// items [{key, path, params}], onData(key, data, cached), onState() after every change.
export class LoadButton {
  constructor(options) {
    this.options = options;
    this.node = el("div.loads");
    this.priceNode = el("span.price");
    this.turn = 0;
    this.busy = false;
    this.unsubscribe = options.store.on("quota", () => this.price());
    this.reset(options.items ?? []);
  }

  close() {
    this.turn += 1;
    clearTimeout(this.timer);
    this.unsubscribe();
  }

  reset(items) {
    this.turn += 1;
    clearTimeout(this.timer);
    this.items = items.map((item) => ({ ...item, quote: null, data: null }));
    this.isPriced = false;
  }

  // Replaces the loads.
  replace(items) {
    this.reset(items);
    put(this.node);
    return this.show();
  }

  // Reads the prices, which is free; what is there already is shown at once.
  async show() {
    const turn = ++this.turn;
    try {
      const found = await Promise.all(this.items.map((item) => (item.data ? item.quote : read(item.path, item.params))));
      if (turn !== this.turn) return;
      found.forEach((quote, at) => this.known(this.items[at], quote));
      this.isPriced = true;
      this.draw();
    } catch (error) {
      if (turn === this.turn) this.failed(error);
    }
  }

  known(item, quote) {
    item.quote = quote;
    if (item.data || quote.state !== "loaded" || !quote.data) return;
    item.data = quote.data;
    this.options.onData(item.key, item.data, true);
  }

  pending() {
    return this.items.filter((item) => item.quote?.state === "available");
  }

  requests() {
    return this.pending().reduce((sum, item) => sum + item.quote.price.requests, 0);
  }

  draw() {
    // What is to be done first decides what is shown.
    this.options.onState?.();
    const { label, hint } = this.options;
    const waiting = this.items.find((item) => item.quote?.state === "loading");
    const refused = this.items.find((item) => item.quote?.state === "unavailable");
    if (waiting) {
      put(this.node, loading("Somebody is loading this…"));
      this.timer = setTimeout(() => this.show(), AGAIN);
    } else if (this.pending().length) {
      this.price();
      put(this.node, hint && el("p.hint", {}, hint),
        el("button.load", { type: "button", onclick: () => this.load() }, el("span", {}, label), this.priceNode));
    } else if (refused) this.refused(refused.quote);
    else put(this.node);
  }

  refused({ reason, available_at: at }) {
    put(this.node, empty("Not available", `${sentence(reason)}${at ? ` It can be loaded from ${dayTime(at)} on.` : ""}`));
    if (!at) return;
    this.timer = setTimeout(() => this.show(), Math.min(LONGEST, Math.max(AGAIN, (at - this.options.store.now()) * 1000)));
  }

  price() {
    const [first] = this.pending();
    if (first) this.priceNode.textContent = priceText(this.requests(), first.quote.price, this.options.store.quota);
  }

  failed(error) {
    this.isPriced = true; // as far as it can be: the other parts need not wait for this one
    const focused = this.node.contains(document.activeElement);
    put(this.node, failure(error, () => this.show()));
    if (focused) this.node.querySelector("button")?.focus();
    this.options.onState?.();
  }

  async load() {
    if (this.busy) return;
    this.busy = true;
    const { turn } = this;
    const { announce, label } = this.options;
    put(this.node, loading("Loading…"));
    let spent = 0;
    try {
      for (const item of this.pending()) {
        const found = await load(item.path, { ...item.quote.params, price: item.quote.price.requests });
        if (turn !== this.turn) return;
        spent += found.spent;
        item.quote = { ...item.quote, state: "loaded" };
        item.data = found.data;
        this.options.onData(item.key, found.data, false);
      }
      announce?.(`${label}: done, it cost ${plural(spent, "request")}.`);
      this.draw();
    } catch (error) {
      if (turn !== this.turn) return;
      if (error.code === "price") {
        await this.show();
        this.node.prepend(el("p.hint", { role: "status" }, "The price has changed."));
      } else this.failed(error);
    } finally {
      this.busy = false;
    }
  }
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");
