"""OpenVINO reads the ONNX files as they are. A job comes on standard input."""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from tokenizers import Tokenizer

job = json.load(sys.stdin)
folder = Path(job["folder"])
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
# Without the hint it computes in bfloat16 where the processor can.
options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
answers = {}
for file in job["files"]:
    compiled = openvino.Core().compile_model(folder / file, "CPU", options)
    answers[file] = []
    for text in job["texts"]:
        encoded = tokenizer.encode(text)
        values = {
            "input_ids": encoded.ids,
            "attention_mask": encoded.attention_mask,
            "token_type_ids": encoded.type_ids,
        }
        feeds = {entry.any_name: np.array([values[entry.any_name]]) for entry in compiled.inputs}
        answers[file].append(compiled(feeds)[compiled.output("logits")][0].tolist())
json.dump({"answers": answers}, sys.stdout)
