// Says who has seen an alert, and what it was.

import { canBeAsked, key, ofDevice, subject } from "./text.js";

export const mayAcknowledge = document.body.dataset.role !== "view";

// A browser may keep nothing for us.
export function remembered(name) {
  try {
    if (name) localStorage.setItem("by", name);
    return localStorage.getItem("by") || "";
  } catch {
    return "";
  }
}

export const givenName = document.body.dataset.name || "";

export const canAcknowledge = alert => mayAcknowledge && canBeAsked([alert.device, alert.metric, alert.kind]);

// Nothing is learned from other kinds.
export const canTeach = alert => alert.kind === "anomaly" || alert.kind === "stuck";

// Returns what the gateway says, and whether it took it.
export async function acknowledge(alert, by, normal) {
  try {
    const answer = await fetch("/api/alerts/" + key(alert) + "/ack", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ by, normal }),
    });
    if (answer.status === 401) location.reload();
    const text = (await answer.text()).trim();
    return { isTaken: answer.ok, text: subject(alert) + (ofDevice(alert) ? ", " + ofDevice(alert) : "") + ": " + text };
  } catch {
    return { isTaken: false, text: "no answer from the gateway; try again when the link is back" };
  }
}
