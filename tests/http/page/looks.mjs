// How the page looks and reads: sizes, colours, accessibility, weight. Leaves a picture of each in $SHOTS.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { axe, browser, daemon, draw, finished, withPage } from './browser.mjs';

/** Most bytes of the page. */
const BYTES_MAX = 100_000;
/** Largest layout shift that browsers' makers call good. */
const SHIFT_MAX = 0.1;

/** Serious and critical violations of accessibility, as axe-core finds them. */
async function violations(page) {
  // Evaluated by the protocol, which the page's policy does not bind.
  await page.evaluate(() => Promise.all(document.getAnimations()
    .filter((animation) => animation.effect.getComputedTiming().endTime !== Infinity)
    .map((animation) => animation.finished.catch(() => {}))));
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations
    .filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`);
}

const VIEWS = [
  { name: 'phone', viewport: { width: 390, height: 844 }, hasTouch: true, deviceScaleFactor: 2 },
  { name: 'wide', viewport: { width: 1440, height: 900 } },
];

for (const { name, ...view } of VIEWS) {
  for (const colorScheme of ['light', 'dark']) {
    test(`${name} and ${colorScheme}: accessible, nothing to scroll sideways`, () => withPage(async (page) => {
      const shot = (what) => page.screenshot({ path: `${process.env.SHOTS}/${name}-${colorScheme}${what}.png` });
      const check = async (what) => assert.deepEqual(await violations(page), [], what);
      await page.waitForSelector('#pool-models .model');
      await check('empty');
      await shot('-empty');
      for (const [at, prompt] of ['a rainbow', 'a panda', 'a watermelon'].entries()) {
        await draw(page, { prompt, seed: 1, steps: 8 });
        await page.waitForFunction((count) => document.querySelectorAll('#strip .tile[aria-label^="Picture"]').length === count, at + 1);
      }
      await draw(page, { prompt: 'a yellow moon on a blue background', seed: 1, steps: 24 });
      await page.waitForFunction(() => document.querySelector('#progress').ariaValueNow > 8);
      await shot('-drawing');
      await check('drawing');
      await finished(page);
      await page.waitForTimeout(1500);
      await shot('');
      await check('finished');
      await page.click('#tab-picture');
      await check('receipt');
      await page.click('#size');
      await check('sizes');
      await page.keyboard.press('Escape');
      await page.click('#show-keys');
      await check('keys');
      const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(content <= width, `the content is ${content} wide, the window ${width}`);
    }, { ...view, colorScheme }));
  }
}

test('with reduced motion nothing moves', () => withPage(async (page) => {
  await draw(page, { prompt: 'a turtle', steps: 2 });
  await finished(page);
  const moving = await page.evaluate(() => document.getAnimations().length);
  assert.equal(moving, 0);
}, { reducedMotion: 'reduce' }));

test('drawing moves nothing else on the page', () => withPage(async (page) => {
  await page.waitForSelector('#pool-models .model');
  await page.evaluate(() => {
    window.shift = 0;
    window.moved = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        if (entry.hadRecentInput) continue;
        window.shift += entry.value;
        window.moved.push(...entry.sources.map(({ node }) => node?.id || node?.className || node?.nodeName));
      }
    }).observe({ type: 'layout-shift', buffered: true });
  });
  await draw(page, { prompt: 'a boat', steps: 8 });
  await finished(page);
  const [shift, moved] = await page.evaluate(() => [window.shift, window.moved]);
  console.log(`layout shift: ${shift.toFixed(4)} ${moved.join(', ')}`);
  assert.ok(shift <= SHIFT_MAX, `a shift of ${shift}`);
}));

test('the page is small, strict, and asked for once', async () => {
  const response = await fetch(daemon.page(null));
  const bytes = (await response.arrayBuffer()).byteLength;
  console.log(`size: ${bytes} bytes`);
  assert.ok(bytes <= BYTES_MAX, `${bytes} bytes`);
  const policy = response.headers.get('content-security-policy');
  assert.match(policy, /^default-src 'none'; script-src 'sha256-/);
  const again = await fetch(daemon.page(null), { headers: { 'If-None-Match': response.headers.get('etag') } });
  assert.equal(again.status, 304);
  const profile = await browser.newContext();
  const page = await profile.newPage();
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url())));
  await page.goto(daemon.page());
  await page.waitForSelector('#pool-models .model');
  const foreign = asked.filter((url) => url.port !== String(daemon.port) && !['blob:', 'data:'].includes(url.protocol));
  assert.deepEqual(foreign, []);
  const paints = [];
  for (let round = 0; round < 5; round += 1) {
    await page.reload();
    await page.waitForFunction(() => performance.getEntriesByName('first-contentful-paint').length);
    paints.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime));
  }
  await profile.close();
  console.log(`first contentful paint: ${paints.map((ms) => ms.toFixed(0)).sort((a, b) => a - b).join(', ')} ms`);
});

test('keys reach everything', () => withPage(async (page) => {
  await page.waitForSelector('#pool-models .model');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await page.keyboard.press('Enter');
  await page.locator('body').press('/');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'prompt');
  await page.focus('#tab-pool');
  await page.keyboard.press('ArrowRight');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'tab-picture');
  assert.ok(await page.isVisible('#pane-picture'));
  await page.focus('#model');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#models:popover-open');
  await page.keyboard.press('Escape');
  await page.locator('#tab-pool').press('?');
  await page.waitForSelector('#keys[open]');
}));
