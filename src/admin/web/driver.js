// The page for whoever drives: what is wrong, in words, since when, and with a sound. Nothing else.

import { acknowledge, canAcknowledge, givenName } from "./acknowledge.js";
import { Alerts, Link } from "./link.js";
import {
  byId,
  bySeverity,
  clockTime,
  element,
  isOwn,
  key,
  kindInWords,
  ofDevice,
  setText,
  showNodes,
  span,
  subject,
  whenReleased,
} from "./text.js";

const DRIVER = givenName || "driver";
// What nobody has seen is told again.
const REPEAT_MS = { critical: 8_000, major: 30_000 };
const SHOWN_MAX = 12;

const alerts = new Alerts();
let known = null;
let isLinked = true;

class Sound {
  #context = null;
  #told = new Map();

  get isOn() {
    return this.#context?.state === "running";
  }

  // Browsers allow sound after a touch only.
  async turnOn() {
    this.#context ??= new AudioContext();
    await this.#context.resume();
    this.#play(
      [
        [660, 0, 0.12],
        [880, 0.14, 0.16],
      ],
      0.15,
    );
  }

  async turnOff() {
    await this.#context?.suspend();
  }

  onChange(listener) {
    this.#context?.addEventListener("statechange", listener);
  }

  // Notes of frequency, begin and length in seconds.
  #play(notes, loudness) {
    if (!this.isOn) return;
    for (const [frequency, begin, length] of notes) {
      const tone = this.#context.createOscillator(),
        volume = this.#context.createGain(),
        at = this.#context.currentTime + begin;
      tone.frequency.value = frequency;
      volume.gain.setValueAtTime(0, at);
      volume.gain.linearRampToValueAtTime(loudness, at + 0.02);
      volume.gain.setValueAtTime(loudness, at + length - 0.03);
      volume.gain.linearRampToValueAtTime(0, at + length);
      tone.connect(volume).connect(this.#context.destination);
      tone.start(at);
      tone.stop(at + length);
    }
  }

  lost() {
    this.#play(
      [
        [392, 0, 0.25],
        [294, 0.28, 0.4],
      ],
      0.3,
    );
  }
  back() {
    this.#play(
      [
        [294, 0, 0.15],
        [392, 0.17, 0.2],
      ],
      0.15,
    );
  }

  // Sounds for the gravest that nobody has seen, when it is new and from time to time.
  alerts(raised) {
    const now = performance.now(),
      unseen = raised.filter(alert => !alert.acknowledged_by).sort(bySeverity);
    for (const id of this.#told.keys()) if (!unseen.some(alert => alert.id === id)) this.#told.delete(id);
    const due = unseen.filter(({ id, severity }) => !this.#told.has(id) || now - this.#told.get(id) > (REPEAT_MS[severity] ?? Infinity));
    if (!due.length || !this.isOn) return;
    due.forEach(({ id }) => this.#told.set(id, now));
    const { severity } = due[0];
    if (severity === "critical")
      this.#play(
        [
          [988, 0, 0.18],
          [784, 0.22, 0.18],
          [988, 0.44, 0.18],
          [784, 0.66, 0.3],
        ],
        0.5,
      );
    else if (severity === "major")
      this.#play(
        [
          [880, 0, 0.18],
          [880, 0.3, 0.25],
        ],
        0.4,
      );
    else this.#play([[660, 0, 0.2]], 0.2);
  }
}

const sound = new Sound();

function showSound() {
  byId("sound").setAttribute("aria-pressed", String(sound.isOn));
  setText("sound", sound.isOn ? "Sound is on" : "Sound is off. Touch to turn it on");
}

byId("sound").addEventListener("click", async () => {
  if (sound.isOn) await sound.turnOff();
  else {
    await sound.turnOn();
    sound.onChange(showSound);
  }
  showSound();
  keepAwake();
});

// The screen stays on where the browser can do that.
async function keepAwake() {
  try {
    if (document.visibilityState === "visible") await navigator.wakeLock?.request("screen");
  } catch {
    // Then the tablet's own settings decide.
  }
}
document.addEventListener("visibilitychange", keepAwake);

// What the gateway says of itself, as far as it concerns whoever drives.
const OWN = {
  sink: "What was measured is kept here until it can be sent",
  store: "New data may not be stored",
  disk: "New data may not be stored",
  damage: "Some data may be lost",
  stalled: "The box does not work properly",
  unrouted: "Something sends data that is not stored",
  denied: "Something is not allowed to send its data",
  clock: "The time of a device is wrong",
  rules: "A rule does not work",
  certificate: "Tell the workshop",
  series: "Not everything is watched",
  alerts: "Not every alert is shown",
  sessions: "A display may have missed messages",
};

