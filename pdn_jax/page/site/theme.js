// The dark and the light look, remembered where the browser lets a page remember anything.

function look(theme) {
  document.documentElement.dataset.theme = theme;
}

export function change() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  look(next);
  try {
    localStorage.setItem("theme", next);
  } catch {
    // then it is the other one next time
  }
}

export function remembered() {
  try {
    const theme = localStorage.getItem("theme");
    if (theme) look(theme);
  } catch {
    // then it is the system's
  }
}
