"""Writes digests.json: what jinja2, set up as transformers does it, makes of each conversation in
cases.json with each chat template in a folder.

    python3 make.py FOLDER

FOLDER is vendor/llama.cpp/models/templates of llama-cpp-python's source package, which
tests/set-up fetches. Needs jinja2 (3.1.6 wrote what is there). The setting is that of
transformers/utils/chat_template_utils.py: an immutable sandbox, blocks trimmed, loop controls,
the tag `generation`, and its own tojson, raise_exception and strftime_now. As servers of OpenAI's
API do, arguments of tool calls are given as objects and missing content as an empty text.
"""
import datetime, hashlib, json, pathlib, sys

import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2026, 11, 27, 12, 0, tzinfo=datetime.timezone.utc)


class Raised(jinja2.TemplateError):
    """What the template says is wrong with the conversation."""


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("content"), [], [], body).set_lineno(line)

    def content(self, caller):
        return caller()


def to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise Raised(message)


def environment():
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return made


def seen(message):
    message = dict(message)
    message["content"] = message.get("content") or ""
    for call in message.get("tool_calls", []):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    order = ["role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name"]
    return {key: message[key] for key in order if key in message}


def render(template, case):
    case = json.loads(json.dumps(case))
    try:
        text = template.render(
            messages=[seen(message) for message in case["messages"]],
            tools=case.get("tools"),
            documents=None,
            bos_token="<s>",
            eos_token="</s>",
            add_generation_prompt=True,
            **case.get("variables", {}),
        )
    except Raised as error:
        return "raised: " + " ".join(str(error).split())[:300], None
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return hashlib.sha256(text.encode()).hexdigest()[:16], text


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    cases = json.loads((HERE / "cases.json").read_text())
    digests = {}
    for path in sorted(folder.glob("*.jinja")):
        template = environment().from_string(path.read_bytes().decode())
        digests[path.name] = {case["name"]: render(template, case)[0] for case in cases}
        if len(sys.argv) > 2:
            for case in cases:
                out = pathlib.Path(sys.argv[2]) / f"{path.name}.{case['name']}"
                out.write_text(render(template, case)[1] or "")
    (HERE / "digests.json").write_text(json.dumps(digests, indent=0, sort_keys=True) + "\n")
