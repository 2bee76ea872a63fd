/**
 * Charts as files: an SVG with its styles written into it, a PNG of an SVG or of a canvas. What is saved is what is
 * drawn; numbers are saved by `TableBehind`, and exactly by the trace.
 */

export interface Picture {
  /** The panel it stands in. */
  panel: string;
  /** What it calls itself to a screen reader, or its number in the panel. */
  name: string;
  element: SVGSVGElement | HTMLCanvasElement;
}

const STYLES = [
  "fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "stroke-opacity",
  "opacity", "font-family", "font-size", "font-weight", "font-style", "letter-spacing", "text-anchor", "dominant-baseline",
  "text-decoration", "paint-order", "visibility", "display", "shape-rendering", "image-rendering",
] as const;
const SMALLEST = 40; // pixels; below, it is a sign, not a chart
const DENSITY = 2; // pixels of a PNG for one on screen

/** The charts that are drawn in the open panels below `root`, in reading order. */
export function picturesIn(root: ParentNode): Picture[] {
  return [...root.querySelectorAll<HTMLElement>("[data-panel]")].flatMap((section) => {
    const drawn = [...section.querySelectorAll<SVGSVGElement | HTMLCanvasElement>("svg, canvas")].filter(isChart);
    const names = drawn.map((element, index) => nameOf(element) ?? String(index + 1));
    return drawn.map((element, index) => ({ panel: section.dataset.panel!, name: told(names, index), element }));
  });
}

/** A name, with its number where several drawings of a panel share it. */
function told(names: readonly string[], index: number): string {
  const name = names[index]!;
  const before = names.slice(0, index).filter((other) => other === name).length;
  return before ? `${name} (${before + 1})` : name;
}

function isChart(element: Element): boolean {
  const { width, height } = element.getBoundingClientRect();
  if (width < SMALLEST || height < SMALLEST || element.parentElement?.closest("svg")) return false;
  // What is hidden from screen readers is a part of something: a chart only where that something is it alone.
  const whole = element.parentElement?.closest('[role="img"], button');
  if (whole) return whole.querySelectorAll("svg, canvas").length === 1;
  return element.getAttribute("aria-hidden") !== "true" || element.closest("[role=region]") !== null;
}

function nameOf(element: Element): string | null {
  const label = element.getAttribute("aria-label") ?? element.querySelector(":scope > title")?.textContent;
  const around = element.closest("[aria-label]")?.getAttribute("aria-label") ?? element.closest("figure")?.querySelector("figcaption")?.textContent;
  const own = element.closest("button")?.querySelector("span")?.textContent;
  const name = (label ?? around ?? "").split(/[;:；：（(。]/)[0]!.trim(); // what follows explains, it does not name
  return [name, own ?? ""].filter(Boolean).join(" · ").slice(0, 80) || null;
}

/** A chart as a file of its own: SVG text. A canvas becomes an image inside it. */
export function svgOf({ element }: Picture): string {
  const { width, height } = element.getBoundingClientRect();
  const svg = element instanceof SVGSVGElement ? styled(element) : framed(element, width, height);
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  svg.setAttribute("width", String(width));
  svg.setAttribute("height", String(height));
  if (!svg.hasAttribute("viewBox")) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const [left, top, across, down] = svg.getAttribute("viewBox")!.split(/[\s,]+/).map(Number);
  const behind = element instanceof SVGSVGElement ? element.parentElement!.querySelector<HTMLCanvasElement>(":scope > canvas[aria-hidden]") : null;
  if (behind?.width && behind.height) svg.prepend(shape("image", { href: behind.toDataURL("image/png"), x: left, y: top, width: across, height: down, preserveAspectRatio: "none" }));
  const paper = shape("rect", { x: left, y: top, width: across, height: down, fill: paperBehind(element) });
  svg.prepend(paper);
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg)}\n`;
}

/** A chart as PNG, two pixels for one on screen. */
export async function pngOf(picture: Picture): Promise<Blob> {
  const { width, height } = picture.element.getBoundingClientRect();
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgOf(picture))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * DENSITY);
  canvas.height = Math.ceil(height * DENSITY);
  canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the browser made no PNG of this chart"))), "image/png");
  });
}

/** Offers a file to the reader. */
export function save(content: BlobPart, name: string, type: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A name that every file system takes: letters of any script, digits, dots and dashes. */
export function fileName(...parts: string[]): string {
  return parts.map((part) => part.replace(/[^\p{L}\p{N}.-]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60)).filter(Boolean).join("-");
}

/** A copy in which every element carries the styles that the page's style sheets give it. */
function styled(svg: SVGSVGElement): SVGSVGElement {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const copies = [copy, ...copy.querySelectorAll<SVGElement>("*")];
  [svg, ...svg.querySelectorAll<SVGElement>("*")].forEach((element, index) => {
    const computed = getComputedStyle(element);
    const style = STYLES.map((name) => `${name}:${computed.getPropertyValue(name)}`).filter((text) => !text.endsWith(":"));
    copies[index]!.setAttribute("style", style.join(";"));
    copies[index]!.removeAttribute("class");
  });
  return copy;
}

function framed(canvas: HTMLCanvasElement, width: number, height: number): SVGSVGElement {
  const svg = shape("svg", {}) as SVGSVGElement;
  const rendering = getComputedStyle(canvas).imageRendering;
  svg.append(shape("image", { href: canvas.toDataURL("image/png"), width, height, style: `image-rendering:${rendering}`, preserveAspectRatio: "none" }));
  return svg;
}

function shape(name: string, attributes: Record<string, string | number | undefined>): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/** The colour of the page behind an element. */
function paperBehind(element: Element): string {
  for (let at: Element | null = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (colour !== "transparent" && !/, 0\)$/.test(colour)) return colour;
  }
  return "white";
}
