// transformers.js without a pipeline: AutoModel takes any encoder, our compact_bert too. A job comes on standard input.
import { readFileSync } from "node:fs";
import { dirname, basename } from "node:path";
import { AutoModel, AutoTokenizer, env } from "@huggingface/transformers";

const { folder, files, texts, dtypes } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const tokenizer = await AutoTokenizer.from_pretrained(basename(folder));
const answers = {};
for (const file of files) {
  const model = await AutoModel.from_pretrained(basename(folder), { dtype: dtypes[file] });
  answers[file] = [];
  for (const text of texts) {
    const { logits } = await model(tokenizer(text));
    answers[file].push(logits.tolist()[0]);
  }
}
process.stdout.write(JSON.stringify(answers));
