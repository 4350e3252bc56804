// The server's API: values, errors with a hint, and one stream of events that reconnects and says its state.

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.text ?? (status ? `the server answered ${status}` : "the server cannot be reached"));
    this.status = status;
    this.code = body?.error?.code ?? "";
    this.hint = body?.error?.hint ?? (status ? "" : "This page tries again by itself.");
    this.price = body?.price ?? null;
    this.spent = body?.spent ?? 0;
    this.availableAt = body?.available_at ?? null;
  }
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(`api/v1/${path}`, { credentials: "same-origin", ...options });
  } catch {
    throw new ApiError(0, null);
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  if (response.status === 401) location.assign("login");
  throw new ApiError(response.status, body);
}

export const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given.map(([key, value]) => [key, Array.isArray(value) ? value.join(",") : String(value)]));
  return given.length ? `?${text}` : "";
};

export const read = (path, values = {}) => request(path + query(values), { headers: { Accept: "application/json" } });

export const load = (path, body) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

const KINDS = ["windows", "call", "call_gap", "quota", "stream", "alert", "fleet", "reset"];
const LONGEST = 15_000;
const HIDDEN_FOR = 60_000; // a hidden page gives its connection back: browsers allow six to a server

// Opens the stream, and opens it again for ever. `handlers` has onEvent(kind, value), onState(name) and onLost().
export class EventStream {
  constructor(handlers) {
    this.handlers = handlers;
    this.source = null;
    this.last = null;
    this.pause = 1_000;
    this.opened = false;
    this.timer = null;
    this.hiding = null;
    document.addEventListener("visibilitychange", () => this.seen());
  }

  open(after) {
    this.close();
    this.last = after;
    const source = new EventSource(`api/v1/events${query({ after })}`);
    this.source = source;
    this.opened = false;
    source.addEventListener("open", () => {
      this.opened = true;
      this.handlers.onState("live");
    });
    source.addEventListener("error", () => this.failed(source));
    for (const kind of KINDS) source.addEventListener(kind, (message) => this.take(kind, message));
    if (document.hidden) this.seen();
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  // An event that cannot be understood is one that is missed: everything is loaded again, after a pause.
  take(kind, message) {
    try {
      this.handlers.onEvent(kind, JSON.parse(message.data));
      if (message.lastEventId) this.last = message.lastEventId;
      this.pause = 1_000;
    } catch (error) {
      console.error(error);
      this.lose("reconnecting");
    }
  }

  // A stream whose connection broke is opened again by the browser; one that was refused, by us.
  failed(source) {
    if (source !== this.source) return;
    if (source.readyState === EventSource.CLOSED) this.lose(this.opened ? "reconnecting" : "refused");
    else this.handlers.onState("reconnecting");
  }

  // Pages that lost the server at the same time do not come back at the same time.
  lose(state) {
    this.close();
    this.handlers.onState(state);
    this.timer = setTimeout(() => this.handlers.onLost(), this.pause * (1 + Math.random() / 2));
    this.pause = Math.min(2 * this.pause, LONGEST);
  }

  seen() {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = setTimeout(() => {
        if (!this.source) return;
        this.close();
        this.handlers.onState("paused");
      }, HIDDEN_FOR);
    } else if (!this.source && this.last !== null) this.open(this.last);
  }
}
