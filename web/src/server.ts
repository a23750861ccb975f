// What the server tells: scenes, legends, points, and how much is translated.

import type { StyleSpecification } from "maplibre-gl";
import type { Host } from "./notebook";

export type LayerName = "photo" | "map" | "classes" | "confidence" | "numbers" | "vectors";

export interface Scene {
  id: string;
  name: string;
  bounds: [number, number, number, number];
  layers: LayerName[];
  error?: string;
}

export interface LegendClass {
  number: number;
  name: string;
  colour: string;
}

export interface Point {
  class: string | null;
  confidence: number | null;
  metres: number | null;
}

export interface TileJson {
  minzoom: number;
  maxzoom: number;
  attribution?: string;
}

export interface Warmth {
  done: number;
  all: number;
  running: boolean;
}

// Addresses begin where the page lies, so that it works behind a proxy's path, too.
export const base = new URL(".", document.baseURI).href;

// In a notebook the page stands in a frame, by which it asks; nobody else may frame it.
export const host = (window.frameElement as (Element & { sat2map?: Host }) | null)?.sat2map;

export const ask = (path: string, init?: RequestInit): Promise<Response> =>
  host === undefined ? fetch(base + path, init) : host.ask(path, init);

async function json<T>(path: string, init?: RequestInit): Promise<T> {
  const answer = await ask(path, init);
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(typeof told.detail === "string" ? told.detail : `The server says ${answer.status}.`);
  }
  return answer.json();
}

export interface Basemap {
  tiles: string;
  attribution?: string;
}

export const scenes = (): Promise<{ scenes: Scene[]; basemap?: Basemap }> =>
  json("scenes", { headers: { Accept: "application/json" } });

export const style = (id: string): Promise<StyleSpecification> => json(`scenes/${id}/style.json`);

export const legend = async (id: string, layer: LayerName, style: string | null = null): Promise<LegendClass[]> => {
  const asked = style === null ? "" : `&style=${encodeURIComponent(style)}`;
  return (await json<{ classes: LegendClass[] }>(`scenes/${id}/legend?layer=${layer}${asked}`)).classes;
};

// The colours that the map can be had in, the usual ones first.
export const styles = async (id: string): Promise<string[]> =>
  (await json<{ styles: string[] }>(`scenes/${id}/styles`)).styles;

export const tileJson = (id: string, layer: LayerName): Promise<TileJson> =>
  json(`scenes/${id}/${layer}/tilejson.json`);

export const point = (id: string, lon: number, lat: number): Promise<Point> =>
  json(`scenes/${id}/point?lon=${lon}&lat=${lat}`);

export const warmth = (id: string): Promise<Warmth> => json(`scenes/${id}/warm`);

export const warm = (id: string): Promise<Warmth> => json(`scenes/${id}/warm`, { method: "POST" });
