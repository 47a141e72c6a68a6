// What buttons, keys, drops and pastes have in common.

import { tick } from 'svelte';
import { api, fileUrl, type Draft, type FoundSettings, type ImageRecord } from './api';
import { describe, reportFailure } from './state/failures';
import { form, type Fields, type Part } from './state/form.svelte';
import { queue } from './state/queue.svelte';
import { server } from './state/server.svelte';
import { toasts } from './state/toasts.svelte';
import { view } from './state/view.svelte';
import { t } from './text/index.svelte';
import { linkTo } from './link';

/** Asks for pictures. Without a prompt, one of the examples is taken, and shown in the form. */
export function submitForm(front: boolean): void {
  const examples = server.capabilities?.examples ?? [];
  if (form.fields.prompt.trim() === '') {
    form.fields.prompt = examples[Math.floor(Math.random() * examples.length)] ?? '';
  }
  const limit = server.capabilities?.limits.max_prompt_chars ?? Infinity;
  if ([...form.fields.prompt].length > limit) return void showField('prompt');
  // A field that is still being edited takes its number only when it is left.
  const active = document.activeElement;
  if (active instanceof HTMLInputElement && active.type === 'number') active.dispatchEvent(new Event('change'));
  queue.submit(front);
}

const FIELD_IDS: Record<string, string> = { start: 'start-strength', loras: 'lora-add', n: 'n' };

/** Brings the field of a parameter into sight. */
export async function showField(param: string): Promise<void> {
  if (!view.advanced) view.toggle('advanced');
  await tick();
  const field = document.getElementById(FIELD_IDS[param] ?? param);
  field?.focus();
  field?.scrollIntoView({ block: 'center' });
}

function announceRestored(text: string, before: Fields): void {
  toasts.show(text, { label: t('toast.undo'), run: () => (form.fields = before) });
}

/** Takes settings of a picture over. */
export async function useSettings(image: ImageRecord, part: Part): Promise<void> {
  try {
    // Prompt, seed and size are in the record already.
    const record = { prompt: image.prompt, seed: image.seed, width: image.width, height: image.height };
    const draft = part === 'seed' || part === 'size' ? record : (await api.image(image.sha256)).draft;
    announceRestored(t('restore.done'), form.restore(draft, part));
  } catch (error) {
    reportFailure(error);
  }
}

export function useAsStart(image: ImageRecord): void {
  form.setStart(image.sha256, image.format);
  void showField('start');
}

function restoreFound(found: FoundSettings, nothing: string, file: File | null): void {
  if (!found.draft) {
    const run = () => void uploadStart(file as File);
    const offer = file && server.has('image_to_image') ? { label: t('drop.start'), run } : null;
    return toasts.show(nothing, offer);
  }
  const before = form.restore(found.draft);
  const notes = found.notes.join('; ');
  announceRestored(notes ? t('restore.partly', { notes }) : t('restore.done'), before);
}

export async function restoreFromFile(file: File): Promise<void> {
  if (!acceptable(file)) return;
  try {
    restoreFound(await api.settingsOfImage(file), t('restore.none'), file);
  } catch (error) {
    reportFailure(error);
  }
}

export async function restoreFromText(text: string): Promise<void> {
  try {
    restoreFound(await api.settingsOfText(text), t('restore.noneText'), null);
  } catch (error) {
    reportFailure(error);
  }
}

function acceptable(file: File): boolean {
  const limit = server.capabilities?.limits.max_upload_bytes ?? Infinity;
  if (!/^image\/(png|jpeg|webp)$/.test(file.type)) toasts.show(t('start.notImage'));
  else if (file.size > limit) toasts.show(t('start.tooLarge', { limit: Math.floor(limit / 2 ** 20) }));
  else return true;
  return false;
}

export async function uploadStart(file: File): Promise<void> {
  if (!acceptable(file)) return;
  try {
    const upload = await api.upload(file);
    form.setStart(upload.sha256);
  } catch (error) {
    toasts.show(describe(error));
  }
}

/** The clipboard of the browser is closed to pages that do not come by HTTPS or from this machine. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text).catch(() => copyBySelection(text));
  } else {
    copyBySelection(text);
  }
  toasts.show(t('toast.copied'));
}

function copyBySelection(text: string): void {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'unseen';
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

export const copyLink = (draft: Draft) => copyText(linkTo(draft));

export async function copyParameters(image: ImageRecord): Promise<void> {
  try {
    await copyText((await api.image(image.sha256)).parameters);
  } catch (error) {
    reportFailure(error);
  }
}

/** The browser fetches the picture while the stage still shows its preview, so that the change is without a gap. */
export function preload(image: ImageRecord): void {
  new Image().src = fileUrl(image.sha256, image.format);
}
