"use strict";
// Draws the pictures of the page, all of whose parts are in the page: plotly's script and the data are packed with gzip.
(async () => {
  const unpack = async (id) => {
    const packed = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const theme = () => document.documentElement.dataset.theme ||
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

  const script = document.createElement("script");
  script.textContent = await unpack("plotly-packed");
  document.head.append(script);
  const { pictures, templates } = JSON.parse(await unpack("pictures-packed"));
  const buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]; // by name, so that none sends anything away
  const config = { displaylogo: false, responsive: true, modeBarButtons: buttons };
  const chosen = {};
  for (const select of document.querySelectorAll("select[data-chooser]")) chosen[select.dataset.chooser] ??= select.value;

  const draw = async (picture, look = theme()) => {
    const place = document.getElementById(`picture-${picture.name}`);
    const { data, layout } = structuredClone(picture.figure);
    const keys = picture.choosers.map((chooser) => chosen[chooser]);
    // A layer of few neurons has no row of a high number: its first row stands in.
    const variant = picture.variants[keys.join("|")] ?? picture.variants[[...keys.slice(0, -1), "0"].join("|")];
    if (picture.choosers.length) {
      (variant?.traces ?? []).forEach((values, i) => Object.assign(data[i], values));
      for (const [name, values] of Object.entries(variant?.axes ?? {})) layout[name] = { ...layout[name], ...values };
      document.getElementById(`note-${picture.name}`).textContent = variant?.note ?? "Nothing to show for this choice.";
    }
    await Plotly.react(place, data, { ...layout, template: templates[look] }, config);
    if (picture.click && !place.dataset.listens) {
      place.dataset.listens = "yes";
      place.on("plotly_click", (event) => choose(picture.click, String(event.points[0].customdata)));
    }
  };
  const drawAll = (look) => Promise.all(pictures.map((picture) => draw(picture, look)));

  const choose = (chooser, value) => {
    chosen[chooser] = value;
    for (const select of document.querySelectorAll(`select[data-chooser="${chooser}"]`)) select.value = value;
    for (const picture of pictures) if (picture.choosers.includes(chooser)) draw(picture);
  };
  document.addEventListener("change", (event) => {
    if (event.target.dataset.chooser) choose(event.target.dataset.chooser, event.target.value);
  });
  document.getElementById("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  addEventListener("beforeprint", () => drawAll("light"));
  addEventListener("afterprint", () => drawAll());
  await drawAll();
  document.documentElement.dataset.drawn = "yes";
})().catch((error) => {
  const message = document.getElementById("no-pictures");
  message.hidden = false;
  message.append(` (${error})`);
});
