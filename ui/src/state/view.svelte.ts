import { SvelteSet } from 'svelte/reactivity';
import type { ImageRecord } from '../api';
import { gallery } from './gallery.svelte';
import { recall, remember } from './storage';

export type Theme = 'auto' | 'light' | 'dark';
export type Dialog = 'viewer' | 'compare' | 'help' | 'mask';

/** What this tab shows: nothing of it concerns the server. */
class View {
  theme = $state<Theme>(recall<Theme>('theme') ?? 'auto');
  advanced = $state(recall<boolean>('advanced') ?? false);
  details = $state(recall<boolean>('details') ?? false);
  dialog = $state<Dialog | null>(null);
  /** The picture that was chosen; null follows what is made. */
  pinned = $state.raw<ImageRecord | null>(null);
  /** Counts moves by keys, upon which the gallery brings the picture into sight. */
  browsed = $state(0);
  /** Pictures in a row of the gallery. */
  columns = $state(3);
  selecting = $state(false);
  readonly selected = new SvelteSet<string>();

  chooseTheme(theme: Theme): void {
    this.theme = theme;
    remember('theme', theme);
    this.applyTheme();
  }

  applyTheme(): void {
    if (this.theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.theme;
  }

  toggle(what: 'advanced' | 'details'): void {
    this[what] = !this[what];
    remember(what, this[what]);
  }

  /** The picture to show when no job runs, as the gallery knows it now. */
  get image(): ImageRecord | null {
    if (this.pinned) return gallery.get(this.pinned.sha256) ?? this.pinned;
    return gallery.latest;
  }

  follow(): void {
    this.pinned = null;
  }

  /** Goes to a neighbour in the gallery; `by` counts towards older pictures. */
  browse(by: number): void {
    const at = this.image ? gallery.images.findIndex((image) => image.sha256 === this.image?.sha256) : -1;
    const to = Math.min(Math.max(at + by, 0), gallery.images.length - 1);
    const image = gallery.images[to];
    if (image) this.pinned = image;
    this.browsed += 1;
    if (to > gallery.images.length - 20) void gallery.more();
  }

  async deletePicture(image: ImageRecord): Promise<void> {
    const at = gallery.images.findIndex((known) => known.sha256 === image.sha256);
    await gallery.delete([image.sha256]);
    if (this.pinned?.sha256 === image.sha256) this.pinned = gallery.images[Math.max(at, 0)] ?? gallery.latest;
  }

  startSelecting(): void {
    this.selecting = true;
  }

  stopSelecting(): void {
    this.selecting = false;
    this.selected.clear();
  }

  toggleSelected(sha256: string): void {
    if (!this.selected.delete(sha256)) this.selected.add(sha256);
  }

  async deleteSelected(): Promise<void> {
    const chosen = [...this.selected];
    this.stopSelecting();
    if (chosen.length) await gallery.delete(chosen);
    if (this.pinned && chosen.includes(this.pinned.sha256)) this.pinned = null;
  }
}

export const view = new View();
