// Chromium and the pages opened in it. Whatever the console says in red fails the test.

import { after } from 'node:test';
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';
import { Daemon } from './daemon.mjs';

const require = createRequire(`${process.env.PACKAGES}/`);
const { chromium } = require('playwright-core');
export const axe = require('axe-core').source;

/** Time within which something that a test waits for must be there. */
export const PATIENCE_MS = 60_000;

export const daemon = await Daemon.start();
export const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
after(async () => {
  await browser.close();
  await daemon.stop();
});

/**
 * Opens the page in a profile of its own, runs `use`, and fails if the console has an error. Chromium reports an answer with
 * an error status there too: `expected` are the statuses that the test provokes.
 */
export async function withPage(use, { token = 'all', expected = [], ...context } = {}) {
  const profile = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...context });
  profile.setDefaultTimeout(PATIENCE_MS);
  const page = await profile.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error.stack ?? error)));
  page.on('console', (line) => {
    const status = /status of (\d+)/.exec(line.text())?.[1];
    if (line.type() === 'error' && !expected.includes(Number(status))) errors.push(`${line.text()} ${line.location().url}`);
  });
  try {
    await page.goto(daemon.page(token));
    await use(page);
  } catch (problem) {
    await page.screenshot({ path: `${process.env.SHOTS}/failed.png` }).catch(() => {});
    problem.message += `\nconsole: ${errors.join('\n')}\nlog of the daemon:\n${daemon.log.split('\n').slice(-15).join('\n')}`;
    throw problem;
  } finally {
    await profile.close();
  }
  assert.deepEqual(errors, [], 'the console has errors');
}

/** Chooses a model from the list that opens above its button. */
export async function chooseModel(page, model) {
  await page.click('#model');
  await page.locator('#models .choice', { hasText: model }).first().click();
  await page.waitForFunction((name) => document.querySelector('#model-text').textContent === name, model);
}

/** Fills the form and draws; returns when the server has accepted it. */
export async function draw(page, { prompt, model = 'pocket-flux', ...settings }) {
  await page.waitForFunction(() => document.querySelectorAll('#models .choice').length > 1);
  if ((await page.textContent('#model-text')) !== model) await chooseModel(page, model);
  await page.fill('#prompt', prompt);
  for (const [name, value] of Object.entries(settings)) await page.fill(`#${name}`, String(value));
  const accepted = page.waitForResponse((response) => response.url().endsWith('/v1/images/generations'));
  await page.click('#draw');
  return (await accepted).status();
}

/** Waits until the selected picture is finished and shown. */
export async function finished(page) {
  await page.waitForSelector('#stage[data-state="done"] #shots img.on[alt]:not([alt=""])');
}
