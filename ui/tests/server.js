// The real program on a port and a folder of its own, and a browser that fails the test upon any request elsewhere.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const BINARY = process.env.ZIMAGE_BINARY;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const START_MS = 60_000;

/** Starts the program; resolves when it says where it listens. */
async function launch(home, port) {
  if (!BINARY) throw new Error('ZIMAGE_BINARY must be the path of the program');
  const child = spawn(BINARY, ['serve', '--port', String(port)], {
    env: { ...process.env, ZIMAGE_HOME: home },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  const url = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`it does not listen:\n${said}`)), START_MS);
    child.stderr.on('data', (bytes) => {
      said += bytes;
      // The line may come in pieces.
      const found = /listening on (http:\/\/\S+)\n/.exec(said);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[1]);
    });
    child.on('exit', (code) => reject(new Error(`it ended with ${code}:\n${said}`)));
  });
  return { child, url: url.replace(/\/$/, '') };
}

function ended(child) {
  return child.exitCode !== null ? Promise.resolve() : new Promise((resolve) => child.on('exit', resolve));
}

export class Server {
  /** `prepare` fills the folder before the program looks at it. */
  static async start(prepare = async () => {}) {
    const server = new Server();
    server.home = await mkdtemp(join(tmpdir(), 'zimage-ui-'));
    await prepare(server.home);
    Object.assign(server, await launch(server.home, 0));
    return server;
  }

  /** Ends the program as a crash would. */
  async kill() {
    this.child.kill('SIGKILL');
    await ended(this.child);
  }

  /** Starts it once more at the same address. */
  async revive() {
    Object.assign(this, await launch(this.home, new URL(this.url).port));
  }

  async stop() {
    this.child.kill('SIGKILL');
    await ended(this.child);
    await rm(this.home, { recursive: true, force: true });
  }

  async json(path, init = {}) {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(this.url + path, { headers, ...init });
    return { status: response.status, body: await response.json() };
  }

  submit(draft) {
    return this.json('/api/v1/jobs', { method: 'POST', body: JSON.stringify({ ...SMALL, ...draft }) });
  }

  async cancelAll() {
    const { body } = await this.json('/api/v1/jobs');
    for (const job of body.jobs.reverse()) {
      await this.json(`/api/v1/jobs/${job.id}`, { method: 'DELETE', body: '{}' });
    }
  }

  /** Makes pictures, and returns their records in the order of the drafts. */
  async draw(drafts) {
    const images = [];
    for (const draft of drafts) {
      const { body } = await this.submit(draft);
      images.push(...(await this.finished(body.id)).images);
    }
    return images;
  }

  async finished(id) {
    for (;;) {
      const { body } = await this.json(`/api/v1/jobs/${id}`);
      if (body.state !== 'queued' && body.state !== 'running') return body;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** The demo model draws this in well under a second. */
export const SMALL = { width: 64, height: 64, steps: 2 };
/** Long enough to be watched and stopped. */
export const LONG = { width: 256, height: 256, steps: 50 };

export const openBrowser = () =>
  chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-dev-shm-usage'] });

/**
 * A page of the server. `problems` collects what must never happen: requests to other hosts, violations of the content
 * security policy, and errors of scripts.
 */
export async function openPage(browser, server, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, locale: 'en-US', ...options });
  const page = await context.newPage();
  page.problems = [];
  const origin = new URL(server.url).origin;
  await context.route(
    (url) => url.origin !== origin && url.protocol.startsWith('http'),
    (route) => {
      page.problems.push(`request to ${route.request().url()}`);
      return route.abort();
    },
  );
  page.on('pageerror', (error) => page.problems.push(`error: ${error.message}`));
  page.on('console', (message) => {
    if (/Content Security Policy/.test(message.text())) page.problems.push(message.text());
  });
  await page.goto(server.url);
  await page.waitForSelector('#prompt');
  return page;
}

/** Fills in the form. Numbers are taken when their field is left, as by a person. */
export async function fill(page, fields) {
  if (!(await page.isVisible('#steps'))) await page.getByRole('button', { name: 'Advanced' }).click();
  for (const [id, value] of Object.entries(fields)) {
    await page.fill(`#${id}`, String(value));
    await page.press(`#${id}`, 'Tab');
  }
}

export const finishedPicture = '[data-state="finished"] img[data-sha256]';
export const shownSha256 = (page) => page.getAttribute(finishedPicture, 'data-sha256');

/** Waits until the stage shows a finished picture of this prompt. */
export const waitForPicture = (page, prompt) =>
  page.waitForSelector(`${finishedPicture}[alt="Picture: ${prompt.replaceAll('"', '\\"')}"]`, { timeout: 60_000 });
