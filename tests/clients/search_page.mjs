// Uses examples/search as people do, with the keyboard, and says what it showed. Reads {browser, profile,
// looks: [{page, scheme, width, height, queries, screenshot?}]}; the first query is typed before the model is there.
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
  await page.emulateMedia({ colorScheme: look.scheme });
  await page.setViewportSize({ width: look.width, height: look.height });
  await page.goto(look.page, { waitUntil: "load" });
  const focused = await page.evaluate(() => document.activeElement.id);
  const texts = (selector) => page.locator(selector).allTextContents();
  const answers = [];
  for (const [index, query] of look.queries.entries()) {
    if (index) await page.locator("#query").press("ControlOrMeta+a");
    await page.keyboard.insertText(query); // as from a clipboard
    await page.keyboard.press("Enter");
    if (!index) await page.waitForSelector("body:is([data-state=ready], [data-state=failed])", { timeout: 120000 });
    await page.waitForFunction((text) => document.getElementById("summary").textContent.includes(`“${text}”`), query);
    answers.push({
      summary: await page.locator("#summary").textContent(),
      places: await page.locator("#results > li").evaluateAll((items) => items.map((item) => Number(item.dataset.index))),
      cosines: (await texts("#results .cosine")).map(Number),
      texts: await texts("#results .text"),
    });
  }
  await page.waitForSelector("body:is([data-state=ready], [data-state=failed])", { timeout: 120000 });
  const folded = page.getByRole("button", { name: "Show all" }).first();
  const heights = [];
  if (await folded.count()) {
    const words = folded.locator("xpath=preceding-sibling::p[1]");
    const height = async () => (await words.boundingBox()).height;
    heights.push(await height());
    await folded.focus();
    await page.keyboard.press("Enter");
    heights.push(await page.locator("#results .text.open").first().evaluate((node) => node.getBoundingClientRect().height));
  }
  const seen = await page.evaluate(() => ({
    state: document.body.dataset.state,
    told: document.getElementById("state").textContent.trim(),
    error: document.getElementById("error").checkVisibility() ? document.getElementById("error").textContent : "",
    ground: getComputedStyle(document.body).backgroundColor,
    widest: document.documentElement.scrollWidth,
    bar: document.getElementById("bar").checkVisibility(),
  }));
  const tree = await page.locator("body").ariaSnapshot();
  if (look.screenshot) await page.screenshot({ path: look.screenshot });
  found.push({ ...seen, focused, answers, heights, complaints, tree });
  await page.close();
}
await context.close();
console.log(JSON.stringify({ requests, looks: found }));
