import { api, type ImageRecord } from '../api';
import { t } from '../text/index.svelte';
import { toasts } from './toasts.svelte';
import { reportFailure } from './failures';

const PAGE = 100;
/** The server's largest page, for loading anew all that had been loaded. */
const LARGE_PAGE = 200;
const SETTLE_MS = 250;

/** The pictures that were loaded so far, newest first, as the search and the filter want them. */
class Gallery {
  images = $state.raw<ImageRecord[]>([]);
  total = $state(0);
  q = $state('');
  fav = $state(false);
  loading = $state(false);
  failed = $state(false);
  /** False until the first page came. */
  ready = $state(false);
  /** The newest finished picture, whatever the filter. */
  latest = $state.raw<ImageRecord | null>(null);

  private next: string | null = null;
  private request: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  get hasMore(): boolean {
    return this.next !== null;
  }

  get filtered(): boolean {
    return this.q !== '' || this.fav;
  }

  find(fav: boolean, q: string): void {
    Object.assign(this, { fav, q });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.load(PAGE), SETTLE_MS);
  }

  /** Loads anew what is loaded, because something changed. Several changes at once are one reload. */
  refresh(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.load(Math.max(this.images.length, PAGE)), SETTLE_MS);
  }

  /** Loads the first `count` pictures, and shows them when all are there, so that nothing jumps. */
  async load(count = PAGE): Promise<void> {
    this.request?.abort();
    const request = (this.request = new AbortController());
    this.loading = true;
    try {
      const images: ImageRecord[] = [];
      let cursor: string | null = null;
      do {
        const limit = Math.min(LARGE_PAGE, count - images.length);
        const page = await api.images({ cursor, q: this.q.trim(), fav: this.fav, limit }, request.signal);
        images.push(...page.images);
        cursor = page.next ?? null;
        this.total = page.total;
      } while (cursor !== null && images.length < count);
      this.show(images, cursor);
      if (!this.filtered) this.latest = images[0] ?? null;
      Object.assign(this, { failed: false, ready: true });
    } catch {
      if (!request.signal.aborted) this.failed = true;
    } finally {
      if (this.request === request) this.loading = false;
    }
  }

  async more(): Promise<void> {
    if (this.next === null || this.loading) return;
    const request = (this.request = new AbortController());
    this.loading = true;
    try {
      const query = { cursor: this.next, q: this.q.trim(), fav: this.fav, limit: PAGE };
      const page = await api.images(query, request.signal);
      this.show([...this.images, ...page.images], page.next ?? null);
    } catch {
      if (!request.signal.aborted) this.failed = true;
    } finally {
      if (this.request === request) this.loading = false;
    }
  }

  private show(images: ImageRecord[], next: string | null): void {
    // A picture that came while a page was on its way may be in both.
    const seen = new Set<string>();
    this.images = images.filter((image) => !seen.has(image.sha256) && seen.add(image.sha256));
    this.next = next;
  }

  /** A picture was finished. */
  add(image: ImageRecord): void {
    this.latest = image;
    if (this.filtered) return this.refresh();
    if (this.images.some((known) => known.sha256 === image.sha256)) return;
    this.images = [image, ...this.images];
    this.total += 1;
  }

  get(sha256: string): ImageRecord | null {
    if (this.latest?.sha256 === sha256) return this.latest;
    return this.images.find((image) => image.sha256 === sha256) ?? null;
  }

  async setFavourite(image: ImageRecord, favourite: boolean): Promise<void> {
    this.replace({ ...image, favourite });
    try {
      await api.setFavourite(image.sha256, favourite);
    } catch (error) {
      this.replace(image);
      reportFailure(error);
    }
  }

  private replace(image: ImageRecord): void {
    this.images = this.images.map((known) => (known.sha256 === image.sha256 ? image : known));
    if (this.latest?.sha256 === image.sha256) this.latest = image;
  }

  async delete(sha256: string[]): Promise<void> {
    const gone = new Set(sha256);
    try {
      await api.deleteImages(sha256);
    } catch (error) {
      return reportFailure(error);
    }
    this.images = this.images.filter((image) => !gone.has(image.sha256));
    this.total = Math.max(0, this.total - gone.size);
    if (this.latest && gone.has(this.latest.sha256)) this.latest = this.filtered ? null : (this.images[0] ?? null);
    const text = gone.size === 1 ? t('gallery.deleted.one') : t('gallery.deleted', { count: gone.size });
    toasts.show(text, { label: t('toast.undo'), run: () => void this.restore(sha256) });
  }

  private async restore(sha256: string[]): Promise<void> {
    try {
      await api.restoreImages(sha256);
      this.refresh();
    } catch (error) {
      reportFailure(error);
    }
  }
}

export const gallery = new Gallery();
