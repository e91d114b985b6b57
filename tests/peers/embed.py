#!/usr/bin/env python3
"""Texts per second of other programs, on the texts that `bench embed` measures.

    python3 tests/peers/embed.py FOLDER [--threads N] [--onnx FILE] [--int8 FILE]

FOLDER holds the model as sentence-transformers writes it. Needs sentence-transformers; with --onnx also onnxruntime, and onnx to
export the model to FILE if it is not there, and with --int8 to quantise it to another. Prints Markdown: medians of several turns.
"""
import argparse
import json
import os
import pathlib
import statistics
import time

HERE = pathlib.Path(__file__).resolve().parent
TURNS = 7


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--onnx", help="measure onnxruntime, too, with this file, which is made if it is not there")
    parser.add_argument("--int8", help="measure onnxruntime's dynamic quantisation, too, with this file, which is made if it is not there")
    return parser.parse_args()


def speed(texts, embed):
    """Texts per second: the median of some turns after one that does not count."""
    embed()
    seconds = []
    for _ in range(TURNS):
        began = time.perf_counter()
        embed()
        seconds.append(time.perf_counter() - began)
    return texts / statistics.median(seconds)


def report(name, goldens, sentences, embed):
    """One line of the table. `embed` takes a list of texts and returns their vectors."""
    singles = [golden["text"] for golden in goldens]
    cosine = min(float(embed([golden["text"]])[0] @ golden["embedding"]) for golden in goldens)
    one = speed(len(singles), lambda: [embed([text]) for text in singles])
    batch = speed(len(sentences), lambda: embed(sentences))
    print(f"| {name} | {one:.1f} | {batch:.1f} | {cosine:.4f} |", flush=True)


def sentence_transformers(folder, threads):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(folder, device="cpu")
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False, normalize_embeddings=True)


def export(folder, file):
    """Writes the transformer as an ONNX graph from ids to rows."""
    import torch
    from transformers import AutoModel

    class Rows(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, ids, mask, kinds):
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=kinds).last_hidden_state

    ids = torch.ones(2, 8, dtype=torch.int64)
    names = ["ids", "mask", "kinds"]
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "rows"]}
    torch.onnx.export(
        Rows(), (ids, ids, ids * 0), file, input_names=names, output_names=["rows"], dynamic_axes=axes,
        opset_version=17, dynamo=False,
    )


def quantise(file, other):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(file, other, weight_type=QuantType.QInt8, per_channel=True)


def onnxruntime(folder, file, threads):
    import numpy
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(json.load(open(f"{folder}/sentence_bert_config.json"))["max_seq_length"])

    def embed(texts):
        encoded = [tokenizer.encode(text).ids for text in texts]
        ids = numpy.zeros((len(encoded), max(map(len, encoded))), numpy.int64)
        mask = numpy.zeros_like(ids)
        for row, text in enumerate(encoded):
            ids[row, : len(text)], mask[row, : len(text)] = text, 1
        rows = session.run(None, {"ids": ids, "mask": mask, "kinds": numpy.zeros_like(ids)})[0]
        vectors = (rows * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
        return vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)

    return embed


def main():
    asked = arguments()
    # Libraries read this when they are loaded.
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    goldens = [json.loads(line) for line in open(HERE / "../../worker/tests/minilm.jsonl")]
    sentences = (HERE / "sentences.txt").read_text().splitlines()
    print(f"| on {asked.threads} threads | one text, texts / s | batches of 32, texts / s | least cosine to the goldens |")
    print("|---|---|---|---|")
    report("sentence-transformers", goldens, sentences, sentence_transformers(asked.folder, asked.threads))
    if asked.onnx or asked.int8:
        file = asked.onnx or asked.int8 + ".f32"
        if not os.path.exists(file):
            export(asked.folder, file)
        report("onnxruntime", goldens, sentences, onnxruntime(asked.folder, file, asked.threads))
        if asked.int8:
            if not os.path.exists(asked.int8):
                quantise(file, asked.int8)
            report("onnxruntime, int8", goldens, sentences, onnxruntime(asked.folder, asked.int8, asked.threads))


main()
