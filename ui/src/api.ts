// All access to the server is here: the JSON types are those of the crate `zimage-server`, field by field.

export type JobState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
export type Format = 'png' | 'jpeg' | 'webp';
export type Cache = 'none' | 'slow' | 'medium' | 'fast';
export type Feature =
  | 'text_to_image'
  | 'image_to_image'
  | 'inpaint'
  | 'loras'
  | 'guidance'
  | 'step_cache'
  | 'preview';

export interface LoraChoice {
  id: string;
  weight: number;
}

export interface StartImage {
  image: string;
  mask?: string | null;
  strength?: number | null;
}

/** A request for pictures; whatever is left out has a default. */
export interface Draft {
  model?: string | null;
  prompt?: string;
  negative_prompt?: string | null;
  width?: number | null;
  height?: number | null;
  steps?: number | null;
  seed?: number | null;
  n?: number | null;
  guidance?: number | null;
  cfg_normalization?: number | null;
  cfg_truncation?: number | null;
  shift?: number | null;
  cache?: Cache | null;
  loras?: LoraChoice[];
  start?: StartImage | null;
  format?: Format | null;
  quality?: number | null;
  priority?: 'interactive' | 'batch';
  front?: boolean;
}

export interface JobSpec {
  model: string;
  prompt: string;
  negative_prompt: string;
  width: number;
  height: number;
  steps: number;
  seed: number;
  n: number;
  guidance: number;
  cfg_normalization: number;
  cfg_truncation: number;
  shift?: number;
  cache: Cache;
  loras?: LoraChoice[];
  start?: StartImage;
  format: Format;
  quality?: number;
}

export interface Progress {
  image: number;
  step: number;
  steps: number;
}

export interface ImageRecord {
  sha256: string;
  job?: string;
  index: number;
  seed: number;
  width: number;
  height: number;
  format: Format;
  size_bytes: number;
  created_ms: number;
  favourite: boolean;
  prompt: string;
}

export interface Failure {
  code: string;
  message: string;
}

export interface Job {
  id: string;
  state: JobState;
  spec: JobSpec;
  priority: 'interactive' | 'batch';
  created_ms: number;
  started_ms: number | null;
  finished_ms: number | null;
  attempts: number;
  progress: Progress | null;
  position: number | null;
  eta_ms: number | null;
  images: ImageRecord[];
  error: Failure | null;
  tokens: { used: number; dropped: number };
}

/** What happened to a job. The fields beside these depend on `type`. */
interface EventHead {
  seq: number;
  job: string;
  at_ms: number;
}
export type JobEvent = EventHead &
  (
    | { type: 'queued' | 'running' | 'done' | 'cancelled' }
    | ({ type: 'step' } & Progress)
    | ({ type: 'image' } & ImageRecord)
    | ({ type: 'failed' } & Failure)
  );

export interface Page {
  images: ImageRecord[];
  next?: string | null;
  total: number;
}

export interface LoraInfo {
  id: string;
  trigger_words: string[];
  recommended_weight: number | null;
}

export interface Size {
  ratio: string;
  width: number;
  height: number;
}

export interface ModelInfo {
  name: string;
  native_size: number;
  native_shift: number;
  sizes: { base: number; sizes: Size[] }[];
}

export interface Limits {
  max_pixels: number;
  max_side: number;
  max_steps: number;
  max_n: number;
  max_prompt_chars: number;
  max_loras: number;
  max_upload_pixels: number;
  max_upload_bytes: number;
}

export interface Capabilities {
  version: string;
  device: string;
  auth: boolean;
  models: ModelInfo[];
  loras: LoraInfo[];
  limits: Limits;
  defaults: { steps: number; strength: number; quality: number };
  formats: Format[];
  caches: Cache[];
  features: Feature[];
  examples: string[];
}

export interface Upload {
  sha256: string;
  width: number;
  height: number;
}

export interface FoundSettings {
  draft: Draft | null;
  parameters: string | null;
  source: 'zimage' | 'a1111' | 'none';
  notes: string[];
}

export interface ImageDetails {
  image: ImageRecord;
  draft: Draft;
  parameters: string;
}

/** The server's refusal (RFC 9457), or that it could not be reached (`code` is `unreachable`). */
export class Problem extends Error {
  constructor(
    readonly code: string,
    readonly status: number,
    detail: string,
    readonly param: string | null = null,
    readonly retryAfterS: number | null = null,
  ) {
    super(detail);
  }
}

async function call(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: 'same-origin', ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Problem('unreachable', 0, 'the server cannot be reached');
  }
  if (!response.ok) throw await problem(response);
  return response;
}

async function problem(response: Response): Promise<Problem> {
  const after = Number(response.headers.get('retry-after'));
  const retryAfterS = Number.isFinite(after) && after > 0 ? after : null;
  const body = await response.json().catch(() => ({}));
  const detail = body.detail ?? body.title ?? `${response.status} ${response.statusText}`;
  return new Problem(body.code ?? 'internal', response.status, detail, body.param ?? null, retryAfterS);
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await call(path, signal ? { signal } : {})).json();
}

async function send<T>(method: string, path: string, body: unknown, headers: HeadersInit = {}): Promise<T> {
  const init = { method, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) };
  return (await call(path, init)).json();
}

async function sendImage<T>(path: string, image: Blob): Promise<T> {
  const form = new FormData();
  form.append('image', image, 'image');
  return (await call(path, { method: 'POST', body: form })).json();
}

