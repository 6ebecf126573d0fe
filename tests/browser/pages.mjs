// What the tests do with a page: open it, wait for something to be there, look at it.

import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";

const require = createRequire(process.env.MODULES + "/");
const puppeteer = (await import(require.resolve("puppeteer-core").replace("/cjs/", "/esm/"))).default;
const axe = readFileSync(require.resolve("axe-core"), "utf8");
const SCREENSHOTS = process.env.SCREENSHOTS;
const DEADLINE_MS = 30_000;

export const WIDTHS = { phone: { width: 390, height: 844, isMobile: true, hasTouch: true }, desktop: { width: 1280, height: 860 } };

export const launch = () =>
  puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--autoplay-policy=document-user-activation-required"],
  });

export async function until(what, condition, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  for (let found; ; await new Promise(resolve => setTimeout(resolve, 50))) {
    try {
      found = await condition();
    } catch (error) {
      if (Date.now() > end) throw error;
      found = null;
    }
    if (found) return found;
    if (Date.now() > end) throw new Error("waited in vain for: " + what);
  }
}

export function check(what, isRight) {
  if (!isRight) throw new Error("it does not hold that " + what);
}

// A page that notes what goes wrong in it.
export class View {
  static async open(browser, address, { width, scheme = "light", isRefused = false } = {}) {
    const view = new View();
    const page = await browser.newPage();
    Object.assign(view, { page, problems: [], mayLoseLink: false, isRefused });
    await page.setViewport({ deviceScaleFactor: 1, ...WIDTHS[width] });
    await page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: scheme },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    page.on("console", message => {
      if (["error", "warn"].includes(message.type())) view.note(message.text() + " " + (message.location()?.url ?? ""));
    });
    page.on("pageerror", error => view.note(error.stack));
    page.on("dialog", dialog => {
      view.note("a dialog: " + dialog.message());
      dialog.dismiss();
    });
    page.on("request", request => {
      if (!request.url().startsWith(new URL(address).origin) && !request.url().startsWith("data:"))
        view.note("asks elsewhere: " + request.url());
    });
    await page.goto(address);
    return view;
  }

  note(problem) {
    // What a browser says of a connection that was cut on purpose.
    if (this.mayLoseLink && /ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)/.test(problem)) return;
    // And of an answer that asks for a token.
    if (this.isRefused && /status of 401|ERR_ABORTED/.test(problem)) return;
    this.problems.push(problem);
  }

  text(selector) {
    return this.page.$eval(selector, element => element.innerText);
  }
  texts(selector) {
    return this.page.$$eval(selector, elements => elements.map(element => element.innerText));
  }
  isShown(selector) {
    return this.page.$eval(selector, element => element.checkVisibility());
  }
  until(what, condition, deadlineMs) {
    return until(what, condition, deadlineMs);
  }

  // By its words, in the first place where they are.
  async click(within, words) {
    const button = await this.until("the button " + words, () =>
      this.page
        .evaluateHandle(
          (within, words) =>
            [...document.querySelectorAll(within + " button")].find(it => it.textContent.trim() === words && it.checkVisibility()) ?? null,
          within,
          words,
        )
        .then(handle => handle.asElement()),
    );
    // A browser draws nothing in a page that is behind another one.
    await this.page.bringToFront();
    await button.evaluate(element => element.scrollIntoView({ block: "center" }));
    await button.click();
  }

  async tap(selector) {
    await this.page.bringToFront();
    await this.page.click(selector);
  }

  async press(key, times = 1) {
    await this.page.bringToFront();
    for (let time = 0; time < times; time++) await this.page.keyboard.press(key);
  }

  focused() {
    return this.page.evaluate(
      () => document.activeElement.getAttribute("aria-label") || document.activeElement.textContent.trim() || document.activeElement.id,
    );
  }

  async shot(name) {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await this.page.bringToFront();
    await this.page.screenshot({ path: SCREENSHOTS + "/" + name + ".png" });
  }

  async checkLayout(name) {
    const wide = await this.page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    check(name + " does not scroll sideways: " + wide, wide[0] <= wide[1]);
  }

  // With a tool that others wrote.
  async checkAccess(name) {
    await this.page.bringToFront();
    // Its own script, past the policy of the page; the page's own are not touched by that.
    await this.page.evaluate(axe);
    const { violations } = await this.page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    const found = violations.map(
      it => it.id + ": " + it.help + "\n  " + it.nodes.map(node => node.html + " " + (node.any[0]?.message ?? "")).join("\n  "),
    );
    check(name + " is accessible:\n" + found.join("\n"), !found.length);
  }

  async close() {
    check("nothing went wrong in the page:\n" + this.problems.join("\n"), !this.problems.length);
    await this.page.close();
  }
}
