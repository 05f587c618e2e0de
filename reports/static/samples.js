// Samples: filter documents, look at prompts, options and tokens. Data: evalkit.reports.samples (short names are explained there).

const { make: el } = evalkit;
const host = document.getElementById("samples-live");
const PAGE = 12; // cards at a time
const SNIPPET = 110; // characters of a closed card
const number = (value, digits = 2) => (value == null ? "—" : (value < 0 ? "−" : "") + Math.abs(value).toFixed(digits));
const letter = (place) => (place < 26 ? String.fromCharCode(65 + place) : String(place + 1));

const start = async () => {
  const data = await evalkit.data("samples-data");
  if (!data) return;
  const { runs, vocab, tasks } = data;
  const two = runs.length > 1;
  const names = two ? runs : [""];
  const [first, second] = runs;
  const docs = [];
  tasks.forEach((task) => task.docs.forEach((doc) => {
    for (const made of doc.r) if (made.k === 0) made.k = doc.r[0].k;
    const right = task.kind === "generation" ? doc.r.map((made) => made.v === 1)
      : task.kind === "choice" && doc.o.length > 1 ? doc.r.map((made) => made.p === doc.g) : [];
    docs.push({ task, doc, right, flipped: two && right.length > 1 && right[0] !== right[1], words: "" });
  }));

  // ------------------------------------------------------------------------------------------------------------ controls
  const option = (value, title) => el("option", { value }, title);
  const pick = (id, title, options) => {
    const select = el("select", { id }, ...options.map(([value, name]) => option(value, name)));
    select.addEventListener("change", () => { page = 0; draw(); });
    return [el("span", { class: "field" }, el("label", { for: id }, title), " ", select), select];
  };
  const [taskLabel, taskSelect] = pick("samples-task", "Task", [["", `all ${tasks.length} tasks`], ...tasks.map((task) => [task.name, `${task.name} (${task.docs.length} of ${task.of.toLocaleString("en")})`])]);
  const states = [["", "all"], ...names.flatMap((name, i) => [[`right${i}`, `right${name && ` in ${name}`}`], [`wrong${i}`, `wrong${name && ` in ${name}`}`]])];
  if (two) states.push(["flipped", "flipped"], ["gained", `flipped: wrong in ${first}, right in ${second}`], ["lost", `flipped: right in ${first}, wrong in ${second}`]);
  states.push(["truncated", "truncated"]);
  if (tasks.some((task) => task.kind === "generation")) states.push(["capped", "never stopped"]);
  const [stateLabel, stateSelect] = pick("samples-state", "Show", states);
  const search = el("input", { type: "search", placeholder: "Search text or id", "aria-label": "Search the documents" });
  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { page = 0; draw(); }, 120); });
  const status = el("output", { "aria-live": "polite" });
  const list = el("div", { class: "cards" });
  const pager = el("div", { class: "pager" });
  host.append(el("div", { class: "tools" }, taskLabel, taskSelect, stateLabel, stateSelect, search, status), list, pager);
  host.hidden = false;

  const wordsOf = (entry) => {
    if (!entry.words) {
      const { task, doc } = entry;
      const text = task.kind === "choice" ? [doc.c, doc.o].flat(2).join(" ")
        : task.kind === "generation" ? [doc.c, doc.g, ...doc.r.flatMap((made) => made.a.flatMap((one) => [one.w, one.x ?? ""]))].join(" ")
        : doc.r[0].k[0].map((k) => vocab[k][1]).join("");
      entry.words = `${doc.i} ${doc.id} ${doc.d ?? ""} ${text}`.toLowerCase();
    }
    return entry.words;
  };
  const keeps = (entry, state) => {
    const i = Number(state.slice(-1));
    if (state.startsWith("right")) return entry.right[i] === true;
    if (state.startsWith("wrong")) return entry.right[i] === false;
    if (state === "flipped") return entry.flipped;
    if (state === "gained") return entry.flipped && entry.right[1];
    if (state === "lost") return entry.flipped && entry.right[0];
    if (state === "truncated") return entry.doc.t > 0;
    if (state === "capped") return entry.task.kind === "generation" && entry.doc.r.some((made) => made.a.some((one) => one.e === "cap"));
    return true;
  };
  let page = 0;
  let shown = docs;
  const draw = () => {
    const wanted = search.value.toLowerCase().trim();
    shown = docs.filter((entry) => (!taskSelect.value || entry.task.name === taskSelect.value) && keeps(entry, stateSelect.value)
      && (!wanted || wordsOf(entry).includes(wanted)));
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    page = Math.min(page, pages - 1);
    list.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(card));
    status.textContent = `${shown.length.toLocaleString("en")} of ${docs.length.toLocaleString("en")} documents`;
    const turn = (title, to, able) => {
      const button = el("button", { type: "button" }, title);
      button.disabled = !able;
      button.addEventListener("click", () => { page = to; draw(); host.scrollIntoView(); });
      return button;
    };
    pager.replaceChildren(...(pages > 1 ? [turn("‹ Previous", page - 1, page > 0), `${page + 1} of ${pages}`, turn("Next ›", page + 1, page < pages - 1)] : []));
  };

  // ---------------------------------------------------------------------------------------------------------------- cards
  // closed, a card is a line: what was asked, what was chosen; the rest is made when it is opened
  const shortened = (text) => {
    const flat = text.replace(/\s+/g, " ").trim();
    return flat.length > SNIPPET ? `${flat.slice(0, SNIPPET)}…` : flat;
  };
  const snippet = ({ task, doc }) => {
    if (task.kind === "text") return shortened((doc.r[0].k?.[0] ?? []).slice(0, 60).map((k) => vocab[k][1]).join(""));
    const asked = Array.isArray(doc.c) ? doc.c[0] : doc.c;
    return shortened(asked.replace(/\s*(Answer|A):\s*$/, "").split("\n\n").at(-1).replace(/^(Question|Q):\s*/, ""));
  };
  const card = (entry) => {
    const { task, doc, right, flipped } = entry;
    const verdict = (ok, i) => {
      const value = doc.r[i].v;
      return task.kind === "generation" && value !== 0 && value !== 1 ? `${doc.m} ${number(value)}` : ok ? "✓ right" : "✗ wrong";
    };
    const chips = right.map((ok, i) => el("span", { class: `chip ${ok ? "ok" : "no"}` }, `${verdict(ok, i)}${names[i] && ` in ${names[i]}`}`));
    if (flipped) chips.push(el("span", { class: "chip flip" }, "⇄ flipped"));
    if (doc.t) chips.push(el("span", { class: "mark truncated" }, `✂ ${doc.t} tokens cut`));
    if (task.kind === "text") {
      chips.push(el("span", { class: "quiet" }, doc.r.map((made, i) => `${names[i]} ${number(-made.s[0] / doc.by[0] / Math.LN2, 3)}`.trim()).join(" → ")));
    }
    const head = el("h3", {}, el("bdi", {}, task.name), ` · document ${doc.i} `, doc.d ? el("bdi", { class: "quiet" }, `${doc.d} `) : "", ...chips);
    const box = el("details", { class: "card", id: `doc-${docs.indexOf(entry)}` },
      el("summary", {}, head, el("bdi", { class: "snippet" }, snippet(entry))));
    box.addEventListener("toggle", () => { if (box.open && box.children.length === 1) box.append(...inside(entry)); });
    return box;
  };
  const inside = (entry) => {
    const { task, doc } = entry;
    const parts = [el("p", { class: "quiet" }, el("a", { href: `#${new URLSearchParams({ task: task.name, doc: doc.i })}` }, "link to this document"),
      doc.id ? el("bdi", {}, ` · ${doc.id}`) : "")];
    if (task.kind !== "text") {
      if (task.shots) parts.push(el("details", {}, el("summary", {}, "Few-shot examples"), el("pre", { dir: "auto", tabindex: 0 }, task.shots)));
      if (!Array.isArray(doc.c)) parts.push(el("pre", { class: "prompt", dir: "auto", tabindex: 0 }, doc.c));
      parts.push(task.kind === "choice" ? options(entry) : answers(entry));
    } else {
      parts.push(el("p", { class: "quiet" }, `${doc.r[0].n[0].toLocaleString("en")} tokens, ${doc.by[0].toLocaleString("en")} bytes; bits per byte `,
        doc.r.map((made, i) => `${names[i]} ${number(-made.s[0] / doc.by[0] / Math.LN2, 3)}`.trim()).join(", ")));
    }
    if (task.kind !== "generation" && doc.r.every((made) => made.l && made.k)) {
      const tokens = el("details", { class: "tokens-of" }, el("summary", {}, "Tokens"));
      const draw = () => { if (tokens.open && tokens.children.length === 1) tokens.append(strip(entry)); };
      tokens.addEventListener("toggle", draw);
      tokens.open = task.kind !== "choice";
      draw();
      parts.push(tokens);
    }
    return parts;
  };

  const options = ({ doc, task }) => {
    const several = Array.isArray(doc.c);
    const kinds = [["sum", (made, o) => made.s[o], 2], ["per token", (made, o) => made.s[o] / made.n[o], 3],
      ["per character", (made, o) => made.s[o] / doc.ch[o], 3], ["per byte", (made, o) => made.s[o] / doc.by[o], 3]];
    if (doc.r.every((made) => made.u)) kinds.push(["minus unconditional", (made, o) => made.s[o] - made.u[o], 2]);
    // what decides stands first, and alone until the others are asked for
    const decider = Math.min(task.by, kinds.length - 1);
    kinds.unshift(...kinds.splice(decider, 1));
    const rest = (k) => (k ? " rest" : "");
    const heads = kinds.flatMap(([title], k) => doc.r.map((_, i) => el("th", { scope: "col", class: `num${rest(k)}` }, `${names[i]} ${title}`.trim(), k ? "" : el("span", { class: "note" }, "decides"))));
    const best = doc.r.map((made) => kinds.map(([, value]) => {
      const all = doc.o.map((_, o) => value(made, o));
      return all.indexOf(Math.max(...all.map((one) => one ?? -Infinity)));
    }));
    const rows = doc.o.map((text, o) => {
      const marks = [o === doc.g ? "★ gold" : "", ...doc.r.map((made, i) => (made.p === o ? `● chosen${names[i] && ` by ${names[i]}`}` : ""))].filter(Boolean);
      return el("tr", { class: o === doc.g ? "gold" : "" },
        el("th", { scope: "row" }, el("span", { class: "quiet" }, `${letter(o)} `), el("bdi", { class: "option" }, several ? `${doc.c[o]}▸${text}` : text)),
        el("td", {}, marks.join(", ")),
        ...kinds.flatMap(([, value, digits], k) => doc.r.map((made, i) =>
          el("td", { class: `num${best[i][k] === o ? " best" : ""}${rest(k)}` }, el("span", { class: "score" }, number(value(made, o), digits))))));
    });
    const box = el("div", { class: "scroll brief", tabindex: 0, role: "region", "aria-label": `Options of document ${doc.i} of ${task.name}` },
      el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Option"), el("td", {}), ...heads)), el("tbody", {}, ...rows)));
    const more = el("button", { type: "button", "aria-pressed": "false" }, "All scores");
    more.addEventListener("click", () => more.setAttribute("aria-pressed", String(!box.classList.toggle("brief"))));
    return el("div", {}, box, more);
  };

  // what was written: what counts of it, what was cut behind the stop, what was taken from it, and why it was judged so
  const ENDED = { stop: "ended by a stop string", end: "ended by itself", cap: "never stopped: cut at the length limit" };
  const answers = ({ doc }) => el("div", { class: "answers" },
    doc.g ? el("p", {}, "★ Right: ", el("bdi", {}, doc.g)) : "",
    ...doc.r.flatMap((made, i) => made.a.map((one, place) => el("div", { class: "answer" },
      el("h4", {}, names[i] ? el("bdi", {}, names[i]) : "Answer", made.a.length > 1 ? ` · text ${place + 1} of ${made.of}` : "",
        el("span", { class: "quiet" }, ` · ${one.n.toLocaleString("en")} tokens, ${ENDED[one.e] ?? one.e}`)),
      el("pre", { dir: "auto", tabindex: 0 }, el("span", {}, one.w), one.z ? el("del", { title: "cut: from the stop string on" }, one.z) : ""),
      el("p", {}, "Extracted: ", one.x === null ? el("em", {}, "nothing") : el("bdi", { class: "option" }, one.x), one.y ? el("span", { class: "quiet" }, ` · ${one.y}`) : "")))));

  // ----------------------------------------------------------------------------------------------------------- the strip
  const SURPRISAL = [0.25, 1, 2.5, 5, 8]; // nats: ends of the shades
  const shade = (surprisal) => { const i = SURPRISAL.findIndex((end) => surprisal < end); return `s${i < 0 ? SURPRISAL.length : i}`; };
  const change = (difference) => {
    const size = Math.abs(difference);
    const step = size < 0.1 ? 0 : size < 0.5 ? 1 : size < 1.5 ? 2 : 3;
    return step === 0 ? "d0" : difference > 0 ? `up${step}` : `down${step}`;
  };
  const strip = ({ task, doc }) => {
    const box = el("div", { class: "strip" });
    const line = el("p", { class: "token-line" }, "");
    const tokens = el("div", { class: "tokens", role: "group", dir: "ltr", tabindex: 0, "aria-label": "Tokens, shaded by surprisal; arrow keys move, Home and End jump" });
    let o = task.kind === "choice" ? doc.g : 0;
    let mode = two ? 1 : 0; // the first, the second, their difference
    let at = -1;
    const same = () => two && doc.r[0].k[o].length === doc.r[1].k[o].length && doc.r[0].k[o].every((k, i) => k === doc.r[1].k[o][i]);
    const tell = (i) => {
      at = i;
      [...tokens.children].forEach((child, place) => child.classList.toggle("at", place === i));
      const made = doc.r[mode === 2 ? 0 : mode];
      const [id, text] = vocab[made.k[o][i]];
      const said = JSON.stringify(text);
      const values = mode === 2
        ? `${first} ${number(doc.r[0].l[o][i], 3)}, ${second} ${number(doc.r[1].l[o][i], 3)}, ${first} − ${second} ${number(doc.r[0].l[o][i] - doc.r[1].l[o][i], 3)} nats`
        : `log-probability ${number(made.l[o][i], 3)} nats, surprisal ${number(-made.l[o][i] / Math.LN2, 2)} bits`;
      line.textContent = `token ${i + 1} of ${made.k[o].length}: ${said}, id ${id}, ${values}`;
    };
    const paint = () => {
      const made = doc.r[mode === 2 ? 0 : mode];
      tokens.replaceChildren(...made.k[o].map((k, i) => {
        const look = mode === 2 ? change(doc.r[0].l[o][i] - doc.r[1].l[o][i]) : shade(-made.l[o][i]);
        const text = vocab[k][1].replace(/\n/g, "⏎\n").replace(/\t/g, "⇥") || "∅";
        const span = el("span", { class: `token ${look}` }, text);
        span.addEventListener("pointerenter", () => tell(i));
        span.addEventListener("click", () => tell(i));
        return span;
      }));
      const left = made.n[o] - made.k[o].length;
      if (left > 0) tokens.append(el("em", { class: "quiet" }, ` … and ${left.toLocaleString("en")} tokens more`));
      line.textContent = mode === 2
        ? `Blue with a line above where ${first} is surer of a token, orange with a dotted line below where ${second} is. Point at a token.`
        : "The stronger the shade, the more a token surprised the model. Point at a token, or step with the arrow keys.";
      at = -1;
    };
    tokens.addEventListener("keydown", (event) => {
      const count = doc.r[mode === 2 ? 0 : mode].k[o].length;
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: count - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      tell(Math.max(0, Math.min(count - 1, to)));
      tokens.children[at].scrollIntoView({ block: "nearest" });
    });
    tokens.addEventListener("focus", () => { if (at < 0) tell(0); });
    const group = (label, titles, now, choose) => {
      const buttons = titles.map(([value, title]) => {
        const button = el("button", { type: "button", "aria-pressed": String(value === now) }, title);
        button.addEventListener("click", () => {
          buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
          choose(value);
          paint();
        });
        return button;
      });
      return el("div", { class: "choices", role: "group", "aria-label": label }, ...buttons);
    };
    const controls = el("div", { class: "controls" });
    if (task.kind === "choice" && doc.o.length > 1) {
      controls.append(group("Option", doc.o.map((_, place) => [place, `${letter(place)}${place === doc.g ? " ★" : ""}`]), o, (value) => { o = value; if (mode === 2 && !same()) mode = 1; }));
    }
    if (two) controls.append(group("Run", [[0, first], [1, second], ...(same() ? [[2, `${first} − ${second}`]] : [])], mode, (value) => { mode = value; }));
    paint();
    box.append(controls, tokens, line);
    return box;
  };

  // ------------------------------------------------------------------------------------------------------------- deep link
  const follow = () => {
    const { task, doc, show, find } = evalkit.link();
    if (task === undefined && show === undefined) return;
    if (tasks.some((one) => one.name === task)) taskSelect.value = task;
    stateSelect.value = states.some(([value]) => value === show) ? show : "";
    search.value = find ?? "";
    page = 0;
    draw();
    const place = shown.findIndex((entry) => String(entry.doc.i) === doc);
    if (place >= 0) {
      page = Math.floor(place / PAGE);
      draw();
      const element = document.getElementById(`doc-${docs.indexOf(shown[place])}`);
      element.classList.add("linked");
      element.open = true;
      element.querySelector("summary").focus({ preventScroll: true });
      element.scrollIntoView();
    } else if (doc !== undefined) {
      status.textContent = `Document ${doc} of ${task} is not among the samples on this page.`;
      host.scrollIntoView();
    } else if (find !== undefined) host.scrollIntoView();
  };
  draw();
  addEventListener("hashchange", follow);
  follow();
};
if (host) start();
