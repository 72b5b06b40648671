// Runs what ships, apart from the page, which answers meanwhile: asks the rows, then times the calls. It says
// {progress: {text, done, total}} while it works, then {result}, or {error}.
import * as ort from "./web/ort.wasm.bundle.min.mjs";
import { sha256 } from "./sha256.mjs";

const WARM_UP_CALLS = 10, WARM_UP_MS = 1000;
const SAY_MS = 100;
const MOST_THREADS = 4; // as onnxruntime-web takes by itself; phones have few fast cores

/** A module with one instruction for vectors: (func (result v128) i32.const 0 i8x16.splat). */
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11];

const cores = navigator.hardwareConcurrency ?? 0;

let said = -Infinity;
function say(text, done, total) {
  if (done < total && performance.now() - said < SAY_MS) return;
  said = performance.now();
  postMessage({ progress: { text, done, total } });
}

async function fetched({ name, path }) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} cannot be fetched: the server answers ${response.status}`);
  const total = Number(response.headers.get("Content-Length"));
  const bytes = new Uint8Array(total);
  let count = 0;
  for (let reader = response.body.getReader(), part; !(part = await reader.read()).done; ) {
    bytes.set(part.value, count);
    count += part.value.length;
    const megabytes = (number) => (number / 1e6).toFixed(1);
    say(`${name}: loading, ${megabytes(count)} of ${megabytes(total)} MB`, count, total);
  }
  if (count !== total) throw new Error(`${path} ended after ${count} of ${total} bytes`);
  return bytes;
}

/** The inputs of a session, from lists by name. `(batch, sequence)` each. */
function feeds(session, batch) {
  const tensor = (rows) => new ort.Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
  return Object.fromEntries(session.inputNames.map((name) => [name, tensor(batch[name])]));
}

/** An output as JSON holds it: its shape, and its numbers in base64. */
function packed({ dims, data }) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const parts = [];
  for (let start = 0; start < bytes.length; start += 8192) {
    parts.push(String.fromCharCode(...bytes.subarray(start, start + 8192)));
  }
  return { shape: [...dims], data: btoa(parts.join("")) };
}

async function answers(session, name, { rows, outputs }) {
  const found = [];
  for (const row of rows) {
    const batch = Object.fromEntries(Object.entries(row).map(([input, ids]) => [input, [ids]]));
    const given = await session.run(feeds(session, batch), outputs);
    found.push(Object.fromEntries(outputs.map((output) => [output, packed(given[output])])));
    say(`${name}: row ${found.length} of ${rows.length}`, found.length, rows.length);
  }
  return found;
}

async function times(session, name, { batch, runs }) {
  const inputs = feeds(session, batch), start = performance.now(), found = [];
  for (let call = 0; call < WARM_UP_CALLS && (call < 2 || performance.now() - start < WARM_UP_MS); call++) {
    await session.run(inputs);
  }
  while (found.length < runs) {
    const before = performance.now();
    await session.run(inputs);
    found.push(Math.max(performance.now() - before, 1e-3)); // clocks of browsers may not see a short call
    say(`${name}: timed call ${found.length} of ${runs}`, found.length, runs);
  }
  return found;
}

async function loaded(name, bytes) {
  try {
    return await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Error(`${name}: cannot be loaded: ${error.message ?? error}`);
  }
}

async function measured(job) {
  const files = {};
  const usual = Math.max(1, Math.min(MOST_THREADS, Math.ceil(cores / 2)));
  const threads = self.crossOriginIsolated ? (job.threads ?? usual) : 1;
  ort.env.wasm.numThreads = threads;
  for (const file of job.files) {
    const bytes = await fetched(file);
    say(`${file.name}: starting`, 0, 0);
    const digest = sha256(bytes);
    const session = await loaded(file.name, bytes);
    const rows = await answers(session, file.name, job);
    files[file.name] = { sha256: digest, rows, latency_ms: await times(session, file.name, job) };
    await session.release(); // two models at once are more than some phones hold
  }
  const description = {
    user_agent: navigator.userAgent.slice(0, 500),
    cores,
    threads,
    simd: WebAssembly.validate(Uint8Array.from(SIMD)),
    isolated: self.crossOriginIsolated,
    runtime: `onnxruntime-web ${ort.env.versions.web}`,
  };
  return { description, files };
}

addEventListener("message", async ({ data }) => {
  try {
    postMessage({ result: await measured(data) });
  } catch (error) {
    postMessage({ error: error.message ?? String(error) });
  }
});
