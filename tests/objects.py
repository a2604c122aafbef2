"""Object storage on loopback: the S3 server of the package moto."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import httpx

from planners.processes import free_port, stop_group

BUCKET = "rows"


@contextmanager
def object_storage(folder: Path) -> Iterator[dict[str, str]]:
    """The environment variables that reach a server with an empty bucket."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret-of-mine"}
    with (folder / "moto.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=os.environ | keys
        )
    try:
        while True:
            assert process.poll() is None, (folder / "moto.log").read_text()
            try:
                httpx.get(url)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        client(url).create_bucket(Bucket=BUCKET)
        yield {**keys, "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}
    finally:
        stop_group(process)


def client(url: str):  # type: ignore[no-untyped-def]  # boto3 makes its classes while it runs
    """A client of the server."""
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="me",
        aws_secret_access_key="secret-of-mine",
    )  # fmt: skip


def stored(url: str) -> dict[str, bytes]:
    """Every object of the bucket."""
    s3 = client(url)
    found = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return {
        one["Key"]: s3.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read() for one in found
    }
