// A field that is saved when it is left. What is being typed outlives every redraw of the page.
import { useState } from "preact/hooks";

type Field = HTMLInputElement | HTMLTextAreaElement;

/** The properties of a field that shows `value` and calls `keep` with what was typed instead of it. */
export function useTyped(value: string, keep: (typed: string) => void) {
  const [typed, setTyped] = useState<string | null>(null);
  return {
    value: typed ?? value,
    onInput: (e: { currentTarget: Field }) => setTyped(e.currentTarget.value),
    onBlur: () => {
      setTyped(null);
      if (typed !== null && typed !== value) keep(typed);
    },
  };
}
