// Draws each [data-chart] from its own table, so that the chart and the table cannot disagree.
"use strict";

// A colour of app.css as the browser resolves it: canvases know no custom properties.
const colour = (mood) => {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.className = `mood-${mood}`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

const readTable = (table) => {
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const value = (cell) => (cell.dataset.value === undefined || cell.dataset.value === "" ? null : Number(cell.dataset.value));
  const columns = heads.map((_, n) => rows.map((row) => value(row.cells[n])));
  const series = heads.slice(1).map((head) => ({ label: head.textContent.trim(), mood: head.dataset.series }));
  return { columns, series };
};

const options = (series, width, { zone, time }) => {
  const axis = { stroke: colour("axis"), grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid") } };
  return {
    width,
    height: 240,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone),
    axes: [{ ...axis, values: dateAxis, size: 64 }, { ...axis, values: (_, all) => all.map((n) => n.toLocaleString("en")), size: 64 }],
    series: [
      { label: time, value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
      ...series.map(({ label, mood }) => ({ label, stroke: colour(mood), width: 2, points: { show: false } })),
    ],
  };
};

// Numbers only, so that no language is spoken.
const dateAxis = [
  [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 0],
  [60, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 0],
  [1, "{HH}:{mm}:{ss}", "\n{HH}:{mm}\n{YYYY}-{MM}-{DD}", null, "\n{HH}:{mm}\n{MM}-{DD}", null, "\n{HH}:{mm}", null, 0],
];

const draw = (figure) => {
  const canvas = figure.querySelector("[data-canvas]");
  const { columns, series } = readTable(figure.querySelector("table"));
  canvas.replaceChildren();
  if (columns[0].length < 2) return;
  const chart = new uPlot(options(series, canvas.clientWidth, figure.dataset), columns, canvas);
  figure.querySelector("[data-table]").open = false;
  new ResizeObserver(() => chart.setSize({ width: canvas.clientWidth, height: 240 })).observe(canvas);
};

const drawAll = (root) => {
  for (const figure of root.querySelectorAll("[data-chart]")) draw(figure);
};

drawAll(document);
document.addEventListener("htmx:afterSettle", (event) => drawAll(event.target));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));
