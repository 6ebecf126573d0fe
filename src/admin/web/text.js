// Words, numbers and elements. Names and payloads come from devices: they only ever enter a page as text.

export function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter(child => child !== undefined && child !== null));
  return made;
}

export const byId = id => document.getElementById(id);

export function setText(place, text) {
  const node = typeof place === "string" ? byId(place) : place;
  // The same text again would be read aloud again.
  if (node.textContent !== text) node.textContent = text;
}

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
export const whole = n => (n === null || n === undefined ? "–" : plain.format(n));

// As many digits as people read.
export function short(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return "–";
  const size = Math.abs(n);
  if (size >= 100000 || (size > 0 && size < 0.001)) return n.toExponential(2);
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
  return new Intl.NumberFormat("en", { maximumFractionDigits: digits }).format(n);
}

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (n >= 1000 && at < 4) {
    n /= 1000;
    at++;
  }
  return (at && n < 100 ? n.toFixed(1) : Math.round(n)) + "\u00a0" + units[at];
}

export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 100) return s + "\u00a0s";
  if (s < 6000) return Math.round(s / 60) + "\u00a0min";
  if (s < 172800) return (s / 3600).toFixed(s < 36000 ? 1 : 0) + "\u00a0h";
  return Math.round(s / 86400) + "\u00a0days";
}

const two = n => String(n).padStart(2, "0");

// The time of the reader's own clock; with the day if it is another one.
export function clockTime(ms, now = Date.now()) {
  const at = new Date(ms);
  const time = two(at.getHours()) + ":" + two(at.getMinutes());
  if (at.toDateString() === new Date(now).toDateString()) return time;
  return at.toLocaleDateString(undefined, { day: "numeric", month: "short" }) + " " + time;
}

// What tools on the command line show.
export const utc = ms => new Date(ms).toISOString().slice(0, 19) + "Z";

// "cargo.container_temperature" as people say it.
export function spoken(name) {
  const last = name.split(".").pop();
  const words =
    last
      .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
      .replace(/[_\-]+/g, " ")
      .trim() || name;
  return words.charAt(0).toUpperCase() + words.slice(1);
}

const OWN = {
  series: "Too many series",
  alerts: "Too many alerts",
  sessions: "A session was lost",
  unrouted: "Data that is not stored",
  denied: "A client was refused",
  store: "The store",
  disk: "The disk",
  damage: "The store was damaged",
  clock: "A clock is wrong",
  stalled: "The gateway is stalled",
  rules: "Rules",
};

export const isOwn = alert => alert.device === "_gateway";

// What it is about, in words.
export function subject({ device, metric }) {
  if (device === "_gateway") {
    if (metric.startsWith("sink-")) return "Sending to " + metric.slice(5) + " fails";
    if (metric.startsWith("certificate-")) return "A certificate expires";
    return OWN[metric] || "The gateway";
  }
  return metric === "_device" ? device : metric === "_rule" ? "A rule" : spoken(metric);
}

// The device, where that does not say it already.
export const ofDevice = ({ device, metric }) => (device === "_gateway" || metric === "_device" ? "" : device);

const KINDS = { anomaly: "unusual", stuck: "stands still", gap: "no data", limit: "beyond its limit", gateway: "" };

export function kindInWords({ kind, metric, detectors = [] }) {
  if (kind === "gap" && metric === "_device") return "silent: no data";
  if (kind === "anomaly" && detectors[0] === "spike") return "sudden jump";
  if (kind === "anomaly" && detectors[0] === "burst") return "restless";
  return kind in KINDS ? KINDS[kind] : "rule " + kind;
}

export const key = ({ device, metric, kind }) => [device, metric, kind].map(encodeURIComponent).join("/");

// Browsers take such levels out of a path, however they are written.
export const canBeAsked = levels => levels.every(level => level !== "" && level !== "." && level !== "..");

export const seriesPath = (device, metric) => "/api/series/" + encodeURIComponent(device) + "/" + encodeURIComponent(metric);

export const SEVERITIES = ["critical", "major", "minor", "warning"];
export const many = (n, one, more = one + "s") => whole(n) + " " + (n === 1 ? one : more);

// Nodes that are there already stay where they are: somebody may be in them.
export function showNodes(place, nodes) {
  const focused = document.activeElement,
    key = focused?.dataset?.key,
    isIn = place.contains(focused);
  const gone = [...place.children].filter(child => !nodes.includes(child));
  gone.forEach(child => child.remove());
  nodes.forEach((node, at) => {
    if (place.children[at] !== node) place.insertBefore(node, place.children[at] ?? null);
  });
  if (!isIn || document.activeElement === focused) return;
  if (focused.isConnected) focused.focus({ preventScroll: true });
  else if (key) [...place.querySelectorAll("button")].find(button => button.dataset.key === key)?.focus({ preventScroll: true });
}

// What is under a finger does not change until it is lifted.
let isPressed = false;
let waiting = new Set();
addEventListener(
  "pointerdown",
  () => {
    isPressed = true;
  },
  true,
);
for (const name of ["pointerup", "pointercancel"]) {
  // After the click that follows.
  addEventListener(
    name,
    () =>
      setTimeout(() => {
        isPressed = false;
        const all = waiting;
        waiting = new Set();
        all.forEach(show => show());
      }),
    true,
  );
}
export const whenReleased = show => {
  if (isPressed) waiting.add(show);
  else show();
};

export const bySeverity = (a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || b.raised_at_ms - a.raised_at_ms;
