// A picture from the prompt to the gallery: preview, stop, reload, tabs, waiting, and a server that goes away.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { fill, finishedPicture, LONG, openBrowser, openPage, Server, SMALL, waitForPicture } from './server.js';

let server;
let browser;
let page;

before(async () => {
  server = await Server.start();
  browser = await openBrowser();
});

afterEach(async () => {
  const problems = page?.problems ?? [];
  for (const context of browser.contexts()) await context.close();
  await server.cancelAll();
  assert.deepEqual(problems, []);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const running = '[data-job].run';

async function runLong(prompt = 'a red balloon over the sea') {
  await fill(page, LONG);
  await page.fill('#prompt', prompt);
  await page.getByRole('button', { name: 'Generate' }).click();
  await page.waitForSelector(running);
}

test('a picture is made with a preview of several steps', async () => {
  page = await openPage(browser, server);
  await fill(page, { width: 256, height: 256, steps: 12 });
  await page.fill('#prompt', 'a red fox in the snow');
  await page.getByRole('button', { name: 'Generate' }).click();
  const seen = new Set();
  while (seen.size < 2) {
    const preview = await page.waitForSelector('img.preview', { timeout: 60_000 });
    const step = await preview.getAttribute('data-step').catch(() => null);
    if (step) seen.add(step);
    await page.waitForTimeout(20);
  }
  await waitForPicture(page, 'a red fox in the snow');
  assert.equal(await page.locator('[data-tile]').first().getAttribute('title'), 'a red fox in the snow');
  const width = await page.$eval(finishedPicture, async (image) => {
    await image.decode();
    return image.naturalWidth;
  });
  assert.equal(width, 256);
});

test('stop cancels the running job', async () => {
  page = await openPage(browser, server);
  await runLong();
  const id = await page.getAttribute(running, 'data-job');
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.waitForSelector(running, { state: 'detached' });
  assert.equal((await server.finished(id)).state, 'cancelled');
});

test('a reload while a job runs goes on watching it', async () => {
  page = await openPage(browser, server);
  await runLong();
  const id = await page.getAttribute(running, 'data-job');
  await page.reload();
  await page.waitForSelector(`[data-job="${id}"].run`);
  assert.equal(await page.inputValue('#prompt'), 'a red balloon over the sea');
  await page.waitForSelector('img.preview', { timeout: 60_000 });
});

test('two tabs show the same job and the same gallery', async () => {
  page = await openPage(browser, server);
  const other = await openPage(browser, server);
  await fill(page, SMALL);
  await page.fill('#prompt', 'a cat at night');
  await page.getByRole('button', { name: 'Generate' }).click();
  await waitForPicture(page, 'a cat at night');
  await waitForPicture(other, 'a cat at night');
  await page.locator('.icons [aria-label="Favourite"]').click();
  await other.waitForSelector('.icons button[aria-label="Favourite"][aria-pressed="true"]');
});

test('jobs wait while one runs, and can be taken back', async () => {
  page = await openPage(browser, server);
  await runLong();
  await page.fill('#prompt', 'the second');
  await page.keyboard.press('Control+Enter');
  await page.waitForSelector('[aria-label="Queue"] >> text=the second');
  await page.fill('#prompt', 'the third');
  await page.keyboard.press('Control+Shift+Enter');
  const waiting = page.locator('[aria-label="Queue"] li');
  await waiting.nth(1).waitFor();
  await page.waitForFunction(() => document.querySelector('[aria-label="Queue"] li')?.textContent.includes('the third'));
  await page.getByRole('button', { name: 'Cancel: the second' }).click();
  await page.waitForFunction(() => document.querySelectorAll('[aria-label="Queue"] li').length === 1);
  await page.getByRole('button', { name: 'Cancel all' }).click();
  await page.waitForSelector('[aria-label="Queue"]', { state: 'detached' });
  assert.ok(await page.isVisible(running), 'the running job goes on');
});

test('a full queue is shown as waiting, and the request is sent again', async () => {
  page = await openPage(browser, server);
  await fill(page, SMALL);
  await page.fill('#prompt', 'after the crowd');
  // At the last moment: when a job ends, those that wait behind it may begin together, and the queue is full no longer.
  const long = { ...LONG, prompt: 'filler' };
  let status = 202;
  while (status === 202) ({ status } = await server.submit(long));
  assert.equal(status, 429);
  await page.keyboard.press('Control+Enter');
  await page.waitForSelector('[data-held="busy"]');
  assert.match(await page.textContent('[data-held="busy"]'), /The server is busy. Trying again in \d+ s/);
  await server.cancelAll();
  await waitForPicture(page, 'after the crowd');
});

test('the page recovers when the server comes back', async () => {
  page = await openPage(browser, server);
  await server.kill();
  await page.waitForSelector('text=Reconnecting');
  await fill(page, SMALL);
  await page.fill('#prompt', 'a yellow house in a meadow');
  await page.keyboard.press('Control+Enter');
  await page.waitForSelector('[data-held="away"]');
  await server.revive();
  await page.waitForSelector('text=Reconnecting', { state: 'detached' });
  await waitForPicture(page, 'a yellow house in a meadow');
});

test('a refused request says why and leads to the field', async () => {
  page = await openPage(browser, server);
  await fill(page, { ...SMALL, width: 4096, height: 4096 });
  await page.fill('#prompt', 'too large');
  await page.keyboard.press('Control+Enter');
  const alert = page.locator('.trouble');
  await alert.waitFor();
  assert.match(await alert.textContent(), /4096/);
  await alert.getByRole('button', { name: 'Show the field' }).click();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'width');
});
