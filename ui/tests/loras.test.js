// LoRAs of the home folder: chosen, weighed, their words inserted, and told to the server.

import assert from 'node:assert/strict';
import { copyFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fill, openBrowser, openPage, Server, SMALL, waitForPicture } from './server.js';

const NIGHT = join(dirname(fileURLToPath(import.meta.url)), '../../assets/demo-loras/night.safetensors');

let server;
let browser;
let page;

before(async () => {
  server = await Server.start(async (home) => {
    await mkdir(join(home, 'loras', 'mood'), { recursive: true });
    await copyFile(NIGHT, join(home, 'loras', 'mood', 'night.safetensors'));
  });
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

test('a lora is chosen, weighed, called by its word, and switched off', async () => {
  page = await openPage(browser, server);
  await fill(page, { ...SMALL, prompt: 'a house' });
  await page.selectOption('#lora-add', 'mood/night');
  const weight = page.getByRole('spinbutton', { name: /mood\/night/ });
  assert.equal(await weight.inputValue(), '1', 'the weight that its file recommends');
  await weight.fill('0.8');
  await weight.press('Tab');
  await page.getByRole('button', { name: /moonlit/ }).click();
  assert.equal(await page.inputValue('#prompt'), 'a house, moonlit');
  await page.press('#prompt', 'Control+Enter');
  await waitForPicture(page, 'a house, moonlit');
  assert.deepEqual(await lorasOfNewest(), [{ id: 'mood/night', weight: 0.8 }]);

  await page.reload();
  await page.waitForSelector('#prompt');
  await fill(page, { prompt: 'a house at noon' });
  assert.equal(await weight.inputValue(), '0.8', 'it survives a reload');
  await page.getByRole('checkbox', { name: /mood\/night/ }).uncheck();
  await page.press('#prompt', 'Control+Enter');
  await waitForPicture(page, 'a house at noon');
  assert.deepEqual(await lorasOfNewest(), []);

  // The picture names the file, which lies in a folder here.
  const { body: found } = await server.json('/api/v1/images?q=moonlit');
  const { body: detail } = await server.json(`/api/v1/images/${found.images[0].sha256}`);
  assert.deepEqual(detail.draft.loras, [{ id: 'mood/night', weight: 0.8 }]);
});

async function lorasOfNewest() {
  const { body: list } = await server.json('/api/v1/images');
  const { body: job } = await server.json(`/api/v1/jobs/${list.images[0].job}`);
  return job.spec.loras ?? [];
}
