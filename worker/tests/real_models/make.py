#!/usr/bin/env python3
"""Writes what llama.cpp makes of the real models that `tests/set-up` fetches: one JSON file beside this script for each model.

    python3 -m venv venv && venv/bin/pip install --no-binary llama-cpp-python llama-cpp-python==0.3.36 gguf numpy
    venv/bin/python worker/tests/real_models/make.py [target/models]

`answers`: twelve prompts, their ids, and the greedy ids and text of the file with all weights widened to F32 (and a cache in F32).
`positions`: a passage, read as it is. Behind each of its tokens, what is likeliest in F32, and by how many logits the next ones are
behind, as far as WIDTH; and which token llama.cpp chooses with the file as it is.
"""
from __future__ import annotations

import ctypes
import json
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy

HERE = Path(__file__).resolve().parent
MODELS = Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parents[2] / "target/models")
TOKENS = 24
POSITIONS = 200
WIDTH = 2.0

CHAT = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "What is 7 times 8?",
    "Translate into German: good morning.",
    "Name three animals that live in water.",
    "Why is the sky blue?",
    "Write a Python function that adds two numbers.",
    "Was ist die Hauptstadt von Italien?",
]
RAW = [
    "Once upon a time, in a small village,",
    "def fibonacci(n):\n",
    "The three largest cities of Japan are",
    "Q: How many legs does a spider have?\nA:",
]
BASE = [
    "The capital of France is",
    "Water boils at",
    "Die Hauptstadt von Italien ist",
    "La capitale de l'Espagne est",
    "日本の首都は",
    "import numpy as np\n\ndef mean(values):\n",
    "1, 2, 3, 5, 8, 13,",
    "The president of the United States lives in",
    '{"name": "Ana", "age": 31, "city":',
    "Roses are red,",
]
PASSAGE = """A harbour town wakes early. Before the sun is up the boats have gone, and the women who mend nets sit on upturned boxes \
along the quay and talk about the price of diesel. Nobody there owns a clock: the bell of the church is five minutes late, as it \
has been for a hundred years, and the whole town is late with it. In 1904 a teacher counted the swallows under the roof of the \
market hall and wrote the number, 212, on the wall beside the door. It is still there.

def total(prices, tax=0.19):
    # Each price is in cents.
    net = sum(prices)
    return round(net * (1 + tax))

Der Zug nach Lyon kommt heute zwanzig Minuten später an. Wir bitten um Ihr Verständnis. Le train pour Lyon aura vingt minutes de \
retard. The train to Lyon will be twenty minutes late; passengers for Geneva change at Bellegarde. What a day it was, she said, \
and she put the letter back into the drawer where it had lain since the war. "You never read it?" he asked. "I did not have to," \
she said."""


def widen(source: Path, target: Path) -> None:
    """Writes the file again with every weight in F32."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        writer.add_tensor(tensor.name, data, raw_dtype=gguf.GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Model:
    def __init__(self, path: Path) -> None:
        f32 = 0
        self.llama = llama_cpp.Llama(str(path), n_ctx=1024, n_batch=1024, n_ubatch=1024, logits_all=True, type_k=f32, type_v=f32,
            flash_attn=False, n_threads=2, n_threads_batch=2, verbose=False)

    def ids(self, text: str) -> list[int]:
        return self.llama.tokenize(text.encode(), add_bos=True, special=True)

    def logits(self, ids: list[int]) -> numpy.ndarray:
        """The logits behind each of the ids."""
        self.llama.reset()
        self.llama.eval(ids)
        return numpy.array(self.llama.scores[: len(ids)])

    def answer(self, prompt: str) -> dict:
        ids = self.ids(prompt)
        self.llama.reset()
        self.llama.eval(ids)
        found = []
        margin = float("inf")
        while True:
            scores = self.llama.scores[self.llama.n_tokens - 1]
            best = int(scores.argmax())
            margin = min(margin, float(scores[best] - numpy.partition(scores, -2)[-2]))
            if llama_cpp.llama_vocab_is_eog(self.llama._model.vocab, best):
                break
            found.append(best)
            if len(found) == TOKENS:
                break
            self.llama.eval([best])
        text = b"".join(piece(self.llama, id) for id in found).decode(errors="replace")
        print(f"{margin:7.4f} {text!r}")
        return {"prompt": prompt, "prompt_ids": ids, "ids": found, "text": text}


def piece(llama: llama_cpp.Llama, id: int) -> bytes:
    buffer = ctypes.create_string_buffer(256)
    length = llama_cpp.llama_token_to_piece(llama._model.vocab, id, buffer, 256, 0, False)
    return buffer.raw[:length]


def make(name: str, prompts: list[str]) -> None:
    source = MODELS / f"{name}.gguf"
    with tempfile.TemporaryDirectory(dir=MODELS) as folder:
        wide = Path(folder) / "wide.gguf"
        widen(source, wide)
        model = Model(wide)
        answers = [model.answer(prompt) for prompt in prompts]
        ids = model.ids(PASSAGE)[:POSITIONS]
        assert len(ids) == POSITIONS, len(ids)
        exact = model.logits(ids)
    chosen = Model(source).logits(ids).argmax(axis=1)
    likely = []
    for scores in exact:
        order = numpy.argsort(-scores)
        behind = scores[order[0]] - scores
        likely.append([[int(id), round(float(behind[id]), 4)] for id in order if behind[id] <= WIDTH])
    distances = [float(scores.max() - scores[id]) for scores, id in zip(exact, chosen)]
    print(f"{name}: llama.cpp's choice is behind by {numpy.mean(distances):.5f} on average, {max(distances):.4f} at most")
    positions = {"ids": ids, "likely": likely, "llama_cpp": [int(id) for id in chosen]}
    whole = {"answers": answers, "positions": positions}
    (HERE / f"{name}.json").write_text(json.dumps(whole, ensure_ascii=False, separators=(",", ":")) + "\n")


chat = [f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n" for content in CHAT]
make("smollm2-135m", chat + RAW)
make("gemma-3-270m", BASE + RAW[:2])
