"""llama.cpp's own server for one GGUF file: `python -m tests.llama_server FILE PORT`."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from planners.processes import free_port


@contextmanager
def left_alone(file: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The URL of a server that nobody starts again when it dies, and its process."""
    port = free_port()
    words = [sys.executable, "-m", "tests.llama_server", str(file), str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            else:
                raise RuntimeError(f"the server of {file} ended with status {process.returncode}")
            yield f"http://127.0.0.1:{port}/v1", process
        finally:
            process.kill()


def main(file: str, port: int) -> None:
    """Serve until killed."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = file
    settings.model_alias = {"tiny"}
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.n_ctx = 4096
    settings.n_parallel = 2
    settings.cpuparams.n_threads = 1
    settings.warmup = False
    settings.cache_prompt = False  # what it has cached changes the last digits
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
