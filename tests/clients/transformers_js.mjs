// transformers.js, as its users call it: a pipeline on a local folder. A job comes on the standard input.
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
    const [{ label, score }] = await classify(text);
    answers[file].push({ label, score });
  }
}
process.stdout.write(JSON.stringify(answers));
