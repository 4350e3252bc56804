// Addresses of views: #/calls?order=worst. Whatever a view shows is in its address, so that it can be sent to a colleague.

export function parse(hash) {
  const [path, text = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...rest] = path.split("/");
  const parts = rest.map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { view: view || "now", id: parts.join("/"), params: Object.fromEntries(new URLSearchParams(text)) };
}

export function href(view, id = "", params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given.map(([key, value]) => [key, String(value)]));
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${given.length ? `?${text}` : ""}`;
}

// Changes the address without a step in the history: filters while somebody types.
export function replace(view, id, params) {
  const next = href(view, id, params);
  if (next !== location.hash) history.replaceState(history.state, "", next);
}

export const callHref = (call, more = {}) =>
  href("call", call.call_id, { channel: call.cname, at: call.created_ts, ...more });
