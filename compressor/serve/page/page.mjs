// The page: asks for the device's name, lets a worker run what ships, hands its result back, and shows the server's answer.

const element = (id) => document.getElementById(id);
const made = (tag, text, className = "") => Object.assign(document.createElement(tag), { textContent: text, className });
const milliseconds = (value) => (value === null ? "–" : value.toFixed(2));

/** What a device may be called by default: the words in brackets of its user agent, or the system's name. */
function guessedName() {
  const agent = navigator.userAgent;
  const model = navigator.userAgentData?.platform || agent.match(/\(([^)]*)\)/)?.[1].split(";").at(-1) || "device";
  const browser = agent.match(/(Firefox|FxiOS|Edg|SamsungBrowser|CriOS|Chrome|Safari)/)?.[1] ?? "browser";
  const plain = `${model} ${browser}`.replace(/[^\w .,()+-]/g, "").trim();
  return plain.slice(0, 60);
}

function show(state, text = "") {
  document.body.dataset.state = state;
  element("progress").hidden = state !== "running";
  element("state").textContent = text;
}

function fail(message) {
  show("failed");
  element("error").textContent = message;
  element("error").hidden = false;
  setForm(true);
}

function setForm(enabled) {
  for (const id of ["name", "start"]) element(id).disabled = !enabled;
}

function advance({ text, done, total }) {
  show("running", text);
  if (total) Object.assign(element("bar"), { max: total, value: done });
  else element("bar").removeAttribute("value");
}

/** The result of a worker that runs a job. */
function ran(job) {
  const worker = new Worker("worker.mjs", { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.progress) advance(data.progress);
      else if (data.result) resolve(data.result);
      else reject(new Error(data.error));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(event.message ?? "onnxruntime-web cannot be loaded; this browser may be too old"));
    };
    worker.postMessage(job);
  }).finally(() => worker.terminate());
}

async function sent(result) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch("result", { method: "POST", headers, body: JSON.stringify(result) });
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  throw new Error(`The result was refused. ${text ? JSON.parse(text).error : `The server answers ${response.status}.`}`);
}

async function measure(job) {
  element("error").hidden = true;
  element("results").hidden = true;
  setForm(false);
  try {
    advance({ text: "Starting", total: 0 });
    const { description, files } = await ran(job);
    describe(description);
    advance({ text: "Handing the result back", total: 0 });
    draw(await sent({ device: job.device ?? element("name").value.trim(), description, files }));
    show("done");
    setForm(true);
    element("verdict").focus();
  } catch (error) {
    fail(error instanceof TypeError ? `The server cannot be reached: ${error.message}` : error.message);
  }
}

function describe({ threads, cores, simd, isolated, runtime }) {
  const why = isolated ? "" : " (pages of plain http have one thread; of localhost, such as over USB, several)";
  const used = `${threads} ${threads === 1 ? "thread" : "threads"} of ${cores || "an unknown number of"} cores${why}`;
  element("device").textContent = `${runtime}, WebAssembly ${simd ? "with" : "without"} SIMD, ${used}.`;
}

const WORDS = { pass: "✓ passes", fail: "✗ FAILS", inconclusive: "? inconclusive" };

function draw({ device, verdict, checks, files, labels }) {
  const names = Object.keys(files);
  Object.assign(element("verdict"), { textContent: `${device} ${WORDS[verdict]}. The report has it.`, className: verdict });
  element("checks").replaceChildren(
    ...checks.map((check) => {
      const item = made("li", "");
      item.append(made("strong", WORDS[check.verdict], check.verdict), `${check.subject}: ${check.message}`);
      return item;
    }),
  );
  element("rows").replaceChildren(
    ...names.map((name) => {
      const { label_agreement: share, latency_p50_ms: p50, latency_p95_ms: p95 } = files[name];
      const row = made("tr", "");
      const cells = [`${(100 * share).toFixed(1)} %`, milliseconds(p50.value), milliseconds(p95.value)];
      row.append(Object.assign(made("th", name), { scope: "row" }), ...cells.map((text) => made("td", text, "number")));
      return row;
    }),
  );
  drawTimes(names, files);
  drawLabels(names.filter((name) => labels[name].length), labels);
  element("results").hidden = false;
}

function drawTimes(names, files) {
  const longest = Math.max(...names.map((name) => files[name].latency_p95_ms.value));
  const told = [];
  element("chart").replaceChildren(
    ...names.map((name) => {
      const [p50, p95] = [files[name].latency_p50_ms.value, files[name].latency_p95_ms.value];
      told.push(`${name}: median ${milliseconds(p50)} ms, 95 % ${milliseconds(p95)} ms`);
      const bar = made("div", "", "bar"), head = made("div", "", "names"), track = made("div", "", "track");
      head.append(made("span", name), made("span", `${milliseconds(p50)} · ${milliseconds(p95)} ms`));
      const median = made("div", "", "p50"), late = made("div", "", "p95");
      median.style.width = `${(100 * p50) / longest}%`;
      late.style.left = `${(100 * p95) / longest}%`;
      track.append(median, late);
      bar.append(head, track);
      return bar;
    }),
  );
  element("chart").setAttribute("aria-label", `Latency. ${told.join("; ")}`);
}

function drawLabels(names, labels) {
  element("labels").hidden = !names.length;
  if (!names.length) return;
  const heads = ["row", ...names].map((name) => Object.assign(made("th", name), { scope: "col" }));
  element("label-files").replaceChildren(...heads);
  element("label-rows").replaceChildren(
    ...labels[names[0]].map((_, index) => {
      const row = made("tr", "");
      const cells = names.map((name) => {
        const [given, recorded] = labels[name][index];
        return made("td", given === recorded ? given : `${given} (recorded: ${recorded})`, given === recorded ? "" : "fail");
      });
      row.append(Object.assign(made("th", String(index + 1)), { scope: "row" }), ...cells);
      return row;
    }),
  );
}

async function start() {
  const response = await fetch("job.json");
  if (!response.ok) throw new Error(`The server answers ${response.status}: open the address that it shows now.`);
  const job = await response.json();
  document.title = element("title").textContent = `${job.recipe} on this device`;
  const count = job.files.length === 1 ? "1 file" : `${job.files.length} files`;
  const what = `${count} (${job.files.map(({ name }) => name).join(", ")}), ${job.rows.length} recorded rows and ${job.runs} timed calls each.`;
  element("what").textContent = `This page runs what the recipe ships in this browser: ${what}`;
  Object.assign(element("name"), { value: job.device ?? guessedName(), readOnly: job.device !== null });
  element("form").hidden = false;
  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    measure(job);
  });
  show("ready");
}

start().catch((error) => {
  element("what").textContent = "This page cannot start.";
  fail(error.message);
});
