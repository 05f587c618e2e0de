// The leaderboard: choose a suite, a model, a group; pin rows; download; and a link that keeps all of it. Of hundreds of rows
// those at the top are laid out, the rest as the reader comes near them: so sorting stays quick.

const { make } = evalkit;
const live = evalkit.tables.get("board");
const pinned = live.table.querySelector("tbody.pinned");
const body = live.bodies[0];
const bar = document.getElementById("choices");
const state = { suite: "", model: "", group: "", published: true, pins: [] };

const start = (data) => {
  const about = new Map(data.rows.map((row) => [row.id, row]));
  const keys = data.columns.map((column) => column.key);
  const byDefault = live.heads.map((head) => !("hidden" in head.dataset));
  let quiet = true; // while a link is being followed it is not written

  // ------------------------------------------------------------------------------------------------ as many rows as needed
  const CHUNK = 40;
  let limit = CHUNK;
  const box = live.box.querySelector(".scroll");
  const more = make("button", { type: "button", class: "more" });
  const foot = make("div", { class: "foot" }, more);
  box.append(foot);
  const lay = () => {
    let seen = 0;
    for (const row of body.rows) {
      if (row.hidden) continue;
      seen += 1;
      if (row.hasAttribute("data-later") !== seen > limit) row.toggleAttribute("data-later");
    }
    foot.hidden = seen <= limit;
    more.textContent = `Show the other ${seen - limit} rows`;
  };
  const grow = (to) => { limit = Math.max(limit, to); lay(); };
  more.addEventListener("click", () => grow(Infinity));
  const watch = new IntersectionObserver((seen) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    grow(limit + CHUNK);
    watch.unobserve(foot); // and look again: it may still be near
    watch.observe(foot);
  }, { root: box, rootMargin: "300px" });
  watch.observe(foot);
  const show = (row) => { // a row that a link asks for
    if (row && row.hasAttribute("data-later")) grow(Infinity);
    if (row) row.scrollIntoView({ block: "center" });
  };

  // ------------------------------------------------------------------------------------------------------------- rows
  const fits = (row) => (!state.suite || row.suites.includes(state.suite)) && (!state.model || row.model === state.model)
    && (!state.group || row.group === state.group) && (state.published || !row.published);
  const applyRows = () => {
    for (const row of live.order[0]) row.toggleAttribute("data-out", !fits(about.get(row.id)));
    live.filter();
    lay();
  };
  const chosenSuite = () => {
    data.columns.forEach((column, i) => {
      if (column.suites.length) live.show(i, byDefault[i] && (!state.suite || column.suites.includes(state.suite)));
    });
  };

  // ------------------------------------------------------------------------------------------------------------- pins
  const pinButtons = new Map();
  const place = () => { // after every sort the table has put all rows back into its body
    pinned.append(...state.pins.map((id) => document.getElementById(id)).filter(Boolean));
    pinned.hidden = pinned.rows.length === 0;
  };
  const pin = (id, on) => {
    state.pins = state.pins.filter((other) => other !== id);
    if (on) state.pins.push(id);
    const button = pinButtons.get(id);
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "★" : "☆";
    const focused = document.activeElement === button;
    live.sort(live.sorted.column < 0 ? 0 : live.sorted.column, live.sorted.direction);
    if (focused) button.focus();
  };
  for (const row of live.order[0]) {
    const name = row.cells[0].querySelector("bdi").textContent;
    const button = make("button", { type: "button", class: "pin nocopy", "aria-pressed": "false", "aria-label": `Keep ${name} on top`, title: "Keep on top" }, "☆");
    button.addEventListener("click", () => { pin(row.id, button.getAttribute("aria-pressed") === "false"); write(); });
    pinButtons.set(row.id, button);
    row.cells[0].prepend(button);
  }
  live.box.addEventListener("table:sort", () => { place(); limit = CHUNK; lay(); write(); });

  // ---------------------------------------------------------------------------------------------------------- choices
  const selects = {};
  const choice = (name, label, values, change) => {
    if (values.length < 2) return;
    const select = make("select", {}, make("option", { value: "" }, "all"), ...values.map((value) => make("option", { value }, value)));
    select.addEventListener("change", () => { state[name] = select.value; change(); write(); });
    selects[name] = select;
    bar.append(make("label", {}, `${label} `, select));
  };
  const distinct = (name) => [...new Set(data.rows.map((row) => row[name]))].filter(Boolean).sort();
  choice("suite", "Suite", data.suites, () => { chosenSuite(); applyRows(); });
  choice("model", "Model", distinct("model"), applyRows);
  choice("group", "Group", distinct("group"), applyRows);
  let published = null;
  if (data.rows.some((row) => row.published) && data.rows.some((row) => !row.published)) {
    published = make("input", { type: "checkbox", checked: true });
    published.addEventListener("change", () => { state.published = published.checked; applyRows(); write(); });
    bar.append(make("label", {}, published, "published rows"));
  }

  // -------------------------------------------------------------------------------------------------------- downloads
  const endings = { CSV: ["csv", "text/csv"], Markdown: ["md", "text/markdown"], JSON: ["json", "application/json"] };
  const buttons = Object.entries(endings).map(([format, [ending, kind]]) => {
    const button = make("button", { type: "button", "data-download": format }, format);
    button.addEventListener("click", () => {
      const address = URL.createObjectURL(new Blob([live.as(format)], { type: kind }));
      make("a", { href: address, download: `leaderboard.${ending}` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
      menu.open = false;
      menu.querySelector("summary").focus();
    });
    return button;
  });
  const menu = make("details", { class: "download" }, make("summary", {}, "Download"), make("div", { class: "menu" }, ...buttons));
  live.box.querySelector(".tools details.copy").after(menu);
  bar.hidden = !bar.childElementCount;

  // ------------------------------------------------------------------------------------------------------------ links
  const write = () => {
    if (quiet) return;
    const link = new URLSearchParams();
    for (const name of ["suite", "model", "group"]) if (state[name]) link.set(name, state[name]);
    if (!state.published) link.set("published", "no");
    if (state.pins.length) link.set("pin", state.pins.join(","));
    if (live.sorted.direction) link.set("sort", `${live.sorted.direction === "descending" ? "-" : ""}${keys[live.sorted.column]}`);
    if (live.search && live.search.value) link.set("q", live.search.value);
    const expected = (i) => byDefault[i] && (!state.suite || !data.columns[i].suites.length || data.columns[i].suites.includes(state.suite));
    const changed = live.checks.map((check, i) => (check.checked === expected(i) ? null : `${check.checked ? "" : "-"}${keys[i]}`)).filter(Boolean);
    for (const one of changed) link.append("col", one);
    const text = link.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  };
  const read = () => {
    const link = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    quiet = true;
    for (const name of ["suite", "model", "group"]) {
      const value = link.get(name) || "";
      state[name] = selects[name] && [...selects[name].options].some((option) => option.value === value) ? value : "";
      if (selects[name]) selects[name].value = state[name];
    }
    state.published = link.get("published") !== "no";
    if (published) published.checked = state.published;
    live.checks.forEach((check, i) => { if (check.checked !== byDefault[i]) live.show(i, byDefault[i]); });
    if (state.suite) chosenSuite();
    for (const one of link.getAll("col")) {
      const hide = one.startsWith("-") && !keys.includes(one);
      const column = keys.indexOf(hide ? one.slice(1) : one);
      if (column > 0) live.show(column, !hide);
    }
    const wanted = (link.get("pin") || "").split(",").filter((id) => pinButtons.has(id));
    for (const id of [...state.pins]) if (!wanted.includes(id)) pin(id, false);
    for (const id of wanted) if (!state.pins.includes(id)) pin(id, true);
    const sort = link.get("sort") || "";
    const down = sort.startsWith("-") && !keys.includes(sort);
    const column = keys.indexOf(down ? sort.slice(1) : sort);
    if (column >= 0) live.sort(column, down ? "descending" : "ascending");
    if (live.search) live.search.value = link.get("q") || "";
    applyRows();
    quiet = false;
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && body.contains(target)) show(target);
  };
  if (live.search) live.search.addEventListener("input", () => { lay(); write(); });
  for (const check of live.checks) check.addEventListener("change", write);
  addEventListener("hashchange", read);
  read();
  document.documentElement.dataset.ready = "";
};

evalkit.data("board-data").then(start);
