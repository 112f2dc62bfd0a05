"""Errors as OpenAI's Python package raises them, and how often it sends a request."""

import threading
import time

import openai
import pytest

from daemon import jobs, running
from doors import Door


def raised(client, kind, **fields) -> openai.APIStatusError:
    """The exception of a request."""
    with pytest.raises(openai.APIStatusError) as failed:
        client.images.generate(**{"prompt": "a", **fields})
    error = failed.value
    assert type(error) is kind, repr(error)
    assert error.message and error.request_id
    assert set(error.body) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "a" * 20_000}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": "two"}, "n"),
        ({"size": "1000x1000"}, "size"),
        ({"size": "big"}, "size"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"quality": "ultra"}, "quality"),
        ({"response_format": "file"}, "response_format"),
        ({"partial_images": 4}, "partial_images"),
        ({"stream": "yes"}, "stream"),
        ({"extra_body": {"steps": 100_000}}, "num_inference_steps"),
        ({"extra_body": {"seed": "x"}}, "seed"),
        ({"extra_body": {"width": 64}}, "height"),
        ({"extra_body": {"timeout": 0}}, "timeout"),
        ({"model": "pocket-flux", "extra_body": {"negative_prompt": "b"}}, "negative_prompt"),
        ({"model": "pocket-flux", "extra_body": {"guidance_scale": 7}}, "guidance_scale"),
    ],
)
def test_a_bad_value_is_refused_once_and_by_the_fields_name(door, fields, param):
    with door.client(max_retries=2) as client:
        error = raised(client, openai.BadRequestError, **fields)
        assert len(client.sent) == 1
    assert (error.status_code, error.type) == (400, "invalid_request_error")
    assert error.param == param


def test_a_wrong_token_is_401_and_a_missing_right_403(tcp):
    with tcp.client(token="a-token-that-nobody-knows", max_retries=2) as client:
        error = raised(client, openai.AuthenticationError)
        assert (error.code, error.type) == ("invalid_token", "authentication_error")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        assert len(client.sent) == 2
    with tcp.client(token="watch", max_retries=2) as client:
        error = raised(client, openai.PermissionDeniedError)
        assert (error.status_code, error.type) == (403, "permission_error")
        with pytest.raises(openai.PermissionDeniedError):
            client.models.retrieve("pocket-flux")
        assert len(client.sent) == 2
    with tcp.raw(token=None) as client:
        answer = client.get("/v1/models")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_unknown_model_is_404_and_never_retried(door):
    with door.client(max_retries=2) as client:
        error = raised(client, openai.NotFoundError, model="pocket-flx")
        assert len(client.sent) == 1
    assert (error.param, error.code) == ("model", "unknown_model")
    assert "pocket-flux" in error.message


def test_the_statuses_of_bad_transport(tcp):
    path = "/v1/images/generations"
    with tcp.raw() as client:
        assert client.get(path).status_code == 405
        assert client.get("/v1/nothing").status_code == 404
        assert client.post(path, content=b"prompt=a").status_code == 415
        large = {"prompt": "a", "user": "b" * (1 << 20)}
        assert client.post(path, json=large).status_code == 413
        foreign = client.get("/v1/models", headers={"Host": "evil.example"})
        assert foreign.status_code == 421
        for answer in [client.get(path), foreign, client.post(path, content=b"{")]:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            assert answer.headers["x-request-id"]
        named = client.get("/v1/models", headers={"X-Request-ID": "mine-7"})
        assert named.headers["x-request-id"] == "mine-7"
        asked = client.options(path)
        assert (asked.status_code, asked.headers["allow"]) == (204, "POST")
        assert client.options("/v1/pool/jobs/7").headers["allow"] == "GET,HEAD,DELETE"


def test_a_picture_that_never_fits_is_422_and_never_retried(narrow_door):
    with narrow_door.client(max_retries=2) as client:
        fits = client.images.generate(prompt="a", model="heavy", size="64x64")
        assert fits.data[0].b64_json
        error = raised(client, openai.UnprocessableEntityError, model="heavy", size="1024x1024")
        assert len(client.sent) == 2
    assert (error.code, error.type) == ("never_fits", "invalid_request_error")


