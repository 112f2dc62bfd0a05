"""Asynchronous jobs, and events, as a program without OpenAI's package uses them."""

import json
import threading

from pictures import opened


def events(answer):
    """The events of a stream: name and facts."""
    name = None
    for line in answer.iter_lines():
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            yield name, json.loads(line.removeprefix("data:"))


def started(client, **fields) -> dict:
    """The answer of an asynchronous request, checked with its header."""
    body = {"prompt": "a red boat", "async": True, **fields}
    answer = client.post("/v1/images/generations", json=body)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/pool/jobs/{job['id']}"
    assert job["status"] in ("queued", "running") and "position" in job
    return job


def test_a_job_is_followed_to_its_end_and_its_picture_fetched(door):
    with door.raw() as client:
        job = started(client, model="pocket-flux", output_format="webp", size="256x256")
        path = f"/v1/pool/jobs/{job['id']}"
        with client.stream("GET", f"{path}/events") as answer:
            seen = list(events(answer))
        names = [name for name, _ in seen]
        assert names[-1] == "end" and "step" in names and "preview" in names
        assert seen[-1][1]["status"] == "finished"
        for name, facts in seen:
            if name == "preview":
                opened(facts["b64_json"], "png", f"{facts['width']}x{facts['height']}")
        assert client.get(path).json()["status"] == "finished"
        # A second reader who comes late sees the same.
        with client.stream("GET", f"{path}/events") as answer:
            assert list(events(answer))[-1] == seen[-1]
        image = client.get(f"{path}/image").raise_for_status()
        assert image.headers["content-type"] == "image/webp"
        opened(image.content, "webp", "256x256")


def test_a_job_is_cancelled_and_belongs_to_its_client(tcp):
    with tcp.raw("draw") as mine, tcp.raw("watch") as nobody, tcp.raw("run") as operator:
        job = started(mine, model="slow", steps=60)
        path = f"/v1/pool/jobs/{job['id']}"
        assert nobody.get(path).status_code == 403
        assert operator.get(path).json()["user"] == "token:draw"
        assert job["id"] in [one["id"] for one in mine.get("/v1/pool/jobs").json()["jobs"]]
        assert mine.get(f"{path}/image").status_code == 202
        assert mine.delete(path).raise_for_status().json()["id"] == job["id"]
        # It ends with the step that runs.
        with mine.stream("GET", f"{path}/events") as answer:
            assert list(events(answer))[-1][1]["status"] == "cancelled"
        assert mine.get(path).json()["status"] == "cancelled"
        assert mine.get(f"{path}/image").status_code == 409
    tcp.daemon.wait_until_idle(3)


def test_the_events_of_the_pool_tell_of_a_picture(door):
    def draw():
        with door.raw() as client:
            client.post("/v1/images/generations", json={"prompt": "a", "model": "quick"})

    with door.raw() as client, client.stream("GET", "/v1/pool/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        thread = threading.Thread(target=draw)
        thread.start()
        for name, facts in events(answer):
            if name == "job_ended":
                assert facts["model"] == "quick" and facts.get("error") is None
                break
        thread.join()
