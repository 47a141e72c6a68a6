// The keyboard. While someone types, only keys with Ctrl (or Cmd) are taken.

import { submitForm } from './actions';
import { queue } from './state/queue.svelte';
import { shownImage } from './state/shown';
import { view } from './state/view.svelte';

const NOT_TYPED = new Set(['checkbox', 'radio', 'range', 'button', 'submit', 'file']);

function isTyping(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement) return !NOT_TYPED.has(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

export function onKeydown(event: KeyboardEvent): void {
  // A key that chooses characters in an input method is not for us.
  if (event.defaultPrevented || event.isComposing) return;
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) return onEnter(event);
  if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape') return onEscape(event);
  if (view.dialog && view.dialog !== 'viewer') return;
  if (event.key.startsWith('Arrow')) return onArrow(event);
  const act = ACTIONS[event.key.toLowerCase()];
  if (act) {
    event.preventDefault();
    act();
  }
}

function onEnter(event: KeyboardEvent): void {
  event.preventDefault();
  if (event.altKey) void queue.stop();
  else if (view.dialog === null || view.dialog === 'viewer') submitForm(event.shiftKey);
}

function onEscape(event: KeyboardEvent): void {
  // The browser closes the dialog itself.
  if (view.dialog) return;
  event.preventDefault();
  if (view.selecting) view.stopSelecting();
  else void queue.stop();
}

function onArrow(event: KeyboardEvent): void {
  const { target } = event;
  if (target instanceof HTMLInputElement) return;
  const inGrid = target instanceof Element && target.closest('[data-grid]') !== null;
  const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1 };
  if (inGrid) Object.assign(steps, { ArrowUp: -view.columns, ArrowDown: view.columns });
  const by = steps[event.key];
  if (by === undefined) return;
  event.preventDefault();
  view.browse(by);
}

const ACTIONS: Record<string, () => void> = {
  f: () => {
    if (view.dialog) view.dialog = null;
    else if (shownImage()) view.dialog = 'viewer';
  },
  delete: () => {
    const image = shownImage();
    if (view.selecting) void view.deleteSelected();
    else if (image) void view.deletePicture(image);
  },
  '?': () => (view.dialog = 'help'),
};
