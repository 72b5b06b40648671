// Searches texts by meaning in the browser: a sentence encoder that `compress run` shipped makes a vector of each text
// and of the query, and the texts are listed by the cosine. Nothing is fetched but from where the page comes.

/** A mistake that a user can mend: what is wrong, and what to do. */
class Failure extends Error {}

const element = (id) => document.getElementById(id);
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const megabytes = (bytes) => number(bytes / 1e6, 1);

function readSettings() {
  const defaults = { model: "model/", texts: "texts.txt", column: "text", libraries: "node_modules/", results: 10 };
  try {
    const given = { ...defaults, examples: [], ...JSON.parse(element("settings").textContent) };
    for (const folder of ["model", "libraries"]) given[folder] = given[folder].replace(/\/*$/, "/");
    return given;
  } catch (error) {
    throw new Failure(`The settings in index.html cannot be read: ${error.message}.`);
  }
}

async function fetched(path, missing) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    throw new Failure(`${path} cannot be fetched. Is the server still running, and is the path on this host?`);
  }
  if (response.status === 404) throw new Failure(`${path} is not there. ${missing}`);
  if (!response.ok) throw new Failure(`${path} cannot be fetched: the server answers ${response.status}.`);
  return response;
}

async function fetchedJson(path, missing) {
  const text = await (await fetched(path, missing)).text();
  try {
    return JSON.parse(text);
  } catch {
    throw new Failure(`${path} is not JSON. ${missing}`);
  }
}

/** The bytes of a file; `told` hears how many there are so far, and how many there will be (0: nobody knows). */
async function fetchedBytes(path, missing, told) {
  const response = await fetched(path, missing);
  const total = Number(response.headers.get("Content-Length")) || 0;
  const parts = [];
  let count = 0;
  for (let reader = response.body.getReader(), part; !(part = await reader.read()).done; ) {
    parts.push(part.value);
    told((count += part.value.length), total);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Makes vectors of texts with a model's folder. */
class Encoder {
  #tokenizer;
  #session;
  #ort;
  #longest;
  #prompts;
  #last = Promise.resolve();

  /** Loads a folder; `told` hears of the progress. */
  static async load({ model, file, libraries }, told) {
    const missing = `Copy the folder "model" of a run (artifacts/NAME/model) to ${model} beside this page.`;
    const manifest = await fetchedJson(`${model}manifest.json`, missing);
    if (manifest.task !== "sentence-similarity") {
      throw new Failure(`The model in ${model} is for ${manifest.task}. The search needs one for sentence-similarity.`);
    }
    const graph = file ?? manifest.file;
    if (!graph.endsWith(".onnx")) {
      throw new Failure(`The run shipped ${graph}, and browsers need ONNX: add onnx to the targets of its export stage.`);
    }
    const encoder = new Encoder();
    const { Tokenizer, ort } = await librariesIn(libraries);
    encoder.#ort = ort;
    const read = (name) => fetchedJson(model + name, missing);
    const names = ["tokenizer.json", "tokenizer_config.json", "config_sentence_transformers.json"];
    const [tokenizer, config, prompts] = await Promise.all(names.map(read));
    encoder.#tokenizer = new Tokenizer(tokenizer, config);
    encoder.#longest = config.model_max_length;
    encoder.#prompts = prompts;
    encoder.bytes = 0;
    const bytes = await fetchedBytes(model + graph, missing, (count, total) => told((encoder.bytes = count), total));
    told(0, 0);
    ort.env.wasm.proxy = true; // the model runs in a worker, so that the page answers meanwhile
    try {
      encoder.#session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    } catch (error) {
      throw new Failure(`${model + graph} cannot be loaded: ${error.message ?? error}`);
    }
    return encoder;
  }

  /** What is put in front of a query or a document, as sentence-transformers says it. */
  #prompt(kind) {
    const { prompts = {}, default_prompt_name: otherwise } = this.#prompts;
    const names = kind === "document" ? [kind, "passage", "corpus", otherwise] : [kind, otherwise];
    return prompts[names.find((name) => name in prompts)] ?? "";
  }

  #tokens(text) {
    const { ids } = this.#tokenizer.encode(text);
    return ids.length > this.#longest ? [...ids.slice(0, this.#longest - 1), ids.at(-1)] : ids; // the last one is [SEP]
  }

  /**
   * The vector of a text, of length 1.
   *
   * There is one text a call: the ranges of dynamic int8 are those of a call, so a text's vector would depend on others.
   */
  vector(text, kind) {
    const made = this.#last.then(() => this.#run(this.#prompt(kind) + text));
    this.#last = made.catch(() => {});
    return made;
  }

  async #run(text) {
    const ids = this.#tokens(text);
    const values = { input_ids: ids, attention_mask: ids.map(() => 1), token_type_ids: ids.map(() => 0) };
    const row = (name) => new this.#ort.Tensor("int64", BigInt64Array.from(values[name], BigInt), [1, ids.length]);
    const feeds = Object.fromEntries(this.#session.inputNames.map((name) => [name, row(name)]));
    const { data } = (await this.#session.run(feeds, ["sentence_embedding"])).sentence_embedding;
    const length = Math.hypot(...data) || 1;
    return data.map((value) => value / length);
  }
}

/** The tokenizer and ONNX Runtime, of the folder that npm made. */
async function librariesIn(folder) {
  const load = async (path) => {
    try {
      return await import(new URL(folder + path, document.baseURI).href);
    } catch {
      throw new Failure(`${folder + path} cannot be loaded. Run "npm ci" in the folder of this page.`);
    }
  };
  const { Tokenizer } = await load("@huggingface/tokenizers/dist/tokenizers.min.mjs");
  return { Tokenizer, ort: await load("onnxruntime-web/dist/ort.wasm.bundle.min.mjs") };
}

/** The texts to be searched: a line each, or of .jsonl a column of each line. */
async function readTexts({ texts: path, column }) {
  const response = await fetched(path, "Put the texts to be searched there: one a line, or .jsonl.");
  const lines = (await response.text()).split(/\r?\n/);
  const found = [];
  for (const [index, line] of lines.entries()) {
    if (!line.trim()) continue;
    const text = path.endsWith(".jsonl") ? ofJson(line, column, `${path}, line ${index + 1}`) : line;
    if (text.trim()) found.push({ text: text.trim(), line: index + 1 });
  }
  if (!found.length) throw new Failure(`${path} is empty. Put the texts to be searched there, one a line.`);
  return found;
}

function ofJson(line, column, place) {
  let row;
  try {
    row = JSON.parse(line);
  } catch {
    throw new Failure(`${place} is not JSON.`);
  }
  const text = typeof row === "string" ? row : row?.[column];
  if (typeof text !== "string") throw new Failure(`${place} has no text "${column}": set "column" in index.html.`);
  return text;
}

/** The texts with the highest cosines, best first. */
function nearest(query, texts, count) {
  const scored = texts.map(({ vector }, index) => {
    let sum = 0;
    for (let i = 0; i < query.length; i++) sum += query[i] * vector[i];
    return { index, cosine: sum };
  });
  return scored.sort((a, b) => b.cosine - a.cosine || a.index - b.index).slice(0, count);
}

class Page {
  #settings;
  #encoder;
  #texts = [];
  #indexed = [];
  #searches = 0;
  #typed = "";
  #asked = null;

  async start() {
    try {
      this.#settings = readSettings();
      this.#listen();
      this.#state("loading", "Loading the texts …");
      this.#texts = await readTexts(this.#settings);
      this.#state("loading", "Loading the model …");
      const encoder = await Encoder.load(this.#settings, (count, total) => this.#loaded(count, total));
      await this.#index(encoder);
    } catch (error) {
      this.#fail(error);
    }
  }

  #listen() {
    element("form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (matchMedia("(pointer: coarse)").matches) element("query").blur(); // takes the keyboard off the results
      this.#search(element("query").value.trim());
    });
    addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea")) return;
      event.preventDefault();
      element("query").select();
    });
    addEventListener("resize", () => document.querySelectorAll("#results .text").forEach(fold));
    for (const text of this.#settings.examples) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      button.addEventListener("click", () => {
        element("query").value = text;
        this.#search(text);
      });
      element("examples").append(button);
    }
  }

  #state(name, text, share) {
    document.body.dataset.state = name;
    element("state").textContent = text;
    const bar = element("bar");
    bar.hidden = name !== "loading" && name !== "indexing";
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
  }

  #loaded(count, total) {
    if (!count) this.#state("loading", "Starting the model …");
    else if (total) {
      this.#state("loading", `Loading the model: ${megabytes(count)} of ${megabytes(total)} MB`, count / total);
    } else this.#state("loading", `Loading the model: ${megabytes(count)} MB`);
  }

  async #index(encoder) {
    const count = this.#texts.length, start = performance.now();
    this.#encoder = encoder;
    if (this.#typed) this.#search(this.#typed); // it was asked for before there was a model
    let told = -Infinity, listed = 0;
    for (const { text, line } of this.#texts) {
      this.#indexed.push({ text, line, vector: await encoder.vector(text, "document") });
      if (performance.now() - told < 100) continue;
      told = performance.now();
      const done = this.#indexed.length;
      this.#state("indexing", `Indexing: ${number(done)} of ${number(count)} texts`, done / count);
      if (done < 2 * listed || !this.#asked) continue; // when there are twice as many: few lists are read out
      listed = done;
      this.#list();
    }
    const seconds = (performance.now() - start) / 1000, size = this.#indexed[0].vector.length;
    const each = `${number((seconds / count) * 1000, 1)} ms each`;
    const what = count === 1 ? "1 text" : `${number(count)} texts`;
    const model = `Model: ${megabytes(encoder.bytes)} MB, ${size} numbers a text.`;
    this.#state("ready", `${what} indexed in ${number(seconds, 1)} s (${each}). ${model}`);
    if (this.#asked) this.#list(); // of all texts now
  }

  async #search(text) {
    const current = ++this.#searches;
    this.#typed = text;
    this.#asked = null;
    if (document.body.dataset.state === "failed") return;
    if (!text || !this.#encoder) {
      element("results").replaceChildren();
      const later = "The search starts as soon as the model is there.";
      element("summary").textContent = text ? later : "Type what you are looking for.";
      return;
    }
    const start = performance.now();
    try {
      const vector = await this.#encoder.vector(text, "query");
      if (current !== this.#searches) return; // a newer one is on its way
      this.#asked = { text, vector, milliseconds: performance.now() - start };
      this.#list();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Lists what is nearest to what was asked, of the texts that are indexed. */
  #list() {
    const { text, vector, milliseconds } = this.#asked;
    const found = nearest(vector, this.#indexed, this.#settings.results);
    const every = this.#texts.length, searched = this.#indexed.length;
    const of = searched < every ? `the first ${number(searched)} of ${number(every)} texts` : `${number(every)} texts`;
    element("summary").textContent = `The nearest ${found.length} of ${of} to “${text}”, in ${number(milliseconds)} ms`;
    element("results").replaceChildren(...found.map(({ index, cosine }) => result(this.#indexed[index], index, cosine)));
    document.querySelectorAll("#results .text").forEach(fold);
  }

  #fail(error) {
    this.#state("failed", "The search does not work yet.");
    if (!(error instanceof Failure)) console.error(error);
    const text = error.message ?? String(error);
    element("error").textContent = error instanceof Failure ? text : `Something went wrong: ${text}`;
    element("error").hidden = false;
    element("summary").textContent = "";
  }
}

function result({ text, line }, index, cosine) {
  const item = document.importNode(element("result").content, true).firstElementChild;
  item.dataset.index = index;
  item.querySelector(".cosine").textContent = number(cosine, 3);
  item.querySelector(".share").style.width = `${Math.max(0, cosine) * 100}%`;
  item.querySelector(".line").textContent = `line ${number(line)}`;
  const words = item.querySelector(".text"), more = item.querySelector(".more");
  words.textContent = text;
  more.addEventListener("click", () => {
    const open = words.classList.toggle("open");
    more.textContent = open ? "Show less" : "Show all";
    more.setAttribute("aria-expanded", open);
  });
  return item;
}

/** Offers to show all of a text that is cut. */
function fold(words) {
  if (!words.classList.contains("open")) words.nextElementSibling.hidden = words.scrollHeight <= words.clientHeight;
}

new Page().start();
