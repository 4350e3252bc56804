// What is bad about a call, in words: rules over whatever of it is loaded. Pure: no page, no clock.
//
// find({call, sessions, timelines, tracks}, write): timelines are by metric, pairs of UTC second and value; tracks are by
// session id. `write` has `second` and `minute`, which write a time. Returns [{level, at, until, text, sid}], in order of time, what has no time first.

const MINUTE = 60;
const LIMITS = { video_freeze_rate: 0.05, audio_freeze_rate: 0.03 };
const USER_LIMITS = { user_video_freeze_rate: 0.05, user_audio_freeze_rate: 0.03 };
const AFTER = 180; // seconds in which a freeze may follow from a loss

const pct = (value) => `${Number((value * 100).toFixed(value < 0.1 ? 1 : 0))} %`;
const some = (count, one, many = `${one}s`) => `${spelled(count)} ${count === 1 ? one : many}`;
const NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
const spelled = (count) => NUMBERS[count] ?? String(count);

export function find(known, write) {
  const { call, sessions = [], timelines = {}, tracks = {} } = known;
  const found = [
    ...ofCall(call),
    ...ofSessions(sessions, call),
    ...Object.keys(LIMITS).flatMap((metric) => ofTimeline(metric, timelines, write.minute)),
    ...Object.entries(tracks).flatMap(([sid, list]) => ofTracks(sid, list, known, write.second)),
  ];
  return found.sort((a, b) => (a.at ?? 0) - (b.at ?? 0));
}

function ofCall(call) {
  return [["Video", call.call_video_freeze_rate, LIMITS.video_freeze_rate], ["Audio", call.call_audio_freeze_rate, LIMITS.audio_freeze_rate]]
    .filter(([, rate, limit]) => rate > limit)
    .map(([kind, rate, limit]) => ({ level: rate > 2 * limit ? "bad" : "warn", text: `${kind} froze for ${pct(rate)} of the time over the whole call.` }));
}

// Who froze, and what these have in common that the others have not.
function ofSessions(sessions, call) {
  const found = [];
  const bad = sessions.filter((one) => Object.entries(USER_LIMITS).some(([field, limit]) => one[field] > limit));
  if (bad.length && sessions.length > 1) {
    const shared = common(bad, sessions.filter((one) => !bad.includes(one)));
    found.push({ level: 2 * bad.length >= sessions.length ? "bad" : "warn", text: `${bad.length} of ${sessions.length} sessions froze more than the limit${shared}.` });
  }
  const joins = new Map();
  for (const one of sessions) if (one.uid) joins.set(one.uid, (joins.get(one.uid) ?? 0) + 1);
  const back = [...joins].filter(([, count]) => count > 1);
  if (back.length && back.length <= 3) for (const [uid, count] of back) found.push({ level: "info", text: `User ${uid} joined ${count === 2 ? "twice" : `${spelled(count)} times`}: a reconnection, or a second device.` });
  else if (back.length) found.push({ level: "info", text: `${some(back.length, "user")} joined more than once.`.replace(/^./, (letter) => letter.toUpperCase()) });
  const early = call.finished === false ? [] : sessions.filter((one) => one.leave_ts && one.join_ts && one.leave_ts - one.join_ts < 10);
  if (early.length) found.push({ level: "info", text: `${some(early.length, "session")} lasted less than 10 s.`.replace(/^./, (letter) => letter.toUpperCase()) });
  return found;
}

const TRAITS = [["network", "on"], ["platform", "on"], ["sdk_version", "with SDK"], ["device_type", "on"]];

function common(bad, good) {
  for (const [field, word] of TRAITS) {
    const value = bad[0][field];
    if (bad.length < 2 || !value || bad.some((one) => one[field] !== value)) continue;
    const others = good.filter((one) => one[field] === value).length;
    if (good.length && others * 4 <= good.length) {
      return `, all ${word} ${value}${others ? `, as ${some(others, "other")} ${others === 1 ? "is" : "are"}` : "; no other is"}`;
    }
  }
  return "";
}

// Minutes in a row above the limit.
function ofTimeline(metric, timelines, clock) {
  const points = timelines[metric] ?? [];
  const limit = LIMITS[metric];
  const kind = metric.startsWith("video") ? "Video" : "Audio";
  const users = new Map(timelines[metric.replace("rate", "user_count")] ?? []);
  return runs(points, (value) => value > limit, MINUTE).map((run) => {
    const most = Math.max(0, ...run.points.map(([ts]) => users.get(ts) ?? 0));
    const span = run.end - run.start > MINUTE ? `from ${clock(run.start)} to ${clock(run.end)}, worst ${pct(run.high)} at ${clock(run.highAt)}` : `${pct(run.high)} at ${clock(run.start)}`;
    return {
      level: run.high > 2 * limit ? "bad" : "warn", at: run.start, until: run.end,
      text: `${kind} froze ${run.end - run.start > MINUTE ? "above the limit " : ""}${span}${most ? `, for ${some(most, "user")}` : ""}.`,
    };
  });
}

