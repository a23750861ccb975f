// What is at a place, by a click or by coordinates.

import { Marker } from "maplibre-gl";
import { find, isPlaced, left, page, reason, right } from "./page";
import * as server from "./server";

const DIGITS = 7;

let marker: Marker | undefined;

export function forgetPlace(): void {
  marker?.remove();
}

// It is asked for the place that is said, to a centimetre.
async function askPoint(longitude: number, latitude: number): Promise<void> {
  if (page.current === undefined) return;
  const [lon, lat] = [Number(longitude.toFixed(DIGITS)), Number(latitude.toFixed(DIGITS))];
  marker ??= new Marker({ color: "#c0392b" });
  marker.setLngLat([lon, lat]).addTo(left);
  const where = `${lat.toFixed(DIGITS)}, ${lon.toFixed(DIGITS)}`;
  if (page.current.layers.includes("vectors")) {
    find("place").textContent = `${where}: ${vectorsAt(lon, lat)}.`;
    return;
  }
  find("place").textContent = `${where}: asking…`;
  try {
    const told = await server.point(page.current.id, lon, lat);
    const sure = told.confidence === null ? "" : `, sure to ${Math.round(100 * told.confidence)} percent`;
    const metres = told.metres === null ? "" : ` Pixels of ${told.metres.toFixed(2)} m.`;
    find("place").textContent = `${where}: ${told.class ?? "nothing"}${sure}.${metres}`;
  } catch (error) {
    find("place").textContent = `${where}: ${reason(error)}`;
  }
}

function vectorsAt(lon: number, lat: number): string {
  const found = right.queryRenderedFeatures(right.project([lon, lat]));
  const names = found.map(({ sourceLayer, properties }) => `${properties.class ?? sourceLayer}`);
  return [...new Set(names)].join(", ") || "nothing";
}

if (isPlaced) left.on("click", (event) => void askPoint(event.lngLat.lng, event.lngLat.lat));

find("jump").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = find<HTMLInputElement>("coordinates");
  const [lat, lon] = input.value.split(/[\s,;]+/).filter((part) => part !== "").map(Number);
  const fits = lat !== undefined && lon !== undefined && Math.abs(lat) <= 90 && Math.abs(lon) <= 180;
  if (!fits || Number.isNaN(lat + lon)) {
    find("place").textContent = "Give latitude and longitude in degrees, such as 52.52, 13.40.";
    return;
  }
  left.jumpTo({ center: [lon, lat], zoom: Math.max(left.getZoom(), 15) });
  void askPoint(lon, lat);
});
