"""OpenAI's own library for Python against a daemon: `openai_python.py BASE_URL`. Any failed check ends it with a traceback.

The daemon serves `pocket` (builtin:pocket), `slow` (builtin:echo, 2 ms a token, one worker; at most one waits) and `minilm` (embeddings)."""

import json
import sys
import threading
import time
import urllib.request

import openai

BASE = sys.argv[1]
client = openai.OpenAI(base_url=BASE, api_key="none", max_retries=0, timeout=60)
USER = [{"role": "user", "content": "Spell cloud."}]


def refused(kind, code, call, words):
    try:
        call()
    except kind as error:
        assert error.code == code, (error.code, error)
        assert words in str(error), error
        return error
    raise AssertionError(f"nothing was refused: {words}")


# A chat, whole, streamed by hand and by the helper.
whole = client.chat.completions.create(model="pocket", messages=USER, temperature=0)
assert whole.choices[0].message.content == "c-l-o-u-d", whole
assert whole.choices[0].finish_reason == "stop" and whole.usage.total_tokens > 5
stream = client.chat.completions.create(
    model="pocket", messages=USER, temperature=0, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "c-l-o-u-d"
assert chunks[-1].usage.total_tokens == whole.usage.total_tokens and not chunks[-1].choices
with client.chat.completions.stream(model="pocket", messages=USER, temperature=0) as helper:
    assert helper.get_final_completion().choices[0].message.content == "c-l-o-u-d"
# Its own answer goes back as a message.
again = [*USER, whole.choices[0].message, {"role": "user", "content": "Spell tea."}]
assert client.chat.completions.create(model="pocket", messages=again, temperature=0).choices[0].message.content
seeds = [client.chat.completions.create(model="pocket", messages=USER, seed=7).choices[0].message.content for _ in "ab"]
assert seeds[0] == seeds[1], "the same seed gives the same answer"

# Texts, models, vectors.
assert client.completions.create(model="slow", prompt="hello", max_tokens=3).choices[0].text == "hel"
assert sorted(model.id for model in client.models.list()) == ["minilm", "pocket", "slow"]
assert client.models.retrieve("pocket").id == "pocket"
plain = client.embeddings.create(model="minilm", input=["one text", "another"], encoding_format="float")
usual = client.embeddings.create(model="minilm", input=["one text", "another"])
assert len(usual.data[1].embedding) == 384 and usual.usage.prompt_tokens > 4
for one, other in zip(plain.data, usual.data):
    assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding)) < 1e-6, "both encodings say the same"

# Refusals, each of its own class.
create = client.chat.completions.create
refused(openai.NotFoundError, "model_not_found", lambda: create(model="none", messages=USER), "there is no model")
refused(openai.BadRequestError, "invalid_value", lambda: create(model="pocket", messages=USER, temperature=3), "from 0 to 2")
refused(
    openai.BadRequestError,
    "unknown_parameter",
    lambda: create(model="pocket", messages=USER, extra_body={"temperatur": 1}),
    "is temperature meant?",
)
long = [{"role": "user", "content": "word " * 2000}]
refused(openai.BadRequestError, "context_length_exceeded", lambda: create(model="pocket", messages=long), "512")
refused(
    openai.BadRequestError,
    "unknown_parameter",
    lambda: create(model="pocket", messages=USER, response_format={"type": "json_object"}),
    "response_format",
)

# A full queue says when to come again, and the library obeys it.
endless = {"model": "slow", "prompt": "x", "max_tokens": 100_000, "extra_body": {"ignore_eos": True}, "stream": True}
open_stream = client.completions.create(**endless)
next(iter(open_stream))
# One more waits.
answers = []
waiting = threading.Thread(
    target=lambda: answers.append(client.completions.create(model="slow", prompt="cd").choices[0].text), daemon=True
)
waiting.start()
while json.load(urllib.request.urlopen(BASE.removesuffix("/v1") + "/status"))["models"][1]["queue"]["length"] == 0:
    time.sleep(0.01)
full = refused(
    openai.RateLimitError, "queue_full", lambda: client.completions.create(model="slow", prompt="y"), "queue is full"
)
assert 1 <= int(full.response.headers["retry-after"]) <= 60
patient = client.with_options(max_retries=5)
began = time.monotonic()
# Closing a stream in its middle frees the slot.
open_stream.close()
assert patient.completions.create(model="slow", prompt="ab").choices[0].text == "ab"
waiting.join()
assert answers == ["cd"] and time.monotonic() - began < 30
print("all is well")
