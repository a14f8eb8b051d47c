"""An S3-compatible server (moto's), started and stopped by the tests that need it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer
from obstore.store import S3Store


@dataclass
class S3Server:
    """It listens on loopback alone, and keeps everything in memory."""

    endpoint: str
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def environment(self) -> dict[str, str]:
        """What tells an S3 client of it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def new_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"bucket-{next(self._numbers)}"
        urlopen(Request(f"{self.endpoint}/{name}", method="PUT")).close()
        return name

    def overwrite(self, bucket: str, key: str, content: bytes) -> None:
        """Change an object behind its owner's back."""
        config = {name.lower(): value for name, value in self.environment.items()}
        client = {"allow_http": config.pop("aws_allow_http") == "true"}
        S3Store(bucket, config=config, client_options=client).put(key, content)


@contextmanager
def running() -> Iterator[S3Server]:
    """A server for as long as the block runs."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()