async function sendInParts(path: string, sha256: string[]): Promise<void> {
  for (let at = 0; at < sha256.length; at += MOST_PICTURES) {
    await send('POST', path, { sha256: sha256.slice(at, at + MOST_PICTURES) });
  }
}

export const api = {
  capabilities: () => get<Capabilities>('/api/v1/capabilities'),
  jobs: async () => (await get<{ jobs: Job[] }>('/api/v1/jobs')).jobs,
  job: (id: string) => get<Job>(`/api/v1/jobs/${id}`),
  submit: (draft: Draft, key: string) => send<Job>('POST', '/api/v1/jobs', draft, { 'idempotency-key': key }),
  cancel: (id: string) => send<Job>('DELETE', `/api/v1/jobs/${id}`, {}),

  images: (query: { cursor?: string | null; q?: string; fav?: boolean; limit?: number }, signal?: AbortSignal) => {
    const params = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value) params.set(name, String(value));
    return get<Page>(`/api/v1/images?${params}`, signal);
  },
  image: (sha256: string) => get<ImageDetails>(`/api/v1/images/${sha256}`),
  setFavourite: (sha256: string, favourite: boolean) =>
    send<ImageRecord>('PATCH', `/api/v1/images/${sha256}`, { favourite }),
  deleteImages: (sha256: string[]) => sendInParts('/api/v1/images/delete', sha256),
  restoreImages: (sha256: string[]) => sendInParts('/api/v1/images/restore', sha256),

  upload: (image: Blob) => sendImage<Upload>('/api/v1/uploads', image),
  settingsOfImage: (image: Blob) => sendImage<FoundSettings>('/api/v1/metadata', image),
  settingsOfText: (text: string) => send<FoundSettings>('POST', '/api/v1/metadata/text', { text }),

  /** The newest preview and the step that it shows; null while there is none. */
  preview: async (job: string, step: number): Promise<{ image: Blob; step: number } | null> => {
    try {
      const response = await call(`/api/v1/jobs/${job}/preview?step=${step}`);
      return { image: await response.blob(), step: Number(response.headers.get('x-zimage-step') ?? step) };
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return null;
      throw error;
    }
  },
};

const EXTENSIONS: Record<Format, string> = { png: 'png', jpeg: 'jpg', webp: 'webp' };

/** One request names no more pictures than this. */
export const MOST_PICTURES = 500;

export const fileUrl = (sha256: string, format: Format = 'png') => `/files/${sha256}.${EXTENSIONS[format]}`;
export const downloadUrl = (image: ImageRecord) => `${fileUrl(image.sha256, image.format)}?download=1`;
export const thumbnailUrl = (sha256: string) => `/thumbnails/${sha256}.jpg`;
export const zipUrl = (sha256: string[]) => `/api/v1/images/zip?sha256=${sha256.join(',')}`;

export interface EventHandlers {
  /** The stream is open; `again` if it had been lost. */
  onOpen(again: boolean): void;
  onLost(): void;
  onEvent(event: JobEvent): void;
  /** Time until a running job is done. */
  onEta(job: string | null, etaMs: number | null): void;
  onGallery(): void;
  /** Whether nothing is awaited. */
  isIdle(): boolean;
}

const EVENT_TYPES = ['queued', 'running', 'step', 'image', 'done', 'failed', 'cancelled'];
const RETRY_MS = [500, 1000, 2000, 4000];
const HIDDEN_MS = 10_000;

/**
 * Follows all jobs for as long as the page lives. `EventSource` gives up for good when a proxy or a starting server
 * answers with an error, so it is opened anew here, behind the last event that was seen.
 */
class Stream {
  private source: EventSource | null = null;
  private lastSeq: number | null = null;
  private failures = 0;
  private opened = false;

  constructor(private readonly handlers: EventHandlers) {
    this.open();
    document.addEventListener('visibilitychange', () => this.onVisibility());
  }

  private open(): void {
    const { handlers } = this;
    const source = new EventSource(this.lastSeq === null ? '/api/v1/events' : `/api/v1/events?after=${this.lastSeq}`);
    this.source = source;
    source.onopen = () => {
      this.failures = 0;
      handlers.onOpen(this.opened);
      this.opened = true;
    };
    source.onerror = () => this.lose();
    source.addEventListener('shutdown', () => this.lose());
    source.addEventListener('gallery', () => handlers.onGallery());
    source.addEventListener('eta', (message) => {
      const data = JSON.parse(message.data);
      handlers.onEta(data.job ?? null, data.eta_ms);
    });
    for (const type of EVENT_TYPES) source.addEventListener(type, (message) => this.take(message));
  }

  private take(message: MessageEvent<string>): void {
    const event: JobEvent = JSON.parse(message.data);
    this.lastSeq = event.seq;
    this.handlers.onEvent(event);
  }

  private lose(): void {
    this.source?.close();
    this.handlers.onLost();
    setTimeout(() => this.open(), RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)]);
  }

  /**
   * A browser opens six connections to a server and no more, over all tabs: hidden tabs that await nothing give theirs
   * back, or the seventh tab would hang.
   */
  private onVisibility(): void {
    if (document.hidden) {
      setTimeout(() => this.rest(), HIDDEN_MS);
    } else if (this.source === null) {
      this.open();
    }
  }

  private rest(): void {
    if (!document.hidden || this.source?.readyState !== EventSource.OPEN) return;
    if (!this.handlers.isIdle()) return void setTimeout(() => this.rest(), HIDDEN_MS);
    this.source.close();
    this.source = null;
  }
}

export function followEvents(handlers: EventHandlers): void {
  new Stream(handlers);
}
