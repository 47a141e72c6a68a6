import { api, fileUrl, type Cache, type Draft, type Format, type StartImage } from '../api';
import { recall, remember } from './storage';
import { server } from './server.svelte';

export interface LoraRow {
  id: string;
  weight: number;
  enabled: boolean;
}

export interface StartChoice {
  image: string;
  format: Format;
  mask: string | null;
  strength: number;
}

/** What the form holds. Plain data, so that it can be kept, copied and put back. */
export interface Fields {
  model: string | null;
  prompt: string;
  negativePrompt: string;
  width: number;
  height: number;
  steps: number;
  seed: number;
  seedLocked: boolean;
  n: number;
  guidance: number;
  cfgNormalization: number;
  cfgTruncation: number;
  /** Null is the model's own. */
  shift: number | null;
  cache: Cache;
  loras: LoraRow[];
  start: StartChoice | null;
  format: Format;
  quality: number;
}

export type Part = 'all' | 'prompt' | 'seed' | 'size';

/** Seeds are drawn from 32 bits, which is all that other programs read. */
export const drawSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;

function defaults(): Fields {
  const model = server.model(null);
  const given = server.capabilities?.defaults;
  return {
    model: null,
    prompt: '',
    negativePrompt: '',
    width: model?.native_size ?? 1024,
    height: model?.native_size ?? 1024,
    steps: given?.steps ?? 8,
    seed: drawSeed(),
    seedLocked: false,
    n: 1,
    guidance: 0,
    cfgNormalization: 0,
    cfgTruncation: 1,
    shift: null,
    cache: 'none',
    loras: [],
    start: null,
    format: 'png',
    quality: given?.quality ?? 95,
  };
}

class Form {
  fields = $state<Fields>(defaults());

  /** Puts back what was kept when the page was last open. Fields that are new since then have their defaults. */
  open(): void {
    this.fields = { ...defaults(), ...(recall<Fields>('form') ?? {}) };
  }

  keep(): void {
    remember('form', $state.snapshot(this.fields));
  }

  copy(): Fields {
    return $state.snapshot(this.fields) as Fields;
  }

  /** Empties everything but the prompt; returns what was there. */
  reset(): Fields {
    const before = this.copy();
    this.fields = { ...defaults(), prompt: before.prompt };
    return before;
  }

  /** What the server is asked for: nothing of features that it lacks, and nothing that does not act. */
  draft(front = false): Draft {
    const fields = this.copy();
    const draft: Draft = {
      prompt: fields.prompt,
      width: fields.width,
      height: fields.height,
      steps: fields.steps,
      seed: fields.seed,
      n: fields.n,
      format: fields.format,
    };
    if (fields.model !== null) draft.model = server.model(fields.model)?.name ?? null;
    if (fields.shift !== null) draft.shift = fields.shift;
    if (fields.format === 'jpeg') draft.quality = fields.quality;
    if (front) draft.front = true;
    if (server.has('step_cache') && fields.cache !== 'none') draft.cache = fields.cache;
    if (server.has('guidance') && fields.guidance > 0) {
      draft.guidance = fields.guidance;
      draft.negative_prompt = fields.negativePrompt;
      draft.cfg_normalization = fields.cfgNormalization;
      draft.cfg_truncation = fields.cfgTruncation;
    }
    if (server.has('loras')) draft.loras = chosenLoras(fields.loras);
    if (fields.start && server.has('image_to_image')) draft.start = startOf(fields.start);
    return draft;
  }

  /** Takes settings over; returns what was there, for the undo. */
  restore(draft: Draft, part: Part = 'all'): Fields {
    const before = this.copy();
    const fields = this.fields;
    if (part === 'prompt') {
      fields.prompt = draft.prompt ?? '';
      fields.negativePrompt = draft.negative_prompt ?? fields.negativePrompt;
    } else if (part === 'seed') {
      if (draft.seed != null) Object.assign(fields, { seed: draft.seed, seedLocked: true });
    } else if (part === 'size') {
      Object.assign(fields, { width: draft.width ?? fields.width, height: draft.height ?? fields.height });
    } else {
      this.fields = complete(draft);
      if (draft.start) void this.findFormat(draft.start.image);
    }
    return before;
  }

  /** Start images of the gallery may be other files than PNG; uploads never are. */
  private async findFormat(sha256: string): Promise<void> {
    const format = await api.image(sha256).then((details) => details.image.format, () => 'png' as const);
    if (this.fields.start?.image === sha256) this.fields.start.format = format;
  }

  setStart(image: string, format: Format = 'png'): void {
    const strength = this.fields.start?.strength ?? server.capabilities?.defaults.strength ?? 0.6;
    this.fields.start = { image, format, mask: null, strength };
  }
}

function chosenLoras(rows: LoraRow[]) {
  const known = new Set(server.capabilities?.loras.map((lora) => lora.id));
  return rows.filter((row) => row.enabled && known.has(row.id)).map(({ id, weight }) => ({ id, weight }));
}

function startOf(start: StartChoice): StartImage {
  const mask = start.mask !== null && server.has('inpaint') ? { mask: start.mask } : {};
  return { image: start.image, strength: start.strength, ...mask };
}

/** The form for a draft: a seed that was given is kept for the next runs, so that they give the same picture. */
function complete(draft: Draft): Fields {
  const base = defaults();
  const strength = server.capabilities?.defaults.strength ?? 0.6;
  const start = draft.start;
  return {
    model: draft.model ?? base.model,
    prompt: draft.prompt ?? '',
    negativePrompt: draft.negative_prompt ?? '',
    width: draft.width ?? base.width,
    height: draft.height ?? base.height,
    steps: draft.steps ?? base.steps,
    seed: draft.seed ?? base.seed,
    seedLocked: draft.seed != null,
    n: draft.n ?? 1,
    guidance: draft.guidance ?? 0,
    cfgNormalization: draft.cfg_normalization ?? 0,
    cfgTruncation: draft.cfg_truncation ?? 1,
    shift: draft.shift ?? null,
    cache: draft.cache ?? 'none',
    loras: (draft.loras ?? []).map((lora) => ({ ...lora, enabled: true })),
    start: start
      ? { image: start.image, format: 'png', mask: start.mask ?? null, strength: start.strength ?? strength }
      : null,
    format: draft.format ?? 'png',
    quality: draft.quality ?? base.quality,
  };
}

export const form = new Form();
export const startUrl = (start: StartChoice) => fileUrl(start.image, start.format);
