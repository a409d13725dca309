"use strict";
const plots = [...document.querySelectorAll(".plot")];
const options = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false };

for (const plot of plots) {
  const source = plot.querySelector("script");
  const { data, layout } = JSON.parse(source.textContent);
  source.remove();
  plot.style.minHeight = `${layout.height}px`;
  Plotly.newPlot(plot, data, layout, options);
}

// Paper has one width and no folds.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  plots.forEach((plot) => Plotly.relayout(plot, { width: 680 }));
});
addEventListener("afterprint", () => {
  plots.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true }));
});
