/**
 * The one module that all three hosts load: `render` is what anywidget calls in a notebook; `mount` is for a page,
 * which brings its own host.
 */
import { mount as mountComponent, unmount } from "svelte";
import App from "./App.svelte";
import { type Host, type WidgetModel, widgetHost } from "./host";
import { remembering } from "./remember";
import style from "./style.css?inline";

export { recordingHost, serverHost } from "./host";

/** Puts the page into an element; what it returns takes it away again. */
export function mount(el: HTMLElement, host: Host): () => void {
  const styles = document.createElement("style");
  styles.textContent = style;
  const root = document.createElement("div");
  root.className = "pellucid-root";
  el.append(styles, root);
  const app = mountComponent(App, { target: root, props: { host: remembering(host) } });
  return () => {
    void unmount(app);
    styles.remove();
    root.remove();
  };
}

function render({ model, el }: { model: WidgetModel; el: HTMLElement }): () => void {
  return mount(el, widgetHost(model));
}

export default { render };
