// Vercel's packages `ai` and `@ai-sdk/openai-compatible`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateImage } from "ai";

import { doors } from "./doors.mjs";
import { looksLike } from "./pictures.mjs";

for (const door of doors("BRISK")) {
  const provider = createOpenAICompatible({
    name: "imagepool",
    baseURL: `${door.url}/v1`,
    apiKey: door.token,
    fetch: door.fetch,
  });

  test(`pictures of every name (${door.kind})`, async () => {
    // Its answers must have base64, so it is never used with a name whose default is an address.
    for (const model of ["quick", "gpt-image-1"]) {
      const { images } = await generateImage({
        model: provider.imageModel(model),
        prompt: "a red boat",
        n: 2,
        size: "512x512",
        maxRetries: 0,
      });
      assert.equal(images.length, 2);
      for (const image of images) {
        assert.equal(image.mediaType, "image/png");
        assert.deepEqual(looksLike(image.uint8Array), ["png", "512x512"]);
      }
    }
  });

  test(`options of the provider reach the door (${door.kind})`, async () => {
    const drawn = async (seed) => {
      const { image } = await generateImage({
        model: provider.imageModel("quick"),
        prompt: "a red boat",
        providerOptions: { imagepool: { seed, steps: 2, quality: "low" } },
        maxRetries: 0,
      });
      return image.base64;
    };
    const first = await drawn(5);
    assert.equal(await drawn(5), first);
    assert.notEqual(await drawn(6), first);
  });

  test(`a refusal is its error, with our sentence (${door.kind})`, async () => {
    const refused = generateImage({
      model: provider.imageModel("no-such-model"),
      prompt: "a",
      maxRetries: 2,
    });
    await assert.rejects(refused, (error) => {
      assert.ok(APICallError.isInstance(error), error);
      assert.equal(error.statusCode, 404);
      assert.match(error.message, /no-such-model/);
      assert.equal(error.isRetryable, false);
      return true;
    });
  });
}
