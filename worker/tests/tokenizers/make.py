"""Makes the goldens of the tokenizers' tests, with llama.cpp.

Run by hand, with the Python packages gguf and llama-cpp-python (0.3.36 made what is here), and the folder `models` of llama.cpp's source,
which has vocabularies of real models without their weights, under the MIT licence:

    python make.py small MODELS        the vocabularies and goldens in this folder, which the tests always read
    python make.py full MODELS FOLDER  goldens for each of the real vocabularies; then
                                       SUPERVISOR_VOCABULARIES=FOLDER cargo test -p worker --test tokenizers

What is in this folder:

* `texts.json`: the texts, each of which every golden has ids for.
* `bytes.gguf`: byte-level BPE. It is no real model's: its merges were learned from the texts without cutting them into words, so that
  they cross every border that a pre-tokenizer could draw, and no two pre-tokenizers give the same ids.
* `pieces.gguf`: SentencePiece, the Llama 2 vocabulary with only its bytes, its most frequent pieces and characters, and some
  special tokens more.
* `characters.gguf`: Gemma 4's first merges, the tokens that they need, its bytes and some of its special tokens.
* `NAME.json`: which of these, which values to add to its metadata, and llama.cpp's ids: `plain` without special tokens, `special`
  with them and with what the file adds (left out where it would be the same for many).
"""

import json
import pathlib
import struct
import sys
import tempfile
from collections import Counter

from gguf import GGUFReader, GGUFWriter
from llama_cpp import Llama
from texts import texts

HERE = pathlib.Path(__file__).parent
CONTROL, LITERAL, BYTE, NORMAL, UNKNOWN = 3, 4, 6, 1, 2

# Names of pre-tokenizers: one for each of our patterns, and some that share one.
PRE = (
    "default llama-bpe dbrx qwen2 bailingmoe qwen35 gpt-2 smollm tekken gpt-4o falcon deepseek-llm deepseek-coder deepseek-v3 "
    "seed-coder bloom viking"
).split()


