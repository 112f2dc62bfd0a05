// What the page says when the server says no.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { daemon, draw, finished, withPage } from './browser.mjs';

const told = (page) => page.locator('#toasts .toast p').last().textContent();

test('a refused value is told in the server\'s words, and its control has the focus', () => withPage(async (page) => {
  assert.equal(await draw(page, { prompt: 'a whale', steps: 65 }), 400);
  await page.waitForSelector('#toasts .toast');
  assert.match(await told(page), /65/);
  assert.match(await told(page), /64/);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'steps');
  assert.equal(await page.getAttribute('#steps', 'aria-invalid'), 'true');
  assert.equal(await draw(page, { prompt: 'a whale', steps: 1 }), 202);
  await finished(page);
  assert.equal(await page.getAttribute('#steps', 'aria-invalid'), 'false');
}, { expected: [400] }));

test('a value that cannot be a seed is not sent', () => withPage(async (page) => {
  let sent = 0;
  page.on('request', (request) => { sent += request.method() === 'POST' ? 1 : 0; });
  await page.fill('#prompt', 'a bee');
  await page.fill('#seed', '18446744073709551616');
  await page.click('#draw');
  await page.waitForSelector('#toasts .toast');
  assert.match(await told(page), /18446744073709551615/);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'seed');
  assert.equal(sent, 0);
}));

test('without a token the page asks for one, and works with it', () => withPage(async (page) => {
  await page.waitForSelector('#ask[open]');
  await page.fill('#ask-token', 'not-the-right-token');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#ask-why').textContent.includes('not valid'));
  await page.fill('#ask-token', daemon.token('all'));
  await page.keyboard.press('Enter');
  await page.waitForSelector('#pulse:is([data-state="live"], [data-state="busy"])');
  assert.equal(await page.evaluate(() => localStorage.getItem('imagepool.token')), null);
  await page.reload();
  await page.waitForSelector('#pulse:is([data-state="live"], [data-state="busy"])');
}, { token: null, expected: [401] }));

test('a token in the address is taken out of it', () => withPage(async (page) => {
  await page.waitForSelector('#pulse:is([data-state="live"], [data-state="busy"])');
  assert.equal(new URL(page.url()).hash, '');
}));

test('a token that was declined is asked for again when a person draws', () => withPage(async (page) => {
  await page.waitForSelector('#ask[open]');
  await page.keyboard.press('Escape');
  await page.waitForSelector('#ask:not([open])', { state: 'attached' });
  await page.fill('#prompt', 'a ghost');
  await page.press('#prompt', 'Control+Enter');
  await page.waitForSelector('#ask[open]');
  await page.fill('#ask-token', daemon.token('guest'));
  await page.keyboard.press('Enter');
  await finished(page);
}, { token: null, expected: [401] }));
