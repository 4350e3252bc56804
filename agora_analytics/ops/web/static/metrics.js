// Metrics of a session as charts: which belong into one chart, and how their points are put on one axis.

import { name } from "./format.js";

const uPlot = window.uPlot;
const HOLE = 12; // seconds without a sample that are shown as a hole

const OWN = [
  ["Uplink loss", "%", [[20015, "Audio"], [20017, "Video"], [20037, "Audio, web"], [20038, "Video, web"]], 5],
  ["Uplink bitrate", "Kbps", [[20003, "Audio"], [20024, "Video"], [20006, "Video, low stream"]]],
  ["Sent frame rate", "fps", [[20007, "Captured"], [20008, "Sent"], [20023, "Low stream"]]],
  ["CPU", "%", [[20001, "App"], [20002, "System"]], 80],
  ["Delay", "ms", [[20022, "Round trip to the router"], [20021, "Task scheduling"]]],
  ["Memory", "%", [[20039, "App"], [20040, "System"]]],
  ["Sent volume", "dB", [[20025, "Microphone"]]],
  ["Sent resolution", "px", [[20027, "Width"], [20028, "Height"], [20034, "Width, low"], [20035, "Height, low"]]],
];

const PEER = [
  ["Freezes", "ms", [[20005, "Audio"], [20011, "Video"]]],
  ["End-to-end loss", "%", [[20016, "Audio"], [20018, "Video"], [20036, "Video, web"]], 8],
  ["Received bitrate", "Kbps", [[20004, "Audio"], [20009, "Video"], [20030, "Video, low stream"]]],
  ["Received frame rate", "fps", [[20010, "Video"], [20031, "Low stream"]]],
  ["Played volume", "dB", [[20026, "Speaker"]]],
  ["Received resolution", "px", [[20019, "Width"], [20020, "Height"], [20032, "Width, low"], [20033, "Height, low"]]],
];

export const peersOf = (tracks) => [...new Set(tracks.map((track) => track.peer_uid).filter((uid) => uid !== 0 && uid !== null))];

// Charts of the tracks about a peer (0: the session's own): [{title, unit, limits, lines, tracks}].
export function chartsOf(tracks, peer) {
  const mine = tracks.filter((track) => String(track.peer_uid ?? 0) === String(peer));
  const rest = new Map(mine.map((track) => [track.mid, track]));
  const found = [];
  for (const [title, unit, mids, limit] of peer === 0 ? OWN : PEER) {
    const members = mids.filter(([mid]) => rest.has(mid));
    if (!members.length) continue;
    found.push({
      title, unit, limits: limit ? [{ limit, bad: "above" }] : [],
      lines: members.map(([, label]) => ({ label })), tracks: members.map(([mid]) => rest.get(mid)),
    });
    members.forEach(([mid]) => rest.delete(mid));
  }
  for (const track of rest.values()) {
    const title = /^\d+$/.test(track.name) ? `Metric ${track.name}` : name(track.name).replace(/_/g, " ");
    found.push({ title: title[0].toUpperCase() + title.slice(1), unit: track.unit, limits: [], lines: [{ label: "Value" }], tracks: [track] });
  }
  return found;
}

// Tracks on one axis: holes are nulls; where only another track has a sample the value is undefined, which is no hole.
export function joined(tracks) {
  const tables = tracks.map((track) => {
    const xs = [];
    const ys = [];
    for (const [ts, value] of track.points) {
      if (xs.length && ts - xs[xs.length - 1] > Math.max(HOLE, track.samples > track.points.length ? Infinity : 0)) { xs.push(xs[xs.length - 1] + 1); ys.push(null); }
      if (xs.length && ts <= xs[xs.length - 1]) continue;
      xs.push(ts);
      ys.push(value);
    }
    return [xs, ys];
  });
  const [xs, ...ys] = uPlot.join(tables);
  return { xs, ys };
}
