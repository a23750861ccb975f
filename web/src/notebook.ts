// The page in a cell of a notebook. It is the page that the server has, in a frame of its own; what
// it asks for goes through the widget's channel and not over HTTP, and so do its own files.

interface Widget {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(content: unknown): void;
  on(event: "msg:custom", heard: (content: Said, buffers: DataView[]) => void): void;
  off(event: "msg:custom", heard: (content: Said, buffers: DataView[]) => void): void;
}

interface Said {
  id: string;
  status: number;
  headers: [string, string][];
}

type Ask = (path: string, init?: RequestInit) => Promise<Response>;

// What the page finds at the frame that it stands in.
export interface Host {
  ask: Ask;
  worker: string;
  placed: boolean;
  view: string;
}

// Asks by messages. Every view of a widget hears all answers, so questions have names of their own.
function channel(model: Widget): { ask: Ask; close: () => void } {
  const waiting = new Map<string, (said: Said, body: DataView | undefined) => void>();
  const heard = (said: Said, buffers: DataView[]): void => waiting.get(said.id)?.(said, buffers[0]);
  model.on("msg:custom", heard);
  const ask: Ask = (path, init = {}) =>
    new Promise((resolve, reject) => {
      const id = `${Date.now()}-${Math.random()}`;
      const { signal, method = "GET" } = init;
      if (signal?.aborted) return reject(new DOMException("not wanted any more", "AbortError"));
      const giveUp = (): void => {
        waiting.delete(id);
        model.send({ id, stop: true });
        reject(new DOMException("not wanted any more", "AbortError"));
      };
      signal?.addEventListener("abort", giveUp, { once: true });
      waiting.set(id, (said, body) => {
        waiting.delete(id);
        signal?.removeEventListener("abort", giveUp);
        const content = body === undefined ? null : new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
        resolve(new Response(content?.length ? content.slice() : null, said));
      });
      model.send({ id, path, method });
    });
  return { ask, close: () => model.off("msg:custom", heard) };
}

// JupyterLab and Notebook say of what kind their theme is; elsewhere the system's is taken.
function scheme(): string {
  const light = document.body.dataset.jpThemeLight;
  return light === undefined ? "light dark" : light === "true" ? "light" : "dark";
}

async function render({ model, el }: { model: Widget; el: HTMLElement }): Promise<() => void> {
  const { ask, close } = channel(model);
  const frame = document.createElement("iframe") as HTMLIFrameElement & { sat2map?: Host };
  frame.title = "Photo and map";
  frame.style.cssText = `display:block;width:100%;height:${Number(model.get("height"))}px;border:0`;
  frame.style.colorScheme = scheme();
  const addresses = new Map<string, string>();
  const load = async (name: string): Promise<void> => {
    const blob = await (await ask(name)).blob();
    addresses.set(name, URL.createObjectURL(blob));
  };
  const files = model.get("files") as string[];
  const [page] = await Promise.all([ask("").then((answer) => answer.text()), ...files.map(load)]);
  const html = new DOMParser().parseFromString(page, "text/html");
  for (const found of html.querySelectorAll("script[src], link[href]")) {
    const attribute = found.tagName === "SCRIPT" ? "src" : "href";
    const address = addresses.get(found.getAttribute(attribute)!.replace("./", ""));
    if (address === undefined) found.remove();
    else found.setAttribute(attribute, address);
  }
  frame.sat2map = {
    ask,
    worker: addresses.get(files.find((name) => name.includes("worker"))!)!,
    placed: model.get("placed") as boolean,
    get view() {
      return model.get("view") as string;
    },
    set view(link: string) {
      model.set("view", link);
      model.save_changes();
    },
  };
  frame.srcdoc = `<!DOCTYPE html>${html.documentElement.outerHTML}`;
  el.append(frame);
  return () => {
    close();
    for (const address of addresses.values()) URL.revokeObjectURL(address);
  };
}

export default { render };
