// Compares a model's answers with those that were recorded when it was made: verification.json of its folder.
import type { Items, Model, Tokens } from "./model.js";

/** The part of verification.json, schema_version 3, that is needed here. */
interface Verification {
  schema_version: number;
  task: string;
  rows: { input_ids: number[]; token_type_ids?: number[] }[];
  texts: string[][] | null;
  answers: Record<string, { choices: number[][][]; logits: number[][][] }>;
}

/** What was found of a row. */
export interface Row {
  /** Names of the first item's choices, or the cosine with the recorded vector. */
  given: string;
  /** Whether every item is as recorded. */
  agrees: boolean;
  /** Whether the text gives the recorded tokens; undefined where the file has no texts, or has pairs. */
  tokens?: boolean;
}

/** Cosine from which a vector is the recorded one. */
const SAME_VECTOR = 0.99;

/**
 * Asks a model for all recorded rows.
 *
 * @param model The model.
 * @param text Text of verification.json.
 * @param file The model's file, whose recorded answers are compared.
 */
export async function check(model: Model, text: string, file: string): Promise<Row[]> {
  const recorded: Verification = JSON.parse(text);
  const version = recorded.schema_version;
  if (version !== 3) throw new Error(`verification.json has schema_version ${version}, not 3`);
  const answers = recorded.answers[file];
  if (answers === undefined) {
    const others = Object.keys(recorded.answers).join(", ");
    throw new Error(`verification.json has no answers of ${file}; it has those of ${others}`);
  }
  const vectors = recorded.task === "sentence-similarity";
  const rows: Row[] = [];
  for (const [index, row] of recorded.rows.entries()) {
    const ids = row.input_ids;
    const items = await model.items({ ids, types: row.token_type_ids ?? ids.map(() => 0) });
    const choices = answers.choices[index]!;
    const logits = answers.logits[index]!;
    const compared = vectors ? vectorsAgree(items, choices, logits) : labelsAgree(model, items, choices, logits);
    const texts = recorded.texts?.[index];
    rows.push(texts?.length === 1 ? { ...compared, tokens: same(model.tokens(texts[0]!), ids) } : compared);
  }
  return rows;
}

function labelsAgree(model: Model, items: Items, choices: number[][], logits: number[][]): Row {
  const given = choices.map((_, item) => model.chosen(items[item]!));
  // Of a multi-label model the recorded logits are less the logit of the label's threshold: above 0 the label is given.
  const above = (item: number) => (_: number, rank: number) => logits[item]![rank]! > 0;
  const wanted = choices.map((of, item) => (model.severalLabels ? of.filter(above(item)) : of.slice(0, 1)));
  const agrees = given.every((of, item) => [...of].sort().join() === [...wanted[item]!].sort().join());
  return { given: given[0]!.map((choice) => model.name(choice)).join(", "), agrees };
}

function vectorsAgree(items: Items, choices: number[][], logits: number[][]): Row {
  const vector = items[0]!;
  const wanted = new Float32Array(vector.length);
  choices[0]!.forEach((dimension, rank) => (wanted[dimension] = logits[0]![rank]!));
  const dot = (one: Float32Array, other: Float32Array) =>
    one.reduce((sum, value, index) => sum + value * other[index]!, 0);
  const cosine = dot(vector, wanted) / Math.sqrt(dot(vector, vector) * dot(wanted, wanted));
  return { given: `cosine ${cosine.toFixed(4)}`, agrees: cosine >= SAME_VECTOR };
}

function same(tokens: Tokens, ids: number[]): boolean {
  return tokens.ids.join() === ids.join();
}
