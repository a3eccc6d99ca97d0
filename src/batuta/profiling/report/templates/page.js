"use strict";
// Draws the charts where the page has left room, and paints them for light or dark.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = [];

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const named = (name) => style.getPropertyValue(name).trim();
    return { ink: named("--ink"), soft: named("--soft"), paper: named("--paper") };
  }

  function paint(model, { ink, soft }) {
    const set = {};
    const known = (name) => name in model.properties;
    const give = (name, colour) => { if (known(name)) set[name] = colour; };
    if (known("ticker")) {  // axes, grids, bars of colours
      give("axis_label_text_color", soft);
      give("major_label_text_color", ink);
      give("major_tick_line_color", model.major_tick_line_color === null ? null : soft);
      give("title_text_color", soft);
    } else if (known("text") && known("text_color") && known("text_font_size") && !known("x")) {
      set.text_color = soft;  // a title
    } else if (known("glyph") && "text_color" in model.glyph.properties) {
      model.glyph.text_color = { value: ink };
    }
    if (Object.keys(set).length) model.setv(set);
  }

  function paintAll() {
    const now = colours();
    for (const view of drawn)
      for (const model of view.model.references()) paint(model, now);
  }

  async function draw() {
    const items = JSON.parse(document.getElementById("charts").textContent);
    for (const item of items) {
      const found = await Bokeh.embed.embed_item(item);
      drawn.push(...(found.roots ?? [...found]));
    }
    paintAll();
    dark.addEventListener("change", paintAll);
    document.documentElement.dataset.drawn = items.length;
  }

  draw();
})();
