// transformers.js on a sentence encoder: the pipeline's pooling, and the vectors that the file itself gives. A job comes
// on the standard input.
import { readFileSync } from "node:fs";
import { dirname, basename } from "node:path";
import { env, pipeline } from "@huggingface/transformers";

const { folder, files, texts, dtypes, pooling, normalize } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const answers = {};
for (const file of files) {
  const extract = await pipeline("feature-extraction", basename(folder), { dtype: dtypes[file] });
  const pooled = (await extract(texts, { pooling, normalize })).tolist();
  const { sentence_embedding } = await extract.model(extract.tokenizer(texts, { padding: true, truncation: true }));
  answers[file] = { pooled, own: sentence_embedding.tolist() };
}
process.stdout.write(JSON.stringify(answers));
