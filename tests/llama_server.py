"""llama.cpp's own server for one GGUF file: `python -m tests.llama_server FILE PORT`."""

import sys
import time

import xllamacpp


def main(file: str, port: int) -> None:
    """Serve until killed."""
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
