// Uses the page of `compress serve` as people do, with the keyboard, and says what it showed. Reads {browser, profile,
// looks: [{page, scheme, width, height, name?, answer?, screenshot?}]}: `name` is typed over the one that is suggested,
// and `answer` is sent in place of what the page sends to the server.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const job = JSON.parse(readFileSync(0, "utf8"));
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic"];
const context = await chromium.launchPersistentContext(job.profile, { executablePath: job.browser, headless: true, args });
const requests = [];
context.on("request", (request) => requests.push(request.url())); // of workers too
const found = [];
for (const look of job.looks) {
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`error: ${error}`));
  if (look.answer) await page.route("**/result", (route) => route.continue({ postData: JSON.stringify(look.answer) }));
  await page.emulateMedia({ colorScheme: look.scheme });
  await page.setViewportSize({ width: look.width, height: look.height });
  await page.goto(look.page, { waitUntil: "load" });
  await page.waitForSelector("body:is([data-state=ready], [data-state=failed])", { timeout: 60000 });
  const state = () => page.evaluate(() => document.body.dataset.state);
  let suggested = "", texts = [];
  if ((await state()) === "ready") {
    suggested = await page.locator("#name").inputValue();
    await page.locator("#name").focus();
    if (look.name !== undefined) {
      await page.keyboard.press("ControlOrMeta+a");
      await page.keyboard.insertText(look.name);
    }
    await page.evaluate(() => {
      window.texts = [];
      const note = () => window.texts.push(document.getElementById("state").textContent);
      new MutationObserver(note).observe(document.getElementById("state"), { childList: true });
    });
    await page.keyboard.press("Enter");
    if (await page.evaluate(() => document.getElementById("form").checkValidity())) {
      await page.waitForSelector("body:is([data-state=done], [data-state=failed])", { timeout: 240000 });
    }
    texts = await page.evaluate(() => window.texts);
  }
  const seen = await page.evaluate(() => {
    const cells = (row) => [...row.cells].map((cell) => cell.textContent);
    return {
      state: document.body.dataset.state,
      verdict: document.getElementById("verdict").textContent,
      focused: document.activeElement.id,
      error: document.getElementById("error").checkVisibility() ? document.getElementById("error").textContent : "",
      rows: [...document.getElementById("rows").rows].map(cells),
      labels: [...document.getElementById("label-rows").rows].map(cells),
      bars: [...document.querySelectorAll("#chart .p50")].map((bar) => bar.getBoundingClientRect().width),
      checks: [...document.querySelectorAll("#checks li")].map((item) => item.textContent),
      device: document.getElementById("device").textContent,
      ground: getComputedStyle(document.body).backgroundColor,
      widest: document.documentElement.scrollWidth,
      isolated: window.crossOriginIsolated,
    };
  });
  const tree = await page.locator("body").ariaSnapshot();
  if (look.screenshot) await page.screenshot({ path: look.screenshot, fullPage: true });
  found.push({ ...seen, suggested, texts, complaints, tree });
  await page.close();
}
await context.close();
console.log(JSON.stringify({ requests, looks: found }));
