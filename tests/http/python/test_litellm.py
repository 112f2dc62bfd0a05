"""LiteLLM's package, which many gateways are built on."""

import os

# Its prices come with the package, and nothing leaves this machine.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import pytest

from doors import Door
from pictures import opened

pytestmark = pytest.mark.filterwarnings("ignore:.*ReadOnly:UserWarning")
litellm.telemetry = False
litellm.suppress_debug_info = True


def drawn(door: Door, model: str, **fields):
    """The answer of LiteLLM's own call."""
    fields = {"prompt": "a red boat", "max_retries": 0, "timeout": 60, **fields}
    return litellm.image_generation(
        model=f"openai/{model}",
        api_base=f"{door.url}/v1",
        api_key=door.daemon.tokens["draw"],
        **fields,
    )


def test_a_picture_of_each_of_our_names(brisk_tcp):
    for model in ["quick", "gpt-image-1"]:
        answer = drawn(brisk_tcp, model, size="512x512", n=2, user="ann")
        assert len(answer.data) == 2 and answer.size == "512x512"
        for entry in answer.data:
            opened(entry.b64_json, "png", "512x512")
        assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_the_default_of_dall_e_is_an_address(brisk_tcp):
    answer = drawn(brisk_tcp, "dall-e-3", quality="hd", size="1024x1024")
    with brisk_tcp.raw(token=None) as client:
        opened(client.get(answer.data[0].url).content, "png", "1024x1024")


def test_fields_that_it_does_not_know_reach_the_door(brisk_tcp):
    answer = drawn(brisk_tcp, "quick", seed=77, num_inference_steps=2)
    again = drawn(brisk_tcp, "quick", seed=77, num_inference_steps=2)
    other = drawn(brisk_tcp, "quick", seed=77, num_inference_steps=3)
    assert answer.data[0].b64_json == again.data[0].b64_json != other.data[0].b64_json


def test_errors_have_its_types(brisk_tcp):
    with pytest.raises(litellm.BadRequestError):
        drawn(brisk_tcp, "quick", n=11)
    with pytest.raises(litellm.NotFoundError):
        drawn(brisk_tcp, "no-such-model")
