"""Pictures and models with OpenAI's Python package."""

import time
import urllib.request

import openai
import pytest

from doors import Door
from pictures import difference, opened


def test_a_prompt_alone_gives_one_png_of_the_default_model(door):
    with door.client() as client:
        answer = client.images.generate(prompt="a red boat")
    assert abs(answer.created - time.time()) < 60
    assert len(answer.data) == 1 and answer.data[0].url is None
    opened(answer.data[0].b64_json, "png", answer.size)
    assert (answer.output_format, answer.background) == ("png", "opaque")
    assert not answer.data[0].b64_json.startswith("data:")


def test_three_pictures_differ_and_have_consecutive_seeds(door):
    with door.client() as client:
        answer = client.images.generate(
            prompt="a red boat", model="pocket-flux", n=3, extra_body={"seed": 41}
        )
    assert [entry.seed for entry in answer.data] == [41, 42, 43]
    first, second, third = [opened(entry.b64_json, "png", answer.size) for entry in answer.data]
    for one, other in [(first, second), (second, third), (first, third)]:
        assert difference(one, other) > 1


def test_the_same_seed_gives_the_same_bytes_at_both_doors(door):
    with door.client() as client:
        drawn = [
            client.images.generate(prompt="a", model="quick", extra_body={"seed": 7})
            for _ in range(2)
        ]
    assert drawn[0].data[0].b64_json == drawn[1].data[0].b64_json


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_every_format_is_what_it_says(door, form):
    with door.client() as client:
        answer = client.images.generate(
            prompt="a red boat", model="gpt-image-1", output_format=form, size="512x512"
        )
    assert answer.output_format == form and answer.size == "512x512"
    opened(answer.data[0].b64_json, form, "512x512")


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_compression_makes_files_smaller(tcp, form):
    def length(compression):
        with tcp.client() as client:
            answer = client.images.generate(
                prompt="a",
                model="quick",
                output_format=form,
                output_compression=compression,
                extra_body={"seed": 3},
            )
        opened(answer.data[0].b64_json, form, answer.size)
        return len(answer.data[0].b64_json)

    assert length(10) < length(60) < length(100)


@pytest.mark.parametrize("size", ["512x512", "1024x1024", "1792x1024"])
def test_sizes_beyond_a_model_are_scaled_and_a_warning_says_so(door, size):
    with door.client() as client:
        answer = client.images.generate(prompt="a red boat", model="pocket-flux", size=size)
    assert answer.size == size
    opened(answer.data[0].b64_json, "png", size)
    assert any("scaled" in warning and size in warning for warning in answer.warnings)


@pytest.mark.parametrize("size", ["auto", ""])
def test_size_auto_is_the_models_own_without_a_warning(door, size):
    with door.client() as client:
        answer = client.images.generate(prompt="a red boat", model="pocket-flux", size=size)
    assert answer.size == "128x128"
    opened(answer.data[0].b64_json, "png", "128x128")
    assert not hasattr(answer, "warnings")


def test_a_size_that_the_model_draws_has_no_warning(door):
    with door.client() as client:
        answer = client.images.generate(prompt="a", model="quick", size="1024x1024")
    opened(answer.data[0].b64_json, "png", "1024x1024")
    assert not hasattr(answer, "warnings")


@pytest.mark.parametrize(
    "quality", ["low", "medium", "high", "xhigh", "max", "standard", "hd", "auto"]
)
def test_every_quality_of_the_package_is_accepted_and_echoed(tcp, quality):
    with tcp.client() as client:
        answer = client.images.generate(prompt="a", model="quick", quality=quality)
    assert answer.quality == quality


def fetched(url: str) -> tuple[bytes, str]:
    """A file and its media type, fetched without a token."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read(), response.headers["Content-Type"]


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_an_address_can_be_fetched_without_a_token(tcp, form):
    with tcp.client() as client:
        answer = client.images.generate(
            prompt="a red boat", n=2, response_format="url", output_format=form
        )
    assert all(entry.b64_json is None for entry in answer.data)
    assert answer.data[0].url != answer.data[1].url
    for entry in answer.data:
        assert entry.url.startswith(tcp.url) and entry.url.endswith(f".{form}")
        data, media_type = fetched(entry.url)
        assert media_type == f"image/{form}"
        opened(data, form, answer.size)


def test_only_the_dall_e_models_have_addresses_by_default(brisk_tcp):
    with brisk_tcp.client() as client:
        for model in ["dall-e-2", "dall-e-3"]:
            entry = client.images.generate(prompt="a", model=model).data[0]
            assert entry.b64_json is None and fetched(entry.url)[1] == "image/png"
            asked = client.images.generate(prompt="a", model=model, response_format="b64_json")
            assert asked.data[0].url is None and asked.data[0].b64_json
        for model in ["gpt-image-1", "gpt-image-1.5", "gpt-image-2", "quick"]:
            entry = client.images.generate(prompt="a", model=model).data[0]
            assert entry.url is None and entry.b64_json


def test_over_the_socket_an_address_is_refused_by_name(roomy):
    with Door(roomy, "unix").client() as client:
        for asked in [{"response_format": "url"}, {"model": "dall-e-3"}]:
            with pytest.raises(openai.BadRequestError) as refused:
                client.images.generate(prompt="a", **asked)
            assert refused.value.param == "response_format"


def test_usage_adds_up(door):
    with door.client() as client:
        short = client.images.generate(prompt="a red boat", n=2).usage
        long = client.images.generate(prompt="a red boat " * 12).usage
    for usage in [short, long]:
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        assert usage.input_tokens_details.image_tokens == 0
        assert usage.input_tokens_details.text_tokens == usage.input_tokens
        assert usage.output_tokens_details.image_tokens == usage.output_tokens
    # A token a square of 16 pixels.
    assert (short.output_tokens, long.output_tokens) == (2 * 64, 64)
    assert 0 < short.input_tokens < long.input_tokens


def test_models_are_listed_with_the_aliases_and_can_be_read_one_by_one(door):
    with door.client() as client:
        listed = list(client.models.list())
        names = [model.id for model in listed]
        for name in ["pocket-flux", "quick", "slow", "dall-e-3", "gpt-image-1", "sd-cpp-local"]:
            assert name in names
        assert names.index("pocket-flux") < names.index("dall-e-2")
        for model in listed:
            one = client.models.retrieve(model.id)
            assert (one.id, one.object, one.owned_by) == (model.id, "model", model.owned_by)
            assert one.status in ("ready", "cold")
        # Its files are not here, so it is not listed; its status says why.
        assert "flux-schnell" not in names
        missing = client.models.retrieve("flux-schnell")
        assert missing.status == "missing" and "fetch" in missing.reason
        with pytest.raises(openai.NotFoundError) as unknown:
            client.models.retrieve("no/such model")
        assert unknown.value.code == "unknown_model"


def test_the_fields_of_other_servers_are_honoured(door):
    extras = {"seed": 5, "num_inference_steps": 3, "width": 192, "height": 128, "unknown": [1]}
    with door.client() as client:
        answer = client.images.generate(prompt="a", model="pocket-flux", extra_body=extras)
        same = client.images.generate(
            prompt="a", model="pocket-flux", size="192x128", extra_body={"seed": 5, "steps": 3}
        )
    assert answer.data[0].seed == 5 and answer.size == "192x128"
    assert answer.data[0].b64_json == same.data[0].b64_json
