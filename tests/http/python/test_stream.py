"""Streams of growing pictures with OpenAI's Python package."""

import openai
import pytest

from daemon import running
from pictures import difference, opened


def streamed(client, **fields):
    """The partial pictures and the finished ones of a stream."""
    partials, completed = [], []
    for event in client.images.generate(prompt="a red boat", stream=True, **fields):
        assert event.background == "opaque" and event.created_at > 1_700_000_000
        if event.type == "image_generation.partial_image":
            partials.append(event)
        else:
            assert event.type == "image_generation.completed"
            completed.append(event)
    return partials, completed


@pytest.mark.parametrize(
    ("count", "form"), [(0, "png"), (1, "png"), (2, "png"), (3, "png"), (3, "jpeg"), (3, "webp")]
)
def test_partial_pictures_come_first_and_approach_the_final_one(door, count, form):
    with door.client() as client:
        partials, completed = streamed(
            client,
            model="pocket-flux",
            partial_images=count,
            output_format=form,
            size="512x512",
            extra_body={"seed": 11},
        )
    assert [event.partial_image_index for event in partials] == list(range(count))
    assert len(completed) == 1
    final = opened(completed[0].b64_json, form, "512x512")
    far = [difference(opened(event.b64_json, form, "512x512"), final) for event in partials]
    assert all(one > other for one, other in zip(far, far[1:], strict=False)), far
    for event in partials + completed:
        assert (event.size, event.output_format, event.quality) == ("512x512", form, "auto")
    usage = completed[0].usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0


def test_the_streamed_picture_is_the_one_without_a_stream(door):
    fields = {"model": "pocket-flux", "extra_body": {"seed": 12}}
    with door.client() as client:
        _, completed = streamed(client, partial_images=2, **fields)
        plain = client.images.generate(prompt="a red boat", **fields)
    assert completed[0].b64_json == plain.data[0].b64_json


def test_few_steps_have_fewer_partial_pictures(door):
    with door.client() as client:
        fields = {"model": "pocket-flux", "partial_images": 3}
        partials, completed = streamed(client, extra_body={"steps": 2}, **fields)
        assert (len(partials), len(completed)) == (1, 1)
        partials, completed = streamed(client, extra_body={"steps": 1}, **fields)
        assert (len(partials), len(completed)) == (0, 1)


def test_each_picture_of_a_stream_is_completed_once(door):
    with door.client() as client:
        partials, completed = streamed(
            client, model="pocket-flux", n=3, partial_images=1, extra_body={"seed": 90}
        )
    assert sorted(event.image_index for event in completed) == [0, 1, 2]
    assert {event.image_index: event.seed for event in completed} == {0: 90, 1: 91, 2: 92}
    assert len(partials) == 3 and len({event.b64_json for event in completed}) == 3


def test_a_stream_that_is_refused_is_a_plain_error(door):
    with door.client() as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.generate(prompt="a", stream=True, partial_images=4)
        assert refused.value.param == "partial_images"


def test_a_failure_in_a_stream_raises_the_error_of_the_package(roomy, door):
    with door.client() as client:
        stream = client.images.generate(
            prompt="a", model="slow", stream=True, extra_body={"steps": 60}
        )
        roomy.wait_for("it runs", lambda status: running(status) == 1)
        roomy.operate("slow", "stop")
        try:
            with pytest.raises(openai.APIError) as failed:
                list(stream)
        finally:
            roomy.operate("slow", "start")
    assert (failed.value.code, failed.value.type) == ("stopped", "server_error")
    assert set(failed.value.body) == {"message", "type", "param", "code"}
