// Builds elements. All text goes through textContent: nothing that the service or a user sent is read as markup.

const SVG = "http://www.w3.org/2000/svg";

// el("a.link", {href, onclick, "aria-label"}, …children): children are nodes, texts, arrays, or null for nothing.
export function el(spec, props = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  return fill(document.createElement(tag || "div"), classes, props, children);
}

export function svg(spec, props = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  return fill(document.createElementNS(SVG, tag), classes, props, children);
}

function fill(node, classes, props, children) {
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (["value", "checked", "selected", "open", "hidden", "disabled"].includes(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...flat(children));
  return node;
}

const flat = (children) => children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false);

export function put(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

// Sets a text only if it differs, so that screen readers and selections are left alone.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
  return node;
}

// Makes the children of a node one for each item, in order; those that stay are the same nodes, so focus is kept.
export function reconcile(parent, items, keyOf, make) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = old.get(key);
    const stamp = item.stamp ?? "";
    if (!node || node.dataset.stamp !== String(stamp)) {
      const made = make(item);
      made.dataset.key = key;
      made.dataset.stamp = String(stamp);
      if (node) {
        const focused = node.contains(document.activeElement);
        if (node === at) at = made;
        node.replaceWith(made);
        if (focused) made.querySelector("a,button,summary")?.focus();
      }
      node = made;
    }
    old.delete(key);
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  for (const node of old.values()) node.remove();
}

// Runs a function at most once in so many milliseconds, the last time included.
export function throttled(run, pause) {
  let timer = null;
  let last = -Infinity;
  const now = () => {
    timer = null;
    last = performance.now();
    run();
  };
  const later = () => {
    if (timer === null) timer = setTimeout(now, Math.max(0, pause - (performance.now() - last)));
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
