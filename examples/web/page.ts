// The page: labels of a text, and the check of check.ts in this browser. The folder model/ lies beside it.
import * as ort from "onnxruntime-web/wasm";
import { Model } from "./model.js";
import { check } from "./verification.js";

const FILE = "onnx/model_quantized.onnx";
// More than one thread needs a page that is cross-origin isolated: see docs/web.md.
ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;

const read = async (name: string) => {
  const response = await fetch(`model/${name}`);
  if (!response.ok) throw new Error(`model/${name}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
};
const answer = document.querySelector<HTMLElement>("#answer")!;
const show = async (task: () => Promise<string>) => {
  try {
    answer.textContent = await task();
  } catch (error) {
    answer.textContent = String(error);
  }
};

await show(async () => {
  const model = await Model.load(read, FILE);
  document.querySelector("#form")!.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = document.querySelector<HTMLInputElement>("#text")!.value;
    void show(async () => {
      const labels = await model.labels(text);
      return labels.map(({ label, probability }) => `${label} (${probability.toFixed(3)})`).join(", ") || "no label";
    });
  });
  document.querySelector("#check")!.addEventListener("click", () => {
    void show(async () => {
      const rows = await check(model, new TextDecoder().decode(await read("verification.json")), FILE);
      return `${rows.filter((row) => row.agrees).length} of ${rows.length} answers as recorded`;
    });
  });
  document.querySelectorAll("button").forEach((button) => (button.disabled = false));
  return "Ready.";
});
