// The connection to the box: events as they come, and whether it is there. Connects again by itself, whatever has happened to it.

// The box tells its status every two seconds: without a word for so long, something is wrong.
const LOST_AFTER_MS = 5000;
// A connection that was closed is back within this time, or something is wrong.
const CUT_AFTER_MS = 2500;
const CONNECT_EVERY_MS = 2000;
// A browser has few connections to one host, and each page that is open takes one.
const PAUSE_AFTER_MS = 60_000;

// Whoever is not logged in any more gets the form, with the page itself.
async function isLoggedOut() {
  try {
    return (await fetch("/api/openapi.json", { method: "HEAD" })).status === 401;
  } catch {
    return false;
  }
}

export class Link {
  #source = null;
  #heard = performance.now();
  #began = performance.now();
  #heardAtMs = Date.now();
  #cut = Infinity;
  #isUp = null;
  #version = null;
  #hidden = 0;
  #isPaused = false;
  #query;
  #handlers;
  offsetMs = 0;

  // handlers: alerts, alert, status, values, and link(isUp, sinceMs). pauses: while nobody sees the page for a minute, it is told nothing.
  constructor(query, handlers, pauses = false) {
    this.#query = query;
    this.#handlers = handlers;
    this.#connect();
    setInterval(() => this.#watch(), 500);
    if (pauses) document.addEventListener("visibilitychange", () => this.#see());
    addEventListener("pageshow", event => {
      if (event.persisted) this.#connect();
    });
  }

  // Something else is wanted.
  ask(query) {
    if (query === this.#query) return;
    this.#query = query;
    this.#connect();
  }

  now() {
    return Date.now() + this.offsetMs;
  }

  #see() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      this.#hidden = setTimeout(() => {
        this.#isPaused = true;
        this.#source.close();
      }, PAUSE_AFTER_MS);
    } else if (this.#isPaused) {
      [this.#isPaused, this.#heard, this.#cut] = [false, performance.now(), Infinity];
      this.#connect();
    }
  }

  #connect() {
    if (this.#isPaused) return;
    this.#source?.close();
    this.#began = performance.now();
    const source = new EventSource("/api/events?" + this.#query);
    this.#source = source;
    for (const name of ["alerts", "alert", "status", "values"]) {
      source.addEventListener(name, event => {
        if (source !== this.#source) return;
        this.#hear();
        const data = JSON.parse(event.data);
        if (name === "status") this.#takeStatus(data);
        this.#handlers[name]?.(data);
      });
    }
    source.onerror = async () => {
      if (source === this.#source) this.#cut = Math.min(this.#cut, performance.now());
      // A browser tries again by itself unless the answer was a refusal.
      if (source.readyState === EventSource.CLOSED && (await isLoggedOut())) location.reload();
    };
  }

  #takeStatus(status) {
    this.offsetMs = status.now_ms - Date.now();
    // Another version may have other pages.
    const version = status.version;
    if (this.#version && this.#version !== version) location.reload();
    this.#version = version;
  }

  #hear() {
    this.#heard = performance.now();
    this.#heardAtMs = Date.now();
    this.#cut = Infinity;
    this.#tell(true);
  }

  #watch() {
    if (this.#isPaused) return;
    const now = performance.now();
    const silentMs = now - this.#heard;
    if (silentMs > LOST_AFTER_MS || now - this.#cut > CUT_AFTER_MS) this.#tell(false);
    // A connection that was cut without a word looks open for ever.
    const isRefused = this.#source.readyState === EventSource.CLOSED;
    if (now - this.#began > CONNECT_EVERY_MS && (isRefused || (silentMs > LOST_AFTER_MS && now - this.#began > LOST_AFTER_MS)))
      this.#connect();
  }

  #tell(isUp) {
    if (isUp === this.#isUp) return;
    this.#isUp = isUp;
    this.#handlers.link?.(isUp, this.#heardAtMs);
  }
}

// All alerts, as the events tell them.
export class Alerts {
  #all = new Map();

  take(event, data) {
    if (event === "alerts") this.#all.clear();
    for (const alert of event === "alerts" ? data.alerts : [data]) {
      const name = JSON.stringify([alert.device, alert.metric, alert.kind]);
      if (alert.state === "removed") this.#all.delete(name);
      else this.#all.set(name, alert);
    }
  }

  list() {
    return [...this.#all.values()];
  }
}
