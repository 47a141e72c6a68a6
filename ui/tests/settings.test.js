// Settings that come back: from a picture, from text, from a link, after a reload. And prompts that are nothing but text.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { fill, openBrowser, openPage, Server, SMALL, waitForPicture } from './server.js';

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
  assert.deepEqual(problems, []);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const drawn = {
  prompt: 'a purple balloon above a white cat',
  negative_prompt: 'clouds',
  width: 80,
  height: 64,
  steps: 3,
  seed: 4711,
  guidance: 1.5,
  shift: 2.5,
};

async function formOf(tab) {
  const form = {};
  for (const id of Object.keys(drawn)) form[id] = await tab.inputValue(`#${id}`);
  return form;
}

const expected = Object.fromEntries(Object.entries(drawn).map(([id, value]) => [id, String(value)]));

/** Drops a file on the page, or pastes it, as the browser would. */
async function hand(tab, kind, bytes, selector = '#stage') {
  await tab.evaluate(
    ({ kind, base64, selector }) => {
      const content = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([content], 'picture.png', { type: 'image/png' }));
      const target = document.querySelector(selector);
      const options = { bubbles: true, cancelable: true };
      if (kind === 'paste') {
        target.dispatchEvent(new ClipboardEvent('paste', { ...options, clipboardData: data }));
      } else {
        target.dispatchEvent(new DragEvent('dragover', { ...options, dataTransfer: data }));
        target.dispatchEvent(new DragEvent('drop', { ...options, dataTransfer: data }));
      }
    },
    { kind, base64: Buffer.from(bytes).toString('base64'), selector },
  );
}

async function pictureBytes(draft) {
  const [image] = await server.draw([draft]);
  return Buffer.from(await (await fetch(`${server.url}/files/${image.sha256}.png`)).arrayBuffer());
}

for (const kind of ['drop', 'paste']) {
  test(`${kind} of a picture restores the form exactly, and can be undone`, async () => {
    const bytes = await pictureBytes(drawn);
    page = await openPage(browser, server);
    await fill(page, SMALL);
    await page.fill('#prompt', 'before');
    await hand(page, kind, bytes);
    await page.waitForSelector('text=Settings restored');
    assert.deepEqual(await formOf(page), expected);
    await page.getByRole('button', { name: 'Undo' }).click();
    assert.equal(await page.inputValue('#prompt'), 'before');
  });
}

test('use of all settings restores the form exactly', async () => {
  await server.draw([drawn]);
  page = await openPage(browser, server);
  await fill(page, SMALL);
  await waitForPicture(page, drawn.prompt);
  await page.getByRole('button', { name: 'Use all settings' }).click();
  await page.waitForSelector('text=Settings restored');
  assert.deepEqual(await formOf(page), expected);
});

test('pasted text of another program is taken for settings', async () => {
  page = await openPage(browser, server);
  await fill(page, SMALL);
  const text = 'a lake at dawn\nSteps: 7, Sampler: Euler, CFG scale: 1, Seed: 99, Size: 128x96';
  await page.focus('#prompt');
  await page.evaluate((text) => {
    const data = new DataTransfer();
    data.setData('text/plain', text);
    const options = { bubbles: true, cancelable: true, clipboardData: data };
    document.querySelector('#prompt').dispatchEvent(new ClipboardEvent('paste', options));
  }, text);
  await page.waitForSelector('text=Settings restored');
  assert.equal(await page.inputValue('#prompt'), 'a lake at dawn');
  assert.equal(await page.inputValue('#seed'), '99');
  assert.equal(await page.inputValue('#steps'), '7');
  assert.equal(await page.inputValue('#width'), '128');
});

test('settings survive a reload, and go into a link', async () => {
  page = await openPage(browser, server);
  await fill(page, { ...SMALL, seed: 31, width: 96 });
  await page.fill('#prompt', 'kept 保存');
  await page.waitForTimeout(300);
  await page.reload();
  await page.waitForSelector('#prompt');
  assert.equal(await page.inputValue('#prompt'), 'kept 保存');
  assert.equal(await page.inputValue('#width'), '96');

  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server.url });
  await page.getByRole('button', { name: 'Copy link to these settings' }).click();
  await page.waitForSelector('text=Copied.');
  const link = await page.evaluate(() => navigator.clipboard.readText());
  const other = await openPage(browser, { url: link });
  await other.waitForSelector('text=Settings restored');
  assert.equal(await other.inputValue('#prompt'), 'kept 保存');
  assert.equal(await other.evaluate(() => location.hash), '');
  assert.deepEqual(other.problems, []);
});

test('a prompt is text wherever it is shown', async () => {
  const prompt = `<img src=x onerror="window.hit=1"></script><script>window.hit=1</script>{@html 1}`;
  await server.draw([{ prompt }]);
  page = await openPage(browser, server);
  await page.waitForSelector('.bar .words');
  assert.equal((await page.textContent('.bar .words')).trim(), prompt);
  await page.getByRole('button', { name: 'Details' }).click();
  await page.getByRole('button', { name: 'Use all settings' }).click();
  await page.waitForSelector('text=Settings restored');
  assert.equal(await page.inputValue('#prompt'), prompt);
  assert.equal(await page.evaluate(() => window.hit), undefined);
  assert.equal(await page.locator('img[src="x"]').count(), 0);
});

test('a picture becomes the start image, and a mask is painted on it', async () => {
  await server.draw([{ prompt: 'a green tree' }]);
  page = await openPage(browser, server);
  await waitForPicture(page, 'a green tree');
  await page.getByRole('button', { name: 'Use as start image' }).click();
  await page.getByRole('button', { name: 'Paint a mask' }).click();
  const canvas = page.locator('dialog canvas');
  await canvas.focus();
  await page.keyboard.press('Space');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Space');
  await page.getByRole('button', { name: 'Use mask' }).click();
  await page.waitForSelector('text=Only the masked part is repainted');
  await fill(page, SMALL);
  await page.fill('#prompt', 'a red house');
  await page.keyboard.press('Control+Enter');
  await waitForPicture(page, 'a red house');
  const { body } = await server.json('/api/v1/images?limit=1');
  const { draft } = (await server.json(`/api/v1/images/${body.images[0].sha256}`)).body;
  assert.match(draft.start.mask, /^[0-9a-f]{64}$/);
});
