// Who annotates: a name that this browser remembers.
import { signal } from "@preact/signals";
import { percent } from "./load";
import { useTyped } from "./typed";
import type { Agreement } from "./types";

const KEY = "robolearn.author";

export const author = signal(localStorage.getItem(KEY) ?? "");

export function Author() {
  const field = useTyped(author.value, (typed) => {
    author.value = typed.trim();
    localStorage.setItem(KEY, author.value);
  });
  return (
    <label class="row">
      Your name{" "}
      <input
        {...field}
        maxLength={60}
        autocomplete="nickname"
        placeholder="who annotates"
        onKeyDown={(e) => e.key === "Enter" && e.currentTarget.blur()}
      />
    </label>
  );
}

/** How far several people agree. */
export function Agreed({ what, found, of }: { what: string; found: Agreement; of: string }) {
  if (!found.items)
    return (
      <p class="quiet">
        {what}: nothing yet that two people judged
      </p>
    );
  return (
    <p>
      {what}: {found.authors.join(", ")} agree on {percent(found.same ?? 0)} of {found.items} {of}
      {found.kappa !== null && (
        <>
          , <abbr title="Cohen's kappa: 1 is always the same answer, 0 no better than chance">kappa</abbr>{" "}
          <strong class="number">{found.kappa.toFixed(2)}</strong>
        </>
      )}
    </p>
  );
}
