// transformers.js on a multi-label model: the scores of all labels. A job comes on the standard input.
import { readFileSync } from "node:fs";
import { dirname, basename } from "node:path";
import { env, pipeline } from "@huggingface/transformers";

const { folder, files, texts, dtypes } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const answers = {};
for (const file of files) {
  const classify = await pipeline("text-classification", basename(folder), { dtype: dtypes[file] });
  answers[file] = [];
  for (const text of texts) {
    const scores = await classify(text, { top_k: null });
    answers[file].push(Object.fromEntries(scores.map(({ label, score }) => [label, score])));
  }
}
process.stdout.write(JSON.stringify(answers));
