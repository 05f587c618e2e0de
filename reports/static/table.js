// Live tables: sort by click and keyboard, filter, choose columns, copy as CSV, Markdown or JSON.
// A cell's exact value is its data-v (and data-e, its standard error); data-t is its text where that differs from what it shows.

const { make } = evalkit;
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// what a cell says, without drawings and marks
const textOf = (cell) => {
  if (cell.dataset.t !== undefined) return cell.dataset.t;
  let text = "";
  const walk = (node) => {
    if (node.nodeType === 3) text += node.data;
    else if (node.nodeType === 1 && !node.matches("svg, .mark, .tie, .nocopy")) node.childNodes.forEach(walk);
  };
  cell.childNodes.forEach(walk);
  return text.replace(/\s+/g, " ").trim();
};
const numberOf = (cell) => {
  if (cell.dataset.v !== undefined) return cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
  const text = textOf(cell).replaceAll(",", "").replace("−", "-"); // cells of large tables spare the attribute
  return text === "" ? NaN : Number(text);
};

class LiveTable {
  constructor(box) {
    this.box = box;
    this.table = box.querySelector("table");
    this.heads = [...[...this.table.tHead.rows].at(-1).cells];
    this.titles = this.heads.map((head) => head.dataset.t ?? textOf(head));
    this.bodies = [...this.table.tBodies].filter((body) => !("fixed" in body.dataset));
    this.order = this.bodies.map((body) => [...body.rows]);
    this.sorted = { column: -1, direction: "" };
    this.heads.forEach((head, column) => this.makeSortable(head, column));
    this.makeTools();
    this.heads.forEach((head, column) => { if ("hidden" in head.dataset) this.show(column, false); });
    this.families = [...this.table.querySelectorAll("tbody[data-family]")].map((body) => this.makeFold(body));
    if (this.table.querySelector("tr[data-out]")) this.filter();
  }

  // a family of tasks is folded under its head until that is pressed, or something is looked for
  makeFold(body) {
    const members = body.nextElementSibling;
    const name = body.rows[0].cells[0].querySelector("bdi");
    const button = make("button", { type: "button", class: "fold", "aria-expanded": "false" });
    name.replaceWith(button);
    button.append(name, make("span", { class: "quiet nocopy" }, ` ${members.dataset.count} tasks`));
    const fold = { open: false, set: (open) => {
      members.hidden = !open;
      button.setAttribute("aria-expanded", String(open));
    } };
    button.addEventListener("click", () => { fold.open = !fold.open; fold.set(fold.open); });
    fold.set(false);
    return fold;
  }

  rows() { return this.bodies.flatMap((body) => [...body.rows]); }

