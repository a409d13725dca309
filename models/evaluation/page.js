"use strict";
const options = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false };
const waiting = new Set(document.querySelectorAll(".plot"));
const all = [...waiting];
const TITLE = 26; // pixels of the title of a panel

function draw(plot) {
  if (!waiting.delete(plot)) return;
  const source = plot.querySelector("script");
  const { data, layout } = JSON.parse(source.textContent);
  source.remove();
  Plotly.newPlot(plot, data, layout, options);
  makeRoom(plot);
}

// A legend of several lines, as on a phone, would lie on the plot: the figure grows by what does not fit above it. In a
// higher figure the legend may be higher too, so once is not always enough.
function makeRoom(plot, times = 3) {
  const legend = plot.querySelector(".legend");
  const { height, margin } = plot.layout;
  const lacking = legend ? Math.ceil(legend.getBBox().height) + TITLE - margin.t : 0;
  if (lacking <= 0 || !times) return;
  plot.style.minHeight = `${height + lacking}px`;
  Plotly.relayout(plot, { height: height + lacking, "margin.t": margin.t + lacking });
  makeRoom(plot, times - 1);
}

// What can be seen is drawn at once, the rest one by one while nothing else happens: the page answers from the start.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "300px" });
all.forEach((plot) => seen.observe(plot));

function drawNext() {
  const next = waiting.values().next();
  if (next.done) {
    document.documentElement.dataset.drawn = all.length;
    performance.mark("drawn");
    return;
  }
  draw(next.value);
  later(drawNext);
}
const later = self.requestIdleCallback
  ? (work) => requestIdleCallback(work, { timeout: 200 })
  : (work) => setTimeout(work, 20);
later(drawNext);

// Paper has one width, and no folds but those of tables of many pages.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not(.long)").forEach((details) => { details.open = true; });
  all.forEach(draw);
  all.forEach((plot) => Plotly.relayout(plot, { width: 680 }));
});
addEventListener("afterprint", () => {
  all.forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true }));
});
