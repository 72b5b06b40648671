// onnxruntime-web's wasm, as it runs in a browser, with the tokenizer that ships. A job comes on the standard input.
import { readFileSync } from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-web/wasm";

const { folder, files, texts } = JSON.parse(readFileSync(0, "utf8"));
const read = (name) => JSON.parse(readFileSync(`${folder}/${name}`, "utf8"));
ort.env.wasm.numThreads = 1;
const tokenizer = new Tokenizer(read("tokenizer.json"), read("tokenizer_config.json"));
const answers = {};
for (const file of files) {
  const session = await ort.InferenceSession.create(readFileSync(`${folder}/${file}`), { executionProviders: ["wasm"] });
  answers[file] = [];
  for (const text of texts) {
    const { ids, attention_mask } = tokenizer.encode(text);
    const values = { input_ids: ids, attention_mask, token_type_ids: ids.map(() => 0) };
    const feeds = {};
    for (const name of session.inputNames) {
      feeds[name] = new ort.Tensor("int64", BigInt64Array.from(values[name], BigInt), [1, ids.length]);
    }
    const { logits } = await session.run(feeds);
    answers[file].push(Array.from(logits.data));
  }
}
process.stdout.write(JSON.stringify(answers));
