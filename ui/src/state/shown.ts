import type { ImageRecord } from '../api';
import { queue } from './queue.svelte';
import { view } from './view.svelte';

/** The finished picture on the stage: the one that actions and keys are about. None while a job is watched. */
export function shownImage(): ImageRecord | null {
  return view.pinned || !queue.running ? view.image : null;
}
