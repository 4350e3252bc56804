// The cursor of a chart by keyboard: a slider over its times, whose value is said in words.

const FAR = 10;

const STEPS = {
  ArrowLeft: (at) => at - 1, ArrowRight: (at) => at + 1, ArrowDown: (at) => at - 1, ArrowUp: (at) => at + 1,
  PageDown: (at) => at - FAR, PageUp: (at) => at + FAR, Home: () => 0, End: (_, last) => last,
};

export function cursorKeys(chart) {
  const { canvas } = chart;
  let ts = null; // where the cursor was put by a key; windows move on below it

  function say(at) {
    const last = chart.data.xs.length - 1;
    const shown = at ?? last;
    canvas.setAttribute("aria-valuemin", 0);
    canvas.setAttribute("aria-valuemax", Math.max(0, last));
    canvas.setAttribute("aria-valuenow", Math.max(0, shown));
    canvas.setAttribute("aria-valuetext", last < 0 ? "no values" : chart.describe(shown));
  }

  function put(at) {
    ts = at === null ? null : chart.data.xs[at];
    const left = at === null ? -10 : chart.plot?.valToPos(ts, "x");
    chart.plot?.setCursor({ left, top: at === null ? -10 : 1 }, true, true);
    chart.legendNow(at);
    say(at);
  }

  canvas.addEventListener("keydown", (event) => {
    const last = chart.data.xs.length - 1;
    const known = ts === null ? -1 : chart.data.xs.indexOf(ts);
    if (event.altKey || event.ctrlKey || event.metaKey || last < 0) return;
    if (event.key === "Escape") put(null);
    else if (STEPS[event.key]) {
      // The first key shows the newest time.
      const at = known < 0 && event.key !== "Home" ? last : STEPS[event.key](known, last);
      put(Math.max(0, Math.min(last, at)));
      event.preventDefault();
    }
  });
  canvas.addEventListener("blur", () => { if (ts !== null) put(null); });

  return {
    // To be called when the chart has new data, or was built again.
    redraw() {
      const at = ts === null ? -1 : chart.data.xs.indexOf(ts);
      // The scale of new data is there after the plot's own microtask.
      if (ts !== null) queueMicrotask(() => put(at < 0 ? null : at));
      else {
        const pointed = chart.plot?.cursor.idx ?? null;
        chart.legendNow(pointed);
        if (document.activeElement !== canvas) say(null);
      }
    },
  };
}
