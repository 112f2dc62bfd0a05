"""A client that leaves has no job left."""

import asyncio

import openai
import pytest

from daemon import jobs, running

# 60 steps take 9 s; a job that is cancelled ends with the step that runs.
LONG = {"prompt": "a", "model": "slow", "extra_body": {"steps": 60}}
BOUND = 3.0


def test_a_client_whose_patience_ends_cancels_its_job(door):
    with door.client(timeout=0.5) as client, pytest.raises(openai.APITimeoutError):
        client.images.generate(**LONG)
    door.daemon.wait_until_idle(BOUND)


def test_a_client_that_leaves_a_stream_cancels_all_its_jobs(door):
    with door.client() as client:
        fields = {"model": "pocket-flux", "size": "256x256", "extra_body": {"steps": 64}}
        with client.images.generate(
            prompt="a", n=4, stream=True, partial_images=3, **fields
        ) as stream:
            assert next(iter(stream)).type == "image_generation.partial_image"
            assert jobs(door.daemon.status())
    door.daemon.wait_until_idle(BOUND)


def test_a_cancelled_task_cancels_its_job_and_no_other(door):
    async def run():
        async with door.async_client() as client:
            stays = asyncio.create_task(
                client.images.generate(prompt="b", model="slow", extra_body={"steps": 20})
            )
            leaves = asyncio.create_task(client.images.generate(**LONG))

            def both_run(status):
                return running(status) == 2

            await asyncio.to_thread(door.daemon.wait_for, "both run", both_run)
            leaves.cancel()
            picture = await stays
            assert picture.data[0].b64_json
            with pytest.raises(asyncio.CancelledError):
                await leaves

    asyncio.run(run())
    door.daemon.wait_until_idle(BOUND)
