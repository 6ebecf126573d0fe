// Runs the status page's script on a small DOM, against the gateway at this address, and clicks: prints a line of JSON for each step.
"use strict";

class Node {}
class Element extends Node {
  constructor(tag) {
    super();
    Object.assign(this, { tag, children: [], dataset: {}, attributes: {}, listeners: {}, value: "", text: "" });
  }
  set textContent(text) { this.text = String(text); this.children = []; }
  get textContent() { return this.text + this.children.map(child => child.textContent).join(""); }
  append(...children) { this.children.push(...children); }
  replaceChildren() { this.textContent = ""; }
  add(tag) { const child = new Element(tag); this.append(child); return child; }
  createTHead() { return this.add("thead"); }
  createTBody() { return this.add("tbody"); }
  insertRow() { return this.add("tr"); }
  setAttribute(name, value) { this.attributes[name] = value; }
  addEventListener(event, listener) { this.listeners[event] = listener; }
  focus() { document.activeElement = this; }
  all(tag) { return this.children.flatMap(child => [...(child.tag === tag ? [child] : []), ...child.all(tag)]); }
}

const ids = {};
const byId = id => (ids[id] ??= new Element(id));
globalThis.Node = Node;
globalThis.document = {
  body: new Element("body"),
  activeElement: null,
  createElement: tag => new Element(tag),
  getElementById: byId,
  querySelectorAll: () => byId("alerts").all("button"),
};
const [, , address, cookie] = process.argv;
const headers = cookie ? { cookie } : {};
const realFetch = globalThis.fetch;
const requests = [];
globalThis.fetch = (path, options = {}) => {
  if (options.method) requests.push(realFetch(address + path, { ...options, headers: { ...options.headers, ...headers, origin: address } }));
  return options.method ? requests.at(-1) : realFetch(address + path, { headers });
};
const print = step => console.log(JSON.stringify(step));
const buttons = () => byId("alerts").all("button");

(async () => {
  const page = await (await realFetch(address + "/", { headers })).text();
  const body = page.match(/<body([^>]*)>/)[1];
  for (const [, name, value] of body.matchAll(/data-(\w+)="([^"]*)"/g)) document.body.dataset[name] = value;
  const script = page.match(/<script>([\s\S]*)<\/script>/)[1];
  // Refreshed when we say so.
  const refresh = (0, eval)(script.replace("setTimeout(refresh, 2000);", "").replace(/refresh\(\);\s*$/, "refresh"));
  await refresh();
  print(buttons().map(button => button.attributes["aria-label"]));
  if (!buttons().length) return;
  buttons()[1].listeners.click();
  print([byId("said").textContent, document.activeElement === byId("by"), requests.length]);
  byId("by").value = " anna ";
  for (const at of [0, 1, 2]) {
    const button = buttons()[at];
    button.focus();
    button.listeners.click();
    await requests.at(-1);
    while (!byId("said").textContent.includes(": acknowledged")) await new Promise(resolve => setTimeout(resolve, 5));
    const text = byId("said").textContent;
    byId("said").textContent = "";
    // Until it is stored, and shown.
    while (buttons()[at].attributes["aria-pressed"] !== "true") {
      await new Promise(resolve => setTimeout(resolve, 20));
      await refresh();
    }
    const hasFocus = document.activeElement === buttons()[at];
    print([text, buttons().map(button => button.attributes["aria-pressed"]).join(" "), byId("alerts").all("td")[6].textContent, hasFocus]);
  }
})();
