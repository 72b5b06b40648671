// A model's folder in a browser or under Node: texts in, labels or logits out. Used by page.ts and check.ts.
import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-web/wasm";

/** Reads a file of the model's folder: `fetch` in a browser, `readFile` under Node. */
export type Read = (name: string) => Promise<Uint8Array>;

/** The parts of config.json and tokenizer.json that are needed here. */
interface Config {
  id2label?: Record<string, string>;
  problem_type?: string | null;
  label_thresholds?: Record<string, number>;
}
interface TokenizerParts {
  truncation?: { max_length: number } | null;
}

/** Tokens of a text or a pair: ids, and 0 or 1 for the first or the second text. */
export interface Tokens {
  ids: number[];
  types: number[];
}

/** Logits of each item, `(items, choices)`: one item for a text, one for each token, or start and end of a span. */
export type Items = Float32Array[];

export class Model {
  private constructor(
    private readonly session: ort.InferenceSession,
    private readonly tokenizer: Tokenizer,
    private readonly config: Config,
    private readonly longest: number,
  ) {}

  /**
   * Loads a model.
   *
   * @param read Reads files of the folder.
   * @param file The .onnx or .ort file, relative to the folder.
   */
  static async load(read: Read, file: string): Promise<Model> {
    const json = async (name: string) => JSON.parse(new TextDecoder().decode(await read(name)));
    const config: Config = await json("config.json");
    const parts: TokenizerParts = await json("tokenizer.json");
    const tokenizer = new Tokenizer(parts, await json("tokenizer_config.json"));
    const session = await ort.InferenceSession.create(await read(file), { executionProviders: ["wasm"] });
    return new Model(session, tokenizer, config, parts.truncation?.max_length ?? Infinity);
  }

  /** Tokens of a text, cut to what the model takes: `@huggingface/tokenizers` (0.2) does not cut. */
  tokens(text: string): Tokens {
    const { ids } = this.tokenizer.encode(text);
    const kept = ids.length > this.longest ? [...ids.slice(0, this.longest - 1), ids[ids.length - 1]!] : ids;
    return { ids: kept, types: kept.map(() => 0) };
  }

  /** Runs one row at its own length, without padding. */
  async items({ ids, types }: Tokens): Promise<Items> {
    const row = (values: number[]) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const values: Record<string, number[]> = { input_ids: ids, attention_mask: ids.map(() => 1), token_type_ids: types };
    const feeds = Object.fromEntries(this.session.inputNames.map((name) => [name, row(values[name]!)]));
    const outputs = await this.session.run(feeds);
    const found: Items = [];
    for (const name of ["logits", "start_logits", "end_logits", "sentence_embedding"]) {
      const output = outputs[name];
      if (output === undefined) continue;
      const width = output.dims[output.dims.length - 1]!;
      const numbers = output.data as Float32Array;
      for (let start = 0; start < numbers.length; start += width) found.push(numbers.slice(start, start + width));
    }
    return found;
  }

  /** Whether a text may have several labels, each decided on its own. */
  get severalLabels(): boolean {
    return this.config.problem_type === "multi_label_classification";
  }

  /** Name of a choice, or its number where config.json names none. */
  name(choice: number): string {
    return this.config.id2label?.[choice] ?? String(choice);
  }

  /** Choices of an item: the likeliest one, or of a multi-label model those above their thresholds. */
  chosen(item: Float32Array): number[] {
    if (!this.severalLabels) return [item.indexOf(Math.max(...item))];
    const thresholds = this.config.label_thresholds ?? {};
    const above = (choice: number) => sigmoid(item[choice]!) > (thresholds[this.name(choice)] ?? 0.5);
    return [...item.keys()].filter(above);
  }

  /** Labels of a text, with their probabilities. */
  async labels(text: string): Promise<{ label: string; probability: number }[]> {
    const [item] = await this.items(this.tokens(text));
    if (item === undefined) throw new Error("the model has no logits: it is a sentence encoder; use items()");
    const likely = this.severalLabels ? item.map(sigmoid) : softmax(item);
    return this.chosen(item).map((choice) => ({ label: this.name(choice), probability: likely[choice]! }));
  }
}

function sigmoid(logit: number): number {
  return 1 / (1 + Math.exp(-logit));
}

function softmax(logits: Float32Array): Float32Array {
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