// The words of the alert without its numbers, which say little at a glance.
function inWords(alert) {
  const what = kindInWords(alert);
  if (isOwn(alert)) return OWN[alert.metric.split("-")[0]] ?? alert.message;
  if (alert.stale) return "Nothing is heard of it any more";
  if (alert.kind === "gap") return "No data";
  if (alert.kind === "anomaly" && Number.isFinite(alert.value) && Number.isFinite(alert.expected)) {
    if (alert.value > alert.expected) return "Higher than usual";
    if (alert.value < alert.expected) return "Lower than usual";
  }
  if (alert.kind === "limit" && Number.isFinite(alert.value) && Number.isFinite(alert.expected))
    return alert.value > alert.expected ? "Above its limit" : "Below its limit";
  if (!["anomaly", "stuck", "limit"].includes(alert.kind)) return alert.message;
  return what.charAt(0).toUpperCase() + what.slice(1);
}

function row(alert) {
  const isSeen = Boolean(alert.acknowledged_by);
  const title = subject(alert) + (ofDevice(alert) ? " · " + ofDevice(alert) : "");
  const ageMs = link.now() - alert.raised_at_ms;
  const since =
    "since " +
    clockTime(alert.raised_at_ms, link.now()) +
    ", " +
    (ageMs < 10_000 ? "just now" : "for " + span(ageMs)) +
    (isSeen ? " · seen by " + alert.acknowledged_by : "");
  const made = element(
    "article",
    { class: "alert " + alert.severity + (isSeen ? " is-seen" : "") + (isOwn(alert) ? " is-own" : ""), "data-alert": key(alert) },
    element(
      "div",
      {},
      element("h2", { text: title }),
      element("p", { class: "what", text: inWords(alert) }),
      element("p", { class: "since", text: since }),
    ),
  );
  if (canAcknowledge(alert) && !isSeen) {
    made.append(
      element("button", {
        type: "button",
        text: "Seen",
        "data-key": key(alert),
        "aria-label": "Seen: " + title,
        onclick: async event => {
          event.currentTarget.disabled = true;
          const { isTaken, text } = await acknowledge(alert, DRIVER);
          setText("said", isTaken ? "" : text);
          if (!isTaken) {
            rows.delete(key(alert));
            show();
          }
        },
      }),
    );
  }
  return made;
}

let rows = new Map();

function show() {
  const raised = alerts
    .list()
    .filter(alert => alert.state === "raised")
    .sort((a, b) => Boolean(a.acknowledged_by) - Boolean(b.acknowledged_by) || isOwn(a) - isOwn(b) || bySeverity(a, b));
  byId("well").hidden = raised.length > 0 || known === null;
  sound.alerts(isLinked ? raised : []);
  const news = raised.filter(alert => known && !known.has(alert.id));
  if (news.length)
    setText("news", news.map(alert => subject(alert) + (ofDevice(alert) ? ", " + ofDevice(alert) : "") + ": " + inWords(alert)).join(". "));
  if (known) known = new Set(raised.map(alert => alert.id));
  const before = rows;
  rows = new Map();
  for (const alert of raised.slice(0, SHOWN_MAX)) {
    const text = JSON.stringify(alert) + Math.floor(link.now() / 10_000),
      known = before.get(key(alert));
    rows.set(key(alert), known?.text === text ? known : { text, node: row(alert) });
  }
  const more = raised.length - SHOWN_MAX;
  const last = more > 0 ? [element("p", { text: "and " + more + " more" })] : [];
  showNodes(byId("alerts"), [...rows.values()].map(row => row.node).concat(last));
}

const showSoon = () => whenReleased(show);

const link = new Link("events=alerts,status", {
  alerts: data => {
    alerts.take("alerts", data);
    known ??= new Set(alerts.list().map(alert => alert.id));
    showSoon();
  },
  alert: data => {
    alerts.take("alert", data);
    showSoon();
  },
  link: (isUp, heardAtMs) => {
    const wasUp = isLinked;
    isLinked = isUp;
    document.body.classList.toggle("is-lost", !isUp);
    byId("lost").hidden = isUp;
    byId("lost").replaceChildren(
      ...(isUp ? [] : ["Link to the box lost", element("span", { text: "since " + clockTime(heardAtMs) + ". What is shown may be old." })]),
    );
    if (wasUp && !isUp) sound.lost();
    if (!wasUp && isUp) sound.back();
  },
});

setInterval(showSoon, 1000);
showSound();
keepAwake();
