// Opens pages in a browser that is installed here, and says what it found: what was asked for, what was complained of,
// what is to be seen. Reads {browser, profile, looks: [{page, scheme, width, height, screenshot?, full?}]}.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const job = JSON.parse(readFileSync(0, "utf8"));
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic"];
const context = await chromium.launchPersistentContext(job.profile, { executablePath: job.browser, headless: true, args });
const found = [];
for (const look of job.looks) {
  const page = await context.newPage();
  const requests = [], complaints = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`error: ${error}`));
  await page.emulateMedia({ colorScheme: look.scheme });
  await page.setViewportSize({ width: look.width, height: look.height });
  await page.goto(look.page, { waitUntil: "load" });
  const seen = await page.evaluate(() => {
    const visible = (node) => node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    const shown = (selector) =>
      [...document.querySelectorAll(selector)].map((node) => {
        const box = node.getBoundingClientRect();
        return { text: node.textContent.trim(), visible: visible(node) && box.width > 0 && box.height > 0 };
      });
    const texts = [...document.querySelectorAll("figure.plot text.name")].map((node) => node.getBoundingClientRect());
    return {
      verdict: shown(".verdict strong"),
      headings: shown("h1, h2"),
      drawings: shown("svg[role=img]"),
      rows: shown("tbody tr"),
      ground: getComputedStyle(document.body).backgroundColor,
      markers: [...new Set([...document.querySelectorAll("svg .marker")].map((node) => getComputedStyle(node).color))],
      widest: document.documentElement.scrollWidth,
      smallest: Math.min(...texts.map((box) => box.height)),
    };
  });
  const names = await page.getByRole("img").evaluateAll((nodes) => nodes.length);
  const tree = await page.locator("body").ariaSnapshot();
  if (look.screenshot) await page.screenshot({ path: look.screenshot, fullPage: look.full ?? false });
  if (look.pdf) await page.pdf({ path: look.pdf, format: "A4" });
  found.push({ ...seen, requests, complaints, names, tree });
  await page.close();
}
await context.close();
console.log(JSON.stringify(found));
