import type { ModelInfo, Size } from './api';

/** Sides of a picture are multiples of this. */
export const SIDE_STEP = 16;

export function snapSide(value: number, maxSide: number): number {
  const snapped = Math.round(value / SIDE_STEP) * SIDE_STEP;
  return Math.min(Math.max(snapped, SIDE_STEP), Math.floor(maxSide / SIDE_STEP) * SIDE_STEP);
}

/** The base whose presets hold this size, else the first. */
export function baseOf(model: ModelInfo, width: number, height: number): number {
  const holds = (sizes: Size[]) => sizes.some((size) => size.width === width && size.height === height);
  return (model.sizes.find((base) => holds(base.sizes)) ?? model.sizes[0])?.base ?? model.native_size;
}

/** The presets of a base that stand as the picture does: upright or not. A square belongs to both. */
export function presets(model: ModelInfo, base: number, upright: boolean): Size[] {
  const sizes = model.sizes.find((entry) => entry.base === base)?.sizes ?? [];
  return sizes
    .filter((size) => size.width === size.height || size.height > size.width === upright)
    .sort((a, b) => elongation(a) - elongation(b));
}

const elongation = (size: Size) => Math.max(size.width, size.height) / Math.min(size.width, size.height);

/** The preset whose ratio of sides is nearest. */
export function nearestPreset(model: ModelInfo, base: number, width: number, height: number): Size | null {
  const sizes = model.sizes.find((entry) => entry.base === base)?.sizes ?? [];
  const distance = (size: Size) => Math.abs(Math.log((size.width * height) / (size.height * width)));
  return sizes.reduce<Size | null>((best, size) => (best && distance(best) <= distance(size) ? best : size), null);
}
