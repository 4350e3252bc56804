// Days summed up by UTC month. Pure.

// Of pairs of a day's start (UTC seconds) and minutes: [{start, minutes, known, length, projected, first, last}], the
// newest month first. `projected` is the newest month at the pace of its days that are known; of an older one, what is known.
export function months(points) {
  const found = new Map();
  for (const [ts, value] of points) {
    if (typeof value !== "number") continue;
    const date = new Date(ts * 1000);
    const start = Date.UTC(date.getUTCFullYear(), date.getUTCMonth()) / 1000;
    const length = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
    const row = found.get(start) ?? { start, minutes: 0, known: 0, length, first: ts, last: ts };
    row.minutes += value;
    row.known += 1;
    row.first = Math.min(row.first, ts);
    row.last = Math.max(row.last, ts);
    found.set(start, row);
  }
  return [...found.values()].sort((a, b) => b.start - a.start)
    .map((row, at) => ({ ...row, projected: at ? row.minutes : (row.minutes / row.known) * row.length }));
}

