// What is not translated yet.

import { reload } from "./layers";
import { find, page, reason } from "./page";
import * as server from "./server";
import type { Scene } from "./server";
import { onAnswer } from "./tiles";

const MOST_ASKED_MS = 1000;

onAnswer((complete) => {
  if (complete || !find("notice").hidden) return;
  find("notice").hidden = false;
  find("notice").querySelector("span")!.textContent =
    "Not all of this is translated yet: zoom in, or translate all.";
});

async function watchWarmth(scene: Scene): Promise<void> {
  const text = find("notice").querySelector("span")!;
  const button = find("notice").querySelector("button")!;
  button.disabled = true;
  try {
    let told = await server.warm(scene.id);
    while (told.running && page.current === scene) {
      text.textContent = `Translating: ${told.done} of ${told.all} windows.`;
      await new Promise((resolve) => setTimeout(resolve, MOST_ASKED_MS));
      told = await server.warmth(scene.id);
      reload();
    }
    find("notice").hidden = true;
    reload();
  } catch (error) {
    text.textContent = reason(error);
  } finally {
    button.disabled = false;
  }
}

find("notice")
  .querySelector("button")!
  .addEventListener("click", () => page.current !== undefined && void watchWarmth(page.current));
