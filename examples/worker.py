#!/usr/bin/env python3
"""A worker for streamgauge: one JSON line in, one answer out.

redis-cli XADD orders '*' amount 3
streamgauge consume --redis-url redis://localhost:6379 --stream orders --group billing --worker 'python3 examples/worker.py'
"""

import json
import sys


class Rejected(Exception):
    """The entry can never be handled."""


def handle(entry):
    # Fields are an object, or a list of pairs if a name occurs twice.
    fields = dict(entry["fields"])
    if "amount" not in fields:
        raise Rejected("the entry has no amount")
    int(fields["amount"])
    # Do the work here, so that doing it twice does no harm.


for line in sys.stdin:
    entry = json.loads(line)
    try:
        handle(entry)
        answer = f"ok {entry['id']}"
    except Rejected as error:
        answer = f"dead {entry['id']} {error}"
    except Exception as error:
        answer = f"retry {entry['id']} {type(error).__name__}: {error}"
    # One line each, at once. Standard output is for answers only; print to standard error for the log.
    print(answer.replace("\n", " "), flush=True)
