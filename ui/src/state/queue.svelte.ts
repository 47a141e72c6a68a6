import { api, Problem, type Draft, type Job, type JobEvent } from '../api';
import { drawSeed, form } from './form.svelte';
import { gallery } from './gallery.svelte';
import { reportFailure } from './failures';
import { server } from './server.svelte';
import { view } from './view.svelte';

/** A request that the server has not taken yet. */
export interface Held {
  key: string;
  draft: Draft;
  state: 'sending' | 'busy' | 'away';
  /** When it is sent again. */
  retryAt: number;
}

/** What went wrong with a request or a job of this tab; it stays until it is dismissed. */
export interface Trouble {
  code: string;
  message: string;
  param: string | null;
  draft: Draft;
}

const AWAY_RETRY_MS = 3000;
const BUSY_RETRY_S = 5;
const SETTLE_MS = 80;

class Queue {
  /** Jobs that wait or run, in order of service. */
  jobs = $state<Job[]>([]);
  held = $state<Held[]>([]);
  trouble = $state.raw<Trouble | null>(null);
  /** The newest preview of the running job. */
  preview = $state.raw<{ job: string; image: number; step: number; url: string } | null>(null);
  /** When jobs are expected to be done, by id. */
  readyAt = $state<Record<string, number>>({});
  /** For screen readers: how the last job ended. */
  outcome = $state<'done' | 'cancelled' | null>(null);

  running = $derived(this.jobs.find((job) => job.state === 'running') ?? null);
  waiting = $derived(this.jobs.filter((job) => job.state === 'queued'));

  private mine = new Set<string>(JSON.parse(sessionStorage.getItem('zimage.mine') ?? '[]'));
  private previewBusy = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** Asks for pictures with the settings of the form. */
  submit(front = false): void {
    // Drawn here and not by the server, so that the form shows the seed of the picture that is coming.
    if (!form.fields.seedLocked) form.fields.seed = drawSeed();
    this.trouble = null;
    view.follow();
    this.hold(form.draft(front));
  }

  hold(draft: Draft): void {
    this.held.push({ key: randomKey(), draft, state: 'sending', retryAt: 0 });
    const held = this.held.at(-1);
    if (held) void this.deliver(held);
  }

  /** Sends a request. The key makes it safe to send it again when it is not known whether it arrived. */
  private async deliver(held: Held): Promise<void> {
    held.state = 'sending';
    try {
      const job = await api.submit($state.snapshot(held.draft) as Draft, held.key);
      this.drop(held);
      this.mine.add(job.id);
      sessionStorage.setItem('zimage.mine', JSON.stringify([...this.mine].slice(-100)));
      if (!this.jobs.some((known) => known.id === job.id)) this.jobs.push(job);
      this.refreshSoon();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.postpone(held, error);
    }
  }

  private postpone(held: Held, problem: Problem): void {
    const busy = problem.status === 429 || problem.status === 503;
    if (!busy && problem.code !== 'unreachable') {
      this.drop(held);
      this.trouble = { code: problem.code, message: problem.message, param: problem.param, draft: held.draft };
      return;
    }
    const waitMs = busy ? (problem.retryAfterS ?? BUSY_RETRY_S) * 1000 : AWAY_RETRY_MS;
    held.state = busy ? 'busy' : 'away';
    held.retryAt = Date.now() + waitMs;
    setTimeout(() => {
      if (this.held.includes(held)) void this.deliver(held);
    }, waitMs);
  }

  drop(held: Held): void {
    this.held = this.held.filter((other) => other.key !== held.key);
  }

  async cancel(id: string): Promise<void> {
    try {
      await api.cancel(id);
      this.jobs = this.jobs.filter((job) => job.id !== id);
    } catch (error) {
      // It was finished in the meantime; that is no news.
      if (error instanceof Problem && (error.status === 409 || error.status === 404)) this.refreshSoon();
      else reportFailure(error);
    }
  }

  async stop(): Promise<void> {
    if (this.running) await this.cancel(this.running.id);
  }

  async cancelWaiting(): Promise<void> {
    this.held = [];
    await Promise.all(this.waiting.map((job) => this.cancel(job.id)));
  }

  /** The list and the order are the server's to say. */
  async refresh(): Promise<void> {
    try {
      const jobs = await api.jobs();
      for (const job of jobs) if (job.eta_ms !== null) this.readyAt[job.id] = Date.now() + job.eta_ms;
      this.jobs = jobs;
      void this.loadPreview();
    } catch {
      // The stream of events is lost too then, and everything is loaded again when it is back.
    }
  }

  private refreshSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.refresh(), SETTLE_MS);
  }

  onEvent(event: JobEvent): void {
    const job = this.jobs.find((known) => known.id === event.job);
    if (event.type === 'image') {
      gallery.add(event);
      job?.images.push(event);
    } else if (event.type === 'step') {
      if (!job) return this.refreshSoon();
      job.state = 'running';
      job.progress = { image: event.image, step: event.step, steps: event.steps };
      void this.loadPreview();
    } else {
      if (event.type === 'running') this.outcome = null;
      if (event.type === 'done' || event.type === 'cancelled') this.outcome = event.type;
      if (event.type === 'failed' && this.mine.has(event.job)) {
        const draft = job ? draftOf(job) : {};
        this.trouble = { code: event.code, message: event.message, param: null, draft };
      }
      if (event.type !== 'queued' && event.type !== 'running') {
        this.jobs = this.jobs.filter((known) => known.id !== event.job);
        delete this.readyAt[event.job];
      }
      this.refreshSoon();
    }
  }

  onEta(id: string | null, etaMs: number | null): void {
    const job = id ?? this.running?.id;
    if (job && etaMs !== null) this.readyAt[job] = Date.now() + etaMs;
  }

  /** Fetches the newest preview; of steps that follow each other faster than that, only the last. */
  private async loadPreview(): Promise<void> {
    const job = this.running;
    if (!job?.progress?.step || !server.has('preview') || this.previewBusy) return;
    this.previewBusy = true;
    const { image, step } = job.progress;
    try {
      const preview = await api.preview(job.id, step);
      if (preview) this.showPreview({ job: job.id, image, step, url: URL.createObjectURL(preview.image) });
    } catch {
      // The next step brings another.
    } finally {
      this.previewBusy = false;
    }
    const now = this.running?.progress;
    if (now && now.step !== step) void this.loadPreview();
  }

  private showPreview(preview: NonNullable<Queue['preview']>): void {
    if (this.preview) URL.revokeObjectURL(this.preview.url);
    this.preview = preview;
  }
}

function draftOf(job: Job): Draft {
  return $state.snapshot(job.spec) as Draft;
}

/** `crypto.randomUUID` is missing where the page does not come by HTTPS or from this machine. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(16).padStart(8, '0')).join('');
}

export const queue = new Queue();
