// Tiles on their way to the map: classes are painted here, over the numbers that the server sends.

import { addProtocol } from "maplibre-gl";
import { ask } from "./server";

export const NOTHING = 255;
const SIDE = 256;
const KEPT = 400;
const MOST_LOADED = 60;

// Colour and alpha of each number, RGBA; what is switched off is clear.
export const palette = new Uint8ClampedArray(256 * 4);

// Numbers of tiles that were fetched, by their addresses, those used last at the end.
const numbers = new Map<string, Uint8Array>();

let tell: (complete: boolean) => void = () => {};

export function onAnswer(listener: (complete: boolean) => void): void {
  tell = listener;
}

// What is nearest to the pointer is asked for first, or to the middle of the view where there is no
// pointer; more than a few at once would wait in the server, where nobody knows what is looked at.
const AT_ONCE = 6;
let running = 0;
let focus: () => [number, number] = () => [0, 0];
const waiting: { path: string; begin: () => void }[] = [];

// Takes a function that returns longitude and latitude of what is looked at.
export function onFocus(place: () => [number, number]): void {
  focus = place;
}

function distance(path: string): number {
  const [zoom = 0, x = 0, y = 0] = path.split("/").slice(-3).map(parseFloat);
  const [lon, lat] = focus();
  return Math.hypot(x + 0.5 - column(lon, zoom), y + 0.5 - row(lat, zoom)) / 2 ** zoom;
}

function beginNext(): void {
  if (running >= AT_ONCE || waiting.length === 0) return;
  const distances = waiting.map(({ path }) => distance(path));
  const [next] = waiting.splice(distances.indexOf(Math.min(...distances)), 1);
  running += 1;
  next!.begin();
}

async function inTurn<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  await new Promise<void>((begin) => {
    waiting.push({ path, begin });
    queueMicrotask(beginNext); // when all tiles of a view are known
  });
  try {
    signal.throwIfAborted();
    return await work();
  } finally {
    running -= 1;
    beginNext();
  }
}

async function fetched(path: string, signal: AbortSignal): Promise<Response | null> {
  const answer = await inTurn(path, signal, () => ask(path, { signal }));
  if (answer.status === 404) return null; // beside the scene
  if (!answer.ok) throw new Error(`The server says ${answer.status}.`);
  tell(isComplete(answer));
  return answer;
}

const isComplete = (answer: Response): boolean => answer.headers.get("X-Sat2map-Complete") !== "0";

async function blank(): Promise<ImageBitmap> {
  return createImageBitmap(new ImageData(1, 1));
}

// Numbers must come through as they are: no colour management, no alpha.
async function decode(blob: Blob): Promise<Uint8Array> {
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (context === null) throw new Error("This browser cannot draw.");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const found = new Uint8Array(canvas.width * canvas.height);
  for (let i = 0; i < found.length; i++) found[i] = pixels[4 * i]!;
  return found;
}

function paint(values: Uint8Array): Promise<ImageBitmap> {
  const image = new ImageData(SIDE, SIDE);
  for (let i = 0; i < values.length; i++) {
    const from = 4 * values[i]!;
    image.data[4 * i] = palette[from]!;
    image.data[4 * i + 1] = palette[from + 1]!;
    image.data[4 * i + 2] = palette[from + 2]!;
    image.data[4 * i + 3] = palette[from + 3]!;
  }
  return createImageBitmap(image);
}

// The address of a tile is PROTOCOL://PATH?v=NUMBER; the number is only for the map.
const pathOf = (url: string): string => url.replace(/^[a-z]+:\/\//, "").replace(/[?&]v=\d+$/, "");

addProtocol("tile", async (request, abort) => {
  const answer = await fetched(pathOf(request.url), abort.signal);
  return { data: answer === null ? await blank() : await createImageBitmap(await answer.blob()) };
});

addProtocol("numbers", async (request, abort) => {
  const path = pathOf(request.url);
  let values = numbers.get(path);
  numbers.delete(path);
  if (values === undefined) {
    const answer = await fetched(path, abort.signal);
    if (answer === null) return { data: await blank() };
    values = await decode(await answer.blob());
    if (!isComplete(answer)) return { data: await paint(values) };
  }
  keep(path, values);
  return { data: await paint(values) };
});

function keep(path: string, values: Uint8Array): void {
  numbers.set(path, values);
  if (numbers.size > KEPT) numbers.delete(numbers.keys().next().value!);
}

let looking = new AbortController();

// Fetches the numbers in view that are not here, where the map itself does not show them.
export async function loadInView(id: string, view: View): Promise<void> {
  looking.abort();
  const { signal } = (looking = new AbortController());
  const missing = placesInView(view)
    .map(([x, y]) => pathOfNumbers(id, view.zoom, x, y))
    .filter((path) => !numbers.has(path));
  if (missing.length > MOST_LOADED) return;
  const load = async (path: string): Promise<void> => {
    const answer = await fetched(path, signal);
    if (answer !== null && isComplete(answer)) keep(path, await decode(await answer.blob()));
  };
  await Promise.all(missing.map(load));
}

addProtocol("vector", async (request, abort) => {
  const answer = await fetched(pathOf(request.url), abort.signal);
  return { data: answer === null ? new ArrayBuffer(0) : await answer.arrayBuffer() };
});

export interface View {
  west: number;
  south: number;
  east: number;
  north: number;
  zoom: number;
}

const column = (lon: number, zoom: number): number => ((lon + 180) / 360) * 2 ** zoom;
const row = (lat: number, zoom: number): number => {
  const angle = (lat * Math.PI) / 180;
  return ((1 - Math.asinh(Math.tan(angle)) / Math.PI) / 2) * 2 ** zoom;
};

// How many pixels of each class are in view, of the tiles that are here.
export function countInView(id: string, view: View): number[] {
  const { zoom } = view;
  const counts = new Array<number>(256).fill(0);
  const [left, right] = [column(view.west, zoom), column(view.east, zoom)];
  const [top, bottom] = [row(view.north, zoom), row(view.south, zoom)];
  const from = (at: number, tile: number): number => Math.max(0, Math.floor((at - tile) * SIDE));
  const until = (at: number, tile: number): number => Math.min(SIDE, Math.ceil((at - tile) * SIDE));
  for (const [x, y] of placesInView(view)) {
    const values = numbers.get(pathOfNumbers(id, zoom, x, y));
    if (values === undefined) continue;
    for (let j = from(top, y); j < until(bottom, y); j++) {
      for (let i = from(left, x); i < until(right, x); i++) {
        const number = values[j * SIDE + i]!;
        counts[number] = counts[number]! + 1;
      }
    }
  }
  return counts;
}

const pathOfNumbers = (id: string, zoom: number, x: number, y: number): string =>
  `scenes/${id}/numbers/${zoom}/${x}/${y}.png`;

// Columns and rows of the tiles in view.
function placesInView({ west, south, east, north, zoom }: View): [number, number][] {
  const found: [number, number][] = [];
  for (let x = Math.floor(column(west, zoom)); x < column(east, zoom); x++) {
    for (let y = Math.floor(row(north, zoom)); y < row(south, zoom); y++) found.push([x, y]);
  }
  return found;
}
