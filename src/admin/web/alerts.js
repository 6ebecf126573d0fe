// The list of alerts: raised ones first, the most severe first, with what can be said of each.

import { acknowledge, canAcknowledge, canTeach, givenName, mayAcknowledge, remembered } from "./acknowledge.js";
import {
  byId,
  bySeverity,
  clockTime,
  element,
  isOwn,
  key,
  kindInWords,
  many,
  ofDevice,
  setText,
  showNodes,
  span,
  subject,
  utc,
  whenReleased,
} from "./text.js";

const LISTED_MAX = 60;

export class AlertList {
  #rows = new Map();
  #openSeries;
  #now;
  #known = null;
  #newest = [[], 0];
  #show = () => this.#showNow();

  constructor(openSeries, now) {
    [this.#openSeries, this.#now] = [openSeries, now];
    byId("by").value = givenName || remembered();
    byId("person").hidden = !mayAcknowledge;
  }

  show(all, raised) {
    this.#announce(all);
    this.#newest = [all, raised];
    whenReleased(this.#show);
  }

  #showNow() {
    const [all, raised] = this.#newest;
    const alerts = all
      .filter(alert => alert.state === "raised")
      .sort(bySeverity)
      .concat(all.filter(alert => alert.state !== "raised"));
    const more = raised - alerts.slice(0, LISTED_MAX).filter(alert => alert.state === "raised").length;
    byId("more-alerts").hidden = more <= 0;
    setText("more-alerts", "and " + many(more, "more", "more") + " raised, less severe or older: /api/alerts lists all of them");
    const before = this.#rows;
    this.#rows = new Map();
    for (const alert of alerts.slice(0, LISTED_MAX)) {
      // Times go on, a little at a time.
      const name = key(alert),
        text = JSON.stringify(alert) + Math.floor(this.#now() / 20_000),
        known = before.get(name);
      this.#rows.set(name, known?.text === text ? known : { text, node: this.#row(alert) });
    }
    const nodes = [...this.#rows.values()].map(row => row.node);
    this.#empty ??= element("p", { class: "empty", text: "No alerts. Everything that is watched is as usual." });
    showNodes(byId("alert-list"), nodes.length ? nodes : [this.#empty]);
  }

  #empty = null;

  // What is new is read aloud; what was there when the page was opened is not.
  #announce(all) {
    const raised = new Map(all.filter(alert => alert.state === "raised").map(alert => [alert.id, alert]));
    if (this.#known) {
      const news = [...raised.values()].filter(alert => !this.#known.has(alert.id)).sort(bySeverity);
      if (news.length)
        setText(
          "news",
          news
            .slice(0, 3)
            .map(alert => "New alert, " + alert.severity + ": " + alert.message)
            .join(". "),
        );
    }
    this.#known = raised;
  }

  #row(alert) {
    const isRaised = alert.state === "raised",
      severity = isRaised ? alert.severity : "cleared";
    const words = kindInWords(alert);
    const since = "since " + clockTime(alert.raised_at_ms, this.#now()) + " (" + span(this.#now() - alert.raised_at_ms) + ")";
    const facts = [isRaised ? since : "cleared " + clockTime(alert.cleared_at_ms ?? alert.updated_at_ms, this.#now())];
    if (alert.stale) facts.push("no data since " + clockTime(alert.last_reading_at_ms, this.#now()));
    if (alert.acknowledged_by)
      facts.push("seen by " + alert.acknowledged_by + (alert.normal === true ? ": normal" : alert.normal === false ? ": a fault" : ""));
    if (alert.stored === false) facts.push("not stored yet");
    const title = element("h3", {}, subject(alert), element("span", { text: words ? " " + words : "" }));
    if (ofDevice(alert)) title.append(element("span", { text: " · " + ofDevice(alert) }));
    const text = element(
      "div",
      {},
      title,
      element("p", { text: alert.message }),
      element("p", { class: "quiet", text: facts.join(" · "), title: utc(alert.raised_at_ms) }),
    );
    return element(
      "article",
      { class: "alert", "data-alert": key(alert) },
      element("span", { class: "severity " + severity, text: severity }),
      text,
      this.#buttons(alert),
    );
  }

  #buttons(alert) {
    const place = element("div", { class: "buttons" });
    const about = subject(alert) + (ofDevice(alert) ? " of " + ofDevice(alert) : "");
    if (!isOwn(alert) && !alert.metric.startsWith("_"))
      place.append(
        element("button", {
          type: "button",
          text: "Chart",
          "data-key": key(alert) + " chart",
          "aria-label": "Chart: " + about,
          onclick: () => this.#openSeries(alert.device, alert.metric),
        }),
      );
    if (!canAcknowledge(alert)) return place;
    const add = (text, word, isSaid) =>
      place.append(
        element("button", {
          type: "button",
          text,
          "data-key": key(alert) + " " + text,
          "aria-label": text + ": " + about,
          "aria-pressed": String(isSaid),
          onclick: event => this.#say(event.currentTarget, alert, word),
        }),
      );
    add("Seen", undefined, Boolean(alert.acknowledged_by));
    if (canTeach(alert)) {
      add("This is normal", true, alert.normal === true);
      add("This is a fault", false, alert.normal === false);
    }
    return place;
  }

  async #say(button, alert, word) {
    const name = byId("by").value.trim();
    const say = (text, isWell) => {
      byId("said").className = isWell ? "quiet" : "bad";
      setText("said", text);
    };
    if (!name) {
      say("Say who you are first.", false);
      byId("by").focus();
      return;
    }
    remembered(name);
    button.disabled = true;
    const { isTaken, text } = await acknowledge(alert, name, word);
    button.disabled = false;
    button.focus({ preventScroll: true });
    say(text, isTaken);
  }
}
