export interface Toast {
  id: number;
  text: string;
  action: { label: string; run: () => void } | null;
}

const SHOWN_MS = 8000;

/** Short messages that go away by themselves; with an action, mostly "undo". */
class Toasts {
  list = $state<Toast[]>([]);
  private timers = new Map<number, ReturnType<typeof setTimeout>>();
  private nextId = 1;

  show(text: string, action: Toast['action'] = null): void {
    const id = this.nextId++;
    this.list = [...this.list.slice(-2), { id, text, action }];
    this.resume(id);
  }

  close(id: number): void {
    this.pause(id);
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  /** While the pointer or the focus is on a message it stays. */
  pause(id: number): void {
    clearTimeout(this.timers.get(id));
    this.timers.delete(id);
  }

  resume(id: number): void {
    this.pause(id);
    this.timers.set(id, setTimeout(() => this.close(id), SHOWN_MS));
  }
}

export const toasts = new Toasts();
