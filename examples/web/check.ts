// node check.js MODEL_FOLDER [FILE]: whether the answers are those that were recorded. Exits with 1 if one is not.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-web/wasm";
import { Model } from "./model.js";
import { check } from "./verification.js";

const [folder, file = "onnx/model_quantized.onnx"] = process.argv.slice(2);
if (folder === undefined) {
  console.error("usage: node check.js MODEL_FOLDER [FILE]");
  process.exit(2);
}
ort.env.wasm.numThreads = 1; // under Node; a page sets it in page.ts
try {
  const read = async (name: string) => new Uint8Array(await readFile(join(folder, name)));
  const model = await Model.load(read, file);
  const rows = await check(model, await readFile(join(folder, "verification.json"), "utf8"), file);
  for (const [index, row] of rows.entries()) {
    const tokens = row.tokens === false ? ", other tokens" : "";
    console.log(`row ${index}: ${row.given}${row.agrees ? "" : ", recorded otherwise"}${tokens}`);
  }
  const texts = rows.filter((row) => row.tokens !== undefined);
  const agreeing = rows.filter((row) => row.agrees).length;
  const tokenized = texts.filter((row) => row.tokens).length;
  const answers = `${agreeing} of ${rows.length} answers as recorded`;
  console.log(`${answers}, ${tokenized} of ${texts.length} texts with the recorded tokens`);
  process.exitCode = agreeing === rows.length && tokenized === texts.length ? 0 : 1;
} catch (error) {
  console.error(`${folder}: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 2;
}
