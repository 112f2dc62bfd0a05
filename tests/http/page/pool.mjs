// The pool as the page shows it: workers, queue, memory, events, and the operator's verbs.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { daemon, draw, finished, withPage } from './browser.mjs';

const workers = (page) => page.locator('#pool-models .worker').allTextContents();

test('the list of workers changes after a worker is killed', () => withPage(async (page) => {
  await draw(page, { prompt: 'a cat', steps: 1 });
  await finished(page);
  const { pid, name } = (await daemon.ask('/v1/pool/status')).workers.find((worker) => worker.model === 'pocket-flux');
  await page.waitForFunction((text) => document.querySelector('#pool-models').textContent.includes(text), `pid ${pid}`);
  const before = await workers(page);
  process.kill(pid, 'SIGKILL');
  await page.waitForFunction((text) => !document.querySelector('#pool-models').textContent.includes(text), `pid ${pid}`);
  assert.notDeepEqual(await workers(page), before);
  await page.click('#tab-events');
  await page.waitForFunction((text) => document.querySelector('#events').textContent.includes(text), name);
  // The next picture is drawn by another process.
  await draw(page, { prompt: 'a cat', steps: 1 });
  await page.waitForFunction(() => document.querySelectorAll('#strip .tile[aria-label^="Picture"]').length === 2);
}));

test('a waiting job is listed with its position and can be cancelled from the queue', () => withPage(async (page) => {
  await draw(page, { prompt: 'first', model: 'slow', steps: 400 });
  await page.waitForSelector('#stage[data-state="drawing"]');
  await draw(page, { prompt: 'second', model: 'slow', steps: 400 });
  await page.waitForFunction(() => document.querySelector('#queue').children.length === 2);
  const waiting = page.locator('#queue li', { hasText: 'position 1' });
  assert.equal(await waiting.count(), 1);
  await waiting.locator('button').click();
  await page.waitForFunction(() => document.querySelector('#queue').children.length === 1);
  await page.locator('#queue li button').click();
  await page.waitForFunction(() => document.querySelector('#queue').children.length === 0);
}));

test('memory has a bar for each device', () => withPage(async (page) => {
  await page.waitForSelector('#memory .gauge');
  const devices = (await daemon.ask('/v1/pool/status')).memory.length;
  assert.equal(await page.locator('#memory .gauge').count(), devices);
  assert.match(await page.textContent('#memory'), /limit .*reserved/);
}));

test('an operator pins, stops and starts a model', () => withPage(async (page) => {
  const model = page.locator('#pool-models .model', { hasText: 'pocket-flux' }).first();
  const verb = async (word) => {
    await model.locator('button').click();
    await page.getByRole('menuitem', { name: word, exact: true }).click();
  };
  await verb('Pin');
  await model.locator('.badge:not([hidden])').waitFor();
  await verb('Unpin');
  await model.locator('.badge[hidden]').waitFor({ state: 'attached' });
  await verb('Stop');
  await page.waitForFunction(() => !document.querySelector('#pool-models').textContent.includes('pocket-flux:0'));
  await verb('Start');
  await page.waitForFunction(() => document.querySelector('#pool-models').textContent.includes('pocket-flux:0'));
}));

test('a guest draws and sees no buttons of operators', () => withPage(async (page) => {
  await draw(page, { prompt: 'a dog', steps: 1 });
  await finished(page);
  await page.waitForSelector('#pool-models .model');
  assert.equal(await page.locator('#pool-models button:visible').count(), 0);
}, { token: 'guest' }));
