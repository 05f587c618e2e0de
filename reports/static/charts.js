// Charts are drawn already; this reads a point's values out (by pointer, or by arrow keys), and switches between scales.

const balloon = evalkit.make("div", { class: "balloon", "aria-live": "polite", hidden: true });
document.body.append(balloon);
const marksOf = (svg) => [...svg.querySelectorAll("[data-said]")];
let lit = null;
const hide = () => {
  balloon.hidden = true;
  lit?.classList.remove("lit");
  lit = null;
};
const tell = (mark) => {
  if (lit === mark) return;
  hide();
  lit = mark;
  mark.classList.add("lit");
  balloon.textContent = mark.dataset.said;
  balloon.hidden = false;
  const place = mark.getBoundingClientRect();
  const width = balloon.offsetWidth;
  balloon.style.left = `${Math.max(4, Math.min(innerWidth - width - 4, place.x + place.width / 2 - width / 2)) + scrollX}px`;
  balloon.style.top = `${(place.y > balloon.offsetHeight + 12 ? place.y - balloon.offsetHeight - 8 : place.bottom + 8) + scrollY}px`;
};
// the nearest mark within reach, so that nobody has to hit a dot of four pixels
const nearest = (svg, x, y) => {
  let best = null;
  let least = 24 ** 2;
  for (const mark of marksOf(svg)) {
    const box = mark.getBoundingClientRect();
    const distance = (box.x + box.width / 2 - x) ** 2 + (box.y + box.height / 2 - y) ** 2;
    if (distance < least) [best, least] = [mark, distance];
  }
  return best;
};
for (const svg of document.querySelectorAll("svg.chart")) {
  svg.addEventListener("pointermove", (event) => {
    const mark = nearest(svg, event.clientX, event.clientY);
    if (mark) tell(mark);
    else hide();
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const marks = marksOf(svg);
    const at = marks.indexOf(lit);
    const to = { ArrowRight: at + 1, ArrowLeft: at < 0 ? 0 : at - 1, Home: 0, End: marks.length - 1 }[event.key];
    if (event.key === "Escape") hide();
    if (to === undefined || !marks.length) return;
    event.preventDefault();
    tell(marks[Math.max(0, Math.min(marks.length - 1, to))]);
  });
}

for (const group of document.querySelectorAll("[data-switch]")) {
  group.hidden = false;
  const name = group.dataset.switch;
  const buttons = group.querySelectorAll("[data-choose]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      for (const part of document.querySelectorAll(`[data-${name}]`)) part.hidden = part.dataset[name] !== button.dataset.choose;
    });
  }
}
