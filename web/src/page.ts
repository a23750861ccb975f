// What all parts of the page share: both maps, what they show, and what a link to it says.

import {
  AttributionControl,
  Map as MapView,
  NavigationControl,
  ScaleControl,
  setWorkerUrl,
} from "maplibre-gl";
import workerUrl from "maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url";
import * as link from "./link";
import * as server from "./server";
import type { LegendClass, Scene } from "./server";

setWorkerUrl(server.host?.worker ?? workerUrl);

export const OWN = "model"; // the model's own colours, where they have no other name
export const isPlaced = server.host?.placed ?? true; // pictures without a place are shown in notebooks alone

export const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;

export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function fail(error: unknown): void {
  find("place").textContent = reason(error);
}

// What a link to the page keeps.
export const state = link.read(server.host?.view ?? location.hash);

export const page = {
  scenes: [] as Scene[],
  basemap: undefined as server.Basemap | undefined,
  current: undefined as Scene | undefined,
  classes: [] as LegendClass[],
  styles: [] as string[],
  version: 0, // of the tiles: they are asked for anew where it grows
  numbersZooms: [0, 0] as [number, number],
};

const makeMap = (container: string, interactive: boolean): MapView =>
  new MapView({
    container,
    interactive,
    attributionControl: false,
    fadeDuration: 0,
    pitchWithRotate: false,
    dragRotate: false,
    touchPitch: false,
    style: { version: 8, sources: {}, layers: [] },
  });

export const left = makeMap("left", true);
export const right = makeMap("right", false);
left.touchZoomRotate.disableRotation();
left.addControl(new NavigationControl({ showCompass: false }), "top-right");
if (isPlaced) left.addControl(new ScaleControl(), "bottom-left");
left.addControl(new AttributionControl({ compact: true }), "bottom-right");
left.getCanvas().setAttribute("aria-label", "Map: move with the arrow keys, zoom with + and -");
right.getCanvas().setAttribute("aria-hidden", "true");
right.getCanvas().removeAttribute("aria-label"); // what it shows is told in words
right.getCanvas().removeAttribute("role");
right.getCanvas().tabIndex = -1;
left.on("move", () => {
  right.jumpTo({ center: left.getCenter(), zoom: left.getZoom() });
});

export function remember(): void {
  if (page.current === undefined) return;
  const { lat, lng } = left.getCenter();
  state.scene = page.current.id;
  state.place = { lat, lon: lng, zoom: left.getZoom() };
  if (server.host === undefined) history.replaceState(null, "", link.write(state));
  else server.host.view = link.write(state);
}
