#!/usr/bin/env python3
"""A client that needs nothing but Python's standard library.

It prints a text, piece by piece, then vectors if a model makes them.

`python3 client.py "Spell cloud."` asks the daemon at the socket that SUPERVISOR_SOCKET names, else
at the service's, else at the user's own. The documentation of the crate `ipc` is the specification.
"""
import base64
import json
import os
import socket
import struct
import sys

VERSION = 2


def send(stream, request):
    """Sends one message: "SV", the version, the payload's size, the payload."""
    payload = json.dumps(request).encode()
    stream.write(b"SV" + struct.pack("<HI", VERSION, len(payload)) + payload)
    stream.flush()


def receive(stream):
    """The kind and the value of the next message."""
    header = stream.read(8)
    if len(header) < 8:
        sys.exit("the daemon has closed the connection")
    magic, version, size = struct.unpack("<2sHI", header)
    if magic != b"SV" or version != VERSION:
        sys.exit(f"the daemon speaks version {version} of the protocol")
    message = json.loads(stream.read(size))
    if isinstance(message, str):
        return message, None
    [(kind, value)] = message.items()
    if kind == "failed":
        sys.exit(f"the daemon says: {value['message']}")
    return kind, value


def responses(stream, request, last):
    """Asks, and gives each response until the one of the kind `last`, whatever its kind is."""
    send(stream, request)
    kind = None
    while kind != last:
        kind, value = receive(stream)
        yield kind, value


def default_socket():
    """Where the daemon is if nobody says where."""
    service = "/run/supervisor/supervisor.sock"
    own = os.environ.get("XDG_RUNTIME_DIR")
    if os.path.exists(service) or not own or os.geteuid() == 0:
        return service
    return os.path.join(own, "supervisor/supervisor.sock")


def main():
    prompt = sys.argv[1] if len(sys.argv) > 1 else "Spell cloud."
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ.get("SUPERVISOR_SOCKET") or default_socket())
        stream = connection.makefile("rwb")

        generate = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
        for kind, value in responses(stream, {"generate": generate}, "done"):
            if kind in ("piece", "done"):
                print(value["text"], end="", flush=True)
        print()

        status = dict(responses(stream, "status", "status"))["status"]
        for model in status["models"]:
            if model["kind"] != "embed":
                print(f"{model['name']}: {model['state']}")
                continue
            embed = {"model": model["name"], "texts": ["The weather is lovely today."]}
            for kind, value in responses(stream, {"embed": embed}, "embedded"):
                for vector in value["vectors"] if kind == "vectors" else []:
                    floats = struct.iter_unpack("<f", base64.b64decode(vector))
                    numbers = [number for (number,) in floats]
                    print(f"{model['name']}: a vector of {len(numbers)} numbers")


if __name__ == "__main__":
    main()
