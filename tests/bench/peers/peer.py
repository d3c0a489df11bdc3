"""MaxCompute's Python client, as a process that the benchmark `peers` measures.

Reads orders from standard input (`order.rs`): answers `ready`, waits for `go`, and answers when
the rows are committed. The values of the rows are made when it starts. In the mode `reset` the
counter of buffered bytes, which PyODPS never lowers, is set right after each flush, and the
keep-alive, which breaks the stream, is put off; in the mode `shipped` nothing is.
"""

import json
import os
import sys
import time

os.environ["TZ"] = "UTC"
time.tzset()

import pandas
from odps import ODPS, options
from odps.tunnel import TableTunnel
from odps.tunnel.io.writer import Upsert

MILLION = 1_000_000
A = 50
B = 52
FIRST_AT = 1_780_000_000_000
KEEP_ALIVE_S = options.tunnel.upsert_keepalive_interval
MIB = 1 << 20


class Peer:
    def __init__(self, endpoint, texts):
        self.odps = ODPS("local", "local", "local", endpoint=endpoint)
        with open(texts, encoding="ascii") as file:
            text = file.read()
        starts = range(0, MILLION * (A + B), A + B)
        self.a = [text[at : at + A] for at in starts]
        self.b = [text[at + A : at + A + B] for at in starts]
        times = pandas.to_datetime(range(FIRST_AT, FIRST_AT + MILLION), unit="ms")
        self.at = list(times)

    def carry_out(self, order):
        reset = order["mode"] == "reset"
        options.tunnel.upsert_keepalive_interval = 86_400 if reset else KEEP_ALIVE_S
        Upsert.DEFAULT_SLOT_BUFFER_SIZE = (4 if order["wide"] else 1) * MIB
        Upsert.DEFAULT_MAX_BUFFER_SIZE = (128 if order["wide"] else 64) * MIB
        compression = order["compression"]
        algorithm = None if compression == "none" else compression
        session = TableTunnel(self.odps).create_upsert_session("bench", compress_algo=algorithm)
        stream = session.open_upsert_stream(compress=algorithm is not None)
        if reset:
            reset_counter_of(stream)
        for row in range(order["rows"]):
            of = row % MILLION
            stream.upsert(
                session.new_record([row, self.a[of], self.b[of], of / 7, self.at[of]])
            )
        stream.close()
        session.commit()


def reset_counter_of(stream):
    flush = stream.flush

    def flush_and_count(flush_all=True):
        flush(flush_all)
        stream._total_n_bytes = sum(w.n_bytes for w in stream._bucket_writers.values())

    stream.flush = flush_and_count


def main():
    # Whatever a library prints must not stand among the answers.
    out, sys.stdout = sys.stdout, sys.stderr
    peer = Peer(sys.argv[1], sys.argv[2])
    while line := sys.stdin.readline():
        order = json.loads(line)
        print("ready", file=out, flush=True)
        sys.stdin.readline()
        answer = {}
        try:
            peer.carry_out(order)
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=out, flush=True)


main()
