// A gallery of ten thousand pictures: it is found again from its files, and scrolls without a stop.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { promisify } from 'node:util';
import { crc32, deflateSync } from 'node:zlib';
import { openBrowser, openPage, Server } from './server.js';

const PICTURES = 10_000;
const SIDE = 16;
/** Frames of a scroll, and how many pixels each goes on. */
const FRAMES = 240;
const STEP_PX = 120;
/** What is in the document at once, however many pictures there are. */
const MOST_TILES = 200;

let server;
let browser;
let page;

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}

/** A picture of one colour that says how it was made. */
function png(index) {
  const record = {
    schema_version: 1,
    prompt: `picture ${index}`,
    negative_prompt: '',
    width: SIDE,
    height: SIDE,
    steps: 8,
    seed: index,
    guidance: 0,
    cfg_normalization: 0,
    cfg_truncation: 1,
    shift: 3,
    task: { name: 'text_to_image' },
    model: 'demo',
    files: [],
    versions: { zimage: '0.1.0' },
    device: 'cpu',
    compute: 'exact',
    tiled: false,
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(SIDE, 0);
  header.writeUInt32BE(SIDE, 4);
  header.set([8, 2], 8);
  const row = [0, ...Array.from({ length: SIDE }, () => [index & 255, (index >> 4) & 255, 128]).flat()];
  const pixels = Buffer.from(Array.from({ length: SIDE }, () => row).flat());
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', header),
    chunk('iTXt', Buffer.from(`zimage\0\0\0\0\0${JSON.stringify(record)}`)),
    chunk('IDAT', deflateSync(pixels)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

async function fillGallery(home) {
  for (let index = 0; index < PICTURES; index++) {
    const bytes = png(index);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const folder = join(home, 'images', sha256.slice(0, 2));
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `${sha256}.png`), bytes);
  }
  const env = { ...process.env, ZIMAGE_HOME: home };
  const { stderr } = await promisify(execFile)(process.env.ZIMAGE_BINARY, ['db', 'rebuild'], { env });
  assert.match(stderr, new RegExp(`${PICTURES} pictures added`));
}

before(async () => {
  server = await Server.start(fillGallery);
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

/** Scrolls the gallery frame by frame; returns how long each took, and the most tiles that there were. */
const scroll = (frames, step) =>
  page.evaluate(
    async ({ frames, step }) => {
      const grid = document.querySelector('[data-grid]');
      const times = [];
      let tiles = 0;
      let before = await new Promise(requestAnimationFrame);
      for (let frame = 0; frame < frames; frame++) {
        grid.parentElement.scrollTop += step;
        const now = await new Promise(requestAnimationFrame);
        times.push(now - before);
        before = now;
        tiles = Math.max(tiles, grid.querySelectorAll('[data-tile]').length);
      }
      return { times: times.sort((a, b) => a - b), tiles };
    },
    { frames, step },
  );

test('ten thousand pictures scroll with few of them in the document', async () => {
  page = await openPage(browser, server);
  await page.waitForSelector('text=10,000 pictures');
  await page.waitForSelector('[data-tile]');
  const { times, tiles } = await scroll(FRAMES, STEP_PX);
  const median = times[Math.floor(times.length / 2)];
  assert.ok(median < 50, `half of the frames took ${median} ms or more`);
  assert.ok(tiles <= MOST_TILES, `${tiles} tiles were in the document`);

  // To the very end, page after page.
  const rest = () =>
    page.evaluate(() => {
      const scroller = document.querySelector('[data-grid]').parentElement;
      scroller.scrollTop = scroller.scrollHeight;
      const tile = document.querySelector('[data-grid] li').getBoundingClientRect();
      const columns = Math.floor((scroller.clientWidth + 6) / (tile.width + 6));
      return Math.round(scroller.scrollHeight / (tile.height + 6)) * columns;
    });
  const started = Date.now();
  while ((await rest()) < PICTURES) {
    assert.ok(Date.now() - started < 60_000, 'the end does not come');
    await page.waitForTimeout(30);
  }
  assert.ok((await page.locator('[data-tile]').count()) <= MOST_TILES);

  await page.fill('#gallery-search', 'picture 4711');
  await page.waitForFunction(() => document.querySelectorAll('[data-tile]').length === 1);
});
