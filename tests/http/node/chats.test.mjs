// The requests of chat programs in Node, with the package they use, and answers read as they read them.

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";

import { doors } from "./doors.mjs";
import { isPicture, looksLike } from "./pictures.mjs";

const [, tcp] = doors("BRISK");

for (const door of doors("BRISK")) {
  // LibreChat, api/app/clients/tools/structured/OpenAIImageTools.js.
  test(`LibreChat's image_gen_oai (${door.kind})`, async () => {
    const { client, sent } = door.client();
    const resp = await client.images.generate({
      model: "gpt-image-1",
      prompt: "a red boat",
      n: 1,
      background: "auto",
      output_format: "png",
      quality: "auto",
      size: "auto",
    });
    assert.equal(
      sent[0].body,
      '{"model":"gpt-image-1","prompt":"a red boat","n":1,"background":"auto","output_format":"png","quality":"auto","size":"auto"}',
    );
    const base64Image = resp.data[0].b64_json;
    assert.ok(base64Image, "No image data returned from OpenAI API.");
    isPicture(base64Image, "png", resp.size);
  });

  // LobeChat, packages/model-runtime/src/core/openaiCompatibleFactory/createImage.ts.
  test(`LobeChat (${door.kind})`, async () => {
    const { client } = door.client();
    for (const model of ["quick", "dall-e-3", "gpt-image-1"]) {
      const defaultInput = { n: 1, ...(model.includes("dall-e") ? { response_format: "b64_json" } : {}) };
      const userInput = { prompt: "a red boat", size: "512x512", seed: 9, steps: 3, cfg: 1, width: 512, height: 512 };
      const img = await client.images.generate({ model, ...defaultInput, ...userInput });
      assert.ok(img?.data && Array.isArray(img.data) && img.data.length > 0, "Invalid image response");
      const imageData = img.data[0];
      assert.ok(imageData, "First image data is null/undefined");
      const imageUrl = imageData.b64_json ? `data:image/png;base64,${imageData.b64_json}` : imageData.url;
      assert.match(imageUrl, /^data:image\/png;base64,iVBOR/);
      assert.equal(typeof img.usage.input_tokens_details.text_tokens, "number");
      assert.equal(typeof img.usage.output_tokens, "number");
    }
  });
}

for (const door of doors("ROOMY")) {
  test(`LibreChat's image_gen_oai as a stream, and compressed (${door.kind})`, async () => {
    const { client } = door.client();
    const stream = await client.images.generate({
      model: "gpt-image-1",
      prompt: "a red boat",
      n: 1,
      background: "auto",
      output_format: "webp",
      output_compression: 80,
      quality: "auto",
      size: "1024x1024",
      stream: true,
      partial_images: 3,
    });
    const seen = [];
    for await (const event of stream) {
      seen.push(event.type.replace("image_generation.", ""));
      isPicture(event.b64_json, "webp", "1024x1024");
    }
    assert.deepEqual(seen, ["partial_image", "partial_image", "partial_image", "completed"]);
  });
}

// LibreChat, api/app/clients/tools/structured/DALLE3.js.
test("LibreChat's DALLE3 fetches an address and names a file after it", async () => {
  const { client } = tcp.client();
  const imageExtensionRegex = /\.(jpg|jpeg|png|gif|bmp|tiff|svg|webp)$/i;
  for (const size of ["1024x1024", "1792x1024", "1024x1792"]) {
    const resp = await client.images.generate({
      model: "dall-e-3",
      quality: "standard",
      style: "vivid",
      size,
      prompt: "a red boat",
      n: 1,
    });
    const theImageUrl = resp.data[0].url;
    assert.ok(theImageUrl, "No image URL returned from OpenAI API.");
    const imageBasename = path.basename(new URL(theImageUrl).pathname);
    assert.match(imageBasename, imageExtensionRegex);
    const imageResponse = await fetch(theImageUrl);
    assert.equal(path.extname(imageBasename), ".png");
    assert.deepEqual(looksLike(await imageResponse.arrayBuffer()), ["png", size]);
  }
});

// AnythingLLM, server/utils/ImageGenerators/base.js.
test("AnythingLLM takes base64, else an address", async () => {
  const { client } = tcp.client();
  for (const model of ["gpt-image-1", "dall-e-3", "quick"]) {
    const response = await client.images.generate({ model, prompt: "a red boat", size: "1024x1024", n: 1 });
    const [image] = response.data;
    const bytes = image.b64_json
      ? Buffer.from(image.b64_json, "base64")
      : await (await fetch(image.url)).arrayBuffer();
    assert.deepEqual(looksLike(bytes), ["png", "1024x1024"]);
  }
});
