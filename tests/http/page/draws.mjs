// Pictures: drawn, growing, kept, drawn again, cancelled.

import { test } from 'node:test';
import { readFile } from 'node:fs/promises';
import assert from 'node:assert/strict';
import { daemon, draw, finished, withPage } from './browser.mjs';

/** The file that the button for downloads gives. */
async function downloaded(page) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#save')]);
  assert.match(download.suggestedFilename(), /^imagepool-\d+\.png$/);
  return readFile(await download.path());
}

/** The value of a fact in the receipt, as the page lists it. */
async function fact(page, name) {
  await page.click('#tab-picture');
  return page.locator('#facts-list dt', { hasText: name }).first().evaluate((term) => term.nextElementSibling.textContent);
}

/** Counts the pictures that the stage shows while one is being drawn. */
const countPreviews = (page) => page.evaluate(() => {
  window.previews = 0;
  new MutationObserver((changes) => {
    if (document.querySelector('#stage').dataset.state !== 'drawing') return;
    for (const change of changes) window.previews += change.addedNodes.length;
  }).observe(document.querySelector('#shots'), { childList: true });
});

test('a picture grows from previews and is finished', () => withPage(async (page) => {
  await countPreviews(page);
  assert.equal(await draw(page, { prompt: 'a red circle left of a blue square on a white background', steps: 16, seed: 1 }), 202);
  await finished(page);
  const previews = await page.evaluate(() => window.previews);
  console.log(`previews shown: ${previews} in 16 steps`);
  assert.ok(previews >= 2, `${previews} previews were shown`);
  const picture = await page.locator('#shots img.on').last().evaluate((image) => [image.naturalWidth, image.naturalHeight, image.alt]);
  assert.deepEqual(picture, [128, 128, 'a red circle left of a blue square on a white background']);
  assert.equal(await fact(page, 'Seed'), '1');
  assert.equal(await fact(page, 'Steps'), '16');
}));

test('a reload keeps finished pictures and finds one that is being drawn', () => withPage(async (page) => {
  await draw(page, { prompt: 'a green star on a black background', seed: 2 });
  await finished(page);
  await draw(page, { prompt: 'slow colours', model: 'slow', steps: 8, seed: 3 });
  await page.waitForSelector('#stage[data-state="drawing"]');
  await page.reload();
  await page.waitForSelector('#stage:is([data-state="drawing"], [data-state="waiting"])');
  await finished(page);
  assert.equal(await fact(page, 'Seed'), '3');
  assert.equal(await page.locator('#strip .tile').count(), 2);
  await page.reload();
  await finished(page);
  assert.equal(await page.locator('#strip .tile').count(), 2);
  await page.locator('#strip .tile').last().click();
  await page.waitForSelector('#shots img.on[alt="a green star on a black background"]');
}));

test('all settings of a picture draw the same file again, with a seed of 64 bits', () => withPage(async (page) => {
  const seed = '18446744073709551557';
  await draw(page, { prompt: 'a fox', steps: 2, seed });
  await finished(page);
  const first = await downloaded(page);
  assert.equal(await fact(page, 'Seed'), seed);
  for (const id of ['prompt', 'seed', 'steps']) await page.fill(`#${id}`, '');
  await page.click('#use-all');
  assert.equal(await page.inputValue('#seed'), seed);
  assert.equal(await page.inputValue('#prompt'), 'a fox');
  await page.press('#prompt', 'Control+Enter');
  await page.waitForFunction(() => document.querySelectorAll('#strip .tile').length === 2);
  await finished(page);
  assert.ok(first.equals(await downloaded(page)), 'the files differ');
}));

test('three pictures of one request have seeds in a row', () => withPage(async (page) => {
  await draw(page, { prompt: 'an owl', steps: 2, seed: 40, count: 3 });
  await page.waitForFunction(() => document.querySelectorAll('#strip .tile[aria-label*="seed"]').length === 3);
  const labels = await page.locator('#strip .tile').evaluateAll((tiles) => tiles.map((tile) => tile.getAttribute('aria-label')));
  assert.deepEqual(labels, ['40', '41', '42'].map((seed) => `Picture: an owl, seed ${seed}`));
  await page.locator('#strip .tile').first().click();
  await page.keyboard.press('ArrowDown');
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Picture: an owl, seed 41');
  await page.keyboard.press('Delete');
  await page.waitForFunction(() => document.querySelectorAll('#strip .tile').length === 2);
}));

test('cancel ends the job, and the page says so', () => withPage(async (page) => {
  await draw(page, { prompt: 'very slow colours', model: 'slow', steps: 500 });
  await page.waitForSelector('#stage[data-state="drawing"]');
  await page.click('#cancel');
  await page.waitForSelector('#stage[data-state="empty"]');
  await page.waitForFunction(() => document.querySelector('#live').textContent === 'Cancelled.');
  const left = (await daemon.ask('/v1/pool/status')).queue;
  assert.deepEqual(left, []);
  await page.waitForFunction(() => document.querySelector('#queue').children.length === 0);
}));

test('a prompt is shown as text', () => withPage(async (page) => {
  const prompt = '<img src=x onerror="window.hit=1"> & <b>bold</b>';
  await draw(page, { prompt, steps: 1 });
  await finished(page);
  assert.equal(await page.textContent('#caption'), prompt);
  await page.click('#tab-picture');
  assert.equal(await page.textContent('#facts-prompt'), prompt);
  assert.equal(await page.evaluate(() => window.hit), undefined);
}));
