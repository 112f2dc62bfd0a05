"""The two ways into a daemon, and clients that count what they send."""

import contextlib
import ssl
import time

import httpx2
import openai

from daemon import Daemon

# Nothing here speaks TLS; reading the certificates of the system for each client takes its time.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Door:
    """One of a daemon's sockets: `unix` or `tcp`."""

    def __init__(self, daemon: Daemon, kind: str):
        self.daemon = daemon
        self.kind = kind
        self.url = "http://localhost" if kind == "unix" else daemon.tcp

    def transport(self):
        """For a client of httpx2."""
        socket = self.daemon.socket if self.kind == "unix" else None
        return httpx2.HTTPTransport(uds=socket, verify=NO_TLS)

    def raw(self, token: str | None = "draw") -> httpx2.Client:
        """A client without OpenAI's package."""
        headers = {"Authorization": f"Bearer {self.daemon.tokens[token]}"} if token else {}
        return httpx2.Client(
            transport=self.transport(), base_url=self.url, headers=headers, timeout=60
        )

    @contextlib.contextmanager
    def client(self, token: str = "draw", max_retries: int = 0, timeout: float = 60):
        """A stock client. `sent` has the time of each request, `answers` each answer."""
        sent, answers = [], []
        http = httpx2.Client(
            transport=self.transport(),
            event_hooks={
                "request": [lambda _: sent.append(time.monotonic())],
                "response": [answers.append],
            },
        )
        with openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.daemon.tokens.get(token, token),
            http_client=http,
            max_retries=max_retries,
            timeout=timeout,
        ) as client:
            client.sent, client.answers = sent, answers
            yield client

    def async_client(self) -> openai.AsyncOpenAI:
        """A stock client for asyncio."""
        socket = self.daemon.socket if self.kind == "unix" else None
        transport = httpx2.AsyncHTTPTransport(uds=socket, verify=NO_TLS)
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.daemon.tokens["draw"],
            http_client=httpx2.AsyncClient(transport=transport, timeout=60),
            max_retries=0,
        )
