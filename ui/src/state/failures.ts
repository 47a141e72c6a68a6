import { Problem } from '../api';
import { t } from '../text/index.svelte';
import { toasts } from './toasts.svelte';

/** What went wrong, in words for people. */
export function describe(error: unknown): string {
  if (!(error instanceof Problem)) return String(error instanceof Error ? error.message : error);
  if (error.code === 'unreachable') return t('error.unreachable');
  if (error.code === 'not_found') return t('error.gone');
  if (error.code === 'unauthorized') return t('app.unauthorized');
  return sentence(error.message);
}

/** The server's messages begin with a small letter and end without a full stop. */
export function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?。]$/.test(capital) ? capital : `${capital}.`;
}

/** For small actions, whose failure needs no more than a message. */
export function reportFailure(error: unknown): void {
  toasts.show(describe(error));
}