class Occupied:
    """Fills the one worker and the one place of a narrow daemon's slow model with two jobs."""

    def __init__(self, door: Door, steps: int):
        self.door, self.steps, self.pictures = door, steps, []
        self.threads = [threading.Thread(target=self.draw) for _ in range(2)]

    def draw(self):
        with self.door.client() as client:
            fields = {"prompt": "a", "model": "slow", "extra_body": {"steps": self.steps}}
            self.pictures.append(client.images.generate(**fields))

    def __enter__(self):
        daemon = self.door.daemon
        self.threads[0].start()
        daemon.wait_for("the first runs", lambda status: running(status) == 1)
        self.threads[1].start()
        daemon.wait_for("the second waits", lambda status: len(jobs(status)) > 2)
        return self

    def __exit__(self, *_):
        for thread in self.threads:
            thread.join()
        assert len(self.pictures) == 2, "both are drawn"


def test_a_full_queue_is_429_and_the_package_tries_again_until_there_is_room(narrow_door):
    with Occupied(narrow_door, steps=14):
        with narrow_door.client() as client:
            error = raised(client, openai.RateLimitError, model="slow")
            assert len(client.sent) == 1
            assert (error.code, error.type) == ("queue_full", "rate_limit_error")
            assert "x-should-retry" not in error.response.headers
            after = float(error.response.headers["retry-after"])
            after_ms = float(error.response.headers["retry-after-ms"])
            assert 0 < after_ms <= 1000 * after < after_ms + 1000
        with narrow_door.client(max_retries=100) as client:
            fields = {"prompt": "a", "model": "slow", "extra_body": {"steps": 1}}
            assert client.images.generate(**fields).data[0].b64_json
            refused = [answer for answer in client.answers if answer.status_code == 429]
            assert len(client.sent) == len(refused) + 1 > 1
            for answer, earlier, later in zip(refused, client.sent, client.sent[1:], strict=False):
                assert later - earlier >= float(answer.headers["retry-after-ms"]) / 1000


def test_more_pictures_than_may_ever_wait_are_400_and_never_retried(narrow_door):
    with narrow_door.client(max_retries=2) as client:
        error = raised(client, openai.BadRequestError, model="slow", n=5)
        assert error.param == "n" and len(client.sent) == 1


def test_a_stopped_model_is_503_and_the_package_tries_again_until_it_starts(roomy, door):
    roomy.operate("slow", "stop")
    try:
        with door.client(max_retries=1) as client:
            error = raised(client, openai.InternalServerError, model="slow")
            assert len(client.sent) == 2
            assert (error.status_code, error.code) == (503, "stopped")
            assert float(error.response.headers["retry-after"]) > 0
        start = threading.Timer(0.5, roomy.operate, ["slow", "start"])
        start.start()
        with door.client(max_retries=50) as client:
            fields = {"prompt": "a", "model": "slow", "extra_body": {"steps": 1}}
            assert client.images.generate(**fields).data[0].b64_json
            assert len(client.sent) > 1
        start.join()
    finally:
        roomy.operate("slow", "start")


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_draining_daemon_is_503_and_finishes_what_it_accepted(fleeting, kind):
    door = Door(fleeting, kind)
    finished = []

    def draw():
        with door.client() as client:
            fields = {"prompt": "a", "model": "slow", "extra_body": {"steps": 14}}
            finished.append(client.images.generate(**fields))

    thread = threading.Thread(target=draw)
    thread.start()
    fleeting.wait_for("it runs", lambda status: running(status) == 1)
    fleeting.drain()
    fleeting.wait_for("it drains", lambda status: status["supervisor"]["state"] == "draining")
    with door.client() as client:
        error = raised(client, openai.InternalServerError)
    assert (error.status_code, error.code) == (503, "draining")
    # It is gone by the time that the package would try again.
    assert float(error.response.headers["retry-after"]) > 0
    assert "x-should-retry" not in error.response.headers
    thread.join()
    assert len(finished) == 1 and finished[0].data[0].b64_json


def test_a_deadline_is_504_and_never_retried(door):
    with door.client(max_retries=2) as client:
        began = time.monotonic()
        fields = {"model": "slow", "extra_body": {"timeout": 0.6, "steps": 40}}
        error = raised(client, openai.InternalServerError, **fields)
        assert len(client.sent) == 1
    assert (error.status_code, error.code) == (504, "deadline_exceeded")
    assert error.response.headers["x-should-retry"] == "false"
    assert time.monotonic() - began < 4, "40 steps take 6 s"
    door.daemon.wait_until_idle(3)
