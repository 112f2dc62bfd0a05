"""Requests of programs in Python and of browsers, to the letter, and answers read as these programs read them.

The sources are named at each test. What a program would do with the answer stands in the test.
"""

import base64
import mimetypes
import re

import pytest

from pictures import opened


def posted(client, path, body, **headers):
    """An answer as a program reads it: its JSON, if the status is good."""
    answer = client.post(path, json=body, headers=headers)
    answer.raise_for_status()
    return answer.json()


# Open WebUI, backend/open_webui/routers/images.py, engine "openai".


def open_webui_picture(data: str) -> tuple[bytes, str]:
    """`get_image_data` without an address: raw base64, or a data URL."""
    if "," in data:
        header, encoded = data.split(",", 1)
        return base64.b64decode(encoded), header.split(";")[0].removeprefix("data:")
    return base64.b64decode(data), "image/png"


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3", "gpt-image-1", "quick"])
def test_open_webui_with_the_openai_engine(brisk_door, model):
    body = {"model": model, "prompt": "a red boat", "n": 1, "size": "512x512"}
    if not re.match(r"^gpt-image", model):
        body["response_format"] = "b64_json"
    headers = {
        "X-OpenWebUI-User-Name": "Ann%20Lee",
        "X-OpenWebUI-User-Id": "0b0e6f0e-5f0c-4f1c-8b83-2f2f2f2f2f2f",
        "X-OpenWebUI-User-Email": "ann@example.org",
        "X-OpenWebUI-User-Role": "admin",
    }
    with brisk_door.raw() as client:
        answer = posted(client, "/v1/images/generations?api-version=2025-04-01", body, **headers)
    for image in answer["data"]:
        # An address would be fetched first, and refused because it is a private one.
        assert not image.get("url")
        data, media_type = open_webui_picture(image["b64_json"])
        assert mimetypes.guess_extension(media_type) == ".png"
        opened(data, "png", "512x512")


def test_open_webui_with_fields_that_an_administrator_added(brisk_door):
    extra = {"steps": 2, "seed": 3, "guidance": 1, "negative_prompt": "", "style": "vivid"}
    body = {"model": "quick", "prompt": "a", "n": 1, "size": "512x512", **extra}
    with brisk_door.raw() as client:
        answer = posted(client, "/v1/images/generations", {**body, "response_format": "b64_json"})
    assert answer["data"][0]["seed"] == 3
    assert any("style" in warning for warning in answer["warnings"])


# n8n, packages/@n8n/nodes-langchain/nodes/vendors/OpenAi/v2/actions/image/generate.operation.ts.


@pytest.mark.parametrize("model", ["dall-e-3", "gpt-image-1-mini"])
def test_n8n_gets_binary_data(brisk_door, model):
    body = {"prompt": "a red boat", "model": model, "response_format": "b64_json"}
    body |= {"quality": "standard", "size": "1024x1024", "style": "vivid"}
    if model.startswith("gpt-image"):
        body = {"prompt": "a red boat", "model": model, "quality": "medium", "size": "1024x1024"}
    with brisk_door.raw() as client:
        answer = posted(client, "/v1/images/generations", body)
    assert [sorted(entry) for entry in answer["data"]]
    for entry in answer["data"]:
        opened(base64.b64decode(entry["b64_json"]), "png", "1024x1024")


def test_n8n_gets_addresses_and_returns_the_entries(brisk_tcp):
    body = {"prompt": "a", "model": "dall-e-3", "response_format": "url", "n": 1}
    with brisk_tcp.raw() as client:
        answer = posted(client, "/v1/images/generations", body)
        for entry in answer["data"]:
            assert "b64_json" not in entry
            opened(client.get(entry["url"]).raise_for_status().content, "png", answer["size"])


def test_n8n_offers_the_models_that_it_knows_by_their_prefix(brisk_door):
    with brisk_door.raw() as client:
        listed = client.get("/v1/models").raise_for_status().json()["data"]
    offered = [model["id"] for model in listed if model["id"].startswith(("dall-", "gpt-image"))]
    assert "dall-e-3" in offered and "gpt-image-1-mini" in offered


# SillyTavern, public/scripts/extensions/stable-diffusion/index.js, `generateOpenAiImage`, sent on unchanged by
# src/endpoints/openai.js.


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3", "gpt-image-1"])
def test_sillytavern_with_the_openai_source(brisk_door, model):
    body = {"prompt": "a red boat", "model": model, "size": "1024x1024", "n": 1}
    if model.startswith("gpt-image"):
        body |= {"quality": "auto", "moderation": "low"}
    else:
        body |= {"quality": "standard", "response_format": "b64_json"}
    if model == "dall-e-3":
        body["style"] = "vivid"
    with brisk_door.raw() as client:
        data = posted(client, "/v1/images/generations", body)
    opened(data["data"][0]["b64_json"], "png", "1024x1024")


def test_sillytavern_pings_the_local_server_and_lists_its_models(brisk_door):
    with brisk_door.raw() as client:
        ping = client.request("OPTIONS", "/v1/images/generations")
        assert ping.is_success
        listed = client.get("/v1/models").raise_for_status().json()
    assert [model for model in listed["data"] if model["id"] == "sd-cpp-local"]