// Metric ids of the service whose high values do harm: limit, seconds that it must last, what it is called.
const RULES = [
  { mid: 20017, limit: 5, lasts: 10, sent: "video", text: "Uplink loss of the video" },
  { mid: 20015, limit: 5, lasts: 10, sent: "audio", text: "Uplink loss of the audio" },
  { mid: 20038, limit: 5, lasts: 10, sent: "video", text: "Uplink loss of the video (web)" },
  { mid: 20037, limit: 5, lasts: 10, sent: "audio", text: "Uplink loss of the audio (web)" },
  { mid: 20018, limit: 8, lasts: 10, text: "End-to-end loss of the video" },
  { mid: 20016, limit: 8, lasts: 10, text: "End-to-end loss of the audio" },
  { mid: 20001, limit: 80, lasts: 20, text: "CPU use of the app" },
  { mid: 20002, limit: 90, lasts: 20, text: "CPU use of the system" },
  { mid: 20040, limit: 92, lasts: 20, text: "Memory use of the system" },
  { mid: 20022, limit: 300, lasts: 10, unit: "ms", text: "Round-trip time to the router" },
  { mid: 20021, limit: 200, lasts: 10, unit: "ms", text: "Task scheduling delay" },
];
const FREEZES = { video: 20011, audio: 20005 };

function ofTracks(sid, list, known, clock) {
  const session = (known.sessions ?? []).find((one) => one.sid === sid);
  const who = session?.uid ? `User ${session.uid}: ` : "";
  return list.flatMap((track) => {
    const rule = RULES.find((one) => one.mid === track.mid);
    if (!rule) return [];
    return runs(track.points, (value) => value > rule.limit, 6, 35).filter((run) => run.end - run.start >= rule.lasts).slice(0, MOST).map((run) => {
      const from = track.peer_uid ? ` from user ${track.peer_uid}` : "";
      const value = `${Math.round(run.mean)} ${rule.unit ?? "%"}`;
      const lasted = run.end - run.start >= 2 * MINUTE ? ` to ${clock(run.end)}` : "";
      return {
        level: run.mean > 2 * rule.limit ? "bad" : "warn", at: run.start, until: run.end, sid,
        text: `${who}${lower(rule.text, who)}${from} ${value} from ${clock(run.start)}${lasted}${consequence(rule, run, session, known, clock)}.`,
      };
    });
  });
}

const MOST = 5;
const lower = (text, who) => (who && !/^CPU/.test(text) ? text[0].toLowerCase() + text.slice(1) : text);

// What froze soon after a loss: by the receivers' own metrics, or else by the call's minutes.
function consequence(rule, run, session, known, clock) {
  if (!rule.sent) return "";
  const mid = FREEZES[rule.sent];
  const starts = Object.values(known.tracks ?? {}).flat()
    .filter((track) => track.mid === mid && session && track.peer_uid === session.uid)
    .map((track) => track.points.find(([ts, value]) => value > 0 && ts >= run.start && ts <= run.end + AFTER)?.[0])
    .filter((ts) => ts !== undefined);
  if (starts.length) return `, before ${rule.sent} froze at ${clock(Math.min(...starts))} for ${some(starts.length, "receiver")}`;
  const users = new Map(known.timelines?.[`${rule.sent}_freeze_user_count`] ?? []);
  const minute = (known.timelines?.[`${rule.sent}_freeze_rate`] ?? [])
    .find(([ts, value]) => value > LIMITS[`${rule.sent}_freeze_rate`] && ts + MINUTE > run.start && ts <= run.end + AFTER);
  if (!minute) return "";
  const count = users.get(minute[0]);
  return `, ${minute[0] > run.start ? "before" : "while"} ${rule.sent} froze at ${clock(Math.max(minute[0], run.start))}${count ? ` for ${some(count, "user")}` : ""}`;
}

// Stretches of points for which `is` holds; a break of `bridge` seconds does not end one. `step` is what a point lasts.
export function runs(points, is, step, bridge = 0) {
  const found = [];
  let run = null;
  for (const [ts, value] of points) {
    if (typeof value !== "number" || !is(value)) continue;
    if (run && ts - run.end <= bridge) {
      run.points.push([ts, value]);
    } else {
      run = { start: ts, points: [[ts, value]] };
      found.push(run);
    }
    run.end = ts + step;
  }
  for (const one of found) {
    const best = one.points.reduce((a, b) => (b[1] > a[1] ? b : a));
    [one.highAt, one.high] = best;
    one.mean = one.points.reduce((sum, [, value]) => sum + value, 0) / one.points.length;
  }
  return found;
}
