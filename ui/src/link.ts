// Settings in the address of the page, after `#s=`: servers never see that part, and it can be sent to others.

import type { Draft } from './api';

const MARK = '#s=';

export function linkTo(draft: Draft): string {
  const bytes = new TextEncoder().encode(JSON.stringify(draft));
  const text = btoa(String.fromCharCode(...bytes));
  const safe = text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
  return `${location.origin}${location.pathname}${MARK}${safe}`;
}

/** The settings in the address: null if there are none, undefined if they cannot be read. They are taken out of it. */
export function takeFromAddress(): Draft | null | undefined {
  if (!location.hash.startsWith(MARK)) return null;
  const text = location.hash.slice(MARK.length).replaceAll('-', '+').replaceAll('_', '/');
  history.replaceState(null, '', location.pathname + location.search);
  try {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return checked(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return undefined;
  }
}

const NUMBERS = ['width', 'height', 'steps', 'seed', 'n', 'guidance', 'cfg_normalization', 'cfg_truncation', 'shift', 'quality'];
const TEXTS = ['model', 'prompt', 'negative_prompt', 'cache', 'format'];
const DIGEST = /^[0-9a-f]{64}$/;

/** A link may come from anyone: only fields of the right kind are taken. */
function checked(value: Record<string, unknown>): Draft {
  const draft: Record<string, unknown> = {};
  for (const name of NUMBERS) if (Number.isFinite(value[name])) draft[name] = value[name];
  for (const name of TEXTS) if (typeof value[name] === 'string') draft[name] = value[name];
  const loras = Array.isArray(value.loras) ? value.loras : [];
  draft.loras = loras
    .filter((lora) => typeof lora?.id === 'string' && Number.isFinite(lora?.weight))
    .map(({ id, weight }) => ({ id, weight }));
  const start = value.start as Draft['start'];
  if (start && DIGEST.test(start.image)) {
    const mask = DIGEST.test(start.mask ?? '') ? { mask: start.mask } : {};
    draft.start = { image: start.image, strength: Number(start.strength ?? 0.6), ...mask };
  }
  return draft as Draft;
}