  // ------------------------------------------------------------------------------------------------------------- sorting
  makeSortable(head, column) {
    if (head.dataset.kind === "none") return;
    const button = make("button", { type: "button", class: "sort" });
    const note = head.querySelector(".note");
    button.append(...[...head.childNodes].filter((node) => node !== note));
    head.prepend(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first === "down" ? "descending" : "ascending";
      const second = first === "descending" ? "ascending" : "descending";
      const now = this.sorted.column === column ? this.sorted.direction : "";
      this.sort(column, now === "" ? first : now === first ? second : "");
    });
  }

  sort(column, direction) {
    for (const head of this.heads) head.removeAttribute("aria-sort");
    this.sorted = { column, direction };
    const byNumber = this.heads[column].dataset.kind === "number";
    const sign = direction === "descending" ? -1 : 1;
    this.bodies.forEach((body, place) => {
      let rows = this.order[place];
      if (direction) {
        const keyed = rows.map((row) => {
          const cell = row.cells[column];
          return [row, !cell ? (byNumber ? NaN : "") : byNumber ? numberOf(cell) : textOf(cell)];
        });
        // what has no value is last, whichever way
        keyed.sort(byNumber
          ? ([, a], [, b]) => (Number.isNaN(a) ? (Number.isNaN(b) ? 0 : 1) : Number.isNaN(b) ? -1 : sign * (a - b))
          : ([, a], [, b]) => (a === "" ? (b === "" ? 0 : 1) : b === "" ? -1 : sign * collator.compare(a, b)));
        rows = keyed.map(([row]) => row);
      }
      const fragment = document.createDocumentFragment();
      fragment.append(...rows);
      body.append(fragment);
    });
    if (direction) this.heads[column].setAttribute("aria-sort", direction);
    this.say(direction ? `Sorted by ${this.titles[column]}, ${direction}.` : "In the original order.");
    this.box.dispatchEvent(new CustomEvent("table:sort", { bubbles: true }));
  }

  // ----------------------------------------------------------------------------------------------------- columns and rows
  show(column, visible) {
    for (const row of this.table.rows) {
      if (row.className === "over") continue;
      let place = 0; // a cell may span several columns
      for (const cell of row.cells) {
        if (place === column && cell.colSpan === 1) cell.hidden = !visible;
        place += cell.colSpan;
      }
    }
    this.checks[column].checked = visible;
    this.fitGroups();
  }

  // a heading over several columns spans those that are shown
  fitGroups() {
    const over = this.table.tHead.querySelector(".over");
    let place = 0;
    for (const cell of over?.cells ?? []) {
      cell.dataset.span ??= cell.colSpan;
      const own = this.heads.slice(place, (place += Number(cell.dataset.span)));
      const count = own.filter((head) => !head.hidden).length;
      cell.hidden = count === 0;
      cell.colSpan = Math.max(1, count);
    }
  }

  filter() {
    const wanted = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const fold of this.families) fold.set(fold.open || wanted.length > 0);
    let shown = 0;
    const rows = this.rows();
    for (const row of rows) {
      if (row.words === undefined) row.words = [...row.cells].filter((cell) => cell.dataset.v === undefined).map(textOf).join(" ").toLowerCase();
      const hidden = !wanted.every((word) => row.words.includes(word)) || "out" in row.dataset;
      if (row.hidden !== hidden) row.hidden = hidden;
      if (!hidden) shown += 1;
    }
    this.say(shown === rows.length ? "" : `${shown} of ${rows.length} rows`);
  }

  say(sentence) { this.status.textContent = sentence; }

  // --------------------------------------------------------------------------------------------------------------- tools
  makeTools() {
    const name = this.table.getAttribute("aria-label");
    this.search = make("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter the rows of ${name}` });
    this.search.addEventListener("input", () => this.filter());
    this.status = make("output", { "aria-live": "polite" });

    this.checks = this.titles.map((title, column) => {
      const check = make("input", { type: "checkbox" });
      check.checked = true;
      check.disabled = column === 0;
      check.addEventListener("change", () => this.show(column, check.checked));
      return check;
    });
    const all = make("button", { type: "button" }, "Show all");
    all.addEventListener("click", () => this.titles.forEach((_, column) => this.show(column, true)));
    const columns = make("details", { class: "columns" }, make("summary", {}, "Columns"), make("div", { class: "menu" },
      ...this.titles.map((title, column) => make("label", {}, this.checks[column], title || `column ${column + 1}`)), all));

    const copies = Object.keys(FORMATS).map((format) => {
      const button = make("button", { type: "button", "data-format": format }, format);
      button.addEventListener("click", async () => {
        menu.open = false;
        menu.querySelector("summary").focus();
        this.say((await evalkit.copy(this.as(format))) ? `Copied as ${format}.` : "This browser does not let pages copy.");
      });
      return button;
    });
    const menu = make("details", { class: "copy" }, make("summary", {}, "Copy as"), make("div", { class: "menu" }, ...copies));
    const tools = make("div", { class: "tools" }, columns, menu, this.status);
    if (this.rows().length > 5) tools.prepend(this.search);
    this.box.prepend(tools);
  }

  // -------------------------------------------------------------------------------------------------------------- copying
  // what is shown, in the order shown: heads, and cells with text, value, error and whether they are best
  grid() {
    const columns = this.titles.map((_, column) => column).filter((column) =>
      !this.heads[column].hidden && (this.heads[column].dataset.kind !== "none"));
    const rows = [...this.table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.hidden && row.cells.length === this.heads.length);
    return {
      heads: columns.map((column) => ({ title: this.titles[column], number: this.heads[column].dataset.kind === "number" })),
      rows: rows.map((row) => columns.map((column) => {
        const cell = row.cells[column];
        if (!cell) return { text: "", value: NaN, error: NaN, best: false };
        return {
          text: textOf(cell), value: numberOf(cell), best: cell.classList.contains("best"),
          error: cell.dataset.e === undefined ? NaN : Number(cell.dataset.e),
        };
      })),
    };
  }

  as(format) { return FORMATS[format](this.grid(), this.table.getAttribute("aria-label")); }
}

// exact values, and a column of errors beside those that have them
const exact = ({ heads, rows }) => {
  const withError = heads.map((_, column) => rows.some((row) => !Number.isNaN(row[column].error)));
  return {
    heads: heads.flatMap((head, column) => (withError[column] ? [head.title, `${head.title} stderr`] : [head.title])),
    rows: rows.map((row) => row.flatMap((cell, column) => {
      const value = heads[column].number ? (Number.isNaN(cell.value) ? null : cell.value) : cell.text;
      return withError[column] ? [value, Number.isNaN(cell.error) ? null : cell.error] : [value];
    })),
  };
};
const FORMATS = {
  CSV(grid) {
    const table = exact(grid);
    // a text that a spreadsheet would take for a formula gets an apostrophe
    const quoted = (value) => {
      let text = value === null ? "" : String(value);
      if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [table.heads, ...table.rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  },
  Markdown({ heads, rows }) {
    const clean = (text) => text.replace(/[\\|<>*_`[\]]/g, "\\$&");
    const line = (cells) => `| ${cells.join(" | ")} |`;
    return [
      line(heads.map((head) => clean(head.title))), line(heads.map((head) => (head.number ? "---:" : "---"))),
      ...rows.map((row) => line(row.map((cell) => (cell.best ? `**${clean(cell.text)}**` : clean(cell.text))))),
    ].join("\n") + "\n";
  },
  JSON(grid) {
    const table = exact(grid);
    return JSON.stringify(table.rows.map((row) => Object.fromEntries(table.heads.map((head, i) => [head, row[i]]))), null, 1) + "\n";
  },
};

evalkit.tables = new Map();
for (const box of document.querySelectorAll("[data-table]")) evalkit.tables.set(box.id, new LiveTable(box));
