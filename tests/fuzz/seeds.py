#!/usr/bin/env python3
"""Writes the seeds of the fuzzers, which are committed, and the folder with a small embedding model that one of them changes.

They are made of what is in the repository: the protocol's golden frames, frames of private messages, which a test of `ipc` writes, the
example configuration, the built-in model's header; and of small files of each kind that is read. Fuzzers go on from there. The standard library is enough.
"""
from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RANDOM = random.Random(1)


def seed(target: str, name: str, content: bytes) -> None:
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def frames(content: bytes) -> list[bytes]:
    """The payloads of frames."""
    payloads = []
    while content:
        (size,) = struct.unpack_from("<I", content, 4)
        payloads.append(content[8 : 8 + size])
        content = content[8 + size :]
    return payloads


def frame(payload: bytes) -> bytes:
    return b"SV" + struct.pack("<HI", 2, len(payload)) + payload


def wire() -> None:
    conversations = ["request", "response", "to-worker", "from-worker", "to-template", "from-template"]
    said = []
    with tempfile.TemporaryDirectory() as private:
        written = ["cargo", "test", "--quiet", "--package", "ipc", "--test", "wire"]
        subprocess.run(written, cwd=ROOT, env=os.environ | {"IPC_WRITE_PRIVATE": private}, check=True, stdout=subprocess.DEVNULL)
        paths = [*(ROOT / "ipc/tests/golden/v2").glob("*.bin"), *Path(private).glob("*.bin")]
        golden = [(path, path.read_bytes()) for path in sorted(paths, key=lambda path: path.name)]
    for path, content in golden:
        at = next(at for at, name in enumerate(conversations) if path.stem.startswith(name))
        for number, payload in enumerate(frames(content)[:3]):
            seed("messages", f"{path.stem}-{number}", bytes([at]) + payload)
        if len(content) < 2000:
            seed("frames", path.stem, bytes([5]) + content)
        if at == 1 and len(content) < 2000:
            said.append(content)
    seed("client", "everything", b"".join(said))
    bodies = [
        (0, {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 1, "stop": ["a"], "stream": True,
             "stream_options": {"include_usage": True}, "max_tokens": 3, "seed": -1, "tools": [], "n": 1}),
        (0, {"messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
                          {"role": "assistant", "content": None, "refusal": "c", "tool_calls": []}], "response_format": {"type": "text"}}),
        (1, {"prompt": ["x"], "max_tokens": 16.0, "logit_bias": {}, "echo": False, "top_k": 4, "presence_penalty": -2}),
        (2, {"input": ["x", "y"], "encoding_format": "base64", "dimensions": 384, "user": {"id": 1}}),
        (0, {"messages": [{"role": "tool", "content": 1}], "logprobs": True}),
    ]
    for number, (path, body) in enumerate(bodies):
        seed("http", str(number), bytes([path]) + json.dumps(body).encode())
    seed("http", "surrogates", b'\x01{"prompt": "a\\ud83dz\\ud83d\\ude00"}')
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
    seed("http_stream", "two", b"\x07GET / HTTP/1.1\r\n\r\n" + head + b"Content-Length: 5\r\n\r\nhello")
    seed("http_stream", "chunked", b"\x03" + head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    seed("http_stream", "lengths", b"\x05" + head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello")
    asked = {"caller": {"owner": "key:a", "address": "::1", "http_request": "r"}, "request": {"generate": {"prompt": "x"}}}
    seed("messages", "front-request", bytes([6]) + json.dumps(asked).encode())
    later = [{"started": {"prompt_tokens": 3}}, {"piece": {"text": "a", "token": 5, "logprob": [-0.5]}}, "heartbeat",
             {"failed": {"kind": "quota_exceeded", "message": "come back"}}]
    seed("client", "later", b"".join(frame(json.dumps(message).encode()) for message in later))
    wrong = [{"generate": {"prompt": "x", "mood": 0.1}}, {"generate": {"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}},
             {"generate": {"prompt": "x", "max_tokens": "9"}}, {"embed": {"texts": []}}, {"control": {"stop": {"when": 1}}}, {"summarise": 1}]
    for number, message in enumerate(wrong):
        seed("messages", f"request-wrong-{number}", bytes([0]) + json.dumps(message).encode())
    status = {
        "version": "0.1.0", "pid": 7, "uptime_s": 12.5, "cores": 4,
        "models": [{
            "name": "pocket", "kind": "generate", "state": "parked", "retry_in_s": 3.5, "path": "builtin:pocket", "architecture": "llama",
            "context": 256, "isolation": "request", "weights_bytes": 5, "error": "why", "template": {"pid": 9, "load_s": 0.4, "pss_bytes": 1, "generation": 1},
            "queue": {"length": 0, "limit": 64, "oldest_s": 0.0},
            "workers": [{"slot": 0, "generation": 3, "pid": 21, "state": "busy", "request": "req-17", "phase": "decode", "age_s": 3.1,
                         "prompt_tokens": 3, "tokens": 40, "tokens_per_s": 31.0, "threads": 2, "private_bytes": 8, "pss_bytes": 9, "memory_age_s": 1.0,
                         "sandbox": "seccomp"}],
            "totals": {"accepted": 20, "answered": 18, "refused": 0, "failed": 0, "cancelled": 1, "timed_out": 0, "replayed": 1,
                       "resumed": 1, "worker_exits": 20, "worker_crashes": 1},
            "last_crash": {"pid": 20, "slot": 0, "cause": "signal 9", "at": "2026-01-01T00:00:00Z", "request": "req-1", "stderr": ["x"]},
        }],
    }
    seed("client", "status", frame(json.dumps({"status": status}).encode()))
    seed("configuration", "example", (ROOT / "deploy/supervisor.toml").read_bytes())
    seed("configuration", "small", b'[supervisor]\ncores = 2\nallow_users = ["root", 1]\n[[model]]\npath = "a.gguf"\nworkers = "auto"\n')


def text(content: str) -> bytes:
    return bytes([len(content)]) + content.encode()


def workers() -> None:
    token = lambda index: frame(bytes([2, 1, index, 7]) + text("ab"))
    begun, same = b"\1", b"\0"
    prompt = frame(bytes([1, 1, 3, 5, 6, 7]))
    done = frame(bytes([3, 1]) + text("abab") + bytes([0, 3, 2]))
    seed("worker", "generation", b"\0" + begun + prompt + same + token(0) + same + token(1) + same + done)
    vectors = lambda first, count: frame(bytes([5, 1, first, count]) + (bytes([2]) + struct.pack("<ff", 0.5, 1.0)) * count)
    seed("worker", "embedding", b"\1" + begun + vectors(0, 10) + same + frame(bytes([6, 1, 9])) + b"\3" + vectors(0, 9) + b"\2" + vectors(9, 1))
    seed("worker", "tokenization", b"\2" + begun + frame(bytes([7, 1, 2, 3, 4])))
    seed("worker", "failed", b"\0" + begun + frame(bytes([4, 1, 0]) + text("no")))
    seed("board", "counts", b"".join(struct.pack("<6Q", tick, 3, 5, 5, tick * 4, 2) for tick in range(5)))

    def cache(fed: int, answer: list[int], numbers: bytes) -> bytes:
        context, prompt = 32, [1, 2, 3, 4, 5, 6]
        words = [0x6B760001, 0, 0, 64, len(prompt), context]
        words += prompt + [0] * (context - len(prompt)) + answer + [0] * (context - len(answer))
        record = struct.pack(f"<{len(words)}I", *words)
        return struct.pack("<Q", fed) + bytes(56) + record.ljust(-len(record) % 64 + len(record), b"\0") + numbers

    seed("cache", "prompt", cache(6, [9], b""))
    seed("cache", "answer", cache(8, [9, 10, 11], bytes(RANDOM.randrange(256) for _ in range(300))))
    seed("cache", "infinite", cache(7, [9, 10], b"\x00\x7c" * 200))


def string(content: str | bytes) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(content)) + content


class Gguf:
    """A GGUF file in the making."""

    def __init__(self) -> None:
        self.values, self.tensors, self.data = [], [], b""

    def value(self, key: str, kind: int, content: bytes) -> None:
        self.values.append(string(key) + struct.pack("<I", kind) + content)

    def text(self, key: str, content: str) -> None:
        self.value(key, 8, string(content))

    def unsigned(self, key: str, number: int) -> None:
        self.value(key, 4, struct.pack("<I", number))

    def float(self, key: str, number: float) -> None:
        self.value(key, 6, struct.pack("<f", number))

    def flag(self, key: str, flag: bool) -> None:
        self.value(key, 7, bytes([flag]))

    def list(self, key: str, kind: int, elements: list[bytes]) -> None:
        self.value(key, 9, struct.pack("<IQ", kind, len(elements)) + b"".join(elements))

    def tensor(self, name: str, dimensions: list[int], kind: int = 0) -> None:
        count = 1
        for dimension in dimensions:
            count *= dimension
        self.data = self.data.ljust(-len(self.data) % 32 + len(self.data), b"\0")
        self.tensors.append(string(name) + struct.pack("<I", len(dimensions)) + struct.pack(f"<{len(dimensions)}Q", *dimensions)
                            + struct.pack("<IQ", kind, len(self.data)))
        if kind == 8:
            block = lambda: struct.pack("<e", 0.01) + bytes(RANDOM.randrange(256) for _ in range(32))
            self.data += b"".join(block() for _ in range(count // 32))
        else:
            self.data += b"".join(struct.pack("<f", RANDOM.uniform(0.1, 1.0)) for _ in range(count))

    def bytes(self) -> bytes:
        content = b"GGUF\3\0\0\0" + struct.pack("<QQ", len(self.tensors), len(self.values)) + b"".join(self.values + self.tensors)
        return content.ljust(-len(content) % 32 + len(content), b"\0") + self.data


def alphabet() -> list[str]:
    """The characters by which byte-level BPE writes bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + at) for at in range(len(others))]


def with_bpe(file: Gguf, pre: str, small: bool = False) -> None:
    tokens = (["a", "b", "c", "\u0120", "e"] if small else alphabet()) + ["ab", "\u0120a", "abc", "<s>", "</s>", "<|end|>"]
    kinds = [1] * (len(tokens) - 3) + [3, 3, 4]
    file.text("tokenizer.ggml.model", "gpt2")
    file.text("tokenizer.ggml.pre", pre)
    file.list("tokenizer.ggml.tokens", 8, [string(token) for token in tokens])
    file.list("tokenizer.ggml.token_type", 5, [struct.pack("<i", kind) for kind in kinds])
    file.list("tokenizer.ggml.merges", 8, [string(merge) for merge in ["a b", "\u0120 a", "ab c"]])
    file.unsigned("tokenizer.ggml.bos_token_id", len(tokens) - 3)
    file.unsigned("tokenizer.ggml.eos_token_id", len(tokens) - 2)
    file.flag("tokenizer.ggml.add_bos_token", True)


def with_pieces(file: Gguf) -> None:
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581", "a", "b", "\u2581a", "ab", "on", "\u2581on"]
    kinds = [2, 3, 3] + [6] * 256 + [1] * 7
    file.text("tokenizer.ggml.model", "llama")
    file.list("tokenizer.ggml.tokens", 8, [string(token) for token in tokens])
    file.list("tokenizer.ggml.token_type", 5, [struct.pack("<i", kind) for kind in kinds])
    file.list("tokenizer.ggml.scores", 6, [struct.pack("<f", -number) for number in range(len(tokens))])
    file.flag("tokenizer.ggml.add_space_prefix", True)


def vocabularies() -> None:
    for pre in ["qwen2", "llama-bpe", "gpt-2", "deepseek-llm", "tekken"]:
        file = Gguf()
        with_bpe(file, pre, small=pre != "qwen2")
        seed("vocabulary", "bytes" if pre == "qwen2" else pre, file.bytes() + b"abc ab 12")
        seed("gguf", f"header-{pre}", file.bytes())
    file = Gguf()
    with_pieces(file)
    seed("vocabulary", "pieces", file.bytes() + b"a on ab")
    file = Gguf()
    file.text("tokenizer.ggml.model", "gemma4")
    file.list("tokenizer.ggml.tokens", 8, [string(token) for token in ["<pad>", "<eos>", "<bos>", "a", "b", "ab", "\u2581", "\n"]])
    file.list("tokenizer.ggml.merges", 8, [string("a b")])
    seed("vocabulary", "characters", file.bytes() + b"ab a")
    # The built-in model's own header, without its weights.
    pocket = (ROOT / "worker/pocket/pocket-q8_0.gguf").read_bytes()
    seed("gguf", "pocket", pocket[: pocket.index(b"output_norm.weight") + 60])


def models() -> None:
    width, heads, blocks, inner = 32, 2, 1, 32
    for architecture in ["llama", "qwen2", "qwen3", "gemma3", "phi3"]:
        file = Gguf()
        file.text("general.architecture", architecture)
        with_bpe(file, "qwen2", small=True)
        tokens = 11
        for name, number in [("context_length", 64), ("block_count", blocks), ("embedding_length", width), ("feed_forward_length", inner),
                             ("attention.head_count", heads), ("attention.head_count_kv", heads), ("attention.key_length", width // heads),
                             ("attention.value_length", width // heads), ("rope.dimension_count", width // heads)]:
            file.unsigned(f"{architecture}.{name}", number)
        file.float(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-6)
        file.float(f"{architecture}.rope.freq_base", 10000.0)
        if architecture == "gemma3":
            file.unsigned("gemma3.attention.sliding_window", 16)
        kind = 8 if architecture in ("llama", "qwen3") else 0
        file.tensor("token_embd.weight", [width, tokens], kind)
        file.tensor("output_norm.weight", [width])
        for block in range(blocks):
            tensor = lambda name, *dimensions: file.tensor(f"blk.{block}.{name}.weight", list(dimensions), kind if len(dimensions) > 1 else 0)
            if architecture == "phi3":
                tensor("attn_qkv", width, 3 * width)
                tensor("ffn_up", width, 2 * inner)
            else:
                for name in ["attn_q", "attn_k", "attn_v"]:
                    tensor(name, width, width)
                tensor("ffn_gate", width, inner)
                tensor("ffn_up", width, inner)
            tensor("attn_output", width, width)
            tensor("ffn_down", inner, width)
            tensor("attn_norm", width)
            tensor("ffn_norm", width)
            if architecture == "qwen2":
                for name in ["attn_q", "attn_k", "attn_v"]:
                    file.tensor(f"blk.{block}.{name}.bias", [width])
            if architecture in ("qwen3", "gemma3"):
                tensor("attn_q_norm", width // heads)
                tensor("attn_k_norm", width // heads)
            if architecture == "gemma3":
                tensor("post_attention_norm", width)
                tensor("post_ffw_norm", width)
        if architecture in ("llama", "phi3"):
            file.tensor("output.weight", [width, tokens], kind)
        seed("model", architecture, file.bytes())


def chats() -> None:
    loop = "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message.content | trim }}{% endfor %}"
    templates = {
        "loop": loop + "{% if add_generation_prompt %}{{ bos_token }}{% endif %}",
        "raise": "{% if messages[0].role != 'user' %}{{ raise_exception('roles must alternate: ' + messages[0].content) }}{% endif %}",
        "macro": "{% macro turn(m, last=false) %}[{{ m.content.strip().split('x')[0] }}]{% endmacro %}{% for m in messages %}{{ turn(m, loop.last) }}{% endfor %}",
        "namespace": "{% set ns = namespace(found=false, n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + loop.index0 %}{% if loop.first %}{% continue %}{% endif %}{% endfor %}{{ ns.n }}",
        "json": "{{ messages | tojson(indent=2) }}{{ strftime_now('%d %b %Y') }}{{ {'a': [1, 2.5, none, true]} | tojson }}",
        "filters": "{{ messages | map(attribute='content') | join(', ') | upper | replace('A', 'b') | length }}{{ range(3) | list }}{{ 'ab' * 3 ~ 1 // 2 ** 3 }}{{ messages | selectattr('role', 'equalto', 'user') | list | first }}",
    }
    for name, source in templates.items():
        seed("chat", name, source.encode() + b"\0 x hello <|im_end|>")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##c", "find", ":", "one"]


def bert() -> None:
    width, inner, positions = 4, 6, 12
    special = lambda at: {"id": at, "special": True, "content": WORDS[at], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    around = lambda at: {"SpecialToken": {"id": WORDS[at], "type_id": 0}}
    named = lambda at: {"id": WORDS[at], "ids": [at], "tokens": [WORDS[at]]}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special(at) for at in range(4)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": False, "lowercase": False},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [around(2), {"Sequence": {"id": "A", "type_id": 0}}, around(3)],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {"[CLS]": named(2), "[SEP]": named(3)}},
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                  "vocab": {word: at for at, word in enumerate(WORDS)}},
    }
    shapes = {f"embeddings.{name}": shape for name, shape in [
        ("word_embeddings.weight", [len(WORDS), width]), ("position_embeddings.weight", [positions, width]),
        ("token_type_embeddings.weight", [2, width]), ("LayerNorm.weight", [width]), ("LayerNorm.bias", [width])]}
    for name, outputs, inputs in [("attention.self.query", width, width), ("attention.self.key", width, width), ("attention.self.value", width, width),
                                  ("attention.output.dense", width, width), ("intermediate.dense", inner, width), ("output.dense", width, inner)]:
        shapes[f"encoder.layer.0.{name}.weight"], shapes[f"encoder.layer.0.{name}.bias"] = [outputs, inputs], [outputs]
    for name in ["attention.output.LayerNorm", "output.LayerNorm"]:
        shapes[f"encoder.layer.0.{name}.weight"] = shapes[f"encoder.layer.0.{name}.bias"] = [width]
    header, data = {}, b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        data += b"".join(struct.pack("<f", RANDOM.uniform(-0.5, 0.5)) for _ in range(count))
    head = json.dumps(header, separators=(",", ":")).encode()
    module = lambda path, kind: {"idx": 0, "name": "", "path": path, "type": f"sentence_transformers.models.{kind}"}
    files = {
        "config.json": {"model_type": "bert", "hidden_act": "gelu", "hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2,
                        "intermediate_size": inner, "max_position_embeddings": positions, "vocab_size": len(WORDS), "type_vocab_size": 2},
        "modules.json": [module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Normalize", "Normalize")],
        "1_Pooling/config.json": {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
        "config_sentence_transformers.json": {"prompts": {"query": "find: "}, "default_prompt_name": None},
        "tokenizer.json": tokenizer,
    }
    contents = {name: json.dumps(content, separators=(",", ":")).encode() for name, content in files.items()}
    contents["model.safetensors"] = struct.pack("<Q", len(head)) + head + data
    for at, (name, content) in enumerate(contents.items()):
        path = HERE / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        seed("embedding", name.replace("/", "-"), bytes([at]) + content)
    other = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
             "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
             "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
             "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                       "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                       "vocab": {letter: at for at, letter in enumerate(alphabet())} | {"ab": 256, "\u0120a": 257, "abc": 258},
                       "merges": [["a", "b"], ["\u0120", "a"], ["ab", "c"]]}}
    seed("tokenizer", "bytes", json.dumps(other, separators=(",", ":"), ensure_ascii=False).encode())
    seed("tokenizer", "pieces", contents["tokenizer.json"])
    few = {"a": 0, "b": 1, "c": 2, "ab": 3}
    tokenizer["model"] = other["model"] | {"vocab": few, "merges": [["a", "b"]]}
    seed("embedding", "merges", bytes([4]) + json.dumps(tokenizer, separators=(",", ":")).encode())


if __name__ == "__main__":
    shutil.rmtree(HERE / "seeds", ignore_errors=True)
    for make in [wire, workers, vocabularies, models, chats, bert]:
        make()
