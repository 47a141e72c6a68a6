// The gallery: search, favourites, deletion with undo, selection, full screen. And the page by keyboard alone, for
// screen readers, in Chinese and on a narrow screen.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, afterEach, before, test } from 'node:test';
import { openBrowser, openPage, Server, waitForPicture } from './server.js';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const PROMPTS = ['a red heart', 'a blue car', 'a red mushroom', 'a white rocket'];

let server;
let browser;
let page;

before(async () => {
  server = await Server.start();
  browser = await openBrowser();
  await server.draw(PROMPTS.map((prompt) => ({ prompt })));
});

afterEach(async () => {
  const problems = page?.problems ?? [];
  for (const context of browser.contexts()) await context.close();
  assert.deepEqual(problems, []);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const tiles = () => page.locator('[data-tile]');
const titles = () => tiles().evaluateAll((list) => list.map((tile) => tile.title));

async function waitForTiles(count) {
  await page.waitForFunction((count) => document.querySelectorAll('[data-tile]').length === count, count);
}

async function open(options) {
  page = await openPage(browser, server, options);
  await waitForTiles(PROMPTS.length);
}

test('the newest picture comes first', async () => {
  await open();
  assert.deepEqual(await titles(), PROMPTS.toReversed());
});

test('search shows only pictures with all words', async () => {
  await open();
  await page.fill('#gallery-search', 'red mush');
  await waitForTiles(1);
  assert.deepEqual(await titles(), ['a red mushroom']);
  await page.fill('#gallery-search', 'nothing like it');
  await page.waitForSelector('text=No picture matches.');
  await page.getByRole('button', { name: 'Show all' }).last().click();
  await waitForTiles(PROMPTS.length);
});

test('favourites are kept and can be shown alone', async () => {
  await open();
  await tiles().nth(1).click();
  await waitForPicture(page, 'a red mushroom');
  await page.locator('.icons [aria-label="Favourite"]').click();
  await page.getByRole('button', { name: 'Only favourites' }).click();
  await waitForTiles(1);
  assert.deepEqual(await titles(), ['a red mushroom']);
  await page.locator('.icons [aria-label="Favourite"]').click();
  await page.waitForSelector('text=No picture matches.');
});

test('a deleted picture comes back by undo', async () => {
  await open();
  await tiles().nth(2).click();
  await page.keyboard.press('Delete');
  await waitForTiles(PROMPTS.length - 1);
  await page.reload();
  await waitForTiles(PROMPTS.length - 1);
  await tiles().nth(0).click();
  await page.keyboard.press('Delete');
  await waitForTiles(PROMPTS.length - 2);
  await page.getByRole('button', { name: 'Undo' }).click();
  await waitForTiles(PROMPTS.length - 1);
  const { body } = await server.json('/api/v1/images');
  assert.equal(body.total, PROMPTS.length - 1);
  await server.draw([{ prompt: 'a blue car' }]);
  await waitForTiles(PROMPTS.length);
});

test('two selected pictures are compared, and several become a zip', async () => {
  await open();
  await tiles().nth(0).click({ modifiers: ['Control'] });
  await tiles().nth(1).click();
  await page.getByRole('button', { name: 'Compare' }).click();
  const slider = page.getByRole('slider', { name: 'Where the left picture ends' });
  await slider.press('ArrowRight');
  assert.equal(await slider.inputValue(), '50.5');
  await page.keyboard.press('Escape');
  const download = page.waitForEvent('download');
  await page.getByRole('link', { name: 'Download as zip' }).click();
  const bytes = await readFile(await (await download).path());
  assert.equal(bytes.subarray(0, 2).toString(), 'PK');
});

test('full screen zooms, browses and closes by keys', async () => {
  await open();
  await tiles().nth(0).click();
  await page.keyboard.press('f');
  const image = page.locator('dialog .area img');
  await image.waitFor();
  await page.keyboard.press('+');
  assert.match(await image.evaluate((element) => element.style.transform), /scale\(1\.4\)/);
  const first = await image.getAttribute('src');
  await page.keyboard.press('ArrowRight');
  await page.waitForFunction((src) => document.querySelector('dialog .area img').getAttribute('src') !== src, first);
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
});

test('a picture is made and opened by the keyboard alone', async () => {
  await open();
  await page.keyboard.press('?');
  await page.waitForSelector('dialog >> text=Keyboard');
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  await tabTo('#prompt');
  await page.keyboard.type('a moon? f');
  assert.equal(await page.inputValue('#prompt'), 'a moon? f', 'no key is taken from who types');
  await tabTo('#width');
  await page.keyboard.type('64');
  await tabTo('#height');
  await page.keyboard.type('64');
  await page.keyboard.press('Control+Enter');
  await waitForPicture(page, 'a moon? f');
  await tabTo('[data-tile]');
  await page.keyboard.press('ArrowRight');
  // The newest of the others: which one that is depends on what was deleted and brought back before.
  await Promise.any([PROMPTS.at(-1), 'a blue car'].map((prompt) => waitForPicture(page, prompt)));
  assert.ok(await page.evaluate(() => document.activeElement.matches('[data-tile]')), 'the focus follows the arrows');
  await page.keyboard.press('ArrowLeft');
  await waitForPicture(page, 'a moon? f');
  await page.keyboard.press('Delete');
  await waitForTiles(PROMPTS.length);
});

async function tabTo(selector) {
  for (let presses = 0; presses < 80; presses++) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
  }
  assert.fail(`${selector} cannot be reached by Tab`);
}

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing serious in the ${colorScheme} theme`, async () => {
    await open({ colorScheme });
    await page.getByRole('button', { name: 'Advanced' }).click();
    await page.fill('#guidance', '1');
    await page.press('#guidance', 'Tab');
    await tiles().nth(0).click();
    await page.getByRole('button', { name: 'Use as start image' }).click();
    await page.getByRole('button', { name: 'Details' }).click();
    assert.deepEqual(await seriousFindings(), []);
    await tiles().nth(1).click({ modifiers: ['Control'] });
    assert.deepEqual(await seriousFindings(), []);
    await page.getByRole('button', { name: 'Keyboard and help' }).click();
    assert.deepEqual(await seriousFindings(), []);
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Paint a mask' }).click();
    assert.deepEqual(await seriousFindings(), []);
  });
}

async function seriousFindings() {
  // The policy of the page forbids scripts from elsewhere; those of the debugger are exempt.
  await page.evaluate(await readFile(AXE, 'utf8'));
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join(' | ')}`);
}

test('the page speaks Chinese to a Chinese browser, and can be switched', async () => {
  await open({ locale: 'zh-CN' });
  await page.waitForSelector('button:has-text("生成")');
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN');
  await page.getByLabel('语言').selectOption('en');
  await page.waitForSelector('button:has-text("Generate")');
  await page.reload();
  await page.waitForSelector('button:has-text("Generate")');
});

test('nothing scrolls sideways at 360 pixels', async () => {
  await open({ viewport: { width: 360, height: 740 } });
  await page.getByRole('button', { name: 'Advanced' }).click();
  await page.getByRole('button', { name: 'Details' }).click();
  const { width, window } = await page.evaluate(() => ({
    width: document.documentElement.scrollWidth,
    window: innerWidth,
  }));
  assert.equal(width, window);
});

test('the appearance can be chosen and is kept', async () => {
  await open({ colorScheme: 'light' });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.getByLabel('Appearance').selectOption('dark');
  const dark = await ground();
  assert.notEqual(dark, light);
  await page.reload();
  await page.waitForSelector('#prompt');
  assert.equal(await ground(), dark);
});
