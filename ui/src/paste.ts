// Pictures and texts with settings that are dropped or pasted anywhere on the page.

import { restoreFromFile, restoreFromText } from './actions';

/** The text that A1111 and its relatives copy: a line with steps and a seed, after the prompt. */
export const looksLikeSettings = (text: string) => /(^|\n|, )Steps: \d+/.test(text) && /Seed: \d+/.test(text);

export function onPaste(event: ClipboardEvent): void {
  const data = event.clipboardData;
  if (!data) return;
  const file = [...data.files].find((candidate) => candidate.type.startsWith('image/'));
  const text = data.getData('text/plain');
  // Office programs put a picture beside every text that is copied.
  if (file && text === '') {
    event.preventDefault();
    void restoreFromFile(file);
  } else if (looksLikeSettings(text)) {
    event.preventDefault();
    void restoreFromText(text);
  }
}