def ids(path, samples):
    """llama.cpp's ids for each text, without and with special tokens."""
    model = Llama(model_path=str(path), vocab_only=True, verbose=False)
    encoded = [text.encode() for text in samples]
    plain = [model.tokenize(text, add_bos=False, special=False) for text in encoded]
    special = [model.tokenize(text, add_bos=True, special=True) for text in encoded]
    return {"plain": plain, "special": special}


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(value):
    if isinstance(value, bool):
        return struct.pack("<IB", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    return struct.pack("<I", 8) + string(value)


def with_values(file, values):
    """The file with more values in its metadata, before the others."""
    count = struct.unpack_from("<Q", file, 16)[0] + len(values)
    added = b"".join(string(key) + value(given) for key, given in values.items())
    return file[:16] + struct.pack("<Q", count) + added + file[24:]


def write(name, model, tokens, scores=None, merges=None, values={}):
    writer = GGUFWriter(HERE / name, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    if scores is not None:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges(merges)
    for key, given in values.items():
        writer.add_uint32(key, given)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def golden(name, file, values, samples, special=True):
    print(name, flush=True)
    with tempfile.NamedTemporaryFile(suffix=".gguf") as temporary:
        temporary.write(with_values((HERE / file).read_bytes(), values))
        temporary.flush()
        found = {"file": file, "values": values, **ids(temporary.name, samples)}
        if not special:
            del found["special"]
    (HERE / f"{name}.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


def alphabet():
    """GPT-2's letters for bytes."""
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in themselves]
    return {**{byte: chr(byte) for byte in themselves}, **{byte: chr(256 + at) for at, byte in enumerate(others)}}


SPECIAL = [
    ("<s>", CONTROL),
    ("</s>", CONTROL),
    ("<|endoftext|>", CONTROL),
    ("<|im_start|>", CONTROL),
    ("<|im_end|>", NORMAL),
    ("[INST]", CONTROL),
    ("[/INST]", CONTROL),
    ("<lit>", LITERAL),
    ("    ", LITERAL),
    ("        ", LITERAL),
    ("\n\n\n", LITERAL),
    ("lit>\n", LITERAL),
]


def learn(samples, count):
    """Merges for byte-level BPE, the most frequent pairs of whole texts first (Sennrich et al. 2016)."""
    letters = alphabet()
    corpus = [[letters[byte] for byte in text.encode()] for text in samples]
    taken = {token for token, _ in SPECIAL}
    merges = []
    while len(merges) < count:
        pairs = Counter(pair for text in corpus for pair in zip(text, text[1:]))
        # Of longer ones there would be nothing left to cut, and two tokens cannot have one text.
        good = (pair for pair in pairs if len("".join(pair)) <= 6 and "".join(pair) not in taken)
        best = min(good, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for at, text in enumerate(corpus):
            joined, index = [], 0
            while index < len(text):
                if tuple(text[index : index + 2]) == best:
                    joined.append("".join(best))
                    index += 2
                else:
                    joined.append(text[index])
                    index += 1
            corpus[at] = joined
    return merges


def small_bytes(samples):
    letters = alphabet()
    merges = learn(samples, 1600)
    pieces = list(dict.fromkeys([*letters.values(), *("".join(merge) for merge in merges)]))
    # No merge makes these: they are read only where words that are tokens stay whole.
    words = [("".join(letters[byte] for byte in word.encode())) for word in (" London", "function")]
    tokens = [(piece, NORMAL) for piece in pieces] + [(word, NORMAL) for word in words if word not in pieces] + SPECIAL
    names = [token for token, _ in tokens]
    values = {"tokenizer.ggml.bos_token_id": names.index("<s>"), "tokenizer.ggml.eos_token_id": names.index("</s>")}
    write("bytes.gguf", "gpt2", tokens, merges=[" ".join(merge) for merge in merges], values=values)


def contents(reader, name):
    return reader.fields[f"tokenizer.ggml.{name}"].contents()


def small_pieces(models):
    reader = GGUFReader(models / "ggml-vocab-llama-spm.gguf")
    tokens, scores, kinds = contents(reader, "tokens"), contents(reader, "scores"), contents(reader, "token_type")
    frequent = range(259, 259 + 1500)
    characters = [at for at in range(259, len(tokens)) if len(tokens[at]) == 1 and at not in frequent][:250]
    kept = [*range(259), *frequent, *characters]
    special = [token for token in SPECIAL if token[0] not in ("<s>", "</s>")]
    write(
        "pieces.gguf",
        "llama",
        [(tokens[at], kinds[at]) for at in kept] + special,
        scores=[scores[at] for at in kept] + [0.0] * len(special),
    )


def small_characters(models):
    reader = GGUFReader(models / "ggml-vocab-gemma-4.gguf")
    tokens, kinds = contents(reader, "tokens"), contents(reader, "token_type")
    merges = contents(reader, "merges")[:900]
    pairs = [merge.split(" ", 1) if merge[0] != " " else ["", ""] for merge in merges]
    pairs = [pair for pair in pairs if all(pair)]
    needed = set(sum(([left, right, left + right] for left, right in pairs), []))
    needed |= {token for token in tokens if token == "\n" * len(token) and len(token) < 8}
    needed |= {chr(code) for code in range(0x20, 0x17F)} | {f"<0x{byte:02X}>" for byte in range(256)}
    needed |= {"<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>", "<|tool_response>", "</s>", "<b>", "<table>"}
    kept = [at for at, token in enumerate(tokens) if token in needed]
    names = [tokens[at] for at in kept]
    values = {f"tokenizer.ggml.{name}_token_id": names.index(f"<{name}>") for name in ("bos", "eos")}
    write("characters.gguf", "gemma4", [(tokens[at], kinds[at]) for at in kept], merges=[" ".join(p) for p in pairs], values=values)


def small(models):
    names = [token for token, _ in SPECIAL] + ["<b>", "<turn|>", "<|end|>", "<unk>", "<0x41>"]
    samples = texts(126, names)
    (HERE / "texts.json").write_text(json.dumps(samples, separators=(",", ":")) + "\n")
    small_bytes(samples)
    small_pieces(models)
    small_characters(models)
    for pre in PRE:
        golden(f"bytes-{pre}", "bytes.gguf", {"tokenizer.ggml.pre": pre}, samples, special=pre in ("llama-bpe", "default"))
    added = {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    golden("bytes-added", "bytes.gguf", {"tokenizer.ggml.pre": "qwen2", **added}, samples)
    golden("pieces", "pieces.gguf", {}, samples)
    golden("pieces-no-prefix", "pieces.gguf", {"tokenizer.ggml.add_space_prefix": False, **added}, samples)
    golden("pieces-phi-3", "pieces.gguf", {"general.name": "Phi-3 mini", "tokenizer.ggml.add_bos_token": False}, samples)
    golden("characters", "characters.gguf", {}, samples)


def full(models, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(models.glob("ggml-vocab-*.gguf")):
        reader = GGUFReader(path)
        if contents(reader, "model") not in ("llama", "gpt2", "gemma4"):
            print(path.name, "is of another kind", flush=True)
            continue
        print(path.name, flush=True)
        tokens, kinds = contents(reader, "tokens"), contents(reader, "token_type")
        names = [token for token, kind in zip(tokens, kinds) if kind in (CONTROL, LITERAL) and token.strip()]
        samples = texts(900, names[:400] or ["<s>"])
        found = {"file": str(path.resolve()), "texts": samples, **ids(path, samples)}
        (folder / f"{path.stem}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["small", models]:
            small(pathlib.Path(models))
        case ["full", models, folder]:
            full(pathlib.Path(models), pathlib.Path(folder))
        case _:
            sys.exit(__doc__)
