// The rules of the plan calculator. They are those of the package (`Coverage`, `export.estimate`, `Plan.recent`, the
// quota's forecast), and a test compares the two. `rules` is calculator.json, which the site's builder makes from the package.

// Polls of so many requests, if they get all of the day's: see `Coverage`.
function coverage({ day, window }, limits, requests, every) {
  const windows = day / window;
  const least = Math.ceil(every / window);
  const fitting = Math.max(least, Math.ceil((windows * requests) / limits.per_day - 1e-9));
  const interval = limits.per_day < requests ? windows + 1 : fitting;
  const most = Math.floor(limits.per_day / Math.ceil(windows / limits.windows_per_request));
  return {
    requests_per_poll: requests,
    requests_per_day: limits.per_day,
    poll_interval: interval * window,
    mean_age: limits.delay + 1 + ((interval - 1) / 2) * window,
    complete: interval <= limits.windows_per_request && requests <= most,
    max_requests_per_poll: most,
    polled_per_day: Math.min(Math.floor((requests * day) / (interval * window)), limits.per_day),
  };
}

// Spans of one request each, as [start, seconds], oldest first.
function slices(start, duration, longest) {
  const found = [];
  for (let at = 0; at < duration; at += longest) found.push([start + at, Math.min(longest, duration - at)]);
  return found;
}

// Requests for a series of Data Insights by day, in which every day is whole in one of them.
function insightRequests({ day }, limits, duration) {
  const end = -limits.delay - 1;
  let count = 1;
  for (let at = end - duration; end - at > limits.longest_query; count += 1) {
    at = Math.floor((at + limits.longest_query + 1 - day) / day) * day;
  }
  return count;
}

// What lists and details of calls cost in these slices.
function callRequests(rules, input, parts) {
  const counts = parts.map(([, duration]) => (input.calls * duration) / (rules.day * input.apps));
  const pages = counts.map((count) => Math.max(1, Math.ceil(count / rules.page_size)));
  const calls = sum(parts.map(([, duration]) => duration)) * input.calls / rules.day;
  return { call_lists: sum(pages) * input.apps, call_details: Math.ceil(calls * requestsPerCall(rules, input)) };
}

// Detail requests for a call.
function requestsPerCall(rules, { details, sessions }) {
  if (details === "none") return 0;
  const pages = Math.max(1, Math.ceil(sessions / rules.page_size));
  return details === "metrics" ? pages + Math.max(1, sessions / rules.sids) : pages;
}

// Seconds from midnight UTC until so many requests are done, if each day leaves `perDay` of them.
function seconds({ day }, limits, requests, perDay) {
  if (requests <= 0) return 0;
  if (perDay <= 0) return Infinity;
  const days = Math.floor((requests - 1) / perDay);
  const rest = (requests - 1) % perDay;
  const windows = [[limits.per_second, 1], [limits.per_minute, 60]];
  return days * day + Math.max(...windows.map(([limit, length]) => (limit ? Math.floor(rest / limit) * length : 0)));
}

// How many calls expire before their details are requested, the oldest first.
function expired(rules, plan, input, parts, perDay) {
  const perCall = requestsPerCall(rules, input);
  let before = 0;
  let lost = 0;
  for (const [start, duration] of perCall ? parts : []) {
    const count = (input.calls * duration) / (rules.day * input.apps);
    for (let app = 0; app < input.apps; app += 1) {
      const requests = Math.max(1, Math.ceil(before + count * perCall));
      const late = seconds(rules, plan.call_details, requests, perDay) - start - plan.call_details.retention;
      const share = Math.min(1, Math.max(0, late) / duration);
      lost += count * share;
      before += count * perCall * (1 - share);
    }
  }
  return lost;
}

// What an input reads: of each table, the requests of a day, and those of the days before.
function loads(rules, plan, input, span) {
  const found = [];
  if (input.calls) {
    const { longest_query: longest } = plan.call_lists;
    const each = callRequests(rules, input, slices(0, rules.day, longest));
    const past = callRequests(rules, input, slices(0, span("call_lists"), longest));
    found.push(...["call_lists", "call_details"].map((table) => [table, each[table], past[table]]));
  }
  const series = { insight_usage: input.usage, insight_quality: input.quality * input.products };
  for (const [table, count] of Object.entries(series)) {
    const each = count * input.apps;
    if (each && plan[table]) found.push([table, each, input.days && each * insightRequests(rules, plan[table], span(table))]);
    else if (each) found.push([table]);
  }
  return found;
}

// What a plan does for an input: the watch, each table's requests of a day, and an export of the days before, which has
// what each day leaves. `missing` are tables that the plan lacks, `cut` those that keep less than was wanted, in seconds.
export function answer(rules, input) {
  const plan = rules.plans[input.plan];
  // An export leaves the reserve of each day to people.
  const spare = (table, each) => plan[table].per_day - plan[table].reserve - each;
  const watched = input.metrics * input.products * input.apps;
  const watch = watched && plan.realtime ? coverage(rules, plan.realtime, watched, input.every) : null;
  const found = { watch, missing: watched && !watch ? ["realtime"] : [], daily: {}, cut: {}, history: {}, done: {}, calls: 0, expired: 0 };
  if (watch) found.daily.realtime = watch.polled_per_day;
  const wanted = input.days * rules.day;
  const span = (table) => {
    const duration = Math.min(wanted, plan[table].longest_history);
    if (wanted - duration > Math.min(600, Math.floor(wanted / 100))) found.cut[table] = duration;
    return duration;
  };
  for (const [table, each, past] of loads(rules, plan, input, span)) {
    if (each === undefined) found.missing.push(table);
    else found.daily[table] = each;
    if (!past) continue;
    found.history[table] = past;
    found.done[table] = seconds(rules, plan[table], past, spare(table, each));
  }
  if (found.history.call_lists) {
    const duration = span("call_lists");
    const parts = slices(-plan.call_lists.delay - 1 - duration, duration, plan.call_lists.longest_query);
    found.calls = (input.calls * duration) / rules.day;
    found.expired = expired(rules, plan, input, parts, spare("call_details", found.daily.call_details));
  }
  return found;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);
