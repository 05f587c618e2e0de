// What every page can do with a script and does without: a theme, copying, links into closed parts.

// ------------------------------------------------------------------------------------------------ shared with other files
const evalkit = (globalThis.evalkit = {
  // text to the clipboard; true where that worked
  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea"); // no clipboard here: an old browser, a frame
      area.value = text;
      area.setAttribute("readonly", "");
      area.className = "visually-hidden";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    }
  },

  // an element: make("a", {href: "#x", class: "y"}, "text", child)
  make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === false || value == null) continue;
      element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  },

  // what data_block of evalkit.reports.html put into the page
  async data(id) {
    const element = document.getElementById(id);
    if (!element) return null;
    const bytes = Uint8Array.from(atob(element.textContent), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  },

  // "#task=arc&doc=3" as an object; "#scores" has none
  link() {
    const hash = location.hash.slice(1);
    return hash.includes("=") ? Object.fromEntries(new URLSearchParams(hash)) : {};
  },
});

// ---------------------------------------------------------------------------------------------------------------- theme
const themes = ["auto", "light", "dark"];
const signs = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" };
const themeButton = document.getElementById("theme");
let theme = "auto";
try {
  theme = themes.includes(localStorage.getItem("evalkit-theme")) ? localStorage.getItem("evalkit-theme") : "auto";
} catch { /* storage may be forbidden for files: the choice then lasts as long as the page */ }
const showTheme = () => {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  themeButton.textContent = signs[theme];
  themeButton.setAttribute("aria-label", `Theme: ${theme}`);
};
if (themeButton) {
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try { localStorage.setItem("evalkit-theme", theme); } catch { /* see above */ }
    showTheme();
  });
  showTheme();
}

// ----------------------------------------------------------------------------------------------------------------- copy
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  const title = button.textContent;
  button.addEventListener("click", async () => {
    const done = await evalkit.copy(document.getElementById(button.dataset.copy).textContent);
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = title; }, 2000);
  });
}

// a link to something inside a closed part opens it
const reveal = () => {
  const hash = location.hash.slice(1);
  let target = null;
  try { target = document.getElementById(decodeURIComponent(hash)); } catch { /* no id has such signs */ }
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", reveal);
if (location.hash) reveal();

// a menu closes with Escape, or when something else is pressed
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll(".tools details[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
addEventListener("pointerdown", (event) => {
  for (const menu of document.querySelectorAll(".tools details[open]")) if (!menu.contains(event.target)) menu.open = false;
});
