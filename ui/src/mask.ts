// A mask as the list of what was done to it, so that undoing is leaving out the last thing.

export interface Point {
  x: number;
  y: number;
}

export type MaskAct =
  | { kind: 'stroke'; erase: boolean; size: number; points: Point[] }
  | { kind: 'clear' }
  | { kind: 'invert' };

const PAINT = '#d63f7c';

/** Draws the mask anew: `base` is the mask that editing began with. Painted parts are opaque. */
export function drawMask(context: CanvasRenderingContext2D, acts: MaskAct[], base: CanvasImageSource | null): void {
  const { width, height } = context.canvas;
  context.globalCompositeOperation = 'source-over';
  context.clearRect(0, 0, width, height);
  if (base) context.drawImage(base, 0, 0, width, height);
  for (const act of acts) drawAct(context, act);
}

export function drawAct(context: CanvasRenderingContext2D, act: MaskAct): void {
  const { width, height } = context.canvas;
  context.fillStyle = PAINT;
  if (act.kind === 'clear') {
    context.clearRect(0, 0, width, height);
  } else if (act.kind === 'invert') {
    context.globalCompositeOperation = 'xor';
    context.fillRect(0, 0, width, height);
  } else {
    context.globalCompositeOperation = act.erase ? 'destination-out' : 'source-over';
    drawStroke(context, act.points, act.size);
  }
  context.globalCompositeOperation = 'source-over';
}

function drawStroke(context: CanvasRenderingContext2D, points: Point[], size: number): void {
  const [first, ...rest] = points;
  if (!first) return;
  Object.assign(context, { strokeStyle: PAINT, lineWidth: size, lineCap: 'round', lineJoin: 'round' });
  context.beginPath();
  if (rest.length === 0) {
    // A line without length draws nothing, not even its caps.
    context.arc(first.x, first.y, size / 2, 0, 2 * Math.PI);
    return context.fill();
  }
  context.moveTo(first.x, first.y);
  for (const point of rest) context.lineTo(point.x, point.y);
  context.stroke();
}

/** A black and white mask as a layer that is opaque where the mask is white. */
export function layerOf(mask: HTMLImageElement): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width: mask.naturalWidth, height: mask.naturalHeight });
  const context = canvas.getContext('2d');
  if (!context) return canvas;
  context.drawImage(mask, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const [red, green, blue] = [0xd6, 0x3f, 0x7c];
  for (let at = 0; at < pixels.data.length; at += 4) {
    pixels.data.set([red, green, blue, pixels.data[at] ?? 0], at);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The mask as a picture: white where it is painted, black elsewhere. Null if nothing is painted. */
export async function exportMask(painted: HTMLCanvasElement): Promise<Blob | null> {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width: painted.width, height: painted.height });
  const context = canvas.getContext('2d');
  if (!context) return null;
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = 'destination-in';
  context.drawImage(painted, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  if (!data.some((value, at) => at % 4 === 3 && value > 0)) return null;
  context.globalCompositeOperation = 'destination-over';
  context.fillStyle = '#000';
  context.fillRect(0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
}
