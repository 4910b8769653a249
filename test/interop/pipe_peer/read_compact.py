"""Reads compact values, targets, requests and answers, one JSON object a line; what it makes of each goes out the same way."""

import json
import sys

import compact


def main(document_file, dictionary_file):
    with open(document_file, encoding="utf-8") as file:
        document = file.read()
    with open(dictionary_file, "rb") as file:
        dictionary = compact.dictionary_of(document, file.read())
    tables = compact.Tables(document)
    print(json.dumps({"examples": tables.examples, "named": tables.named_examples, "routes": len(tables.routes)}), flush=True)
    # Of all orders that name servers: what one introduces another one may name.
    handles = {}
    for line in sys.stdin:
        order = json.loads(line)
        names = {"servers": order["servers"], "handles": handles} if "servers" in order else {}
        try:
            answer = {"read": read(tables, dictionary, order["kind"], bytes.fromhex(order["bytes"]), names)}
        except (compact.Malformed, UnicodeDecodeError, ValueError, IndexError) as problem:
            answer = {"problem": "%s: %s" % (type(problem).__name__, problem)}
        print(json.dumps(answer), flush=True)


def read(tables, dictionary, kind, data, names):
    if kind in ("value", "target"):
        reader = compact.Reader(tables, data, **names)
        found = reader.value() if kind == "value" else reader.target()
    else:
        reader = compact.Reader(tables, *compact.unpack(data, dictionary), **names)
        target = reader.target() if kind == "request" else None
        found = {"target": target, "body": reader.body()}
    if not reader.end():
        raise compact.Malformed("something is left")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
