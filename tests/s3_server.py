"""An S3 server on loopback (moto's), which can be told to be slow, to refuse and to fail."""

import itertools
import os
import random
import threading
import time

import boto3
import pytest
import s3fs
from botocore.retries import standard
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
BROKEN = b"<Error><Code>InternalError</Code><Message>try again</Message></Error>"


class Server:
    """Requests are counted; `errors` is the part answered by 500, `delay` in seconds, `denied` the
    methods answered by 403, `barred` a part of a path or query answered so, `hold` a part of a path
    whose PUT never ends."""

    def __init__(self):
        self.genuine = DomainDispatcherApplication(create_backend_app)
        self.random, self.count = random.Random(0), 0
        s3fs.S3FileSystem.clear_instance_cache()  # which would go on asking the server before
        self.well()
        self.server = make_server("127.0.0.1", 0, self.answer, threaded=True)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": self.url}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def well(self):
        """As a server should be."""
        self.errors, self.delay, self.denied, self.barred, self.hold = 0.0, 0.0, (), "", ""
        self.held = threading.Event()

    def answer(self, environ, start_response):
        """The WSGI application."""
        self.count += 1
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        asked = f"{path}?{environ.get('QUERY_STRING', '')}"
        time.sleep(self.delay)
        if self.hold and method == "PUT" and self.hold in path:
            self.held.set()
            time.sleep(60)
        for refused, status, body in (
            (
                method in self.denied or (self.barred and self.barred in asked),
                "403 Forbidden",
                DENIED,
            ),
            (self.random.random() < self.errors, "500 Internal Server Error", BROKEN),
        ):
            if refused:
                length = int(environ.get("CONTENT_LENGTH") or 0)
                environ["wsgi.input"].read(length)
                start_response(status, [("Content-Type", "application/xml")])
                return [b"" if method == "HEAD" else body]
        return self.genuine(environ, start_response)

    def client(self):
        """boto3's own, to look at what is there."""
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    def bucket(self, name):
        """Make a bucket; its URL."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def keys(self, url, prefix=""):
        """Key -> size of what a bucket holds."""
        name = url.removeprefix("s3://")
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix)
        return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", ())}

    def stop(self):
        """End the server."""
        self.server.shutdown()


numbers = itertools.count()


@pytest.fixture(scope="module")
def server():
    """One for all tests of a module; each has buckets of its own, and is asked again without a pause."""
    server = Server()
    before = dict(os.environ)
    os.environ.update(server.environment)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(standard.ExponentialBackoff, "delay_amount", lambda *_: 0.001)
        yield server
    server.stop()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def bucket(server):
    """A new one, on a server that is well."""
    server.well()
    yield server.bucket(f"bucket-{next(numbers)}")
    server.well()
