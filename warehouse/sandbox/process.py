"""The process that runs a user's query: `python -m warehouse.sandbox.process`.

It reads a request as JSON on standard input and writes the result as an Arrow stream to standard
output. Before it opens anything, it gives up the rights it does not need: writing files and, for a
warehouse in a file, the network. On Linux the kernel enforces this (Landlock); elsewhere a limit on
file sizes and DuckDB's own locks do. A refusal is one line of JSON on standard error, and exit 2.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import sys
from typing import Any, NoReturn

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy.exc import DBAPIError

from planners.errors import PosterityError
from warehouse.places.connect import connect, place_of
from warehouse.places.lake import Lake
from warehouse.sandbox.query import NOWHERE, require_select

BATCH = 10_000
"""Rows written to the stream at a time."""
GRACE = 5
"""Seconds beyond its time limit after which the process ends, if its parent has not stopped it."""
OWN_MEMORY = 1 << 30
"""Bytes that Python and DuckDB need in addition to the query's own limit."""
UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
         "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip

# Numbers of Linux system calls and options, for Landlock (linux/landlock.h) and prctl. A Landlock
# ruleset denies every right that it handles, except by a rule; we add none.
CREATE_RULESET, RESTRICT_SELF, NO_NEW_PRIVILEGES = 444, 446, 38
DEATH_SIGNAL = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
UNSHOWN = re.compile(r"\b(UHUGEINT|BIGNUM|VARINT|BIT|TIME WITH TIME ZONE)\b")
"""Types that Arrow has not, or not whole."""
LEAST = 32_000_000
"""Bytes of memory for a query, at least."""
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Number of file rights in each version of Landlock; later versions are treated as the last."""
TCP = 0b11


def main() -> None:
    """Run the query on standard input."""
    request = json.load(sys.stdin)
    try:
        answer(request)
    except PosterityError as error:
        refuse(str(error))
    except (duckdb.Error, DBAPIError, pa.ArrowException, OSError, MemoryError) as error:
        refuse(_told(str(getattr(error, "orig", error)), request["memory"]))


def answer(request: dict[str, Any]) -> None:
    """Write the result of a request. Raises InvalidInput if its SQL is not a SELECT."""
    if "parquet" in request:
        _traits(request)
        return
    place, memory = place_of(request["place"]), bytes_of(request["memory"])
    lake = isinstance(place, Lake)  # whose queries have a network, and a server not to reach
    give_up_writing(network=lake)  # first: what follows handles untrusted SQL
    limit(memory, request["seconds"])
    require_select(request["sql"], lake)
    engine = connect(place, read_only=True, memory=request["memory"])
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        found = raw.execute(request["sql"])
        _require_shown([(name, str(kind)) for name, kind, *_ in found.description])
        _write(found.to_arrow_reader(BATCH), request["rows"], memory)


def _require_shown(columns: list[tuple[str, str]]) -> None:
    """Refuse columns of types that would be shown as other values than they hold."""
    for name, kind in columns:
        bare = re.sub(r"""'[^']*'|"[^"]*\"""", "", kind)
        if (odd := UNSHOWN.search(bare)) or (bare != "INTERVAL" and "INTERVAL" in bare):
            refuse(
                f"the column {name!r} has the type {kind}, whose values cannot be shown"
                f"{' exactly' if odd else ' within others'}: cast it, as in CAST({name} AS VARCHAR)"
            )


def _traits(request: dict[str, Any]) -> None:
    """Write SQL expressions over the rows of a Parquet file, which the caller has checked."""
    memory = bytes_of(request["memory"])
    give_up_writing(network=False)
    limit(memory, request["seconds"])
    with duckdb.connect(config={**NOWHERE, "memory_limit": request["memory"]}) as connection:
        connection.register("pool", pq.read_table(request["parquet"]))
        _write(connection.execute(request["sql"]).to_arrow_reader(BATCH), request["rows"], memory)


def _write(reader: pa.RecordBatchReader, rows: int, size: int) -> None:
    """Write a result; refuse it once it has more rows or bytes than allowed."""
    taken = held = 0
    with pa.ipc.new_stream(sys.stdout.buffer, reader.schema) as stream:
        for batch in reader:
            taken, held = taken + len(batch), held + batch.nbytes
            if taken > rows:
                refuse(
                    f"the result has more than {rows:,} rows; add a LIMIT, or allow more with "
                    "--rows"
                )
            if held > size:
                refuse(
                    "the result is larger than the query's memory; select less, or raise --memory"
                )
            stream.write_batch(batch)


def give_up_writing(network: bool) -> bool:
    """Forbid this process and the threads it starts to create, change or run a file and, without
    `network`, to open a TCP connection. Returns whether the kernel enforces it.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(DEATH_SIGNAL, signal.SIGKILL)  # it dies with its parent
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    files = (1 << FILE_RIGHTS[min(version, max(FILE_RIGHTS))]) - 1
    handled = (ctypes.c_uint64 * 2)(files & ~(READ_FILE | READ_DIR), 0 if network else TCP)
    size = 16 if version >= 4 else 8  # older versions know no network rights
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(handled), size, 0)
    if ruleset < 0 or libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    done: bool = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done


def limit(memory: int, seconds: float) -> None:
    """Limit this process's memory and run time."""
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (memory + OWN_MEMORY,) * 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent stops it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)


def bytes_of(memory: str) -> int:
    """`2GB` or `512MiB` as bytes."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b)\s*", memory, re.I)
    if found is None:
        refuse(f"--memory {memory!r}: expected a size such as 2GB or 512MiB")
    size = min(int(float(found[1]) * UNITS[found[2].lower()]), 1 << 60)
    if size < LEAST:
        refuse(f"--memory {memory}: to open a warehouse takes more; give it at least 32MB")
    return size


def _told(reason: str, memory: str) -> str:
    if "Out of Memory" in reason or "bad_alloc" in reason or "Allocation failure" in reason:
        return (
            f"the query needs more memory than {memory}; ask for less, or give it more with "
            f"--memory: {reason.splitlines()[0]}"
        )
    return f"the query failed: {reason}"


def refuse(reason: str) -> NoReturn:
    """Exit with code 2 and no result, with the reason on standard error."""
    sys.stderr.write("\n" + json.dumps({"refused": reason}) + "\n")
    sys.stderr.flush()
    os._exit(2)


if __name__ == "__main__":
    main()
