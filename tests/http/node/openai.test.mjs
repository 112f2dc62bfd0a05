// OpenAI's package for Node, over both sockets.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

import { doors } from "./doors.mjs";
import { isPicture, looksLike } from "./pictures.mjs";

for (const door of doors("ROOMY")) {
  const named = (name) => `${name} (${door.kind})`;

  test(named("three pictures differ and have consecutive seeds"), async () => {
    const { client } = door.client();
    const answer = await client.images.generate({ prompt: "a red boat", model: "pocket-flux", n: 3, seed: 41 });
    assert.deepEqual(answer.data.map((entry) => entry.seed), [41, 42, 43]);
    assert.equal(new Set(answer.data.map((entry) => entry.b64_json)).size, 3);
    for (const entry of answer.data) isPicture(entry.b64_json, "png", answer.size);
  });

  for (const format of ["png", "jpeg", "webp"]) {
    test(named(`${format} is what it says`), async () => {
      const { client } = door.client();
      const answer = await client.images.generate({ prompt: "a", model: "quick", output_format: format, size: "512x512" });
      assert.equal(answer.output_format, format);
      isPicture(answer.data[0].b64_json, format, "512x512");
    });
  }

  for (const [size, is] of [["auto", "128x128"], ["512x512"], ["1024x1024"], ["1792x1024"]]) {
    test(named(`size ${size}`), async () => {
      const { client } = door.client();
      const answer = await client.images.generate({ prompt: "a", model: "pocket-flux", size });
      assert.equal(answer.size, is ?? size);
      isPicture(answer.data[0].b64_json, "png", is ?? size);
      assert.equal(answer.warnings !== undefined, is === undefined);
    });
  }

  for (const count of [0, 1, 2, 3]) {
    test(named(`a stream with ${count} partial pictures`), async () => {
      const { client } = door.client();
      const stream = await client.images.generate({
        prompt: "a red boat", model: "pocket-flux", stream: true, partial_images: count, output_format: "jpeg",
      });
      const events = [];
      for await (const event of stream) events.push(event);
      const completed = events.pop();
      assert.equal(completed.type, "image_generation.completed");
      assert.equal(completed.usage.total_tokens, completed.usage.input_tokens + completed.usage.output_tokens);
      assert.deepEqual(events.map((event) => event.partial_image_index), [...Array(count).keys()]);
      for (const event of [...events, completed]) isPicture(event.b64_json, "jpeg", completed.size);
    });
  }

  test(named("models are listed and read"), async () => {
    const { client } = door.client();
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.ok(names.includes("pocket-flux") && names.includes("dall-e-3"));
    assert.equal((await client.models.retrieve("quick")).id, "quick");
  });

  test(named("errors have the package's types, and are sent once"), async () => {
    const { client, sent } = door.client({ maxRetries: 2 });
    const fails = async (fields, type, status) => {
      sent.length = 0;
      await assert.rejects(client.images.generate({ prompt: "a", ...fields }), (error) => {
        assert.ok(error instanceof type, error);
        assert.equal(error.status, status);
        assert.ok(error.requestID && error.error.message);
        return true;
      });
      assert.equal(sent.length, 1);
    };
    await fails({ n: 11 }, OpenAI.BadRequestError, 400);
    await fails({ background: "transparent" }, OpenAI.BadRequestError, 400);
    await fails({ model: "nothing" }, OpenAI.NotFoundError, 404);
    await fails({ model: "slow", steps: 60, timeout: 0.5 }, OpenAI.InternalServerError, 504);
  });

  test(named("a client that gives up cancels its job"), async () => {
    const { client } = door.client();
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 400);
    const drawn = client.images.generate({ prompt: "a", model: "slow", steps: 60 }, { signal: controller.signal });
    await assert.rejects(drawn, OpenAI.APIUserAbortError);
    await door.waitFor(({ queue, workers }) => queue.length === 0 && workers.every((worker) => worker.job === null), 3);
  });
}

const [socket, tcp] = doors("ROOMY");

test("an address is fetched without a token", async () => {
  const { client } = tcp.client();
  const answer = await client.images.generate({ prompt: "a", response_format: "url", n: 2 });
  for (const entry of answer.data) {
    assert.equal(entry.b64_json, undefined);
    const file = await fetch(entry.url);
    assert.equal(file.headers.get("content-type"), "image/png");
    assert.deepEqual(looksLike(await file.arrayBuffer()), ["png", answer.size]);
  }
});

test("over the socket there are no addresses", async () => {
  const { client } = socket.client();
  const refused = client.images.generate({ prompt: "a", response_format: "url" });
  await assert.rejects(refused, (error) => error instanceof OpenAI.BadRequestError && error.param === "response_format");
});

test("a wrong token is 401 and a missing right 403", async () => {
  const wrong = tcp.client({ token: "a-token-that-nobody-knows", maxRetries: 2 });
  await assert.rejects(wrong.client.images.generate({ prompt: "a" }), OpenAI.AuthenticationError);
  const watch = tcp.client({ token: process.env.ROOMY_WATCH, maxRetries: 2 });
  await assert.rejects(watch.client.images.generate({ prompt: "a" }), OpenAI.PermissionDeniedError);
  assert.deepEqual([wrong.sent.length, watch.sent.length], [1, 1]);
});

test("a stopped model is 503, and is tried again as often as the package is told", async () => {
  const operate = async (verb) => {
    const answer = await tcp.fetch(`${tcp.url}/v1/pool/models/slow/${verb}`, {
      method: "POST",
      headers: { authorization: `Bearer ${process.env.ROOMY_RUN}` },
    });
    assert.equal(answer.status, 200);
  };
  await operate("stop");
  try {
    const { client, sent } = tcp.client({ maxRetries: 1 });
    await assert.rejects(client.images.generate({ prompt: "a", model: "slow" }), (error) => {
      assert.ok(error instanceof OpenAI.InternalServerError);
      assert.equal(error.status, 503);
      return true;
    });
    assert.equal(sent.length, 2);
  } finally {
    await operate("start");
  }
});

for (const door of doors("NARROW")) {
  test(`what never fits is 422 and sent once (${door.kind})`, async () => {
    const { client, sent } = door.client({ maxRetries: 2 });
    const refused = client.images.generate({ prompt: "a", model: "heavy", size: "1024x1024" });
    await assert.rejects(refused, OpenAI.UnprocessableEntityError);
    assert.equal(sent.length, 1);
  });

  test(`a full queue is 429, and the package tries again until there is room (${door.kind})`, async () => {
    const slow = { prompt: "a", model: "slow", steps: 14 };
    const occupied = [];
    for (const state of ["running", "waiting"]) {
      occupied.push(door.client().client.images.generate(slow));
      await door.waitFor(({ queue }) => queue.some((job) => job.state === state), 10);
    }
    const once = door.client();
    await assert.rejects(once.client.images.generate(slow), OpenAI.RateLimitError);
    const patient = door.client({ maxRetries: 100 });
    const answer = await patient.client.images.generate({ ...slow, steps: 1 });
    assert.ok(answer.data[0].b64_json && patient.sent.length > 1);
    await Promise.all(occupied);
  });
}
