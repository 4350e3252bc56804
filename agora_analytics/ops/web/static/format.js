// Numbers with units, times in UTC or the viewer's zone, durations.

export const NONE = "–";

const zone = { utc: true };

export const setZone = (name) => { zone.utc = name !== "local"; };

export const isUtc = () => zone.utc;

// The zone of times; its name may be another one at another time of the year.
export function zoneName(ts) {
  if (zone.utc) return "UTC";
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(isNumber(ts) && Math.abs(ts) <= MAX_TS ? new Date(ts * 1000) : new Date());
  return parts.find((part) => part.type === "timeZoneName")?.value ?? "local time";
}

const formats = new Map();
const MAX_TS = 8.64e12; // seconds that a Date can hold

function written(ts, shape, options) {
  if (!isNumber(ts) || Math.abs(ts) > MAX_TS) return NONE;
  const key = `${shape}${zone.utc}`;
  if (!formats.has(key)) {
    formats.set(key, new Intl.DateTimeFormat("en-GB", { ...options, hourCycle: "h23", timeZone: zone.utc ? "UTC" : undefined }));
  }
  return formats.get(key).format(new Date(ts * 1000)).replace(",", "");
}

const HM = { hour: "2-digit", minute: "2-digit" };
const DM = { day: "numeric", month: "short" };

export const clock = (ts) => written(ts, "s", { ...HM, second: "2-digit" });
export const minute = (ts) => written(ts, "m", HM);
export const day = (ts) => written(ts, "d", DM);
export const weekday = (ts) => written(ts, "w", { weekday: "short", ...DM });
export const month = (ts) => written(ts, "M", { month: "long", year: "numeric" });
export const dayTime = (ts) => written(ts, "dt", { ...DM, ...HM });
export const moment = (ts) => written(ts, "f", { ...DM, year: "numeric", ...HM, second: "2-digit" });
export const iso = (ts) => (isNumber(ts) && Math.abs(ts) <= MAX_TS ? new Date(ts * 1000).toISOString() : "");

// The value of an <input type="datetime-local">, and back.
export function inputTime(ts) {
  const shift = zone.utc ? 0 : new Date(ts * 1000).getTimezoneOffset() * 60;
  return new Date((ts - shift) * 1000).toISOString().slice(0, 16);
}
export const fromInput = (text) => Math.floor(Date.parse(zone.utc ? `${text}Z` : text) / 1000);

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const LONG = 1e9;

export function count(value) {
  if (!isNumber(value)) return NONE;
  if (Math.abs(value) >= LONG) return compact(value);
  if (Number.isInteger(value) || Math.abs(value) >= 100) return whole.format(value);
  return String(Number(value.toPrecision(3)));
}

export const compact = (value) => (!isNumber(value) ? NONE : Math.abs(value) >= 1e15 ? value.toExponential(1) : short.format(value));

// A fraction as per cent: two digits below 1 %, one below 100 %.
export function percent(value) {
  if (!isNumber(value)) return NONE;
  const shown = value * 100;
  if (shown >= 1000) return ">999 %";
  return `${shown.toFixed(shown === 0 || Math.abs(shown) >= 99.95 ? 0 : Math.abs(shown) < 1 ? 2 : 1)} %`;
}

export function quantity(value, unit) {
  if (!isNumber(value)) return NONE;
  if (unit === "fraction") return percent(value);
  return unit ? `${count(value)} ${unit}` : count(value);
}

export function axisValue(value, unit) {
  if (unit === "fraction") return `${Number((value * 100).toPrecision(6))} %`;
  return compact(value);
}

export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const all = Math.max(0, Math.round(seconds));
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min${all < 600 && all % 60 ? ` ${all % 60} s` : ""}`;
  if (all < 86400) return `${Math.floor(all / 3600)} h ${String(Math.floor((all % 3600) / 60)).padStart(2, "0")} min`;
  return `${whole.format(Math.floor(all / 86400))} d ${Math.floor((all % 86400) / 3600)} h`;
}

export const ago = (seconds) => (isNumber(seconds) ? `${duration(seconds)} ago` : NONE);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

const PILES = /(\p{M}{3})\p{M}+/gu;

// A name as it can be shown: what is invisible, or turns the text around, becomes a visible mark; piles of accents end.
export function name(text, none = "(no name)") {
  if (text === null || text === undefined || text === "") return none;
  return String(text).slice(0, 2_000).replace(HIDDEN, "\ufffd").replace(PILES, "$1").slice(0, 300);
}

const WORDS = {
  userCount: "Users", channelCount: "Channels", videoFreezeRate: "Video freeze", audioFreezeRate: "Audio freeze",
  networkDelay: "Network delay", joinSuccessRate: "Join success", joinSuccessIn5sRate: "Join success in 5 s",
  sessionCount: "Sessions", peakCurrentChannels: "Peak channels", peakCurrentUsers: "Peak users",
  peakConcurrentChannels: "Peak channels", peakConcurrentUsers: "Peak users", totalDuration: "Minutes",
  totalVideoDuration: "Video minutes", totalAudioDuration: "Audio-only minutes",
  user_count: "Users", audio_freeze_rate: "Audio freeze", video_freeze_rate: "Video freeze",
  audio_freeze_user_count: "Users with audio freezes", video_freeze_user_count: "Users with video freezes",
  country: "Country", region: "Region", net: "Network", network: "Network", sdk: "SDK", sdkVersion: "SDK version",
  os: "Operating system", device: "Device", channelSize: "Channel size",
  call_lists: "Call lists", call_details: "Call details", realtime: "Real-time", insight_usage: "Usage insights",
  insight_quality: "Quality insights", insight_usage_total: "Usage totals", insight_quality_total: "Quality totals",
};

// The words for a name of the API; a name that is not known, as it is.
export const words = (id) => (Object.hasOwn(WORDS, id) ? WORDS[id] : name(id).replace(/_/g, " "));
