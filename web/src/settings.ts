// Settings of this browser, which survive a reload.
import { effect, signal } from "@preact/signals";

export type Theme = "light" | "dark" | "system";

function stored(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // where a browser keeps nothing, nothing is remembered
  }
}

function store(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // see above
  }
}

export const theme = signal<Theme>((stored("batuta.theme") as Theme | null) ?? "system");
export const operator = signal(stored("batuta.operator") ?? "");

export function startSettings(): void {
  const preference = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const isDark = theme.value === "dark" || (theme.value === "system" && preference.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  preference.addEventListener("change", apply);
  effect(() => {
    apply();
    store("batuta.theme", theme.value);
  });
  effect(() => store("batuta.operator", operator.value));
}
