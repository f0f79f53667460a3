// A heat map of attention on a canvas: rows are queries, columns are keys.

import { visible } from "../format";

/** Draws one head's weights; with labels where there is room. Gives the edge of a cell and the margin. */
export function drawHeat(canvas: HTMLCanvasElement, weights: number[][], tokens: string[] | null, selected: [number, number] | null, width: number): { cell: number; margin: number } {
  const count = Math.max(1, weights.length);
  const margin = tokens ? labelWidth(tokens) : 0;
  const cell = Math.max(1, Math.min(28, (width - margin) / count));
  const edge = margin + cell * count;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.ceil(edge * ratio);
  canvas.height = canvas.width;
  canvas.style.width = `${edge}px`;
  canvas.style.height = `${edge}px`;
  const context = canvas.getContext("2d");
  if (!context) return { cell, margin };
  const style = getComputedStyle(document.documentElement);
  context.scale(ratio, ratio);
  context.clearRect(0, 0, edge, edge);
  context.fillStyle = style.getPropertyValue("--accent");
  weights.forEach((row, query) => {
    row.forEach((weight, key) => {
      // The square root lifts small weights into sight.
      context.globalAlpha = Math.min(1, Math.sqrt(Math.max(0, weight)));
      context.fillRect(margin + key * cell, margin + query * cell, Math.max(1, cell - 0.5), Math.max(1, cell - 0.5));
    });
  });
  context.globalAlpha = 1;
  if (tokens && cell >= 8) drawLabels(context, tokens, cell, margin, style);
  if (selected) {
    context.strokeStyle = style.getPropertyValue("--text");
    context.lineWidth = 2;
    context.strokeRect(margin + selected[1] * cell, margin + selected[0] * cell, cell, cell);
  }
  return { cell, margin };
}

function drawLabels(context: CanvasRenderingContext2D, tokens: string[], cell: number, margin: number, style: CSSStyleDeclaration): void {
  context.fillStyle = style.getPropertyValue("--text");
  context.font = `${Math.min(13, cell)}px ui-monospace, monospace`;
  context.textBaseline = "middle";
  tokens.forEach((token, i) => {
    const text = clipped(token);
    const centre = margin + (i + 0.5) * cell;
    context.textAlign = "right";
    context.fillText(text, margin - 4, centre);
    context.save();
    context.translate(centre, margin - 4);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillText(text, 0, 0);
    context.restore();
  });
}

function clipped(token: string): string {
  const text = visible(token);
  return text.length > 8 ? `${text.slice(0, 7)}…` : text;
}

function labelWidth(tokens: string[]): number {
  const longest = Math.max(1, ...tokens.map((token) => clipped(token).length));
  return 12 + longest * 8;
}
